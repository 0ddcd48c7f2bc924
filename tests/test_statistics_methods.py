"""What the predictions of notebook 13 are judged by, on arms whose answer is known, and short runs.

test_experiments.py checks that the shipped records hold what these functions say of them.
"""

import copy
from functools import partial
from types import SimpleNamespace

from rlhf_lite import direct, experiments, records
from rlhf_lite.experiments import Lab, arms_of, load, rounded
from rlhf_lite.records import Record

import numpy as np
import pytest
import torch
from small_runs import PROMPTS, count_e, list_through, same

bed, gradients, pairs, methods = map(load, ("bed", "gradients", "pairs", "methods"))
SHORT = {"steps": 2, "samples": 16, "minibatches": 2, "max_new_tokens": 6, "bfloat16": False}


def record(arms, **more):
    """A record whose arms are given as {name: [numbers of each seed]}."""
    arms = {name: {str(s): run for s, run in enumerate(runs)} for name, runs in arms.items()}
    return Record("made up", {"arms": arms, **more}, {})


# ---- the statistics, on made-up arms ----


def race(*ends, stopped=None):
    """Arms of the testbed that end at these distances; one of them may have stopped."""
    rows = [[[0, 0.0, 9, 9, 9, 9], [256, 1.0, end, 8, 8, 8]] for end in ends]
    return [{"curve": r, "stopped": "KL ..." * (n == stopped)} for n, r in enumerate(rows)]


def test_the_worse_of_two_is_found_seed_by_seed():
    worse = bed.STATISTICS["KL to pi*, worse of PPO and RLOO"]
    one, other = race(0.01, 0.07), race(0.02, 0.03)
    for ppo, rloo in ((one, other), (other, one)):
        found = worse(record({"PPO": ppo, "RLOO, k = 4": rloo, "RLOO, k = 2": race(7, 7)}))
        assert found == pytest.approx([0.02, 0.07])


def test_a_run_that_stopped_is_far_from_pi_star():
    arms = {"PPO": race(0.01, 0.02), "RLOO, k = 4": race(0.03, 0.04, stopped=1)}
    worse = bed.STATISTICS["KL to pi*, worse of PPO and RLOO"]
    assert worse(record(arms)) == pytest.approx([0.03, 99])


def test_grpo_as_published_is_divided_and_has_k3():
    others = {n: race(7, 7) for n in arms_of(bed)}
    found = bed.STATISTICS["KL to pi*, GRPO as published"](record(others | {"GRPO": race(0.2, 0)}))
    assert found == pytest.approx([0.2, 0])
    kind, dials = bed.METHODS["GRPO"]
    config = direct.DirectConfig(samples=256, **dials)
    assert kind is direct.GRPORun and config.divide and config.k3_loss


def test_noisier_means_more_variance_after_the_first_steps():
    few = [{"RLOO, k = 2": [[1, 5], [6, 50]], "RLOO, k = 8": [[9, 5], [3, 70]]}] * 2
    swapped = [{"RLOO, k = 2": r["RLOO, k = 8"], "RLOO, k = 8": r["RLOO, k = 2"]} for r in few]
    ratio = gradients.STATISTICS["gradient variance, k = 2 / k = 8"]
    assert ratio(record({"noise": few})) == pytest.approx([2, 2])
    assert ratio(record({"noise": swapped})) == pytest.approx([0.5, 0.5])


def test_the_error_of_k3_is_that_to_the_forward_kl():
    runs = [{"error to KL(ref || pi)": 0.1 * s, "error to KL(pi || ref)": 9.0} for s in (1, 2)]
    found = gradients.STATISTICS["k3 error to KL(ref || pi)"](record({"k3": runs}))
    assert found == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize(("name", "want"), [("narrow", 0.9 - 0.2), ("wide", 1.0 - 3.0)])
def test_beyond_pi_star_has_its_sign(name, want):
    """Of the divided rest without k3; the prompts stand by spread, the narrowest first."""
    rows = {"pi*": [0.2, 8, 8, 3.0], "divided": [0.9, 7, 7, 1.0], "undivided": [5] * 4}
    beyond = gradients.STATISTICS[f"KL to base beyond pi*, {name} prompt"]
    rest = {n: {"to base": r, "to best": [6] * 4} for n, r in rows.items()}
    assert beyond(record({"rests": [rest]})) == pytest.approx([want])
    rest = rest | {"pi*": rest["divided"], "divided": rest["pi*"]}
    assert beyond(record({"rests": [rest]})) == pytest.approx([-want])
    assert list(gradients.SPREADS) == sorted(gradients.SPREADS)


def told(beyond, chosen, unseen):
    """Two seeds whose distance, log pi of chosen and unseen mass end so much above 1, -3, 0.25."""
    first = [0, 1.0, 4, 4, 4, -3.0, 4, 0.25]
    last = [200, 1 + beyond, 5, 5, 5, -3 + chosen, 5, 0.25 + unseen]
    return [{"curve": [first, [10] + [6] * 7, last]}] * 2


def test_thin_pairs_are_held_against_rich_ones():
    thin, rich = told(3.0, 0, 0), told(0.5, 0, 0)
    gap = pairs.STATISTICS["KL to pi*, thin - rich pairs"]
    assert gap(record({"pairs thin": thin, "pairs rich": rich})) == pytest.approx([2.5, 2.5])
    assert gap(record({"pairs thin": rich, "pairs rich": thin})) == pytest.approx([-2.5, -2.5])
    alone = pairs.STATISTICS["KL to pi*, thin pairs"]
    assert alone(record({"pairs thin": thin, "pairs rich": rich})) == pytest.approx([4, 4])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("name", "want"),
    [("log pi of chosen gained, thin pairs", 2.0), ("unseen mass gained, thin pairs", 0.125)],
)
def test_what_thin_pairs_gain_is_counted_from_the_start(name, want, sign):
    arms = {"pairs thin": told(1.0, sign * 2.0, sign * 0.125), "pairs rich": told(9, 9, 9)}
    assert pairs.STATISTICS[name](record(arms)) == pytest.approx([sign * want] * 2)


@pytest.fixture
def sweep(monkeypatch):
    """A record ppo whose base scores 1 and whose optimum is 5; PPO reaches a half and a quarter."""
    best = {"0.54": {"base_score": 1.0, "objective": 5.0}, "0.9": {}}
    made = record({"sweep 0.54": [{"objective": 3.0}, {"objective": 2.0}]}, best=best)
    monkeypatch.setattr(methods.records, "read", {"ppo": made}.__getitem__)


def test_a_share_is_counted_from_the_base_to_the_optimum(sweep):
    assert methods.share(np.array([1.0, 5.0, 4.0])) == pytest.approx([0, 1, 0.75])


def test_rloo_is_held_against_the_ppo_of_the_sweep(sweep):
    ahead = methods.STATISTICS["share of the gain, RLOO - PPO"]
    arms = {"RLOO, k = 4": [{"objective": 4.0}, {"objective": 1.0}], "PPO": [{"objective": 9}] * 2}
    assert ahead(record(arms)) == pytest.approx([0.25, -0.25])


def test_online_is_held_against_offline(sweep):
    ahead = methods.STATISTICS["share of the gain, DPO online - offline"]
    one, other = [{"objective": 4.0}, {"objective": 3.0}], [{"objective": 3.0}, {"objective": 1.0}]
    assert ahead(record({"DPO online": one, "DPO offline": other})) == pytest.approx([0.25, 0.5])
    assert ahead(record({"DPO online": other, "DPO offline": one})) == pytest.approx([-0.25, -0.5])


# ---- what is shipped ----


def test_the_dials_of_the_record_are_those_of_the_arms():
    for arm, own in arms_of(methods).items():
        dials = {k: v for k, v in own.items() if k != "kind"}
        for run in records.read("methods")["arms"][arm].values():
            assert run["dials"] == methods.DIALS | dials


def test_every_arm_ran_at_the_rate_that_was_best_for_it():
    shipped = records.read("bed")
    assert rounded(bed.summary(None, shipped)) == {
        k: v for k, v in shipped.results.items() if k not in ("arms", "statistics")
    }
    for method in bed.METHODS:
        assert (shipped.arm(method, "lr") == shipped["rates"][method]).all()
        assert list(shipped.arm(f"tune {method}", "rates", seed=10)) == [
            f"{r:g}" for r in bed.RATES
        ]
    with torch.no_grad():
        start = bed.look(bed.logprobs(bed.bed().model))
    assert shipped.arm("PPO", "curve", 0, seed=0)[2:] == pytest.approx(start, rel=1e-4, abs=1e-6)


def test_grpo_rests_where_the_record_says():
    shipped, found = records.read("gradients")["arms"]["rests"]["0"], rounded(gradients.rests(0))
    assert set(found) == set(shipped)
    for name, rows in found.items():
        for key, row in rows.items():
            assert row == pytest.approx(shipped[name][key], rel=1e-4, abs=1e-6)


# ---- short runs ----


@pytest.fixture
def small(monkeypatch):
    """The testbed with 16 samples a step and runs of ten steps."""
    monkeypatch.setattr(bed, "SAMPLES", 16)
    monkeypatch.setattr(bed, "new_run", partial(bed.new_run, steps=10))


@pytest.mark.parametrize("method", bed.METHODS)
def test_every_method_trains_on_the_testbed(monkeypatch, method):
    monkeypatch.setattr(bed, "SAMPLES", 16)
    found = bed.train(method, 0, 1e-3, steps=2, every=1)
    assert set(found) == set(records.read("bed")["arms"][method]["0"])
    assert [row[0] for row in found["curve"]] == [0, 16, 32] and found["stopped"] == ""
    kl = [row[5] for row in found["curve"]]
    assert kl[0] == pytest.approx(0, abs=1e-9) and kl[2] > kl[0]


def test_a_run_that_breaks_off_says_why(monkeypatch):
    monkeypatch.setattr(bed, "SAMPLES", 16)
    monkeypatch.setattr(bed, "new_run", partial(bed.new_run, kl_limit=1e-9))
    found = bed.train("RLOO, k = 4", 0, 1e-3, steps=9, every=1)
    assert found["stopped"].startswith("KL to the reference has reached")
    assert [row[0] for row in found["curve"]] == [0, 16]


def test_tuning_takes_no_rate_that_stopped(monkeypatch):
    ends = {5e-4: 0.4, 1e-3: 0.3, 2e-3: 0.2, 4e-3: 0.1}
    calls = []

    def train(method, seed, lr, steps, every):
        calls.append((method, seed, lr, steps, every))
        rows = [[0, 0, 9], [1, 1, ends[lr]]]
        return {"stopped": "KL" if lr == 4e-3 else "", "curve": rows}

    monkeypatch.setattr(bed, "train", train)
    tuned = bed.measure(None, 10, **arms_of(bed)["tune PPO"])
    assert tuned == {"rates": {"0.0005": 0.4, "0.001": 0.3, "0.002": 0.2, "0.004": 99.0}}
    assert bed.best_rate(tuned) == 2e-3
    assert calls == [("PPO", 10, lr, 100, 100) for lr in bed.RATES]


def test_a_method_runs_at_the_rate_of_its_own_tuning(monkeypatch):
    tunings = {("tune GRPO", 10): {"rates": {"0.001": 0.5, "0.004": 0.3}}}
    lab = SimpleNamespace(arm=lambda *which: tunings[which])
    monkeypatch.setattr(bed, "train", lambda *given: given)
    assert bed.measure(lab, 2, **arms_of(bed)["GRPO"]) == ("GRPO", 2, 4e-3)


def test_variance_and_signal_of_known_gradients(monkeypatch):
    """Batches pull by (1, 2) and (3, 2) in turn: mean (2, 2), squared length 8, variance 2."""
    monkeypatch.setattr(gradients, "DRAWN", 2)
    layer = torch.nn.Linear(2, 1, bias=False)
    pulls = {1000: torch.tensor([1.0, 2.0]), 1001: torch.tensor([3.0, 2.0])}
    run = SimpleNamespace(policy=layer, plan=lambda batch: ([0, 1], None, {}))
    run.rollout = lambda: pulls[run.step]
    run.loss = lambda batch, part, lesson: ((layer.weight * batch).sum(), {})
    assert gradients.gradients(run) == pytest.approx((2, 8))


def test_noise_is_measured_for_every_baseline(small, monkeypatch):
    monkeypatch.setattr(gradients, "DRAWN", 8)
    monkeypatch.setattr(gradients, "PLACES", (0, 1))
    found = gradients.noise(0)
    assert set(found) == set(records.read("gradients")["arms"]["noise"]["0"])
    assert {np.shape(rows) for rows in found.values()} == {(2, 2)}
    assert found["no baseline"] != found["REINFORCE"]


def test_k3_pulls_as_the_forward_kl_and_not_as_the_other():
    found = gradients.k3(0)
    assert set(found) == set(records.read("gradients")["arms"]["k3"]["0"])
    assert found["error to KL(ref || pi)"] < 1e-4 < 0.1 < found["error to KL(pi || ref)"]
    assert 0 < found["cosine to KL(pi || ref)"] < 1 and found["lengths"] > 0


def test_pairs_are_followed_where_they_stand(small):
    """Sixteen samples a batch are eight pairs, each of two answers to one prompt."""
    run = bed.new_run("DPO offline", 0, 1e-3, offline=2)
    chosen, rejected = pairs.places(run, 2)
    assert len(chosen[0]) == 16 and (chosen[0] == rejected[0]).all() and run.step == 0
    batch = run.rollout()
    for side, rows in zip((chosen, rejected), run.pairs(batch)):
        assert bed.bed().scores[side][:8] == pytest.approx(batch.scores[rows].numpy(), abs=1e-6)
    found = pairs.measure(None, 0, batches=2)
    shipped = records.read("pairs")["arms"]["pairs thin"]["0"]
    assert set(found) == set(shipped) and found["pairs"] == 16
    assert [row[0] for row in found["curve"]] == [0, 10] and len(found["best"]) == 3
    start = bed.bed().base_logprobs
    seen = np.zeros(start.shape, bool)
    seen[chosen] = seen[rejected] = True
    want = [start[chosen].mean(), start[rejected].mean(), (np.exp(start) * ~seen).sum(1).mean()]
    assert found["curve"][0][pairs.CHOSEN :] == pytest.approx(want, abs=1e-5)


def test_dpo_writes_down_what_it_thinks_and_learns_as_before():
    config = direct.DirectConfig(
        kl_coef=0.7,
        group=2,
        offline=1,
        lr=5e-3,
        warmup=0,
        **SHORT | {"steps": 6, "max_new_tokens": 3},
    )
    told, plain = (
        list_through(kind(
            copy.deepcopy(bed.bed().model), None, bed.bed().tokenizer, bed.bed().prompts,
            bed.bed().score, config,
        ))
        for kind in (methods.Told, direct.DPORun)
    )  # fmt: skip
    assert same(told.policy.parameters(), plain.policy.parameters())
    assert np.shape(told.told) == (6, 2) and told.told[0] == pytest.approx([0, 0], abs=1e-6)
    assert told.told[-1][0] > told.told[-1][1] + 0.1


@pytest.mark.parametrize("method", ["PPO", "DPO offline", "BoN distillation"])
def test_a_method_is_trained_and_measured_on_a_language_model(wordy, tmp_path, monkeypatch, method):
    lab, asked = Lab(tmp_path), []
    lab.__dict__ |= {
        "_loaded": wordy,
        "prompts": [*PROMPTS, "Edda Moss", "The", "A goose"],
        "reward": lambda texts: torch.tensor(count_e(texts)),
    }
    lab.gold = lambda name: asked.append(name) or (lambda texts: torch.tensor(count_e(texts)) * 2)
    monkeypatch.setattr(methods, "FRESH", 4)
    arm = arms_of(methods)[method] | SHORT
    found = experiments.rounded(methods.measure(lab, 3, **arm))
    shipped = records.read("methods")["arms"][method]["0"]
    assert set(found) == set(shipped) and set(shipped["dials"]) <= set(found["dials"])
    assert asked == ["scholar"] and found["n"] == 24 and found["stopped"] == ""
    assert found["gold"] == pytest.approx(2 * found["score"], rel=1e-4)
    assert found["objective"] == pytest.approx(found["score"] - 0.54 * found["kl"], rel=1e-3)
    assert [len(row) for row in found["history"]] == [5, 5]
    assert (found["told"] is None) == (shipped["told"] is None) == (method != "DPO offline")
