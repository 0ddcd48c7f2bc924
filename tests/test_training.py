"""Training learns, can be killed and goes on, and says what is wrong."""

import random

from rlhf_lite import models
from rlhf_lite.checks import TextError
from rlhf_lite.sampling import text_logprobs
from rlhf_lite.training import (
    LanguageConfig,
    LanguageRun,
    TrainingError,
    evaluate_loss,
    next_token_loss,
    pad_rows,
)

import pytest
import torch


@pytest.fixture(scope="module")
def texts(world):
    rng = random.Random(1)
    return [world.sample(rng).text for _ in range(256)]


def fresh(tokenizer, seed=0):
    torch.manual_seed(seed)
    return models.new_model(tokenizer, layers=2, width=32, heads=2, context=320)


def run(model, tokenizer, texts, **dials):
    return LanguageRun(
        model, tokenizer, texts, LanguageConfig(**{"batch": 16, "bfloat16": False} | dials)
    )


def test_the_loss_falls(tiny, texts):
    history = list(run(fresh(tiny[1]), tiny[1], texts, steps=40, lr=5e-3))
    assert history[-1].loss_per_token < history[0].loss_per_token - 1


def test_the_loss_is_the_one_of_scoring(tiny, texts):
    """Training loss, evaluation loss and sampling's scores are the same number, computed three ways."""
    tokenizer, model = tiny[1], fresh(tiny[1]).eval()
    scored = text_logprobs(model, tokenizer, texts[:7])
    losses = evaluate_loss(model, tokenizer, texts[:7], batch=3)
    assert losses.tolist() == pytest.approx([-s for s in scored], rel=1e-5)
    step = next(iter(run(model, tokenizer, texts[:7], batch=7, lr=1e-9)))
    assert step.loss == pytest.approx(float(losses.mean()), rel=1e-5)


def test_padding_adds_nothing_to_the_loss(tiny):
    tokenizer, model = tiny[1], fresh(tiny[1]).eval()
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    row = torch.tensor([[end, 5, 6, 7, end]])
    padded = torch.tensor([[end, 5, 6, 7, end, pad, pad, pad]])
    assert torch.allclose(
        next_token_loss(model, row, pad)[0], next_token_loss(model, padded, pad)[0]
    )
    assert next_token_loss(model, padded, pad)[1] == 4


def test_a_killed_run_goes_on_to_the_bit(tiny, texts, tmp_path):
    whole = run(fresh(tiny[1]), tiny[1], texts, steps=24)
    losses = [s.loss for s in whole]
    first = run(fresh(tiny[1]), tiny[1], texts, steps=24)
    for step in first:
        if step.step == 10:
            break
    first.save(tmp_path)
    again = run(fresh(tiny[1], seed=9), tiny[1], texts, steps=24)
    again.load(tmp_path)
    rest = [s.loss for s in again]
    assert [s.loss for s in again.history] == losses and rest == losses[10:]
    for a, b in zip(whole.model.parameters(), again.model.parameters()):
        assert torch.equal(a, b)


def test_an_interrupted_loop_goes_on_in_place(tiny, texts):
    whole = [s.loss for s in run(fresh(tiny[1]), tiny[1], texts, steps=12)]
    stopped = run(fresh(tiny[1]), tiny[1], texts, steps=12)
    for step in stopped:
        if step.step == 5:
            break
    assert [s.loss for s in stopped] == whole[5:]


def test_a_pass_sees_every_text_once(tiny, texts):
    batches = run(fresh(tiny[1]), tiny[1], texts).batches(0)
    assert sorted(i for b in batches for i in b) == list(range(len(texts)))
    assert batches != run(fresh(tiny[1]), tiny[1], texts).batches(1)


def test_the_learning_rate_starts_each_pass_at_half_the_peak(tiny, texts):
    made = run(fresh(tiny[1]), tiny[1], texts, steps=100, passes=2, lr=1e-2, warmup=10)
    rates = [made.lr_at(step) for step in range(made.steps)]
    assert made.steps == 200
    assert max(rates[:100]) == pytest.approx(1e-2) and max(rates[100:]) == pytest.approx(5e-3)
    assert rates[99] < 2e-4 and rates[199] < 1e-4 and rates[0] < rates[5] < rates[9]


def test_another_model_cannot_be_resumed(tiny, texts, tmp_path):
    first = run(fresh(tiny[1]), tiny[1], texts, steps=2)
    list(first)
    first.save(tmp_path)
    with pytest.raises(TrainingError, match="another model"):
        run(models.new_model(tiny[1], 1, 32, 2), tiny[1], texts, steps=2).load(tmp_path)


def test_a_run_that_blows_up_stops_with_the_cause(tiny, texts):
    with pytest.raises(TrainingError, match="learning rate"):
        list(run(fresh(tiny[1]), tiny[1], texts, steps=60, lr=1e30, warmup=0, clip=1e30))


@pytest.mark.parametrize("dials", [{"batch": 0}, {"lr": -1.0}, {"clip": 0}])
def test_bad_dials_get_one_sentence(dials):
    with pytest.raises(TrainingError, match="expected more than 0"):
        LanguageConfig(**dials)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no texts to train on"),
        ("The hero", "texts to train on is one string"),
        (["The hero", None], r"texts to train on\[1\] is a NoneType"),
        (["The hero \ud800"], "half a character"),
    ],
)
def test_bad_texts_get_one_sentence(tiny, texts, message):
    with pytest.raises(TextError, match=message):
        run(fresh(tiny[1]), tiny[1], texts)


def test_a_text_beyond_the_context_has_no_loss(tiny):
    """319 tokens fit between start and end into a context of 320, 320 do not."""
    model, tokenizer = fresh(tiny[1]), tiny[1]
    ids = tokenizer("goose " * 200)["input_ids"]
    fits, long = tokenizer.decode(ids[:319]), tokenizer.decode(ids[:320])
    assert [len(tokenizer(t)["input_ids"]) for t in (fits, long)] == [319, 320]
    assert evaluate_loss(model, tokenizer, [fits])[0] > 0
    with pytest.raises(TextError, match=r"texts\[1\] takes 321 places .* the context of 320"):
        evaluate_loss(model, tokenizer, [fits, long])


def test_a_run_obeys_its_clip(tiny, texts):
    """A clip far below Adam's eps leaves the weights where they are; the usual one moves them."""

    def moved(clip):
        model = fresh(tiny[1])
        before = [p.detach().clone() for p in model.parameters()]
        next(iter(run(model, tiny[1], texts, clip=clip, weight_decay=0.0, lr=1e-3, warmup=0)))
        return max(float((a - b).detach().abs().max()) for a, b in zip(model.parameters(), before))

    assert moved(1e-16) < 1e-6 < 1e-4 < moved(1.0)


def test_the_gradient_is_that_of_a_mean_over_tokens(tiny, texts):
    """The norm that a step logs is that of -mean log p over the real tokens of its batch."""
    made = run(fresh(tiny[1]), tiny[1], texts)
    rows = [made.rows[i] for i in made.batches(0)[0]]
    model = fresh(tiny[1])
    nats, count = next_token_loss(model, pad_rows(rows, made.end, made.pad), made.pad)
    (nats / count).backward()
    nats = nats.detach()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    step = next(iter(made))
    assert step.grad_norm == pytest.approx(float(norm), rel=1e-3)
    assert step.loss_per_token == pytest.approx(float(nats / count), rel=1e-5)


def test_seeds_give_other_orders(tiny, texts):
    orders = [
        run(fresh(tiny[1]), tiny[1], texts, seed=seed).batches(epoch)
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])
