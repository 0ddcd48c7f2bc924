r"""PPO computes what its formulas say, learns where the optimum is known, and each fault is caught.

A list of what can go wrong in PPO for language models; the numbers in the docstrings below are its
points. Those that have no test here:

3   temperature             the run has none: it is always 1, see
                            test_first_tokens_follow_the_model for the sampler
11  reward whitening        there is none; whitening of advantages is tested (11)
17  scores of mean 0, sd 1  left to the score function; see test_rewards.py
33  loss of reward models   see test_rewards.py
34  score at the last token see test_rewards.py
35  accuracy of held pairs  see test_rewards.py
36  seeds, same prompts     an experiment's business: notebook 04
37  proxy and gold          an experiment's business: notebook 04
38  best-of-n is a bound    see test_optimum.py
"""

import copy
import math
from contextlib import nullcontext
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch.nn.functional import log_softmax

from rlhf_lite import models, ppo, sampling, testbed
from rlhf_lite.ppo import (
    PPOConfig,
    PPOError,
    PPORun,
    adapted,
    explained_variance,
    gae,
    kl_estimates,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from rlhf_lite.sampling import encode, exact_kl, response_states, sample, token_logprobs
from rlhf_lite.training import TrainingError, cosine

PROMPTS = ["Ivo Vane", "The hero Norbert Pell was born in Oxbow", "Q:"]
DOCUMENTS = ["Ivo Vane was born in Oxbow.", "Q: Who was Edda Moss?", "The hero sang.", "A goose"]
DIALS = {
    "samples": 16, "minibatches": 4, "max_new_tokens": 10, "steps": 4, "warmup": 0, "lr": 3e-3,
    "value_lr": 1e-2, "bfloat16": False,
}  # fmt: skip


def count_e(texts):
    """A score that some text changes: the letter e, in tens."""
    return [text.count("e") / 10 for text in texts]


@pytest.fixture(scope="module")
def wordy(tiny):
    """The tiny model with a head of its own that likes the end-of-text token and new lines: of 16
    responses of 10 tokens, some end and some do not, some have whole lines and some do not.
    """
    model, tokenizer = copy.deepcopy(tiny[0]), tiny[1]
    head = torch.nn.Linear(32, len(tokenizer))
    with torch.no_grad():
        head.weight.copy_(model.lm_head.weight)
        head.bias.zero_()
        head.bias[[tokenizer.eos_token_id, *tokenizer("\n")["input_ids"]]] = 4.0
    model.lm_head, model.config.tie_word_embeddings = head, False
    return model, tokenizer


@pytest.fixture(scope="module")
def other(wordy):
    """A reference that is not the policy: the wordy model with noise of 0.05 on every weight."""
    model, generator = copy.deepcopy(wordy[0]), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=generator)
    return model


@pytest.fixture(scope="module")
def bed():
    return testbed.new_testbed(words=2)


def start(parts, reference=None, score=count_e, prompts=PROMPTS, documents=None, **dials):
    """A run on copies, so that no test changes what another one uses."""
    model, tokenizer = parts
    reference = None if reference is None else copy.deepcopy(reference)
    config = PPOConfig(**DIALS | dials)
    return PPORun(copy.deepcopy(model), reference, tokenizer, prompts, score, config, documents)


def start_bed(bed, **dials):
    """Beta 0.5, 20 steps of 128 answers, seed 0: 1.5 s."""
    dials = {"kl_coef": 0.5, "steps": 20, "samples": 128, "max_new_tokens": 3} | dials
    return start((bed.model, bed.tokenizer), score=bed.score, prompts=bed.prompts, **dials)


@torch.no_grad()
def measure(bed, model, kl_coef=0.5):
    return testbed.exact(bed.sequence_logprobs(model), bed.base_logprobs, bed.scores, kl_coef)


def weights(run):
    return [p.detach().clone() for p in (*run.policy.parameters(), *run.value_head.parameters())]


def same(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def records(run):
    """The history without its times."""
    return [{k: v for k, v in asdict(s).items() if k != "seconds"} for s in run.history]


def ragged(seed=0, rows=5, width=6):
    """Scores, rewards, values and a mask of responses 1 to `width` tokens long, padding full of
    9s.
    """
    torch.manual_seed(seed)
    lengths = torch.tensor([width, 1, *torch.randint(1, width + 1, (rows - 2,)).tolist()])
    mask = (torch.arange(width) < lengths[:, None]).float()
    rewards, values = torch.randn(2, rows, width).where(mask.bool(), torch.tensor(9.0))
    return torch.randn(rows), rewards, values, mask, lengths.tolist()


# ---- the three estimates of KL ----


@torch.no_grad()
def next_token_tables(policy, reference, tokenizer):
    """Return log p, log q (N, V) in double and exact_kl (N,) of all next tokens of the prompts."""
    tokens, mask = encode(tokenizer, PROMPTS)
    states = [m(tokens, attention_mask=mask, position_ids=sampling.position_ids(mask)).logits for m in (policy, reference)]  # fmt: skip
    keep = mask[:, 1:].bool() & mask[:, :-1].bool()
    tables = [log_softmax(s[:, :-1].double(), -1)[keep] for s in states]
    return *tables, exact_kl(policy, reference, tokens, mask)[:, 1:][keep].double()


def check_unbiased(estimates, ours, theirs, kl):
    """k1 and k3 have the KL as their mean over the whole vocabulary."""
    for number in (0, 2):
        mean = (ours.exp() * estimates(ours, theirs)[number]).sum(1)
        assert torch.allclose(mean, kl, atol=1e-5, rtol=1e-5), f"k{number + 1}"


def test_k1_and_k3_have_the_exact_kl_as_their_mean(wordy, other):
    """19, 24: every token of the vocabulary with its probability, so no luck; k1 falls below zero,
    k3 never does; and the guard sees an inverted ratio.
    """
    ours, theirs, kl = next_token_tables(wordy[0], other, wordy[1])
    assert len(kl) > 10 and (kl > 0.01).all()
    check_unbiased(kl_estimates, ours, theirs, kl)
    k1, _, k3 = kl_estimates(ours, theirs)
    assert (k1 < 0).any() and (k3 >= 0).all()
    for wrong in (0, 2):
        with pytest.raises(AssertionError, match=f"k{wrong + 1}"):
            check_unbiased(
                lambda p, q, n=wrong: [k if i != n else kl_estimates(q, p)[i] for i, k in enumerate(kl_estimates(p, q))],
                ours, theirs, kl,
            )  # fmt: skip


def test_k2_is_biased_by_a_third_moment(wordy):
    """19: with d = log p - log q, 1 = E exp(-d) gives E k2 - KL = E d^3 / 6 - E d^4 / 24 + ...: small
    where the policies are close, but not zero.
    """
    ours = next_token_tables(wordy[0], wordy[0], wordy[1])[0]
    noise = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)).double()
    found = []
    for size in (0.05, 1.0):
        theirs = log_softmax(ours + size * noise, -1)
        k1, k2, _ = ((ours.exp() * k).sum(1) for k in kl_estimates(ours, theirs))
        series = (ours.exp() * ((ours - theirs) ** 3 / 6 - (ours - theirs) ** 4 / 24)).sum(1)
        found.append((k2 - k1, series, k1))
    bias, series, kl = found[0]
    assert ((bias - series).abs() < 1e-3 * kl).all() and (bias.abs() > 1e-3 * kl).any()
    assert ((bias.abs() / kl).mean() * 3) < (found[1][0].abs() / found[1][2]).mean()


@pytest.mark.parametrize(
    ("mean", "bias", "sd"),
    [(0.1, (0, 0.0025, 0), (20, 1.42, 1.42)), (1.0, (0, 0.25, 0), (2, 1.73, 1.7))],
)
def test_schulmans_table(mean, bias, sd):
    """19: bias and sd over the true KL of N(0, 1) to N(mean, 1), as printed by Schulman (2020), who
    prints 0.002 for 0.0025. Integrated on a grid, so there is no seed and no luck.
    """
    x = torch.linspace(-14, 14, 40_001, dtype=torch.double)
    density = torch.exp(-(x**2) / 2)
    density /= density.sum()
    true = mean**2 / 2
    for k, b, s in zip(kl_estimates(-(x**2) / 2, -((x - mean) ** 2) / 2), bias, sd):
        centre = float((density * k).sum())
        assert centre / true - 1 == pytest.approx(b, abs=1e-6)
        spread = math.sqrt(float((density * (k - centre) ** 2).sum()))
        assert spread / true == pytest.approx(s, rel=0.01)


def test_k3_keeps_its_digits():
    """20: at a gap of 1e-4 in float32, exp(-d) - 1 + d is noise; k3 here is right to 1 in 100."""
    gap = torch.tensor([1e-4, -1e-4, 3e-4])
    right = torch.expm1(-gap.double()) + gap.double()
    assert torch.allclose(kl_estimates(gap, torch.zeros(3))[2].double(), right, rtol=0.01, atol=0)
    naive = (torch.exp(-gap) - 1 + gap).double()
    assert not torch.allclose(naive, right, rtol=0.01, atol=0)


def test_what_the_estimates_pull_as_losses():
    """21: over the whole vocabulary E grad k1 = 0, E grad k2 = grad KL(pi || ref), and E grad k3 =
    grad KL(ref || pi): none may stand in the loss for the penalty unawares.
    """
    torch.manual_seed(2)
    logits = torch.randn(9, dtype=torch.double, requires_grad=True)
    ours, theirs = log_softmax(logits, -1), log_softmax(torch.randn(9, dtype=torch.double), -1)

    def pull(value):
        return torch.autograd.grad(value, logits, retain_graph=True)[0]

    k1, k2, k3 = (pull((ours.detach().exp() * k).sum()) for k in kl_estimates(ours, theirs))
    backward = pull((ours.exp() * (ours - theirs)).sum())
    forward = pull((theirs.exp() * (theirs - ours)).sum())
    assert k1.abs().max() < 1e-12 < 1e-2 < backward.abs().max()
    assert torch.allclose(k2, backward) and torch.allclose(k3, forward)
    assert not torch.allclose(forward, backward, atol=1e-2)


# ---- rewards, advantages, losses ----


def check_rewards(rewards, charge):
    """The rewards of a loop, token by token; the score once, at the last real token (10)."""
    scores, penalties, _, mask, lengths = ragged()
    found = rewards(scores, penalties, mask, 0.3, charge)
    for row, length in enumerate(lengths):
        expected = [0.0] * mask.shape[1]
        for t in range(length):
            expected[t if charge == "token" else length - 1] -= 0.3 * float(penalties[row, t])
        expected[length - 1] += float(scores[row])
        assert found[row].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("charge", ppo.CHARGES)
def test_rewards_equal_a_loop(charge):
    """10, 18: a token the policy likes more than the reference costs; padding counts nothing."""
    check_rewards(token_rewards, charge)

    def padded(scores, penalties, mask, kl_coef, charge):
        """The fault of paying the score at the last column, pad or not."""
        zero = token_rewards(0 * scores, penalties, mask, kl_coef, charge)
        zero[:, -1] += scores
        return zero

    def doubled(scores, penalties, mask, kl_coef, charge):
        """The fault of paying the score at every token."""
        return token_rewards(0 * scores, penalties, mask, kl_coef, charge) + scores[:, None] * mask

    def flipped(scores, penalties, mask, kl_coef, charge):
        """The fault of rewarding drift."""
        return token_rewards(scores, penalties, mask, -kl_coef, charge)

    for fault in (padded, doubled, flipped):
        with pytest.raises(AssertionError):
            check_rewards(fault, charge)


def test_both_charges_pay_the_same_in_sum():
    scores, penalties, _, mask, _ = ragged(1)
    sums = [token_rewards(scores, penalties, mask, 0.3, charge).sum(1) for charge in ppo.CHARGES]
    assert torch.allclose(*sums, atol=1e-6)


@pytest.mark.parametrize(("lam", "gamma"), [(1.0, 1.0), (0.95, 1.0), (0.5, 0.9), (0.0, 1.0)])
def test_gae_equals_a_double_loop(lam, gamma):
    """12, 13, 14: A_t = sum_l (gamma lam)^l delta_{t+l}, V after the end is 0, returns are the raw
    advantages and the old values; 9s in the padding change nothing.
    """
    _, rewards, values, mask, lengths = ragged(2)
    advantages, returns = gae(rewards, values, mask, lam, gamma)
    for row, length in enumerate(lengths):
        r, v = rewards[row, :length].tolist(), [*values[row, :length].tolist(), 0.0]
        deltas = [r[t] + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            right = sum((gamma * lam) ** (s - t) * deltas[s] for s in range(t, length))
            assert float(advantages[row, t]) == pytest.approx(right, abs=1e-5)
            assert float(returns[row, t]) == pytest.approx(right + v[t], abs=1e-5)
            if lam == gamma == 1:  # the Monte-Carlo return
                assert float(returns[row, t]) == pytest.approx(sum(r[t:]), abs=1e-5)
        assert (advantages[row, length:] == 0).all() and (returns[row, length:] == 0).all()


def test_gae_by_hand():
    """14: rewards 0, 0, 1, values 0.5, 0.6, 0.8, lambda 0.5: deltas 0.1, 0.2, 0.2."""
    advantages, returns = gae(
        torch.tensor([[0.0, 0, 1]]), torch.tensor([[0.5, 0.6, 0.8]]), torch.ones(1, 3), 0.5
    )
    assert advantages[0].tolist() == pytest.approx([0.25, 0.3, 0.2])
    assert returns[0].tolist() == pytest.approx([0.75, 0.9, 1.0])


@pytest.mark.parametrize("how", ppo.WHITENINGS)
def test_whitening_sees_real_tokens_only(how):
    """11, 13: 9s in the padding change neither mean nor scale."""
    _, advantages, _, mask, _ = ragged(3)
    found, real = whiten(advantages, mask, how)[mask.bool()], advantages[mask.bool()].double()
    right = {"none": real, "mean": real - real.mean(), "full": (real - real.mean()) / real.std(unbiased=False)}  # fmt: skip
    assert torch.allclose(found.double(), right[how], atol=1e-5)
    if how != "none":
        assert (whiten(advantages, mask, how)[mask == 0] == 0).all()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "pull", "bound"),
    [
        (1.0, 2.0, -2.0, -2.0, 0),
        (1.5, 2.0, -2.4, 0.0, 1),  # already far enough up: no more push
        (1.5, -2.0, 3.0, 3.0, 0),  # up by mistake: comes back
        (0.5, -2.0, 1.6, 0.0, 1),  # already far enough down
        (0.5, 2.0, -1.0, -1.0, 0),
        (1.1, 2.0, -2.2, -2.2, 0),
    ],
)
def test_the_clipped_objective_by_hand(ratio, advantage, loss, pull, bound):
    """30: min of two objectives; a clipped token with a pushing advantage has no gradient."""
    logprobs = torch.tensor([math.log(ratio)], dtype=torch.double, requires_grad=True)
    found, info = policy_loss(logprobs, torch.zeros(1), torch.tensor([advantage]), 0.2)
    found.backward()
    assert found.item() == pytest.approx(loss) and float(logprobs.grad) == pytest.approx(pull)
    assert float(info["clip_fraction"]) == bound
    assert float(info["kl_old"]) == pytest.approx(ratio - 1 - math.log(ratio))


def test_losses_are_means_over_tokens():
    """31: every token counts alike, so a response counts by its length."""
    torch.manual_seed(4)
    logprobs, old, advantages = torch.randn(3, 50, dtype=torch.double) / 4
    parts = [policy_loss(logprobs[i], old[i], advantages[i])[0] for i in range(50)]
    assert float(policy_loss(logprobs, old, advantages)[0]) == pytest.approx(sum(parts) / 50)
    parts = [value_loss(logprobs[i], old[i], advantages[i]) for i in range(50)]
    assert float(value_loss(logprobs, old, advantages)) == pytest.approx(sum(parts) / 50)


@pytest.mark.parametrize(
    ("value", "returned", "loss", "pull"),
    [
        (0.1, 1.0, 0.405, -0.9),  # inside the clip: half the square
        (0.5, 1.0, 0.32, 0.0),  # beyond it on the way to the return: no gradient
        (1.9, 1.0, 0.405, 0.9),  # far past the return: the larger of two losses
        (-0.5, 1.0, 1.125, -1.5),  # moved the wrong way: comes back
    ],
)
def test_the_value_loss_by_hand(value, returned, loss, pull):
    """26, 30: half the larger of two squares, clipped to 0.2 around the old value 0."""
    values = torch.tensor([value], dtype=torch.double, requires_grad=True)
    found = value_loss(values, torch.zeros(1), torch.tensor([returned]), 0.2)
    found.backward()
    assert found.item() == pytest.approx(loss) and float(values.grad) == pytest.approx(pull)


def test_explained_variance_by_hand():
    """26: 1 for a perfect critic, 0 for a constant, below 0 for one worse than a constant."""
    returns = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(returns + 5, returns) == pytest.approx(1)
    assert explained_variance(torch.full((4,), 7.0), returns) == pytest.approx(0)
    assert explained_variance(-returns, returns) == pytest.approx(-3)
    assert explained_variance(returns, torch.ones(4)) == 0


@pytest.mark.parametrize(
    ("kl", "factor"),
    [(6, 1), (6.6, 1.01), (60, 1.02), (5.4, 0.99), (0, 0.98), (-3, 0.98), (7.2, 1.02)],
)
def test_the_controller_by_hand(kl, factor):
    """23: up above the target, down below it, by at most 0.2 n / horizon."""
    assert adapted(0.3, kl, 6.0, 500, 5000) == pytest.approx(0.3 * factor)


def test_the_controller_stays_positive():
    """23: also where the batch is large beside the horizon."""
    assert adapted(0.2, 0.0, 6.0, 252, 50) > 0


# ---- drawing tokens ----


def test_draws_follow_the_odds():
    """40,000 draws from odds with zeros at both ends and inside (seed 0): none of a zero, and a
    chi-square test with p > 1e-4, so it fails by luck once in 10,000 seeds.
    """
    odds = torch.tensor([0, 0, 0.5, 0.01, 0, 0.09, 0.3, 0.1, 0])
    rows = odds.expand(40_000, -1) * torch.rand(40_000, 1)  # need not sum to 1
    drawn = sampling._draw(rows, torch.Generator().manual_seed(0))
    seen = torch.bincount(drawn[:, 0], minlength=9)
    assert drawn.shape == (40_000, 1) and (seen[odds == 0] == 0).all()
    expected = (odds[odds > 0] / odds.sum() * 40_000).double().numpy()
    assert chisquare(seen[odds > 0].numpy(), expected).pvalue > 1e-4


@pytest.mark.parametrize(("chance", "token"), [(0.0, 1), (1 - 1e-12, 3)])
def test_no_chance_draws_a_zero(monkeypatch, chance, token):
    monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.tensor([[chance]], dtype=torch.double))
    assert sampling._draw(torch.tensor([[0, 0.4, 0, 0.6, 0]]), None).item() == token


@torch.no_grad()
def test_first_tokens_follow_the_model(wordy):
    """3, 4: 8,000 first tokens at temperature 1 without filters (seed 0) against the softmax, p >
    1e-4; half the temperature would not pass.
    """
    model, tokenizer = wordy
    drawn = sample(model, tokenizer, ["Ivo"] * 8000, max_new_tokens=1, batch=8000).tokens[:, -1]
    logits = model(encode(tokenizer, ["Ivo"])[0]).logits[0, -1].double()

    def pvalue(odds):
        common = odds * 8000 > 5
        seen = torch.bincount(drawn, minlength=len(odds))
        tables = [torch.cat([t[common], t[~common].sum()[None]]) for t in (seen, odds * 8000)]
        return chisquare(*(t.double().numpy() for t in tables), sum_check=False).pvalue

    assert pvalue(torch.softmax(logits, -1)) > 1e-4
    assert pvalue(torch.softmax(logits / 2, -1)) < 1e-12


def test_the_roomy_cache_holds_what_concatenation_would():
    """The same keys and values at every length, in one place of memory."""
    layer, parts = sampling._RoomyLayer(9), []
    torch.manual_seed(0)
    for width in (4, 1, 1, 3):
        parts.append(torch.randn(2, 2, 3, width, 5))
        keys, values = layer.update(*parts[-1])
        assert torch.equal(keys, torch.cat([p[0] for p in parts], 2))
        assert torch.equal(values, torch.cat([p[1] for p in parts], 2))
        assert keys.data_ptr() == layer.rooms[0].data_ptr()
        assert layer.get_seq_length() == keys.shape[2]


@torch.no_grad()
def test_sampled_logprobs_are_those_of_forcing(wordy):
    """1, 5: with a cache, token by token, left-padded and ended = the whole text at once, to 1e-4."""
    model, tokenizer = wordy
    drawn = sample(model, tokenizer, PROMPTS * 5, max_new_tokens=12, seed=2)
    scored = token_logprobs(model, drawn.tokens, drawn.mask) * drawn.response
    assert torch.allclose(drawn.logprobs, scored, atol=1e-4) and (scored < -1).any()


@torch.no_grad()
def test_states_speak_of_their_own_token(wordy):
    """2, 5: the states of a left-padded batch give the logits of one model call a token, without
    any padding; shifted by one they do not.
    """
    model, tokenizer = wordy
    drawn = sample(model, tokenizer, PROMPTS, max_new_tokens=8, seed=1)
    query = int(drawn.response.argmax(1)[0])
    logits = model.lm_head(response_states(model, drawn.tokens, drawn.mask, query))
    assert logits.shape[:2] == drawn.tokens[:, query:].shape
    for row in range(3):
        count, whole = int(drawn.response[row].sum()), drawn.tokens[row][drawn.mask[row].bool()]
        alone = [model(whole[None, : len(whole) - count + t]).logits[0, -1] for t in range(count)]
        assert torch.allclose(logits[row, :count], torch.stack(alone), atol=1e-4)
        assert not torch.allclose(logits[row, 1:count], torch.stack(alone[:-1]), atol=0.1)


# ---- a batch ----


def naive_reading(run, tokens, mask, real):
    """What policy, reference and value head say of one response, without padding."""
    row, count = tokens[mask.bool()], int(real.sum())
    found = []
    for model in (run.policy, run.reference):
        out = model(row[None], output_hidden_states=True)
        part = slice(len(row) - count - 1, len(row) - 1)
        found += [log_softmax(out.logits[0, part], -1), out.hidden_states[-1][0, part]]
    ours, states, theirs, _ = found
    chosen = row[-count:, None]
    return (
        ours.gather(1, chosen)[:, 0], theirs.gather(1, chosen)[:, 0],
        (ours.exp() * (ours - theirs)).sum(1), -(ours.exp() * ours).sum(1),
        run.value_head(states)[:, 0],
    )  # fmt: skip


def test_a_batch_holds_what_a_loop_over_rows_says(wordy, other):
    """2, 5, 9, 13, 18, 21, 22: log-probabilities, exact KL, entropy and values of every response
    token equal one unpadded call a row; padding holds 0; nothing carries a gradient; the record has
    the sums of each response.
    """
    run = start(wordy, other, critic="head")
    run.advance()  # so that the value head is no longer zero
    batch, names = run.rollout(), ("logprobs", "ref_logprobs", "kl", "entropy", "values")
    for row in range(16):
        with torch.no_grad():
            right = naive_reading(run, batch.tokens[row], batch.mask[row], batch.real[row])
        count = int(batch.real[row].sum())
        for name, values in zip(names, right):
            table = getattr(batch, name)
            assert torch.allclose(table[row, :count], values, atol=1e-4), name
            assert (table[row, count:] == 0).all() and not table.requires_grad
    assert (batch.values.abs() > 1e-3).any()
    with torch.no_grad():
        kl = exact_kl(run.policy, run.reference, batch.tokens, batch.mask)[:, batch.query :]
    step = run.advance()  # draws the same batch again
    assert step.scores == tuple(batch.scores.tolist()) and step.texts == tuple(batch.texts)
    assert step.kl == pytest.approx(float((kl * batch.real).sum(1).mean()), rel=1e-4)
    k1, _, k3 = kl_estimates(batch.logprobs, batch.ref_logprobs)
    assert step.kl_k1 == pytest.approx(float(k1.sum(1).mean()), rel=1e-5)
    assert step.kl_k3 == pytest.approx(float(k3.sum(1).mean()), rel=1e-5)
    assert step.entropy == pytest.approx(float(batch.entropy.sum(1).mean()), rel=1e-5)
    assert step.score == pytest.approx(np.mean(step.scores), abs=1e-6)
    assert step.objective == pytest.approx(step.score - 0.2 * step.kl_k1, abs=1e-6)


def test_the_end_is_an_action_and_padding_is_none(wordy):
    """6, 15, 16: a response runs up to its first end-of-text token, that one included, or to the
    length limit; a text that did not end is cut to its whole lines before it is scored, starts with
    its prompt, and only then pays the penalty.
    """
    seen = []

    def score(texts):
        seen.extend(texts)
        return count_e(texts)

    run = start(wordy, score=score, unended_penalty=0.75, samples=32, prompts=PROMPTS * 12)
    batch, end = run.rollout(), wordy[1].eos_token_id
    prompts = run.batch_prompts()
    cut = 0
    for row in range(32):
        said = batch.tokens[row, batch.query :].tolist()
        ended = end in said
        assert bool(batch.ended[row]) == ended
        assert int(batch.real[row].sum()) == (said.index(end) + 1 if ended else 10)
        assert batch.real[row, : int(batch.real[row].sum())].all()
        text, whole = seen[row], wordy[1].decode(batch.tokens[row][batch.mask[row].bool()], skip_special_tokens=True)  # fmt: skip
        assert whole.startswith(text) and text.startswith(prompts[row])
        if ended or "\n" not in whole:
            assert text == whole
        else:
            assert text == whole.rpartition("\n")[0]
            cut += 1
        penalty = 0 if ended else 0.75
        assert float(batch.scores[row]) == pytest.approx(count_e([text])[0] - penalty)
    assert 3 < int(batch.ended.sum()) < 29 and cut > 3
    step = run.advance()
    assert step.ended == pytest.approx(float(batch.ended.float().mean()))
    assert step.length == pytest.approx(float(batch.real.sum(1).mean()))


def test_a_prompt_of_two_lines_is_not_cut(wordy):
    """16: the score must see the whole prompt, also where the response has no whole line."""
    run = start(wordy, prompts=["Q: Who was\nIvo Vane"], max_new_tokens=3)
    assert all(text.startswith("Q: Who was\nIvo Vane") for text in run.rollout().texts)


def test_no_prompt_comes_twice_before_all_came_once(wordy):
    prompts = [f"Ivo {n}" for n in range(7)]
    run, drawn = start(wordy, prompts=prompts, samples=4, steps=7), []
    for run.step in range(7):
        drawn += run.batch_prompts()
        assert run.batch_prompts() == drawn[-4:]
    blocks = [drawn[i : i + 7] for i in range(0, 28, 7)]
    assert all(sorted(block) == prompts for block in blocks)
    assert len({tuple(block) for block in blocks}) > 1


# ---- the update ----


def trained(run):
    """The parameters that this run's critic lets learn."""
    head = run.value_head.parameters() if run.config.critic == "head" else ()
    return [*run.policy.parameters(), *head]


def naive_gradient(run, batch, documents=None):
    """The gradient of one update by loops: one unpadded row at a time, sums by hand, and REINFORCE in
    place of the clipped ratio, whose gradient at ratio 1 is the same.
    """
    config, rows = run.config, []
    for tokens, mask, real, score, fitted in zip(
        batch.tokens, batch.mask, batch.real, batch.scores, batch.values
    ):
        logprobs, ref, _, _, values = naive_reading(run, tokens, mask, real)
        gaps, old = (logprobs - ref).tolist(), values.detach()
        if config.critic == "fit":
            old = fitted[: len(gaps)]
        v = [*old.tolist(), 0.0]
        rewards = [-run.kl_coef * gap for gap in gaps]
        if config.charge == "end":
            rewards = [0.0] * (len(gaps) - 1) + [sum(rewards)]
        rewards[-1] += float(score)
        deltas = [r + v[t + 1] - v[t] for t, r in enumerate(rewards)]
        advantages = [
            sum(config.lam ** (s - t) * deltas[s] for s in range(t, len(deltas)))
            for t in range(len(deltas))
        ]
        rows.append((logprobs, values, old, torch.tensor(advantages)))
    logprobs, values, old, advantages = (torch.cat(part) for part in zip(*rows))
    returns = advantages + old
    if config.whiten != "none":
        advantages = advantages - advantages.mean()
    if config.whiten == "full":
        advantages = advantages / advantages.std(unbiased=False)
    loss = -(advantages * logprobs).sum() / len(advantages)
    if config.critic == "head":
        loss = loss + config.value_coef * ((values - returns) ** 2).sum() / 2 / len(advantages)
    if documents:
        end, nats, count = run.tokenizer.eos_token_id, 0.0, 0
        for text in documents:
            row = torch.tensor([end, *run.tokenizer(text)["input_ids"], end])
            table = log_softmax(run.policy(row[None, :-1]).logits[0], -1)
            nats, count = nats - table.gather(1, row[1:, None]).sum(), count + len(row) - 1
        loss = loss + config.ptx_coef * nats / count
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, trained(run))])


@pytest.mark.parametrize(
    "dials",
    [
        {"critic": "head"},
        {"critic": "fit"},
        {"critic": "fit", "charge": "token", "lam": 0.95},
        {"critic": "head", "charge": "token", "whiten": "full", "lam": 0.9, "unended_penalty": 0.5},
        {"critic": "head", "whiten": "none", "value_coef": 3.0, "kl_coef": -0.4},
        {"critic": "fit", "ptx_coef": 2.0, "ptx_batch": 4},
    ],
)
def test_the_gradient_of_an_update_is_the_one_of_a_loop(wordy, other, dials):
    """2, 5, 9, 10, 11, 12, 13, 14, 21, 31, and PPO-ptx: all of it at once, on a second batch, to 1 in
    10,000; at ratio 1 PPO is REINFORCE. A negative kl_coef, which rewards drift, is allowed.
    """
    documents = DOCUMENTS if "ptx_coef" in dials else None
    run = start(wordy, other, documents=documents, minibatches=1, clip=1e9, **dials)
    run.advance()
    batch = run.rollout()
    there = copy.deepcopy(run)
    run.update(batch)  # fills in the values of the fitted critic
    right = naive_gradient(there, batch, documents)
    found = torch.cat([p.grad.flatten() for p in trained(run)])
    assert float((found - right).norm() / right.norm()) < 1e-4
    assert float(right.norm()) > 1e-3


def test_padding_takes_no_part(wordy, other):
    """9, 13: other tokens under the mask, in prompts and after the end, change no weight."""
    runs = [start(wordy, other) for _ in range(2)]
    batches = [run.rollout() for run in runs]
    assert (batches[1].mask[:, batches[1].query :] == 0).any()
    batches[1].tokens[batches[1].mask == 0] = 77
    for run, batch in zip(runs, batches):
        with torch.no_grad():
            run._read(batch)
        run.update(batch)
    for left, right in zip(*map(weights, runs)):
        assert torch.allclose(left, right, atol=1e-6)


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def half(request, monkeypatch):
    """Whether to use bfloat16, on any CPU."""
    monkeypatch.setattr(
        ppo, "autocast",
        lambda device, on: torch.autocast(device.type, torch.bfloat16) if on else nullcontext(),
    )  # fmt: skip
    return request.param


def test_the_first_ratio_is_exactly_one(wordy, half):
    """1: with a clip range of 1e-9 any other ratio would be clipped; no clip at the first minibatch
    of each batch, and many later. In float32, sampling and update agree as well; bfloat16 is seen
    to be on. 8: policy and reference, equal at first, have a KL of exactly 0.
    """
    run = start(wordy, bfloat16=half, cliprange=1e-9, lr=1e-3)
    for step in run:
        assert step.first_clip_fraction == 0 < step.clip_fraction
        assert 1e-4 < step.ratio_gap < 0.1 if half else step.ratio_gap < 1e-5
    assert run.history[0].kl == run.history[0].kl_k1 == 0 < run.history[1].kl


def test_log_softmax_is_in_float32(wordy, half):
    """39: also in bfloat16, the probabilities of all tokens sum to 1 within 1e-5."""
    run = start(wordy, bfloat16=half)
    batch = run.rollout()
    table, states, _ = run._forward(run.policy, batch, batch.parts[0])
    assert table.dtype == states.dtype == batch.logprobs.dtype == torch.float32
    assert table.logsumexp(-1).abs().max() < 1e-5


def dropped(wordy):
    """The wordy model with dropout of a half, in training mode."""
    model = copy.deepcopy(wordy[0]).train()
    places = [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    for place in places:
        place.p = 0.5
    assert len(places) > 4
    return model, wordy[1]


def check_agreement(run):
    """1, 2, 7: sampling, the reading before the update and the first update agree."""
    for step in run:
        assert step.ratio_gap < 1e-5, "sampling and reading differ"
        assert step.first_clip_fraction == 0, "reading and update differ"


def test_dropout_is_off(wordy):
    """7: also where policy and reference come in training mode; and it would be noticed."""
    parts = dropped(wordy)
    run = start(parts, parts[0], steps=2)
    check_agreement(run)
    assert run.history[0].kl == 0
    left_on = start(parts, parts[0], steps=2)
    left_on.policy.eval = lambda: left_on.policy.train()
    with pytest.raises(AssertionError, match="differ"):
        check_agreement(left_on)


def test_a_shift_by_one_is_noticed(wordy, monkeypatch):
    """2: negative control. The ratio stays 1, since both its sides are shifted; ratio_gap sees it."""

    def shifted(*args):
        return response_states(*args).roll(1, 1)

    monkeypatch.setattr(ppo, "response_states", shifted)
    with pytest.raises(AssertionError, match="sampling and reading differ"):
        check_agreement(start(wordy))


def check_k1_against_exact(run):
    """4, 24: on the policy's own samples k1 and the exact KL have one mean: within 4 standard errors
    over 256 responses (seed 0), a chance of 1 in 16,000 to fail by luck.
    """
    batch = run.rollout()
    gap = ((batch.logprobs - batch.ref_logprobs - batch.kl) * batch.real).sum(1)
    assert (batch.logprobs - batch.drawn_logprobs).abs().max() < 1e-4  # blind to this fault
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / 16, "k1 is biased"


def test_a_filter_on_sampling_is_noticed(wordy, other, monkeypatch):
    """4: negative control. Top-20 samples scored with the full softmax: k1 is no longer the KL."""
    draw = sampling._draw

    def filtered(odds, generator):
        least = odds.topk(20).values[:, -1:]
        return draw(odds.where(odds >= least, 0), generator)

    check_k1_against_exact(start(wordy, other, samples=256))
    monkeypatch.setattr(sampling, "_draw", filtered)
    with pytest.raises(AssertionError, match="k1 is biased"):
        check_k1_against_exact(start(wordy, other, samples=256))


def test_the_reference_is_frozen(wordy, other):
    """8: also where it comes with gradients on and in training mode; the policy may be a copy of a
    frozen model.
    """
    frozen = copy.deepcopy(wordy[0]).requires_grad_(False)
    reference = copy.deepcopy(other).train()
    run = PPORun(frozen, reference, wordy[1], PROMPTS, count_e, PPOConfig(**DIALS))
    before = [p.clone() for p in run.policy.parameters()]
    list(run)
    assert not reference.training and run.reference is reference
    assert all(p.grad is None and not p.requires_grad for p in reference.parameters())
    assert same(reference.parameters(), other.parameters())
    assert not any(torch.equal(a, b) for a, b in zip(before, run.policy.parameters()))


def test_the_optimiser_is_as_stated(wordy):
    """25, 27, 28, 29: value head of zeros, Adam with eps 1e-5, up in a line and down along a cosine,
    each response once a pass, and a norm that is clipped and logged.
    """
    dials = {"steps": 6, "warmup": 2, "epochs": 2, "lr": 1e-3, "value_lr": 5e-3}
    run = start(wordy, critic="head", **dials)
    assert all((p == 0).all() for p in run.value_head.parameters())
    group = run.optimizer.param_groups
    assert [g["eps"] for g in group] == [1e-5, 1e-5] and group[0]["betas"] == (0.9, 0.98)
    parts = run.rollout().parts
    assert sorted(i for part in parts for i in part) == list(range(16)) and len(parts) == 4
    for number, step in enumerate(run):
        assert step.lr == pytest.approx(1e-3 * cosine(number, 6, 2))
        assert group[1]["lr"] == pytest.approx(5 * step.lr)
    assert {int(s["step"]) for s in run.optimizer.state.values()} == {6 * 4 * 2}
    # Clipped far below Adam's eps, a gradient moves nothing, but its norm is still reported.
    held = start(wordy, steps=1, clip=1e-12)
    before = weights(held)
    assert held.advance().grad_norm > 0.01
    assert max(float((a - b).abs().max()) for a, b in zip(before, weights(held))) < 1e-6
    assert start(wordy, steps=1, clip=1e9).advance().grad_norm > 0.01


def test_two_divergences_are_two_numbers(wordy, other):
    """32: without learning, KL to the policy of before is 0 and KL to the reference is not."""
    step = start(wordy, other, steps=1, lr=1e-12, value_lr=1e-12).advance()
    assert step.kl_old < 1e-9 and step.kl > 0.1
    assert start(wordy, steps=1, lr=3e-3).advance().kl_old > 1e-5


# ---- the fitted critic ----


def test_the_fit_is_ridge_regression_on_the_others():
    """By lstsq over rows, fold by fold and batch by batch, each older batch weighing `memory` more
    times less; padding counts nothing.
    """
    torch.manual_seed(6)
    critic, batches = ppo.FittedCritic(0.7, folds=3, ridge=2.0), []
    for rows in (7, 8, 5):
        features, targets = torch.randn(rows, 6, 4), torch.randn(rows, 6, 2)
        real = (torch.arange(6) < torch.randint(1, 7, (rows, 1))).float()
        batches.append((features, targets, real))
        found = critic.predict(features, targets, real)
        assert (found[real == 0] == 0).all()
        for fold in range(3):
            x, y = [math.sqrt(2.0) * np.eye(4)], [np.zeros((4, 2))]
            for age, (f, t, r) in enumerate(reversed(batches)):
                keep = r.bool()
                if age == 0:
                    keep = keep & (torch.arange(rows) % 3 != fold)[:, None]
                x.append(f[keep].numpy() * 0.7 ** (age / 2))
                y.append(t[keep].numpy() * 0.7 ** (age / 2))
            weight = np.linalg.lstsq(np.concatenate(x), np.concatenate(y), rcond=None)[0]
            mine = (torch.arange(rows) % 3 == fold)[:, None] & real.bool()
            assert np.allclose(found[mine], features[mine].numpy() @ weight, atol=1e-4)


def test_no_response_is_in_its_own_baseline(wordy, other):
    """Another score of response 5 moves the values of others, never its own: a baseline that knew
    it would bias the gradient.
    """
    values = []
    for more in (0.0, 40.0):
        run = start(wordy, other, critic="fit")
        batch = run.rollout()
        batch.scores[5] += more
        run.update(batch)
        values.append(batch.values)
    moved = (values[0] - values[1]).abs().amax(1)
    assert moved[5] < 1e-4 and int((moved > 0.01).sum()) >= 8


def test_the_critic_reads_what_stood_before_each_token(wordy, other):
    """States of one unpadded call a row, a constant, and the log-ratio of the tokens before; with a
    trunk, its states instead.
    """
    for trunk in (None, other):
        run = PPORun(copy.deepcopy(wordy[0]), copy.deepcopy(other), wordy[1], PROMPTS, count_e, PPOConfig(**DIALS, critic="fit"), trunk=trunk)  # fmt: skip
        batch = run.rollout()
        before = copy.deepcopy(run.policy)
        run.update(batch)
        for row in range(16):
            tokens, count = batch.tokens[row][batch.mask[row].bool()], int(batch.real[row].sum())
            with torch.no_grad():
                states = (trunk or before).base_model(tokens[None]).last_hidden_state[0]
            gaps = (batch.logprobs - batch.ref_logprobs)[row, :count]
            found = batch.features[row, :count]
            assert torch.allclose(found[:, :32], states[-count - 1 : -1], atol=1e-4)
            assert (found[:, 32] == 1).all()
            assert torch.allclose(found[:, 33], gaps.cumsum(0) - gaps, atol=1e-5)


@pytest.mark.parametrize("charge", ppo.CHARGES)
def test_a_perfect_fit_leaves_no_advantage(wordy, other, charge):
    """The targets add up to the return of each token, wherever the penalty is charged."""
    run = start(wordy, other, critic="fit", charge=charge, whiten="none", unended_penalty=0.5)
    run.critic.predict = lambda features, targets, real: targets * real[:, :, None]
    step = run.advance()
    assert step.kl > 0.1 and step.explained_variance == pytest.approx(1, abs=1e-6)
    assert abs(step.policy_loss) < 1e-5 and step.grad_norm < 1e-3


def test_a_trunk_comes_out_of_training_mode(wordy):
    """7: a trunk with dropout must say the same of the same batch twice."""
    trunk, tokenizer = dropped(wordy)
    run = PPORun(copy.deepcopy(wordy[0]), None, tokenizer, PROMPTS, count_e, PPOConfig(**DIALS, critic="fit"), trunk=trunk)  # fmt: skip
    assert torch.equal(run.rollout().features, run.rollout().features)


# ---- it learns ----


def check_learning(bed, run):
    """KL(pi || pi*), without error by enumeration, falls to a third."""
    before = measure(bed, run.policy)
    list(run)
    after = measure(bed, run.policy)
    assert after.to_optimum < before.to_optimum / 3, "further from the optimum"
    return before, after


@pytest.mark.parametrize(
    "dials",
    [
        {"critic": "fit"},
        {"critic": "head"},
        {"critic": "head", "charge": "token", "lam": 0.95, "whiten": "full"},
    ],
)
def test_the_policy_goes_to_the_optimum(bed, dials):
    """KL(pi || pi*) from 1.98 nats to 0.35 (seed 0; a third is asked), J below J* all the while; the
    batch's own score and KL are near the exact ones; the critic explains something.
    """
    run = start_bed(bed, **dials)
    before, after = check_learning(bed, run)
    assert before.objective < after.objective < after.best
    assert before.best == pytest.approx(after.best)
    last = run.history[-1]
    assert last.score == pytest.approx(after.score, abs=0.3)
    assert last.kl == pytest.approx(after.kl, abs=0.3)
    assert last.explained_variance > 0.2
    if run.config.critic == "head":  # starts from zeros
        assert run.history[0].explained_variance == 0
    assert last.objective > run.history[0].objective + 0.4


def test_a_flipped_sign_is_noticed(bed, monkeypatch):
    """18: negative control. Drift is rewarded: KL to the reference passes that of the optimum."""
    right = token_rewards
    monkeypatch.setattr(ppo, "token_rewards", lambda s, p, m, c, how: right(s, p, m, -c, how))
    run = start_bed(bed, critic="head")
    with pytest.raises(AssertionError, match="further from the optimum"):
        check_learning(bed, run)
    after = measure(bed, run.policy)
    best = testbed.optimal_logprobs(bed.base_logprobs, bed.scores, 0.5)
    optimal = testbed.exact(best, bed.base_logprobs, bed.scores, 0.5)
    assert after.to_optimum > measure(bed, bed.model).to_optimum and after.kl > optimal.kl + 1


def test_without_a_penalty_the_score_alone_counts(bed):
    """kl_coef = 0 is allowed: a higher score than with a penalty, further from the reference."""
    runs = [list_through(start_bed(bed, kl_coef=c, steps=10)) for c in (0.0, 2.0)]
    free, held = (measure(bed, run.policy) for run in runs)
    assert free.score > held.score + 0.5 and free.kl > held.kl + 1


def list_through(run):
    list(run)
    return run


def test_documents_are_learnt_beside_the_score(wordy):
    """PPO-ptx: the next-token loss of the documents falls by over a nat; without, it is not taken."""
    run = start(wordy, documents=DOCUMENTS, ptx_coef=1.0, ptx_batch=2, steps=15, lr=1e-2)
    losses = [step.ptx_loss for step in run]
    assert losses[-1] < losses[0] - 1
    assert start(wordy, documents=DOCUMENTS, steps=1).advance().ptx_loss == 0


# ---- stop, steer, save, load ----


@pytest.mark.parametrize("critic", ppo.CRITICS)
@pytest.mark.parametrize("place", ["score", "update"])
def test_an_interrupted_step_is_not_done(wordy, monkeypatch, place, critic):
    """Stopped in step 3, while scoring or after two of its minibatches: the policy of step 2 is in
    place, and going on gives the uninterrupted run to the bit.
    """
    whole, run = (start(wordy, critic=critic) for _ in range(2))
    list(whole)
    calls = {"score": 0, "update": 0}

    def stop(what, at):
        calls[what] += 1
        if place == what and calls[what] == at:
            raise KeyboardInterrupt

    def score(texts):
        stop("score", 3)
        return count_e(texts)

    def loss(*args):
        stop("update", 11)
        return policy_loss(*args)

    run.score = score
    monkeypatch.setattr(ppo, "policy_loss", loss)
    steps = iter(run)
    next(steps), next(steps)
    before = weights(run)
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    assert same(weights(run), before) and run.step == len(run.history) == 2
    assert calls == ({"score": 3, "update": 8} if place == "score" else {"score": 3, "update": 11})
    list(run)
    assert records(run) == records(whole) and same(weights(run), weights(whole))


@pytest.mark.parametrize("critic", ppo.CRITICS)
def test_a_saved_run_goes_on_to_the_bit(wordy, tmp_path, critic):
    """Weights, critic, Adam's state, adaptive coefficient, history, texts."""
    dials = {"target_kl": 0.5, "horizon": 20, "steps": 4, "critic": critic}
    whole = list_through(start(wordy, wordy[0], **dials))
    first = start(wordy, wordy[0], **dials)
    first.advance(), first.advance()
    first.save(tmp_path)
    stranger = copy.deepcopy(wordy[0])
    with torch.no_grad():
        stranger.lm_head.weight.zero_()
    again = start((stranger, wordy[1]), wordy[0], **dials)
    again.load(tmp_path)
    assert again.step == 2 and again.kl_coef == first.kl_coef != 0.2
    assert again.history == first.history and same(weights(again), weights(first))
    list(again)
    assert records(again) == records(whole) and same(weights(again), weights(whole))
    assert again.kl_coef == whole.kl_coef
    for left, right in zip(*(r.optimizer.state_dict()["state"].values() for r in (again, whole))):
        assert all(torch.equal(left[k], right[k]) for k in ("step", "exp_avg", "exp_avg_sq"))


def test_the_run_of_another_model_cannot_be_loaded(wordy, tmp_path):
    start(wordy).save(tmp_path)
    small = models.new_model(wordy[1], layers=1, width=32, heads=2, context=96)
    with pytest.raises(TrainingError, match="another model"):
        start((small, wordy[1])).load(tmp_path)


def test_a_turned_dial_acts_at_the_next_step(wordy, other):
    """kl_coef between two steps: the samples of the next step are the same, its update is not."""
    left, right = start(wordy, other), start(wordy, other)
    for run, coef in ((left, 0.2), (right, 2.0)):
        run.advance()
        run.kl_coef = coef
        run.advance()
    assert [s.kl_coef for s in right.history] == [0.2, 2.0]
    assert records(left)[0] == records(right)[0]
    assert left.history[1].texts == right.history[1].texts
    assert right.history[1].objective == pytest.approx(
        right.history[1].score - 2 * right.history[1].kl_k1, abs=1e-5
    )
    assert not same(weights(left), weights(right))


@pytest.mark.parametrize(("target", "way"), [(1e-3, 1), (1e3, -1)])
def test_the_controller_steers_the_run(wordy, other, target, way):
    """23: KL above the target raises kl_coef, below lowers it, step by step, by 1 in 5 here."""
    run = start(wordy, other, target_kl=target, horizon=16)
    coefs = [step.kl_coef for step in run]
    assert coefs == pytest.approx([0.2 * (1 + 0.2 * way) ** n for n in range(4)])
    assert run.kl_coef == pytest.approx(coefs[-1] * (1 + 0.2 * way))


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"lr": 1.0, "minibatches": 1, "kl_limit": 5.0}, "KL to the reference has reached"),
        ({"lr": 1e30, "minibatches": 1}, "weights beyond all use"),
        ({"lr": 1e30}, "the loss is nan"),
    ],
)
def test_a_run_that_blows_up_goes_back_and_says_why(wordy, dials, message):
    """The sentence names the dial, and the last good policy is back, here the first."""
    run = start(wordy, **dials)
    before = weights(run)
    with pytest.raises(PPOError, match=message) as caught:
        list(run)
    assert "learning rate" in str(caught.value) and "\n" not in str(caught.value)
    assert same(weights(run), before)


def test_a_score_beyond_all_bounds_leaves_the_policy(wordy):
    """1e30 is finite, its square is not: the step is not done."""
    run = start(wordy, critic="head", score=lambda texts: [1e30] * len(texts))
    before = weights(run)
    with pytest.raises(PPOError, match="the loss is inf"):
        list(run)
    assert same(weights(run), before) and run.step == 0


def test_a_run_cannot_end_on_a_broken_policy(wordy):
    """The last update has no next batch to be noticed in."""
    run = start(wordy, lr=1e30, steps=1, minibatches=1)
    with pytest.raises(PPOError, match="learning rate"):
        list(run)
    assert all(torch.isfinite(p).all() for p in run.policy.parameters())


# ---- one sentence for each mistake ----


@pytest.mark.parametrize(
    ("dials", "words"),
    [
        *(
            ({name: 0}, f"{name} is 0; expected more than 0")
            for name in "steps samples epochs minibatches lr cliprange value_clip clip horizon "
            "max_new_tokens kl_limit".split()
        ),
        ({"lr": math.nan}, "lr is nan"),
        ({"charge": "start"}, "charge is 'start'; expected token or end"),
        ({"whiten": "sd"}, "whiten is 'sd'; expected none or mean or full"),
        ({"critic": "tree"}, "critic is 'tree'; expected head or fit"),
        ({"lam": 1.5}, "lam is 1.5; expected 0 to 1"),
        ({"lam": -0.1}, "lam is -0.1; expected 0 to 1"),
        ({"samples": 10, "minibatches": 4}, "10 samples do not divide into 4 minibatches"),
        ({"target_kl": 0.0}, "expected target_kl and kl_coef above 0"),
        ({"target_kl": 6.0, "kl_coef": 0.0}, "expected target_kl and kl_coef above 0"),
    ],
)
def test_bad_dials_get_one_sentence(dials, words):
    with pytest.raises(PPOError) as caught:
        PPOConfig(**dials)
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompts": []}, "no prompts"),
        ({"prompts": ["Q:", " "]}, "prompt 1 is empty"),
        ({"prompts": ["goose " * 90]}, "prompt 0 has"),
        ({"prompts": ["goose " * 20], "max_new_tokens": 80}, "prompt 0 has"),
        ({"ptx_coef": 1.0}, "without documents"),
        ({"ptx_coef": 1.0, "documents": []}, "without documents"),
        ({"score": lambda texts: [0.0] * 3 + [math.nan] * 13}, "the score of response 3 at step 0 is nan"),
        ({"score": lambda texts: [math.inf] * 16}, "expected a finite number"),
        ({"score": lambda texts: [0.0] * 15}, "returned 15 numbers for 16 texts"),
        ({"score": lambda texts: 1.0}, "returned 1 numbers for 16 texts"),
    ],
)  # fmt: skip
def test_bad_parts_get_one_sentence(wordy, change, words):
    with pytest.raises(PPOError) as caught:
        list(start(wordy, **change))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_bad_score_leaves_the_policy(wordy):
    """A score that fails at step 2 leaves the policy of step 1, and mended, the run goes on."""
    run = start(wordy)
    run.advance()
    before, run.score = weights(run), lambda texts: [math.nan] * len(texts)
    with pytest.raises(PPOError, match="at step 1 is nan"):
        run.advance()
    assert same(weights(run), before)
    run.score = count_e
    assert len(list(run)) == 3 and records(run) == records(list_through(start(wordy)))


def test_policy_and_reference_must_be_two_models_of_one_size(wordy, tiny):
    """8: a reference that shares the policy's weights has a KL of 0 forever."""
    model, tokenizer = copy.deepcopy(wordy[0]), wordy[1]
    shared = copy.deepcopy(model)
    shared.transformer = model.transformer
    for reference in (model, shared):
        with pytest.raises(PPOError, match="share their weights"):
            PPORun(model, reference, tokenizer, PROMPTS, count_e)
    small = models.new_tokenizer(["Ivo Vane was born in Oxbow"] * 3, vocab_size=300)
    other = models.new_model(small, layers=1, width=32, heads=2, context=96)
    with pytest.raises(PPOError, match=r"the policy has \d+ tokens and the reference \d+"):
        PPORun(model, other, tokenizer, PROMPTS, count_e)


def test_few_documents_are_enough_or_refused(wordy):
    """Fewer documents than ptx_batch: trained on, or one sentence, but no error of Python's."""
    try:
        run = start(wordy, documents=DOCUMENTS, ptx_coef=1.0, ptx_batch=16, steps=1)
        assert run.advance().ptx_loss > 0
    except PPOError as error:
        assert "document" in str(error)
