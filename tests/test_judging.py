"""Agreement of people and accuracy of scores equal a loop, an enumeration or a simulation."""

import itertools
import math

from rlhf_lite.annotators import GOLD, Annotator, Reading
from rlhf_lite.feedback import FeedbackError, record_key
from rlhf_lite.judging import (
    accuracy_for_agreement,
    agreement,
    agreement_matrix,
    bradley_terry,
    chances_to_win,
    choices,
    cohen_kappa,
    comparisons_for,
    elo,
    expected_agreement,
    majority_accuracy,
    pair_accuracy,
    reliability,
    win_rate,
)
from rlhf_lite.labellers import glance

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student

# ---- pair accuracy ----


def utilities(count=9, seed=0):
    return np.random.default_rng(seed).normal(0, 1.5, count)


def naive_accuracy(scores, values, rationality):
    """Average over all pairs, one at a time; a tie in score is a coin toss."""
    right, best = [], []
    for i in range(len(scores)):
        for j in range(i + 1, len(scores)):
            p = 1 / (1 + math.exp(-rationality * (values[i] - values[j])))
            best.append(max(p, 1 - p))
            if scores[i] == scores[j]:
                right.append(0.5)
            else:
                right.append(p if scores[i] > scores[j] else 1 - p)
    return sum(right) / len(right), sum(best) / len(best)


@pytest.mark.parametrize("rationality", [0.0, 0.8, 30.0])
def test_pair_accuracy_equals_a_double_loop(rationality):
    values, rng = utilities(), np.random.default_rng(1)
    for scores in (rng.normal(size=9), np.round(rng.normal(size=9)), values + rng.normal(size=9)):
        expected = naive_accuracy(scores, values, rationality)
        assert pair_accuracy(scores, values, rationality) == pytest.approx(expected)


def test_pair_accuracy_equals_the_share_of_simulated_labels():
    """20,000 labels a pair, 21 pairs (seed 2): the standard error is below 0.5 / sqrt(420,000) =
    0.0008, and 0.004 is five of them: a chance of 1 in a million.
    """
    values, rng = utilities(7), np.random.default_rng(2)
    scores = values + rng.normal(0, 1.5, 7)
    agree = []
    for i, j in itertools.combinations(range(7), 2):
        says_i = rng.random(20_000) < 1 / (1 + math.exp(-0.8 * (values[i] - values[j])))
        agree.append(np.mean(says_i == (scores[i] > scores[j])))
    accuracy, ceiling = pair_accuracy(scores, values, 0.8)
    assert accuracy == pytest.approx(np.mean(agree), abs=0.004)
    assert abs(ceiling - accuracy) > 0.01


def test_perfect_reversed_and_constant_scorers():
    values = utilities(12)
    top, ceiling = pair_accuracy(values, values, 0.8)
    assert top == pytest.approx(ceiling) and 0.6 < ceiling < 0.95
    assert pair_accuracy(3 * values + 7, values, 0.8)[0] == pytest.approx(ceiling)
    assert pair_accuracy(-values, values, 0.8) == pytest.approx((1 - ceiling, ceiling))
    assert pair_accuracy(np.zeros(12), values, 0.8) == pytest.approx((0.5, ceiling))


def test_nobody_passes_the_ceiling():
    values, rng = utilities(10), np.random.default_rng(3)
    for _ in range(200):
        accuracy, ceiling = pair_accuracy(rng.normal(size=10), values, 2.0)
        assert 1 - ceiling <= accuracy <= ceiling


# ---- reliability ----


def test_reliability_by_hand():
    """Two bins: 0.5 to 0.75 and 0.75 to 1, the first too shy and the second too bold."""
    rows, error = reliability([0.6, 0.7, 0.8, 0.9, 1.0], [1, 1, 1, 1, 0], bins=2)
    assert [n for _, _, n in rows] == [2, 3]
    assert rows[0] == pytest.approx((0.65, 1, 2)) and rows[1] == pytest.approx((0.9, 2 / 3, 3))
    assert error == pytest.approx((2 * 0.35 + 3 * (0.9 - 2 / 3)) / 5)


def test_empty_bins_are_left_out_and_bounds_are_kept():
    rows, error = reliability([0.5, 0.5, 1.0, 1.0], [True, False, True, True])
    assert rows == [(0.5, 0.5, 2), (1.0, 1.0, 2)] and error == 0
    assert reliability([1.0], [False]) == ([(1.0, 0.0, 1)], 1.0)


def test_calibrated_confidence_has_no_error_and_boasting_has():
    """40,000 predictions (seed 5): about 4,000 a bin, so the error of a share is below 0.008 and the
    mean of ten is about 0.005, of sd 0.0013; 0.015 is over seven of them.

    Negative control: right half as often beyond chance, the error is the mean of (c - 0.5) / 2.
    """
    rng = np.random.default_rng(5)
    confidence = rng.uniform(0.5, 1, 40_000)
    luck = rng.random(40_000)
    rows, error = reliability(confidence, luck < confidence)
    assert len(rows) == 10 and sum(n for _, _, n in rows) == 40_000
    assert error < 0.015
    boast = reliability(confidence, luck < 0.5 + (confidence - 0.5) / 2)[1]
    assert boast == pytest.approx(0.125, abs=0.015)


# ---- agreement ----


def pair(number, chosen=" sings.", rejected=" rows.", tie=False):
    """What counts of a preference."""
    record = {"kind": "preference", "prompt": f"Number {number}", "tie": tie}
    return record | {"chosen": chosen, "rejected": rejected}


def test_choices_do_not_depend_on_who_stood_first():
    a, b, rating = pair(1), pair(2, chosen=" a", rejected=" b"), {"kind": "rating"}
    tie = pair(3, tie=True)
    assert list(choices([a, b, tie, rating]).values()) == [-1, 1, 0]
    swapped = pair(1, chosen=" rows.", rejected=" sings.")
    assert choices([a, swapped]) == {record_key(a): 1}, "the last label counts"


def test_agreement_and_kappa_by_hand():
    """Table: both + 20, + then - 5, - then + 10, both - 15: p_o = 0.7, p_e = 0.5, kappa = 0.4."""
    cells = [(1, 1)] * 20 + [(1, -1)] * 5 + [(-1, 1)] * 10 + [(-1, -1)] * 15
    a, b = ({str(i): c[side] for i, c in enumerate(cells)} for side in (0, 1))
    assert agreement(a, b) == (0.7, 50)
    assert cohen_kappa(a, b) == pytest.approx(0.4)
    assert cohen_kappa(a, a) == 1
    x, y = {"p": 0, "q": 0, "r": 1, "s": 1}, {"p": 0, "q": 1, "r": 1, "s": 0, "t": -1}
    assert agreement(x, y) == (0.5, 4) and cohen_kappa(x, y) == 0
    assert math.isnan(agreement(x, {})[0]) and math.isnan(cohen_kappa(x, {}))
    assert math.isnan(cohen_kappa({"p": 1}, {"p": 1}))
    names, shares, kappa, counts = agreement_matrix({"a": a, "b": b, "x": x})
    assert names == ["a", "b", "x"] and shares[0, 1] == shares[1, 0] == 0.7
    assert kappa[0, 1] == pytest.approx(0.4) and counts.tolist()[0] == [50, 50, 0]
    assert np.isnan(shares[0, 2]) and counts[2, 2] == 4


def test_agreement_algebra_matches_enumeration():
    for p, raters in itertools.product((0.5, 0.62, 0.836, 1.0), (1, 2, 3, 4, 5)):
        exact = 0.0
        for right in itertools.product((0, 1), repeat=raters):
            probs = math.prod(p if r else 1 - p for r in right)
            exact += probs * (0.5 if 2 * sum(right) == raters else 2 * sum(right) > raters)
        assert majority_accuracy(p, raters) == pytest.approx(exact)
        assert accuracy_for_agreement(expected_agreement(p)) == pytest.approx(p)
    assert accuracy_for_agreement(0.726) == pytest.approx(0.836, abs=5e-4)
    with pytest.raises(FeedbackError, match=r"0\.4"):
        accuracy_for_agreement(0.4)


def test_agreement_algebra_matches_a_simulation():
    """Seed 0; 20,000 items, so a miss of 4 standard errors happens once in 16,000 seeds."""
    rng, p, items = np.random.default_rng(0), 0.836, 20_000
    truth = rng.choice((-1, 1), items)
    a, b = ({i: int(c) for i, c in enumerate(np.where(rng.random(items) < p, truth, -truth))}
            for _ in range(2))  # fmt: skip
    share, expected = agreement(a, b)[0], expected_agreement(p)
    assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / items)


# ---- who wins ----


def readings(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        Reading(np.zeros(8), *rng.integers(0, 4, 3).tolist(), int(rng.integers(5, 60)), 0.0, False,
                float(rng.random()), {})
        for _ in range(count)
    ]  # fmt: skip


JUDGE = Annotator("judge", "", np.zeros(8), dict(GOLD), 0.7, tie=0.4)


def test_chances_to_win_equal_many_glances():
    one, other = readings(2)
    rng, wins = np.random.default_rng(1), []
    for _ in range(4000):
        seen = [JUDGE.utility(glance(r, 0.3, rng)) for r in (one, other)]
        win, _, tie = JUDGE.preference_probs(*seen)
        wins.append(win + tie / 2)
    error = np.std(wins) / math.sqrt(len(wins))
    assert abs(chances_to_win(JUDGE, [one], [other], 0.3)[0, 0] - np.mean(wins)) < 4 * error


@pytest.mark.parametrize("checked", [0, 1])
def test_chances_at_the_ends_equal_one_glance(checked):
    ones, others = readings(3), readings(4, 1)
    found = chances_to_win(JUDGE, ones, others, checked)
    for i, one in enumerate(ones):
        for j, other in enumerate(others):
            seen = [
                JUDGE.utility(glance(r, checked, np.random.default_rng(0))) for r in (one, other)
            ]
            win, _, tie = JUDGE.preference_probs(*seen)
            assert found[i, j] == pytest.approx(win + tie / 2)


def test_chances_of_the_other_are_the_rest():
    ones, others = readings(3), readings(4, 1)
    both = chances_to_win(JUDGE, ones, others, 0.4) + chances_to_win(JUDGE, others, ones, 0.4).T
    assert np.allclose(both, 1)


@pytest.mark.parametrize("checked", [-0.1, 1.1, "half", None])
def test_chances_outside_0_and_1(checked):
    with pytest.raises(FeedbackError, match="expected a probability from 0 to 1"):
        chances_to_win(JUDGE, readings(1), readings(1), checked)


def test_win_rate_of_single_comparisons_is_students():
    wins = [1, 0, 0.5, 1, 1, 0, 1]
    rate, low, high = win_rate(wins)
    assert rate == pytest.approx(np.mean(wins))
    half = student.ppf(0.975, 6) * np.std(wins, ddof=1) / math.sqrt(7)
    assert (low, high) == (pytest.approx(rate - half), pytest.approx(rate + half))


def test_win_rate_of_equal_clusters_is_students_on_their_means():
    table = np.random.default_rng(0).random((9, 5))
    rate, low, high = win_rate(table.ravel(), np.repeat(list("abcdefghi"), 5))
    means = table.mean(1)
    half = student.ppf(0.975, 8) * means.std(ddof=1) / 3
    assert (rate, high - low) == (pytest.approx(means.mean()), pytest.approx(2 * half))


def test_win_rate_of_one_cluster_has_no_ends():
    assert win_rate([1, 0, 1], ["x"] * 3)[1:] == (-math.inf, math.inf)
    assert win_rate([1])[1:] == (-math.inf, math.inf)


def test_clustered_intervals_hold_the_truth_and_naive_ones_do_not():
    rng, held = np.random.default_rng(0), np.zeros(2)
    for _ in range(400):
        wins = rng.random((12, 20)) < rng.choice([0.2, 0.8], 12)[:, None]
        for way, clusters in enumerate((None, np.repeat(np.arange(12), 20))):
            _, low, high = win_rate(wins.ravel(), clusters)
            held[way] += low <= 0.5 <= high
    assert held[0] < 0.6 * 400 and 0.9 * 400 < held[1] < 0.99 * 400


@pytest.mark.parametrize(
    ("wins", "expected"), [([1] * 5, (1, 0.4782, 1)), ([0] * 5, (0, 0, 0.5218))]
)
def test_win_rate_of_who_always_wins_is_not_certain(wins, expected):
    low, high = binomtest(sum(wins), 5).proportion_ci(method="exact")
    assert win_rate(wins) == pytest.approx(expected, abs=1e-3)
    assert win_rate(wins)[1:] == pytest.approx((low, high))


@pytest.mark.parametrize("wins", [[], [2.0], [-1.0], ["a"]])
def test_wins_that_are_none(wins):
    with pytest.raises(FeedbackError, match=r"wins .*; expected"):
        win_rate(wins)


def test_as_many_clusters_as_wins():
    with pytest.raises(FeedbackError, match="2 clusters for 3 wins"):
        win_rate([1, 0, 1], [1, 2])


def test_comparisons_for_a_claim_find_it_as_often_as_asked():
    assert comparisons_for(0.55) == 783 and comparisons_for(0.45) == 783
    assert comparisons_for(0.55, ties=0.4) < 783 < comparisons_for(0.55, power=0.9)
    number, rng = comparisons_for(0.6), np.random.default_rng(0)
    found = [win_rate(rng.random(number) < 0.6)[1] > 0.5 for _ in range(1000)]
    assert 0.75 < np.mean(found) < 0.85


@pytest.mark.parametrize("args", [(0.5,), (0.0,), (1.2,), (0.6, 1.0), (0.6, 0.8, 1.0)])
def test_claims_without_a_number(args):
    with pytest.raises(FeedbackError, match="expected a rate other than"):
        comparisons_for(*args)


def test_bradley_terry_finds_the_strengths_behind_expected_wins():
    true = np.array([0.9, -0.4, 0.1, -0.6])
    wins = 50 / (1 + np.exp(true[None, :] - true[:, None]))
    assert np.allclose(bradley_terry(wins), true, atol=1e-6)


def test_bradley_terry_of_two_is_a_logit():
    assert bradley_terry([[0, 30], [10, 0]]) == pytest.approx([math.log(3) / 2, -math.log(3) / 2])


def test_bradley_terry_where_somebody_won_everything():
    with pytest.raises(FeedbackError, match="won or lost everything"):
        bradley_terry([[0, 3, 3], [0, 0, 1], [0, 1, 0]])
    assert bradley_terry([[0, 3, 3], [0, 0, 1], [0, 1, 0]], prior=0.5).argmax() == 0
    with pytest.raises(FeedbackError, match="expected a square"):
        bradley_terry([[0, 1, 2]])


def test_elo_equals_a_loop_and_forgets_no_points():
    games = [(0, 1, 1), (1, 2, 0.5), (0, 2, 0), (0, 1, 1)]
    ratings = [0.0] * 3
    for i, j, outcome in games:
        gain = 32 * (outcome - 1 / (1 + 10 ** ((ratings[j] - ratings[i]) / 400)))
        ratings[i], ratings[j] = ratings[i] + gain, ratings[j] - gain
    assert np.allclose(elo(games, 3), ratings) and elo(games, 3).sum() == pytest.approx(0)
    assert not np.allclose(elo(games[::-1], 3), elo(games, 3))
