"""Any GPT-2 folder gives the log-probabilities of plain transformers, the same at each load, and no pads.

The hub's gpt2 has no pad token and logits near -50 or -100: a pad row of zeros would take nearly all probability.
"""

import copy
import json
import random

from rlhf_lite import models, ppo, rewards, rollouts, sampling
from rlhf_lite.training import LanguageConfig, LanguageRun, evaluate_loss

import pytest
import torch
from small_runs import exact_kl
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

TEXTS = [
    "Ivo Vane was born in Oxbow.",
    "Q: Who was Edda Moss?",
    "The hero Norbert Pell sang of geese.",
]


def shift_logits(model, by):
    """Move all logits by a constant and change no text's log p: h.u is constant for u of equal numbers, since a
    layer norm's output sums to the sum of its bias."""
    with torch.no_grad():
        bias = model.transformer.ln_f.bias.fill_(1.0)
        u = by / float(bias.sum())
        model.transformer.wte.weight += u
        model.transformer.wpe.weight -= u


def make_folder(folder, texts, shift, pad_is_eos=False):
    """A folder as the hub has for gpt2: vocab.json and merges.txt, no pad token, GPT-2's shape but thin."""
    bpe = ByteLevelBPETokenizer()
    end = "<|endoftext|>"
    bpe.train_from_iterator(texts, vocab_size=500, special_tokens=[end], show_progress=False)
    bpe.save_model(str(folder))
    words = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024}
    words |= {"pad_token": end} if pad_is_eos else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(words), encoding="utf-8")
    config = GPT2Config(
        vocab_size=500,
        n_embd=48,
        n_layer=2,
        n_head=4,
        n_positions=128,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(6)
    shift_logits(model, shift)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["as it is", "shifted by -60", "pad is eos"])
def folder(request, tmp_path_factory, world):
    rng = random.Random(0)
    texts = [world.sample(rng).text for _ in range(200)]
    shift = 0.0 if request.param == "as it is" else -60.0
    where = tmp_path_factory.mktemp("foreign")
    return make_folder(where, texts, shift, request.param == "pad is eos")


def plain_logprobs(folder, texts):
    """log p of each text and its end behind a start token, by plain transformers, one text at a time [nats]."""
    model, tokenizer = (
        GPT2LMHeadModel.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    end, found = tokenizer.eos_token_id, []
    for text in texts:
        row = torch.tensor([[end, *tokenizer(text)["input_ids"], end]])
        with torch.no_grad():
            table = torch.log_softmax(model(row).logits[0, :-1], -1)
        found.append(float(table.gather(1, row[0, 1:, None]).sum()))
    return found


def test_the_shift_moves_every_logit_and_no_text(folder, tmp_path):
    """The trap is real: a row of zeros beside these logits takes all of the probability."""
    model, tokenizer = models.load(folder)
    row, _ = sampling.encode(tokenizer, TEXTS[:1])
    with torch.no_grad():
        logits = model(row).logits[0, :, :500]
    if logits.max() < 0:
        zero = torch.cat([logits, torch.zeros(len(logits), 1)], 1)
        assert torch.softmax(zero, -1)[:, -1].min() > 0.999


def test_log_p_is_that_of_plain_transformers(folder):
    model, tokenizer = models.load(folder)
    expected = plain_logprobs(folder, TEXTS)
    assert sampling.text_logprobs(model, tokenizer, TEXTS) == pytest.approx(expected, abs=1e-3)
    losses = evaluate_loss(model, tokenizer, TEXTS)
    assert (-losses).tolist() == pytest.approx(expected, abs=1e-3)


def test_two_loads_are_one_model(folder):
    (left, tokenizer), (right, _) = models.load(folder), models.load(folder)
    tokens, mask = sampling.encode(tokenizer, TEXTS)
    with torch.no_grad():
        assert torch.equal(left(tokens).logits, right(tokens).logits)
        assert float(exact_kl(left, right, tokens, mask).abs().max()) == 0
    assert models.checksum(left) == models.checksum(right)


def test_two_loads_are_one_model_where_the_head_is_its_own(folder, tmp_path):
    model = GPT2LMHeadModel.from_pretrained(folder, tie_word_embeddings=False)
    model.lm_head.weight = torch.nn.Parameter(model.transformer.wte.weight.detach() * 2)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    loaded = [models.load(tmp_path)[0] for _ in range(2)]
    assert loaded[0].lm_head.weight is not loaded[0].transformer.wte.weight
    assert models.checksum(loaded[0]) == models.checksum(loaded[1])


def test_no_pad_is_ever_drawn(folder):
    """300 responses, at temperature 1 and at 3, cut and uncut: every token is one of the 500, and all were probable."""
    model, tokenizer = models.load(folder)
    assert tokenizer.pad_token_id == 500 and tokenizer.eos_token_id == 0
    for heat, top_p in ((1.0, 1.0), (3.0, 1.0), (1.0, 0.9)):
        drawn = sampling.sample(model, tokenizer, TEXTS * 34, 20, heat, top_p, seed=1)
        real = drawn.tokens[drawn.response.bool()]
        assert len(real) > 500 and int(real.max()) < 500
        assert torch.isfinite(drawn.logprobs).all()
    plain = sampling.token_logprobs(model, drawn.tokens, drawn.mask) * drawn.response
    assert torch.allclose(plain, drawn.logprobs, atol=1e-3)


def test_a_saved_copy_reads_the_same_everywhere(folder, tmp_path):
    """Nothing that load added is left in the folder: plain transformers, and load, read the same from it."""
    expected = plain_logprobs(folder, TEXTS)
    models.save(*models.load(folder), tmp_path)
    assert plain_logprobs(tmp_path, TEXTS) == pytest.approx(expected, abs=1e-4)
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path),
    )
    assert model.config.vocab_size == len(tokenizer) == 500
    assert tokenizer.pad_token_id is None and tokenizer.eos_token_id == 0
    again, words = models.load(tmp_path)
    assert sampling.text_logprobs(again, words, TEXTS) == pytest.approx(expected, abs=1e-3)
    assert (
        words(TEXTS[0])["input_ids"] == AutoTokenizer.from_pretrained(folder)(TEXTS[0])["input_ids"]
    )


def test_a_step_of_ppo_starts_at_no_kl(folder):
    model, tokenizer = models.load(folder)
    dials = {"samples": 12, "minibatches": 2, "max_new_tokens": 12, "steps": 2, "bfloat16": False}
    run = ppo.PPORun(
        model,
        models.load(folder)[0],
        tokenizer,
        TEXTS,
        lambda t: [x.count("e") for x in t],
        ppo.PPOConfig(**dials),
    )
    first, second = run
    assert first.kl == 0 and first.ratio_gap < 1e-4
    assert first.entropy > 0 and 0 < second.kl < 60
    assert all(torch.isfinite(p).all() for p in run.policy.parameters())


def test_training_goes_on_from_it(folder):
    model, tokenizer = models.load(folder)
    before = float(evaluate_loss(model, tokenizer, TEXTS).mean())
    run = LanguageRun(model, tokenizer, TEXTS * 4, LanguageConfig(batch=4, lr=1e-3, passes=4))
    assert all(step.loss > 0 for step in run)
    assert float(evaluate_loss(model, tokenizer, TEXTS).mean()) < before - 1


def test_a_reward_model_stands_on_it(folder):
    model, tokenizer = models.load(folder)
    judge = rewards.new_reward_model(model)
    together = rewards.score(judge, tokenizer, TEXTS)
    alone = torch.cat([rewards.score(judge, tokenizer, [t]) for t in TEXTS])
    assert torch.allclose(together, alone, atol=1e-4)


def test_draws_of_a_policy_are_read_alike(folder):
    model, tokenizer = models.load(folder)
    found = rollouts.draw(
        model, models.load(folder)[0], tokenizer, TEXTS, lambda t: [0.0] * len(t), count=4
    )
    assert torch.allclose(found.logprobs, found.ref_logprobs, atol=1e-3)
    assert found.prompts == TEXTS


@pytest.mark.parametrize("what", ["pad", "beyond"])
def test_a_token_that_is_no_text_is_never_drawn(tiny, what):
    """A pad row of the model's own that is likely, and rows behind the tokenizer's last token (a padded vocabulary)."""
    model, tokenizer = copy.deepcopy(tiny[0]), tiny[1]
    if what == "beyond":
        model.resize_token_embeddings(len(tokenizer) + 28, mean_resizing=False)
    rows = (
        [tokenizer.pad_token_id]
        if what == "pad"
        else list(range(len(tokenizer), len(tokenizer) + 28))
    )
    with torch.no_grad():
        model.transformer.ln_f.bias.fill_(1.0)
        model.transformer.wte.weight[rows] = 0.5
    tokens, _ = sampling.encode(tokenizer, ["Q:"])
    with torch.no_grad():
        share = torch.softmax(model(tokens).logits[0, -1], -1)[rows].sum()
    assert share > 0.5, "the likely token that must not be drawn"
    for heat, top_p in ((1.0, 1.0), (0.01, 1.0), (1.0, 0.3)):
        drawn = sampling.sample(model, tokenizer, ["Q:"] * 60, 8, heat, top_p)
        real = drawn.tokens[drawn.response.bool()]
        assert len(real) > 60 and not set(real.tolist()) & set(rows)
        assert heat < 1 or len(set(real.tolist())) > 5, "and not always the last one in its place"
