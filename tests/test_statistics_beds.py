"""What the later predictions of notebook 13 are judged by, on arms whose answer is known, and short runs."""

from types import SimpleNamespace

from rlhf_lite import direct
from rlhf_lite.experiments import arms_of, load
from rlhf_lite.policies import kl_estimates, policy_loss
from rlhf_lite.records import Record

import numpy as np
import pytest
import torch

bed, beds, departures, pairs = map(load, ("bed", "beds", "departures", "pairs"))
groups, methods, thin, tuned = map(load, ("_groups", "methods", "thin", "tuned"))


def record(arms, **more):
    """A record whose arms are given as {name: [numbers of each seed]}."""
    arms = {name: {str(s): run for s, run in enumerate(runs)} for name, runs in arms.items()}
    return Record("made up", {"arms": arms, **more}, {})


# ---- tasks of the testbed ----


def race(*ends):
    """Arms of the testbed that end at these distances."""
    return [{"curve": [[0, 0.0, 9], [256, 1.0, end]], "stopped": ""} for end in ends]


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("KL to pi*, textbook - our PPO", "PPO, textbook", "PPO"),
        ("KL to pi*, DPO online - RLOO", "DPO online", "RLOO, k = 4"),
        ("KL to pi*, clipped - free", "RLOO, 4 passes", "RLOO, 4 passes, no clip"),
    ],
)
def test_one_method_is_held_against_another(name, one, other):
    arms = {n: race(7, 7) for n in beds.METHODS} | {one: race(0.5, 0.25), other: race(0.25, 0.75)}
    assert beds.STATISTICS[name](record(arms)) == pytest.approx([0.25, -0.5])


def told(beyond, chosen=0.0, unseen=0.0):
    """Two tasks that end so far from pi*, with so much more log pi of chosen and unseen mass."""
    last = [200, beyond, 5, 5, 5, -4 + chosen, 5, 0.25 + unseen]
    return [{"curve": [[0, 1.0, 4, 4, 4, -3.0, 4, 0.2], last], "best": [-4.0, -5.0, 0.25]}] * 2


def test_what_new_labels_undo_is_a_share_of_what_thin_pairs_lose():
    arms = {"pairs thin": told(4.5), "pairs anew": told(1.5), "pairs rich": told(0.5)}
    share = beds.STATISTICS["share of it that new labels undo"]
    assert share(record(arms)) == pytest.approx([0.75, 0.75])
    assert share(record(arms | {"pairs anew": told(4.5)})) == pytest.approx([0, 0])
    assert beds.STATISTICS["KL to pi*, thin - rich pairs"](record(arms)) == pytest.approx([4, 4])


@pytest.mark.parametrize("sign", [1, -1])
def test_thin_pairs_are_held_against_pi_star_and_not_against_the_start(sign):
    arms = {"pairs thin": told(4.5, sign * 2.0, sign * 0.125), "pairs rich": told(9, 9, 9)}
    chosen, unseen = (
        beds.STATISTICS[f"{what} - pi*'s, thin pairs"]
        for what in ("log pi of chosen", "unseen mass")
    )
    assert chosen(record(arms)) == pytest.approx([sign * 2.0] * 2)
    assert unseen(record(arms)) == pytest.approx([sign * 0.125] * 2)


def test_a_rate_is_the_best_of_both_tunings():
    one, two = ({"rates": {"0.001": a, "0.002": b}} for a, b in ((0.1, 0.3), (0.6, 0.2)))
    assert beds.own_rate([one, two]) == 0.002 and beds.own_rate([one, one]) == 0.001
    tunings = {("tune PPO", task): run for task, run in zip(beds.TUNED_ON, (one, two))}
    assert beds.rate_of(SimpleNamespace(arm=lambda *which: tunings[which]), "PPO") == 0.002
    arms = {f"tune {m}": {str(t): one for t in beds.TUNED_ON} for m in beds.METHODS}
    found = beds.summary(None, Record("made up", {"arms": arms}, {}))
    assert set(found["rates"].values()) == {0.001} and found["at the edge"] == []


def test_a_task_is_another_model_with_other_scores():
    one, other = bed.bed(0), bed.bed(1)
    assert not np.allclose(one.scores, other.scores)
    assert not np.allclose(one.base_logprobs, other.base_logprobs)
    for task, here in ((0, one), (1, other)):
        run = bed.new_run("PPO, textbook", 3, 1e-3, steps=2, task=task)
        assert bed.look(bed.logprobs(run.policy), task)[3] == pytest.approx(0, abs=1e-9)
        assert run.config.critic == "head" and run.config.epochs == 4
        text = f"{here.prompts[0]} {here.words[1]} {here.words[0]} {here.words[2]}"
        assert float(run.score.judge([text], 0, False)[0][0]) == pytest.approx(here.scores[0, 66])


def test_labels_are_drawn_anew_and_by_the_same_chance():
    run = bed.new_run("DPO, labels anew", 0, 1e-3, offline=1)
    batch, seen = run.rollout(), []
    for run.step in range(40):
        chosen, rejected = run.pairs(batch)
        assert sorted(chosen + rejected) == list(range(256))
        seen.append([row % 2 == 0 for row in chosen])
    chance = torch.sigmoid(batch.scores[::2] - batch.scores[1::2])
    # 128 pairs, 40 readings: a mean of 5,120 coins, with an sd below 0.007.
    assert abs(np.mean(seen) - float(chance.mean())) < 0.03
    assert np.std([np.mean(s) for s in seen]) > 0


# ---- where GRPO's changes rest ----


@pytest.fixture(scope="module")
def rests():
    """The rests of one task after fewer steps than the record's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(departures, "STEPS", 400)
        return {kind: departures.measure(None, 50, kind) for kind in departures.COEFS}


def test_answers_end_once_and_their_chances_sum_to_one():
    _, real, leaf = departures.answers(50)
    assert (leaf.sum(0) == 1).all() and (real[:, 0] == 1).all()
    assert {int(n) for n in real.sum(1)} == {1, 2, 3}
    start = departures.spell(departures.base_tables(50), 50).sum(-1)
    merged = torch.tensor(bed.bed(50).base_logprobs).double().exp() @ leaf.T
    torch.testing.assert_close(start.exp(), merged)


def test_with_the_kl_in_the_reward_every_variant_rests_at_the_optimum(rests):
    for rows in rests.values():
        for name, how in departures.VARIANTS.items():
            away = float(rows[name]["to best"].mean())
            assert away < 0.005 if how[0] == "reward" else away > 0.01, name


def test_the_statistics_of_rests():
    row = {v: [{"to best": [0.25 * n, 0.25 * n]}] * 2 for n, v in enumerate(departures.VARIANTS)}
    runs = [{v: runs[s] for v, runs in row.items()} for s in (0, 1)]
    made, found = record({"scores": runs, "zeros and ones": runs}), departures.STATISTICS
    places = {v: 0.25 * n for n, v in enumerate(departures.VARIANTS)}
    assert found["KL to pi*, KL in the reward, scores"](made) == pytest.approx([0.75] * 2)
    assert found["KL to pi*, own"](made) == pytest.approx([places["own"]] * 2)
    length = places["k3, length"] - places["k3"]
    assert found["KL to pi*, length - none"](made) == pytest.approx([length] * 2)


# ---- the language model ----


def test_shares_are_held_against_each_other(monkeypatch):
    monkeypatch.setattr(methods, "share", lambda objective: objective)
    arms = {m: [{"objective": 9.0}] * 2 for m in tuned.METHODS}
    for name, (one, other) in tuned.PAIRS.items():
        here = arms | {one: [{"objective": 0.75}] * 2, other: [{"objective": 0.25}] * 2}
        ahead = tuned.STATISTICS[f"share of the gain, {name}"]
        assert ahead(record(here)) == pytest.approx([0.5, 0.5])


def test_the_largest_objective_chooses_the_rate():
    assert tuned.own_rate({"rates": {"5e-05": 0.1, "0.0001": 0.3, "0.0002": -99.0}}) == 1e-4


def test_thin_pairs_are_held_against_the_whole_file(monkeypatch):
    monkeypatch.setattr(methods, "share", lambda objective: objective)
    sides = {"own": {"chosen": -1.0, "accuracy": 0.9}, "unseen": {"chosen": 0.0, "accuracy": 0.6}}
    arms = {name: [{"objective": 0.5, **sides}] * 2 for name in arms_of(thin)}
    arms["126 pairs"] = [{"objective": 0.25, **sides}] * 2
    arms["3,780 pairs"] = [{"objective": 0.5, **sides, "unseen": sides["own"]}] * 2
    found = {name: f(record(arms)).tolist() for name, f in thin.STATISTICS.items()}
    assert found["share, 126 - 3,780 pairs"] == pytest.approx([-0.25] * 2)
    assert found["by heart, 126 - 3,780 pairs"] == pytest.approx([0.3] * 2)
    assert found["log pi of chosen gained, 126 pairs"] == [-1.0, -1.0]


def test_grpo_by_length_is_a_mean_over_responses_of_means_over_tokens():
    """Two responses of one and three tokens, by hand."""
    real = torch.tensor([[1.0, 0, 0], [1, 1, 1]])
    old, theirs, ours = (torch.randn(2, 3) * real for _ in range(3))
    run = SimpleNamespace(config=direct.DirectConfig(group=2, samples=4), kl_coef=0.5)
    keep, paid = real.bool(), torch.tensor([1.0, -2.0])
    rows = keep.nonzero()[:, 0]
    run._token_logprobs = lambda rollout, part: (ours[keep], rows)
    rollout = SimpleNamespace(real=real, logprobs=old, ref_logprobs=theirs)
    loss, _ = groups.LengthRun.loss(run, rollout, [0, 1], paid)
    want = 0.0
    for i in range(2):
        one = keep[i]
        clipped, _ = policy_loss(ours[i][one], old[i][one], paid[i], run.config.cliprange)
        want += (clipped + 0.5 * kl_estimates(ours[i], theirs[i])[2][one].mean()) / 2
    torch.testing.assert_close(loss, want)
