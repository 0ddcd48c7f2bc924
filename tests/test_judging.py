"""What reward models are measured by equals a loop or an enumeration; responses end at a line."""

import itertools
import math
from types import SimpleNamespace

from rlhf_lite import sampling
from rlhf_lite.judging import pair_accuracy, reliability
from rlhf_lite.optimum import best_of_n
from rlhf_lite.sampling import respond, sample, whole_sentences

import numpy as np
import pytest
import torch

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


# ---- best of n ----


@pytest.mark.parametrize("n", range(1, 8))
def test_best_of_n_equals_all_subsets(n):
    rng = np.random.default_rng(4)
    scores, values = rng.normal(size=7), rng.normal(size=7)
    picks = [
        values[max(group, key=lambda i: scores[i])] for group in itertools.combinations(range(7), n)
    ]
    assert best_of_n(scores, values, n) == pytest.approx(np.mean(picks))


def test_best_of_n_at_its_ends():
    scores, values = np.array([3.0, 1.0, 2.0]), np.array([10.0, -4.0, 7.0])
    assert best_of_n(scores, values, 1) == pytest.approx(values.mean())
    assert best_of_n(scores, values, 3) == pytest.approx(10)
    assert best_of_n(-scores, values, 3) == pytest.approx(-4)
    assert best_of_n([0.3], [5.0], 1) == pytest.approx(5)


def test_best_of_n_stays_exact_for_many_samples():
    """Values 1..N scored by themselves: the mean of the largest of n is n (N + 1) / (n + 1)."""
    values = np.arange(1, 2001)
    for n in (2, 16, 500):
        assert best_of_n(values, values, n) == pytest.approx(n * 2001 / (n + 1), rel=1e-6)


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


# ---- responses that end at a line ----


@pytest.mark.parametrize(
    ("text", "ended", "kept"),
    [
        ("One.\nTwo.\nThr", False, "One.\nTwo."),
        ("One.\nTwo.\n", False, "One.\nTwo."),
        ("One.\nTwo.\nThr", True, "One.\nTwo.\nThr"),
        ("Only one unfinish", False, "Only one unfinish"),
        ("Only one.", True, "Only one."),
        ("\nAfter nothing", False, "\nAfter nothing"),
        ("", False, ""),
    ],
)
def test_a_text_is_cut_at_its_last_whole_line(text, ended, kept):
    assert whole_sentences(text, ended) == kept


def test_a_response_is_cut_only_where_the_text_did_not_end(tiny, monkeypatch):
    """Five drawn texts by hand: an end token in the response counts, the start token does not."""
    _, tokenizer = tiny
    end, word = tokenizer.eos_token_id, tokenizer("I")["input_ids"][0]
    rows = [[end, word, word, e] for e in (word, end, word, end, word)]
    texts = ["Ivo sang.\nHe", "Ivo sang.\nHe", "Ivo sang and", "Ivo", "Ivo\nVa"]
    prompts = ["Ivo", "Ivo", "Ivo", "Ivo", "Ivo\nVa"]
    drawn = SimpleNamespace(
        texts=texts, prompts=prompts, tokens=torch.tensor(rows),
        response=torch.tensor([[0, 0, 1, 1]] * 5),
    )  # fmt: skip
    monkeypatch.setattr(sampling, "sample", lambda *args, **kwargs: drawn)
    assert respond(None, tokenizer, prompts) == [" sang.", " sang.\nHe", " sang and", "", ""]


def test_responses_of_the_base_model_are_samples_cut_short(base):
    model, tokenizer = base
    prompts = ["Ivo Vane", "The hero Norbert Pell", "Q: Who was Edda Moss?"] * 4
    said = respond(model, tokenizer, prompts, 40, seed=7, batch=5)
    drawn = sample(model, tokenizer, prompts, 40, seed=7, batch=5)
    cut = 0
    for text, prompt, response in zip(drawn.texts, prompts, said):
        assert text.startswith(prompt + response)
        left = text[len(prompt + response) :]
        assert left == "" or (left[0] == "\n" and "\n" not in left[1:])
        cut += left != ""
    assert cut > 3
    assert said == respond(model, tokenizer, prompts, 40, seed=7, batch=5)
    assert said != respond(model, tokenizer, prompts, 40, seed=8, batch=5)
