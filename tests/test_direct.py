"""Every method beyond PPO computes what its formula says and goes where its theory says it goes."""

import copy
import itertools
import math
import random

from rlhf_lite import direct, policies, ppo, testbed
from rlhf_lite.direct import (
    DirectConfig,
    DirectRun,
    DPORun,
    GRPORun,
    ReinforceRun,
    RejectionRun,
    RLOORun,
    best_rows,
    dpo_loss,
    fixed_point,
    grpo_advantages,
    k3_loss,
    label_pairs,
    rloo_advantages,
)
from rlhf_lite.rollouts import PolicyError, step_prompts

import numpy as np
import pytest
import torch

COEF = 0.5
METHODS = {
    "RLOO": (RLOORun, {"group": 4}),
    "REINFORCE": (ReinforceRun, {"group": 1}),
    "GRPO": (GRPORun, {"group": 4}),
    "GRPO undivided": (GRPORun, {"group": 4, "divide": False}),
    "GRPO KL in reward": (GRPORun, {"group": 4, "k3_loss": False}),
    "rejection": (RejectionRun, {"group": 4}),
    "BoN distillation": (RejectionRun, {"group": 4, "offline": 25}),
    "DPO offline": (DPORun, {"group": 2, "offline": 25}),
    "DPO online": (DPORun, {"group": 2}),
}


@pytest.fixture(scope="module")
def bed():
    return testbed.new_testbed(words=3)


@pytest.fixture(scope="module")
def small():
    """Four words, 64 answers: small enough for sums over pairs of answers."""
    return testbed.new_testbed(words=1)


def start(bed, kind, score=None, **dials):
    """A run on a copy of the testbed's model: 25 steps of 128 answers."""
    dials = {
        "kl_coef": COEF, "steps": 25, "samples": 128, "minibatches": 2, "max_new_tokens": 3,
        "lr": 2e-3, "bfloat16": False,
    } | dials  # fmt: skip
    model = copy.deepcopy(bed.model)
    return kind(model, None, bed.tokenizer, bed.prompts, score or bed.score, DirectConfig(**dials))


@torch.no_grad()
def measure(bed, model, kl_coef=COEF):
    return testbed.exact(bed.sequence_logprobs(model), bed.base_logprobs, bed.scores, kl_coef)


def weights(run):
    return [p.detach().clone() for p in run.policy.parameters()]


def flat(grads):
    return torch.cat([g.flatten() for g in grads]).double()


# ---- advantages ----


def check_rloo(advantages):
    """The loop of the paper: each against the mean of the others in its own group."""
    returns = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)) + 3
    found = advantages(returns)
    for p, k in itertools.product(range(5), range(4)):
        others = [float(returns[p, j]) for j in range(4) if j != k]
        assert float(found[p, k]) == pytest.approx(float(returns[p, k]) - sum(others) / 3, abs=1e-5)
    assert found.sum(1).abs().max() < 1e-5


def test_rloo_equals_a_loop_and_faults_are_caught():
    check_rloo(rloo_advantages)
    faults = {
        "flipped sign": lambda r: -rloo_advantages(r),
        "another prompt's samples": lambda r: rloo_advantages(r.T.reshape(r.shape)).view_as(r),
        "itself in its baseline": lambda r: r - r.mean(1, keepdim=True),
    }
    for fault in faults.values():
        with pytest.raises(AssertionError):
            check_rloo(fault)


def test_grpo_equals_a_loop():
    returns = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    for p, row in enumerate(returns.tolist()):
        mean = sum(row) / 4
        sd = math.sqrt(sum((r - mean) ** 2 for r in row) / 4)
        right = [(r - mean) / (sd + 1e-4) for r in row]
        assert grpo_advantages(returns)[p].tolist() == pytest.approx(right, abs=1e-5)
        assert grpo_advantages(returns, divide=False)[p].tolist() == pytest.approx(
            [r - mean for r in row], abs=1e-5
        )


def test_undivided_grpo_is_rloo_in_another_unit():
    returns = torch.randn(7, 5)
    assert torch.allclose(grpo_advantages(returns, divide=False), rloo_advantages(returns) * 4 / 5)


def test_equal_returns_teach_nothing():
    """Also where a group's spread is 0."""
    for advantages in (rloo_advantages, grpo_advantages):
        assert (advantages(torch.full((3, 4), 2.5)) == 0).all()


@pytest.mark.parametrize("formula", [rloo_advantages, grpo_advantages, best_rows])
@pytest.mark.parametrize("shape", [(4, 1), (4,)])
def test_a_group_of_one_has_nobody_to_compare_with(formula, shape):
    with pytest.raises(PolicyError, match="nobody to compare with"):
        formula(torch.zeros(shape))


def expected_pull(bed, advantages):
    """E over all pairs of answers to each prompt of the RLOO estimate, as weights on log pi."""
    base, scores = np.exp(bed.base_logprobs), torch.tensor(bed.scores)
    found = torch.zeros(base.shape, dtype=torch.double)
    for p, probs in enumerate(torch.tensor(base)):
        pairs = torch.cartesian_prod(scores[p], scores[p])
        pulls = advantages(pairs).view(len(probs), len(probs), 2)
        both = probs[:, None] * probs
        found[p] += ((both * pulls[..., 0]).sum(1) + (both * pulls[..., 1]).sum(0)) / 2
    return found


def test_rloo_is_unbiased_by_enumeration(small):
    """Over all pairs of all answers the mean pull is that of E[s]; divided by the group's spread it
    is another one.
    """
    logprobs = small.sequence_logprobs(small.model)
    scores, parameters = torch.tensor(small.scores), list(small.model.parameters())
    true = flat(torch.autograd.grad((logprobs.exp() * scores).sum(1).mean(), parameters, retain_graph=True))  # fmt: skip

    def pull(advantages):
        weight = expected_pull(small, advantages)
        return flat(torch.autograd.grad((weight * logprobs).sum(1).mean(), parameters, retain_graph=True))  # fmt: skip

    assert float((pull(rloo_advantages) - true).norm() / true.norm()) < 1e-4
    for fault in (lambda r: -rloo_advantages(r), grpo_advantages):
        assert float((pull(fault) - true).norm() / true.norm()) > 0.1


# ---- k3 ----


def test_k3_in_the_loss_follows_the_forward_kl(small):
    """By enumeration over whole answers, at a policy that is not the reference."""
    run = start(small, RLOORun, steps=5, kl_coef=0.1)
    for _ in run:
        pass
    ours, theirs = small.sequence_logprobs(run.policy), torch.tensor(small.base_logprobs)
    parameters = list(run.policy.parameters())

    def pull(value):
        return flat(torch.autograd.grad(value, parameters, retain_graph=True))

    k3 = pull((ours.detach().exp() * policies.kl_estimates(ours, theirs)[2]).sum())
    forward, backward = (
        pull((theirs.exp() * (theirs - ours)).sum()),
        pull((ours.exp() * (ours - theirs)).sum()),
    )
    assert float((k3 - forward).norm() / forward.norm()) < 1e-4
    assert float((k3 - backward).norm() / backward.norm()) > 0.05


def test_k3_loss_is_a_mean():
    ours, theirs = -torch.rand(2, 9)
    gaps = (ours - theirs).tolist()
    right = sum(math.exp(-d) - 1 + d for d in gaps) / 9
    assert float(k3_loss(ours, theirs)) == pytest.approx(right, rel=1e-4)


# ---- pairs and DPO ----


def test_dpo_at_the_reference_is_log_2():
    logprobs = torch.randn(2, 6)
    loss, info = dpo_loss(*logprobs, *logprobs, 0.3)
    assert float(loss) == pytest.approx(math.log(2)) and float(info["accuracy"]) == 0


def check_dpo(loss):
    """The loop of eq. 7 and its gradient by finite differences."""
    torch.manual_seed(3)
    chosen, rejected, a, b = torch.randn(4, 6, dtype=torch.double)
    right = np.mean([
        math.log(1 + math.exp(-0.3 * ((c - x) - (r - y))))
        for c, r, x, y in zip(*(t.tolist() for t in (chosen, rejected, a, b)))
    ])  # fmt: skip
    assert float(loss(chosen, rejected, a, b, 0.3)[0]) == pytest.approx(right)
    for place in (0, 1):
        parts = [chosen.clone(), rejected.clone()]
        parts[place].requires_grad_(True)
        [grad] = torch.autograd.grad(loss(*parts, a, b, 0.3)[0], parts[place])
        for n in range(6):
            up, down = ([p.detach().clone() for p in parts] for _ in range(2))
            up[place][n] += 1e-5
            down[place][n] -= 1e-5
            slope = (loss(*up, a, b, 0.3)[0] - loss(*down, a, b, 0.3)[0]) / 2e-5
            assert float(grad[n]) == pytest.approx(float(slope), rel=1e-4)


def test_dpo_equals_a_loop_and_swapped_pairs_are_caught():
    check_dpo(dpo_loss)
    with pytest.raises(AssertionError):
        check_dpo(lambda c, r, a, b, beta: dpo_loss(r, c, b, a, beta))


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_dpo_needs_a_beta(beta):
    with pytest.raises(PolicyError, match="expected more than 0"):
        dpo_loss(*torch.zeros(4, 2), beta)


def test_no_pairs_get_one_sentence():
    with pytest.raises(PolicyError, match="no pairs"):
        dpo_loss(*torch.zeros(4, 0), 0.1)
    with pytest.raises(PolicyError, match="no pairs"):
        label_pairs(torch.zeros(0, 2))


def test_labels_follow_bradley_and_terry():
    """20,000 labels of a gap of 1: sigma(1) = 0.731, within 4 standard errors."""
    scores = torch.tensor([[1.0, 0.0]]).repeat(20_000, 1)
    share = float(label_pairs(scores, rng=random.Random(0)).float().mean())
    assert abs(share - 0.7311) < 4 * math.sqrt(0.2 / 20_000)
    assert label_pairs(torch.tensor([[1.0, 0], [0, 1], [2, 2]]), "argmax").tolist() == [True, False, True]  # fmt: skip


def test_the_best_of_each_group():
    assert best_rows(torch.tensor([[0.0, 3, 1], [5, 5, 4], [-3, -2, -1]])) == [1, 3, 8]


def test_pi_star_is_where_dpo_stops(small):
    """Expected gradient over all pairs with Bradley-Terry labels, in the logits of a table: 0 at
    pi*, not 0 at the reference.
    """
    base, scores = torch.tensor(small.base_logprobs[0]), torch.tensor(small.scores[0])
    best = torch.tensor(testbed.optimal_logprobs(small.base_logprobs, small.scores, COEF)[0])
    first, second = torch.cartesian_prod(*[torch.arange(len(base))] * 2).T

    def pull(table):
        table = table.clone().requires_grad_(True)
        margin = COEF * ((table - base)[first] - (table - base)[second])
        probs = base.exp()[first] * base.exp()[second] * torch.sigmoid(scores[first] - scores[second])  # fmt: skip
        [grad] = torch.autograd.grad((probs * torch.nn.functional.logsigmoid(margin)).sum(), table)
        return float(grad.abs().max())

    assert pull(best) < 1e-9 < 1e-4 < pull(base)


# ---- where GRPO rests ----


def drift(small, logprobs, divide, forward):
    """The expected pull of GRPO with large groups on the logits of a table, at each prompt; forward
    counts whole answers.
    """
    base, scores = torch.tensor(small.base_logprobs), torch.tensor(small.scores)
    table = torch.tensor(logprobs).requires_grad_(True)
    ours = torch.log_softmax(table, 1)
    probs = ours.detach().exp()
    centred = scores - (probs * scores).sum(1, keepdim=True)
    sd = (probs * centred**2).sum(1, keepdim=True).sqrt() if divide else 1.0
    fear = base.exp() * (base - ours) if forward else ours.exp() * (ours - base)
    value = (probs * centred / sd * ours).sum() - 1.5 * fear.sum()
    return float(torch.autograd.grad(value, table)[0].abs().max())


@pytest.mark.parametrize(("divide", "forward"), itertools.product((False, True), (0, 1)))
def test_nothing_pulls_at_the_fixed_point(small, divide, forward):
    found, coefs = fixed_point(small.base_logprobs, small.scores, 1.5, divide, forward)
    assert np.allclose(np.exp(found).sum(1), 1)
    assert drift(small, found, divide, forward) < 1e-6
    assert drift(small, small.base_logprobs, divide, forward) > 1e-3
    spread = [np.average((s - np.average(s, weights=o)) ** 2, weights=o) ** 0.5 for s, o in zip(small.scores, np.exp(found))]  # fmt: skip
    assert np.allclose(coefs, 1.5 * np.array(spread) if divide else 1.5, rtol=1e-6)


def test_the_undivided_rest_is_pi_star(small):
    best = testbed.optimal_logprobs(small.base_logprobs, small.scores, COEF)
    assert np.allclose(fixed_point(small.base_logprobs, small.scores, COEF)[0], best)


def test_k3_a_token_rests_token_by_token(small):
    """Every conditional distribution is beta ref / (lambda - Q): lambda - Q times pi / ref is the
    same number for all words, Q by summing over what follows.
    """
    found = np.exp(fixed_point(small.base_logprobs, small.scores, COEF, forward=3)[0])
    ours, base = (t.reshape(4, 4, 4, 4) for t in (found, np.exp(small.base_logprobs)))
    value = small.scores.reshape(ours.shape)
    for _ in range(3):
        p, q = (t / t.sum(-1, keepdims=True) for t in (ours, base))
        slack = COEF * q / p + value  # lambda
        assert np.allclose(slack, slack.mean(-1, keepdims=True), atol=1e-6)
        value, ours, base = (p * value).sum(-1), ours.sum(-1), base.sum(-1)


# ---- runs ----


@pytest.mark.parametrize("name", METHODS)
def test_every_method_raises_j(bed, name):
    """25 steps on the testbed, J by enumeration; records are those of PPO, and the policy can be
    used after every step.
    """
    kind, dials = METHODS[name]
    run, before = start(bed, kind, **dials), measure(bed, bed.model)
    for step in run:
        assert isinstance(step, policies.PolicyStep) and len(step.texts) == 128
        assert all(math.isfinite(v) for v in step.numbers().values())
        assert step.kl >= 0 and not run.policy.training
        if step.step == 1:
            assert step.kl == step.kl_k1 == 0 and step.ratio_gap < 1e-5
    after = measure(bed, run.policy)
    assert after.objective > before.objective + 0.1
    assert after.to_optimum < before.to_optimum


def test_a_flipped_sign_is_noticed(bed, monkeypatch):
    """Negative control: with -A the objective falls."""
    right = direct.rloo_advantages
    monkeypatch.setattr(direct, "rloo_advantages", lambda r: -right(r))
    run = start(bed, RLOORun, steps=8, group=4)
    for _ in run:
        pass
    assert measure(bed, run.policy).objective < measure(bed, bed.model).objective - 0.1


def test_swapped_pairs_are_noticed(bed, monkeypatch):
    """Negative control: with chosen and rejected swapped the score falls."""
    right = DPORun.pairs
    monkeypatch.setattr(DPORun, "pairs", lambda self, batch: right(self, batch)[::-1])
    run = start(bed, DPORun, steps=8, group=2)
    for _ in run:
        pass
    assert measure(bed, run.policy).score < measure(bed, bed.model).score - 0.1


def naive_gradient(run, batch, per_row):
    """The gradient of sum_i weight_i log pi(y_i), row by row without padding."""
    total = 0.0
    for row, weight in per_row:
        tokens = batch.tokens[row][batch.mask[row].bool()]
        count = int(batch.real[row].sum())
        table = torch.log_softmax(run.policy(tokens[None]).logits[0, :-1], -1)
        total = total + weight * table.gather(1, tokens[1:, None])[-count:].sum()
    return flat(torch.autograd.grad(total, list(run.policy.parameters())))


@pytest.mark.parametrize("name", ["RLOO", "rejection", "DPO online"])
def test_the_gradient_of_an_update_is_the_one_of_a_loop(bed, name):
    """On a second batch, at a policy that is no longer the reference, to 1 in 1,000."""
    kind, dials = METHODS[name]
    run = start(bed, kind, minibatches=1, samples=16, clip=1e9, **dials)
    run.advance()
    batch = run.rollout()
    paid = [
        float(s) - COEF * float((a - b).sum())
        for s, a, b in zip(batch.scores, batch.logprobs, batch.ref_logprobs)
    ]
    if name == "RLOO":
        rows = [
            (i, (paid[i] - np.mean([paid[j] for j in range(i // 4 * 4, i // 4 * 4 + 4) if j != i])) / 48)
            for i in range(16)
        ]  # fmt: skip
    elif name == "rejection":
        rows = [(max(range(g, g + 4), key=lambda i: paid[i]), 1 / 12) for g in range(0, 16, 4)]
    else:
        gap = (batch.logprobs - batch.ref_logprobs).sum(1).tolist()
        rows = []
        for c, r in zip(*run.pairs(batch)):
            pull = COEF / (1 + math.exp(COEF * (gap[c] - gap[r]))) / 8
            rows += [(c, pull), (r, -pull)]
    right = -naive_gradient(run, batch, rows)
    parts, lesson, _ = run.plan(batch)
    loss, _ = run.loss(batch, parts[0], lesson)
    found = flat(torch.autograd.grad(loss, list(run.policy.parameters())))
    assert float((found - right).norm() / right.norm()) < 1e-3


def test_reinforce_remembers_the_batches_before(bed):
    run = start(bed, ReinforceRun, group=1, memory=0.5, steps=4)
    batch = run.rollout()
    returns = run.returns(batch)
    assert torch.allclose(run.advantages(batch), rloo_advantages(returns[None])[0])
    for _ in range(3):
        run.advance()
    a, b, c = (s.score - COEF * s.kl_k1 for s in run.history)
    batch = run.rollout()
    right = run.returns(batch) - (a / 4 + b / 2 + c) / 1.75
    assert torch.allclose(run.advantages(batch), right, atol=1e-5)


def test_the_prompts_stand_in_groups(bed):
    run, plain = start(bed, RLOORun, group=4, samples=16), start(bed, ReinforceRun, group=1)
    for run.step in range(3):
        batch = run.rollout()
        asked = batch.prompts
        assert len(asked) == 16 and sorted(asked[::4]) == sorted(bed.prompts)
        assert all(len(set(asked[i : i + 4])) == 1 for i in range(0, 16, 4))
        assert all(text.startswith(prompt) for text, prompt in zip(batch.texts, asked))
    for step in range(3):
        asked = plain.collect(plain.policy, step).prompts
        assert asked == step_prompts(list(bed.prompts), 128, step)


def test_offline_never_draws_again(bed):
    """Offline every batch is the reference's, whatever the policy has become; labels stay."""
    run, seen = start(bed, DPORun, group=2, offline=2, steps=6), []
    for step in run:
        seen.append(step.texts)
    assert seen[0] == seen[2] == seen[4] != seen[1] == seen[3] == seen[5]
    run.step = 0
    labels = run.pairs(run.rollout())
    run.step = 2
    assert run.pairs(run.rollout()) == labels
    assert run.history[-1].kl > 0


def test_a_moved_dial_acts_at_the_next_step(bed):
    run = start(bed, RLOORun, group=4, steps=3)
    run.advance()
    run.kl_coef = 7.0
    assert run.advance().kl_coef == 7.0


def test_an_interrupted_step_is_not_done(bed, monkeypatch):
    run = start(bed, DPORun, group=2, steps=3)
    run.advance()
    before, calls = weights(run), []
    right = DirectRun._descend

    def stop(self, *args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return right(self, *args)

    monkeypatch.setattr(DirectRun, "_descend", stop)
    with pytest.raises(KeyboardInterrupt):
        run.advance()
    assert run.step == 1 and all(torch.equal(a, b) for a, b in zip(before, weights(run)))


@pytest.mark.parametrize("name", ["REINFORCE", "DPO offline"])
def test_a_saved_run_goes_on_to_the_bit(bed, tmp_path, name):
    kind, dials = METHODS[name]
    dials = dials | ({"offline": 2} if "offline" in dials else {})
    whole = start(bed, kind, steps=5, **dials)
    for _ in whole:
        pass
    half = start(bed, kind, steps=5, **dials)
    for _ in range(3):
        half.advance()
    half.save(tmp_path)
    rest = start(bed, kind, steps=5, **dials)
    rest.load(tmp_path)
    for _ in rest:
        pass
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(rest)))
    assert [s.scores for s in rest.history] == [s.scores for s in whole.history]


@pytest.mark.parametrize(
    ("kind", "dials", "words"),
    [
        (RLOORun, {"group": 3}, "do not divide into groups of 3"),
        (RLOORun, {"group": 0}, "do not divide into groups of 0"),
        (RLOORun, {"group": 1}, "RLOORun expects 2 or more"),
        (GRPORun, {"group": 1}, "GRPORun expects 2 or more"),
        (RejectionRun, {"group": 1}, "RejectionRun expects 2 or more"),
        (DPORun, {"group": 3, "samples": 12}, "a multiple of 2"),
        (DPORun, {"group": 2, "kl_coef": 0.0}, "DPO divides by it"),
        (DPORun, {"group": 2, "labels": "dice"}, "labels is 'dice'; expected bradley-terry"),
        (DPORun, {"group": 2, "offline": -1}, "offline is -1"),
        (RLOORun, {"group": 4, "offline": 3}, "its own fresh samples"),
        (RLOORun, {"lr": 0.0}, "lr is 0; expected more than 0"),
    ],
)
def test_bad_dials_get_one_sentence(bed, kind, dials, words):
    with pytest.raises(PolicyError, match=words) as caught:
        start(bed, kind, **dials)
    assert "\n" not in str(caught.value)


def test_a_dial_of_the_critic_is_unknown(bed):
    for dial in ({"lam": 0.9}, {"critic": "fit"}, {"ptx_coef": 1.0}):
        with pytest.raises(TypeError, match=next(iter(dial))):
            start(bed, RLOORun, **dial)


def test_the_config_of_ppo_is_refused(bed):
    with pytest.raises(PolicyError, match="expected a DirectConfig"):
        RLOORun(
            copy.deepcopy(bed.model), None, bed.tokenizer, bed.prompts, bed.score, ppo.PPOConfig()
        )


def test_a_bad_score_leaves_the_policy(bed):
    run = start(bed, RLOORun, score=lambda texts: [math.nan] * len(texts), group=4)
    before = weights(run)
    with pytest.raises(PolicyError, match="expected a finite number"):
        run.advance()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(run)))
