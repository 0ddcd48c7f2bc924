"""A policy run reads, steps, stops, saves and goes on as it should; each planted fault is caught.

The numbers in the docstrings are the points of the list in test_ppo.py.
"""

import copy
import math
from contextlib import nullcontext

from rlhf_lite import direct, models, ppo, rollouts, sampling
from rlhf_lite.policies import adapted, explained_variance, kl_estimates, policy_loss
from rlhf_lite.ppo import PPOConfig, PPORun
from rlhf_lite.rollouts import PolicyError, step_prompts
from rlhf_lite.sampling import encode, response_states
from rlhf_lite.training import TrainingError, cosine, descend

import numpy as np
import pytest
import torch
from small_runs import (
    DIALS,
    DOCUMENTS,
    PROMPTS,
    count_e,
    dropped,
    exact_kl,
    list_through,
    naive_reading,
    records,
    same,
    start,
    weights,
)
from torch.nn.functional import log_softmax

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


# ---- the controller ----


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


def test_explained_variance_by_hand():
    """26: 1 for a perfect critic, 0 for a constant, below 0 for one worse than a constant."""
    returns = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(returns + 5, returns) == pytest.approx(1)
    assert explained_variance(torch.full((4,), 7.0), returns) == pytest.approx(0)
    assert explained_variance(-returns, returns) == pytest.approx(-3)
    assert explained_variance(returns, torch.ones(4)) == 0


# ---- a batch ----


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
    assert step.prompts == tuple(batch.prompts) and len(step.prompts) == 16
    assert not {"prompts", "texts", "scores"} & set(step.numbers())
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
    prompts = batch.prompts
    cut = 0
    for row in range(32):
        said = batch.tokens[row, batch.query :].tolist()
        ended = end in said
        assert bool(batch.ended[row]) == ended
        assert int(batch.real[row].sum()) == (said.index(end) + 1 if ended else 10)
        assert batch.real[row, : int(batch.real[row].sum())].all()
        text, whole = seen[row], wordy[1].decode(batch.tokens[row][batch.mask[row].bool()], skip_special_tokens=True)  # fmt: skip
        assert whole.startswith(text) and text.startswith(prompts[row])
        lines = whole[len(prompts[row]) :].rpartition("\n")[0]
        if ended or not lines:
            assert text == whole
        else:
            assert text == prompts[row] + lines
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
    prompts, drawn = [f"Ivo {n}" for n in range(7)], []
    for step in range(7):
        drawn += step_prompts(prompts, 4, step)
        run = start(wordy, prompts=prompts, samples=4, steps=7)
        assert run.collect(run.policy, step).prompts == drawn[-4:]
    blocks = [drawn[i : i + 7] for i in range(0, 28, 7)]
    assert all(sorted(block) == prompts for block in blocks)
    assert len({tuple(block) for block in blocks}) > 1


# ---- the update ----


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def half(request, monkeypatch):
    """Whether to use bfloat16, on any CPU."""
    monkeypatch.setattr(
        rollouts, "autocast",
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
    table, states, _ = batch.forward(run.policy, batch.parts[0])
    assert table.dtype == states.dtype == batch.logprobs.dtype == torch.float32
    assert table.logsumexp(-1).abs().max() < 1e-5


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

    monkeypatch.setattr(rollouts, "response_states", shifted)
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

    def filtered(probs, generator):
        least = probs.topk(20).values[:, -1:]
        return draw(probs.where(probs >= least, 0), generator)

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
    assert all((p == 0).all() for p in run.critic.head.parameters())
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
    start(wordy, wordy[0]).save(tmp_path)
    small = models.new_model(wordy[1], layers=1, width=32, heads=2, context=96)
    with pytest.raises(TrainingError, match="another model"):
        start((small, wordy[1]), wordy[0]).load(tmp_path)


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
    with pytest.raises(PolicyError, match=message) as caught:
        list(run)
    assert "learning rate" in str(caught.value) and "\n" not in str(caught.value)
    assert same(weights(run), before)


def test_a_score_beyond_all_bounds_leaves_the_policy(wordy):
    """1e30 is finite, its square is not: the step is not done."""
    run = start(wordy, critic="head", score=lambda texts: [1e30] * len(texts))
    before = weights(run)
    with pytest.raises(PolicyError, match="the loss is inf"):
        list(run)
    assert same(weights(run), before) and run.step == 0


def test_a_run_cannot_end_on_a_broken_policy(wordy):
    """The last update has no next batch to be noticed in."""
    run = start(wordy, lr=1e30, steps=1, minibatches=1)
    with pytest.raises(PolicyError, match="learning rate"):
        list(run)
    assert all(torch.isfinite(p).all() for p in run.policy.parameters())


# ---- errors and brakes that a look at the mean does not see ----


def test_the_standard_error_of_j_is_the_spread_of_j():
    """Over 4,000 sets of draws (seed 0), 5 prompts of 8 responses with means and spreads of their own, J varies as
    the standard error of one set says, within 5%: dividing by the samples of a prompt would be off by sqrt(5).
    """
    rng = np.random.default_rng(0)
    means, spreads = rng.normal(size=(5, 1)), np.array([[0.5], [1.0], [2.0], [0.1], [1.5]])
    found = []
    for _ in range(4000):
        scores = torch.tensor(means + spreads * rng.normal(size=(5, 8)))
        gap = torch.tensor(0.3 * rng.normal(size=(5, 8)))
        drawn = rollouts.Draws([], [], scores, gap, torch.zeros_like(gap))
        found.append(drawn.objective(2.0))
    values, errors = np.array(found).T
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(), rel=0.05)


def test_the_gradient_is_cut_to_its_clip():
    """By hand, with plain gradient descent at a rate of 1: the weights move by the clip, the norm is that before."""
    for clip, moved in ((0.5, 0.5), (100.0, 5.0)):
        weight = torch.nn.Parameter(torch.zeros(2))
        loss = (weight * torch.tensor([3.0, 4.0])).sum()
        norm = descend(loss, torch.optim.SGD([weight], lr=1.0), [weight], clip, 0)
        assert norm == pytest.approx(5.0) and float(weight.detach().norm()) == pytest.approx(moved)


def test_every_run_obeys_its_clip(wordy):
    """A clip far below Adam's eps leaves the weights where they are; the usual one moves them."""

    def moved(clip):
        run = start(wordy, clip=clip, critic="head", steps=1)
        before = weights(run)
        run.advance()
        return max(float((a - b).abs().max()) for a, b in zip(weights(run), before))

    assert moved(1e-14) < 1e-6 < 1e-4 < moved(1.0)


def test_draws_know_their_kl():
    """KL is the mean over responses, not their sum: two prompts of three, by hand."""
    ours = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 6.0]])
    drawn = rollouts.Draws([], [], torch.zeros(2, 3), ours, ours - torch.tensor([[0.5], [1.5]]))
    assert drawn.kl() == pytest.approx(1.0) and drawn.objective(2.0)[0] == pytest.approx(-2.0)


def test_a_record_holds_the_mean_of_the_minibatches(wordy, other, monkeypatch):
    """Losses and clip fractions of a step are means over its updates."""
    run, seen = start(wordy, other, epochs=2), []
    descend_once = run._descend

    def noted(loss, info):
        seen.append(descend_once(loss, info))
        return seen[-1]

    monkeypatch.setattr(run, "_descend", noted)
    step = run.advance()
    assert len(seen) == 8
    for name in ("policy_loss", "grad_norm", "clip_fraction", "kl_old"):
        assert getattr(step, name) == pytest.approx(np.mean([s[name] for s in seen]), rel=1e-6)


WEIGHED = {
    "PPO": (PPORun, {"critic": "head", "kl_loss": True}),
    "PPO, ptx": (PPORun, {"ptx_coef": 1.0, "ptx_batch": 4}),
    "RLOO": (direct.RLOORun, {}),
    "GRPO": (direct.GRPORun, {}),
    "REINFORCE": (direct.ReinforceRun, {"group": 1}),
    "rejection": (direct.RejectionRun, {}),
    "DPO": (direct.DPORun, {"labels": "argmax", "group": 2}),
}


def pull(wordy, other, name, minibatches, weighed=True, samples=16):
    """The gradient of one pass over a batch from which nothing is learned, mean over minibatches."""
    kind, dials = WEIGHED[name]
    dials = DIALS | {"minibatches": minibatches, "samples": samples} | dials
    if kind is not PPORun:
        del dials["value_lr"]
    config = (PPOConfig if kind is PPORun else direct.DirectConfig)(**dials)
    extra = {"documents": DOCUMENTS} if "ptx_coef" in dials else {}
    parts = copy.deepcopy(wordy[0]), copy.deepcopy(other), wordy[1], PROMPTS, count_e, config
    run = kind(*parts, **extra)
    batch, total = run.rollout(), 0.0
    parts, lesson, _ = run.plan(batch)
    for part in parts:
        weight = run.weight(batch, part, parts) if weighed else 1.0
        loss = weight * run.loss(batch, part, lesson)[0] + run.aside(part)[0]
        found = torch.autograd.grad(loss, list(run.policy.parameters()))
        total = total + torch.cat([g.flatten() for g in found]) / len(parts)
    return total


@pytest.mark.parametrize("name", WEIGHED)
def test_every_response_weighs_alike(wordy, other, name):
    """However a batch is cut into minibatches, sorted by length, its gradient is one and the same; with
    a plain mean over the tokens of each it is another.
    """
    whole, cut, plain = (pull(wordy, other, name, *how) for how in ((1,), (4,), (4, False)))
    assert float((cut - whole).norm() / whole.norm()) < 1e-4
    if name != "DPO":  # a mean over pairs
        assert float((plain - whole).norm() / whole.norm()) > 0.02


@pytest.mark.parametrize("name", ["rejection", "DPO"])
def test_minibatches_of_unlike_size_weigh_alike_too(wordy, other, name):
    """Seven kept responses, or fourteen pairs, in four minibatches."""
    whole, cut = (pull(wordy, other, name, count, samples=28) for count in (1, 4))
    assert float((cut - whole).norm() / whole.norm()) < 1e-4
