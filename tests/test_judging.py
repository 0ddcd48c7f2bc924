"""Agreement of people and accuracy of scores equal a loop, an enumeration or a simulation."""

import itertools
import math

from rlhf_lite.feedback import FeedbackError, record_key
from rlhf_lite.judging import (
    accuracy_for_agreement,
    agreement,
    agreement_matrix,
    choices,
    cohen_kappa,
    expected_agreement,
    majority_accuracy,
    pair_accuracy,
    reliability,
)

import numpy as np
import pytest

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
