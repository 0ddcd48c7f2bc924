"""Scores of whole responses: any function of texts, weighted mixtures, a multiplier that answers."""

import copy

from rlhf_lite import direct, feedback, rewards
from rlhf_lite.rewards import Reward, new_reward_model
from rlhf_lite.rollouts import Rollout
from rlhf_lite.runtime import DATA
from rlhf_lite.scores import Lagrangian, Mixture, PolicyError, Score
from rlhf_lite.supervised import SFTRun
from rlhf_lite.training import TrainingError

import numpy as np
import pytest
import torch
from small_runs import DIALS, count_e, list_through, records, start, weights

TEXTS = ["a bee", "eel", "owl"]


def words(texts):
    return np.array([len(t.split()) for t in texts])


# ---- by hand ----


def test_a_mixture_is_the_weighted_sum():
    """And says what its parts said; lists, arrays and tensors are all numbers."""
    mixture = Mixture({"e": count_e, "words": words}, (2, -0.5))
    assert mixture(TEXTS).tolist() == pytest.approx([0.4 - 1, 0.4 - 0.5, -0.5])
    said = mixture.judge(TEXTS)[1]
    assert said == pytest.approx(
        {"score of e": 0.4 / 3, "weight of e": 2, "score of words": 4 / 3, "weight of words": -0.5}
    )
    assert Score(count_e)(TEXTS).tolist() == pytest.approx([0.2, 0.2, 0.0])


def test_the_multiplier_by_hand():
    """Up by rate times what the cost is over its limit, down where it is under, never below 0."""
    score = Lagrangian(words, count_e, limit=0.1, rate=0.5, start=0.2)
    assert score(TEXTS).tolist() == pytest.approx([2 - 0.04, 1 - 0.04, 1])
    score.learn({"score of cost": 0.5})
    assert score.multiplier == pytest.approx(0.4)
    score.learn({"score of cost": -9.0})
    assert score.multiplier == 0 and score(TEXTS).tolist() == [2, 1, 1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Mixture({}, []), "0 weights for 0 scores"),
        (lambda: Mixture([count_e], [1]), "expected a dict of functions of texts by name"),
        (lambda: Mixture({"e": 3}, [1]), "expected a dict of functions of texts by name"),
        (lambda: Mixture({"e": count_e}, 0.5), "weights is a float"),
        (lambda: Mixture({"e": Lagrangian(words, count_e, 0)}, [1]), "a part is a Score itself"),
        (lambda: Mixture({"e": count_e}, [1, 2]), "2 weights for 1 scores"),
        (lambda: Mixture({"e": count_e}, [float("nan")]), "the weight of 'e' is nan"),
        (lambda: Mixture({"e": count_e}, ["much"]), "the weight of 'e' is 'much'"),
        (lambda: Lagrangian(words, count_e, "low"), "limit is 'low'"),
        (lambda: Lagrangian(words, count_e, 0.1, rate=0), "expected a finite number above 0"),
        (lambda: Lagrangian(words, count_e, 0.1, start=-1), "a negative lambda pays"),
        (lambda: Mixture({"e": lambda t: [1.0]}, [1])(TEXTS), "e: the score function returned 1"),
        (lambda: Mixture({"e": lambda t: [np.inf] * 3}, [1])(TEXTS), "e: the score of response 0"),
    ],
)
def test_bad_mixtures_get_one_sentence(make, words):
    with pytest.raises(PolicyError, match=r"^[^\n]*$") as caught:
        make()
    assert words in str(caught.value)


# ---- in a run ----


def test_a_mixture_runs_as_its_sum_does(wordy, other):
    """To the bit, and each step writes down the parts."""
    mixture = Mixture({"e": count_e, "zero": lambda texts: [0] * len(texts)}, [1.0, 3.0])
    mixed, plain = (list_through(start(wordy, other, s)) for s in (mixture, count_e))
    for left, right in zip(records(mixed), records(plain)):
        assert left.pop("parts")["score of e"] == pytest.approx(left["score"])
        assert right.pop("parts") == {} and left == right
    assert mixed.history[0].numbers()["weight of zero"] == 3.0


@pytest.mark.parametrize(("limit", "way"), [(-1.0, 1), (5.0, -1)])
def test_the_multiplier_moves_with_the_run(wordy, limit, way):
    """Each step is paid with the multiplier of before; the record holds its path, by hand."""
    run = start(wordy, score=Lagrangian(words, count_e, limit, rate=0.1, start=1.0))
    expected = 1.0
    for step in run:
        assert step.parts["weight of cost"] == pytest.approx(-expected)
        cost = np.mean(count_e(step.texts))
        assert step.score == pytest.approx(words(step.texts).mean() - expected * cost, rel=1e-4)
        expected = max(0.0, expected + 0.1 * (cost - limit))
        assert run.score.multiplier == pytest.approx(expected)
    assert way * (run.score.multiplier - 1) > 0.3


def test_a_limit_is_reached(wordy):
    """The policy that a multiplier trains keeps its letters e nearer to the limit than one without."""
    goal, dials = count_e, {"steps": 25, "lr": 1e-2, "kl_coef": 0.05, "samples": 32}
    free = start(wordy, score=goal, **dials)
    held = start(wordy, score=Lagrangian(goal, count_e, 0.3, rate=2.0), **dials)
    over = [np.mean([s.parts.get("score of cost", s.score) for s in list_through(run).history[-8:]])
            for run in (free, held)]  # fmt: skip
    assert over[0] > 0.6 and abs(over[1] - 0.3) < 0.5 * (over[0] - 0.3)


def test_a_multiplier_is_saved_and_put_back(wordy, tmp_path):
    """A run that goes on equals one that never stopped; a failed step moves nothing; two runs of one
    Lagrangian have a multiplier each.
    """
    score = Lagrangian(words, count_e, -1.0)
    through = list_through(start(wordy, score=score))
    assert score.multiplier == 1.0
    run = start(wordy, score=score)
    run.advance(), run.advance()
    run.save(tmp_path)
    again = start(wordy, score=score)
    again.load(tmp_path)
    assert again.score.multiplier == run.score.multiplier > 1
    list(again)
    assert records(again) == records(through)
    assert all(torch.equal(a, b) for a, b in zip(weights(again), weights(through)))
    broken, moved = start(wordy, score=score), run.score.multiplier
    broken.advance(), broken.advance()
    broken.plan = lambda rollout: 1 / 0
    with pytest.raises(ZeroDivisionError):
        broken.advance()
    assert broken.score.multiplier == moved
    mixed = start(wordy, score=Mixture({"e": count_e}, [1.0]))
    with pytest.raises(TrainingError, match="its score is"):
        mixed.load(tmp_path)


def test_a_step_whose_score_cannot_learn_is_not_done(wordy):
    run = start(wordy, score=Lagrangian(words, count_e, -1.0))
    run.advance()
    before, run.score.learn = weights(run), lambda said: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run.advance()
    assert run.step == len(run.history) == 1
    assert all(torch.equal(a, b) for a, b in zip(before, weights(run)))


def test_a_new_score_survives_the_brake(wordy):
    """What puts the policy back leaves the judge that was set since."""
    run = start(wordy, kl_limit=1e-9)
    run.advance()
    run.score = Mixture({"e": count_e}, [2.0])
    with pytest.raises(PolicyError, match="KL to the reference has reached"):
        run.advance()
    assert run.score.state == [2.0]


def test_a_score_that_learns_needs_fresh_responses(wordy):
    score = Lagrangian(words, count_e, 0.1)
    config = direct.DirectConfig(**{k: v for k, v in DIALS.items() if k != "value_lr"}, offline=2)
    with pytest.raises(PolicyError, match="expected offline to be 0"):
        direct.DPORun(copy.deepcopy(wordy[0]), None, wordy[1], ["Ivo"], score, config)
    with pytest.raises(PolicyError, match="SFT has none"):
        SFTRun(copy.deepcopy(wordy[0]), None, wordy[1], [("Ivo", " sang.")], score)


def test_only_reward_models_read_in_bfloat16(wordy, monkeypatch):
    """A score function that leaves torch by numpy works whatever the run's precision."""
    model, tokenizer = copy.deepcopy(wordy[0]), wordy[1]
    seen, linear = [], torch.nn.Linear(1, 1)

    def through_numpy(texts):
        found = linear(torch.ones(len(texts), 1)).detach()
        seen.append(found.dtype)
        return found.numpy()[:, 0]

    start(wordy, score=through_numpy, steps=1, bfloat16=True).advance()
    assert seen == [torch.float32]
    half = []
    monkeypatch.setattr(
        rewards,
        "autocast",
        lambda device, on: half.append(on) or torch.autocast("cpu", enabled=False),
    )
    rm = Reward(new_reward_model(model), tokenizer)
    Score(rm).judge(TEXTS), Score(rm).judge(TEXTS, bfloat16=True)
    Mixture({"rm": rm}, [1]).judge(TEXTS, bfloat16=True)
    assert half == [False, True, True]


def test_any_judge_of_texts_is_a_score(wordy, reader, people):
    """A parser, a rule that looks at one letter, a model in torch: what the course will train on."""
    model, tokenizer = wordy
    rm = Reward(new_reward_model(copy.deepcopy(model)), tokenizer)
    person = people["scholar"]
    judges = {
        "parser": lambda texts: [person.utility(reader(t)) for t in texts],
        "rule": lambda texts: np.array([t.endswith("e") for t in texts]),
        "model": rm,
    }
    for judge in judges.values():
        run = start(wordy, score=judge, steps=1)
        step = run.advance()
        assert step.scores == pytest.approx(Score(judge)(step.texts).tolist(), abs=1e-4)


# ---- whole responses ----


def rollout_of(lengths):
    real = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).float()
    return Rollout([], [], real.long(), real.long(), 0, real, None, None, None, [])


def test_the_weight_of_two_lengths_by_hand():
    """Two responses of 2 and 6 tokens, one a minibatch: 2 / 4 and 6 / 4, so that weight times mean
    over tokens is the sum over tokens by 4, of both. Minibatches of unlike size, and rows that are
    left out: a token weighs the same in all.
    """
    batch = rollout_of([2, 6, 4, 3])
    assert [batch.weight([row], [[0], [1]]) for row in (0, 1)] == [0.5, 1.5]
    assert batch.weight([1], [[1]]) == 1 == batch.weight([0, 1], [[0, 1]])
    parts = [[0, 1], [3]]
    assert [batch.weight(p, parts) for p in parts] == pytest.approx([8 / 5.5, 3 / 5.5])


def test_bfloat16_scores_are_near():
    """The shipped reward model in bfloat16, as a run scores: within 0.03 sd of float32 on 96 base
    responses, and by less than 0.01 on average.
    """
    reward = rewards.load(DATA / "models" / "reward")
    labels = feedback.read(DATA / "feedback" / "preferences.jsonl").records[:48]
    texts = [r["prompt"] + r[side] for r in labels for side in ("chosen", "rejected")]
    exact = reward(texts)
    with torch.autocast("cpu", torch.bfloat16):
        gap = reward(texts) - exact
    assert gap.abs().max() < 0.03 and abs(gap.mean()) < 0.01
    assert gap.abs().max() > 1e-4, "bfloat16 was not on"
