"""Supervised fine-tuning: the loss by a loop, the end that is taught, brakes, save and resume."""

import copy

from rlhf_lite.rollouts import PolicyError
from rlhf_lite.supervised import SFTConfig, SFTRun
from rlhf_lite.training import TrainingError

import pytest
import torch
from small_runs import count_e, list_through, records, same, weights
from torch.nn.functional import log_softmax

PAIRS = [
    ("Ivo Vane", " was born in Oxbow."),
    ("Q: Who was Edda Moss?", " A miller."),
    ("The hero", " sang.\nA goose laughed at the hero of Oxbow."),
    ("Q:", " A"),
]
DIALS = {"samples": 4, "minibatches": 1, "steps": 6, "warmup": 0, "lr": 3e-3, "bfloat16": False}


def begin(parts, reference=None, pairs=PAIRS, score=count_e, **dials):
    reference = None if reference is None else copy.deepcopy(reference)
    config = SFTConfig(**DIALS | dials)
    return SFTRun(copy.deepcopy(parts[0]), reference, parts[1], pairs, score, config)


def naive_logprobs(model, tokenizer, prompt, response, end=True):
    """log p of each token of a response, one unpadded row at a time."""
    eos = tokenizer.eos_token_id
    said = tokenizer(response)["input_ids"] + [eos] * end
    row = torch.tensor([eos, *tokenizer(prompt)["input_ids"], *said])
    table = log_softmax(model(row[None]).logits[0], -1)[-len(said) - 1 : -1]
    return table.gather(1, torch.tensor(said)[:, None])[:, 0]


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("minibatches", [1, 2])
def test_the_gradient_is_that_of_a_loop(wordy, end, minibatches):
    """The sum of -log p over the tokens of all responses, by the number of tokens: the prompt teaches
    nothing, the end only if asked to, and no response weighs more for its short neighbours.
    """
    run = begin(wordy, end=end, minibatches=minibatches)
    batch = run.rollout()
    found = 0
    for part in batch.parts:
        loss = run.weight(batch, part, batch.parts) * run.loss(batch, part, None)[0]
        grads = torch.autograd.grad(loss, list(run.policy.parameters()))
        found = found + torch.cat([g.flatten() for g in grads]) / minibatches
    logprobs = torch.cat([naive_logprobs(run.policy, wordy[1], *pair, end) for pair in PAIRS])
    right = torch.autograd.grad(-logprobs.mean(), list(run.policy.parameters()))
    right = torch.cat([g.flatten() for g in right])
    assert float((found - right).norm() / right.norm()) < 1e-4


def test_a_batch_holds_what_was_written(wordy, other):
    run = begin(wordy, other)
    batch = run.rollout()
    assert sorted(batch.texts) == sorted(p + r for p, r in PAIRS)
    for row, (prompt, text) in enumerate(zip(batch.prompts, batch.texts)):
        said = batch.tokens[row, batch.query :][batch.real[row].bool()]
        assert wordy[1].decode(said) == text[len(prompt) :] + wordy[1].eos_token
        right = naive_logprobs(run.policy, wordy[1], prompt, text[len(prompt) :])
        assert torch.allclose(batch.logprobs[row][batch.real[row].bool()], right, atol=1e-4)
    step = run.advance()
    assert step.score == pytest.approx(sum(count_e(step.texts)) / 4) and step.ended == 1
    assert step.ratio_gap == 0 and step.kl > 0


def test_it_learns_what_was_written(wordy):
    run = begin(wordy, steps=30, lr=1e-2)
    list(run)
    assert run.history[-1].policy_loss < 0.2 * run.history[0].policy_loss
    assert run.history[-1].kl > 1 and run.history[0].kl == 0


def test_a_saved_run_goes_on_to_the_bit(wordy, tmp_path):
    through, first = list_through(begin(wordy, minibatches=2)), begin(wordy, minibatches=2)
    first.advance(), first.advance()
    first.save(tmp_path)
    again = begin(wordy, minibatches=2)
    again.load(tmp_path)
    list(again)
    assert records(again) == records(through) and same(weights(again), weights(through))
    with pytest.raises(TrainingError, match="its demonstrations is"):
        begin(wordy, pairs=[(p, r + " A") for p, r in PAIRS], minibatches=2).load(tmp_path)


def test_long_prompts_are_welcome(wordy):
    """Only prompt, response and what stands around them must fit."""
    words = wordy[1]("Ivo Vane was born in Oxbow and sang." * 9)["input_ids"]
    taken = len(wordy[1](" A")["input_ids"]) + 1
    prompt = wordy[1].decode(words[: 96 - taken])
    while len(wordy[1](prompt)["input_ids"]) > 96 - taken:
        prompt = prompt[:-1]
    assert begin(wordy, pairs=[(prompt, " A")], end=False).advance().length == taken - 1


def test_the_brakes_hold(wordy):
    run = begin(wordy, lr=3.0, steps=20, kl_limit=5.0)
    with pytest.raises(PolicyError, match="KL to the reference has reached"):
        list(run)
    assert 0 < run.step < 20 and all(torch.isfinite(w).all() for w in weights(run))


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([], "no demonstrations; expected a list with at least one (prompt, response)"),
        ("Ivo", "demonstrations is one string"),
        ([("Ivo", " sang.", "x")], "expected (prompt, response)"),
        ([("Ivo", " ")], "two texts that say something"),
        ([("Ivo", 3)], "demonstrations[0][1] is a int"),
        ([("Ivo", " sang." * 60)], "demonstrations[0] takes"),
    ],
)
def test_bad_demonstrations_get_one_sentence(wordy, pairs, words):
    with pytest.raises(PolicyError, match=r"^[^\n]*$") as caught:
        begin(wordy, pairs=pairs)
    assert words in str(caught.value)
