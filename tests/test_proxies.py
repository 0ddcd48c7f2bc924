"""Small reward models find what made their labels, and ensembles are what they say."""

from rlhf_lite.feedback import FeedbackError
from rlhf_lite.proxies import BagOfWords, ensemble, fit_preferences

import numpy as np
import pytest
import torch


def pairs(weights, count, seed):
    """Draw Bradley-Terry preferences of bags of words with known weights."""
    rng, words, rows = np.random.default_rng(seed), list(weights), []
    for _ in range(count):
        a, b = (" ".join(rng.choice(words, 5)) for _ in range(2))
        gap = sum(weights[w] for w in a.split()) - sum(weights[w] for w in b.split())
        texts = (a, b) if rng.random() < 1 / (1 + np.exp(-gap)) else (b, a)
        rows.append((texts, False))
    return rows


def test_a_bag_of_words_finds_the_weights():
    truth = {"good": 1.0, "fair": 0.4, "dull": -0.4, "bad": -1.0}
    bag = BagOfWords(pairs(truth, 4000, 0))
    found = {w: bag.weights[i] for w, i in bag.words.items()}
    # Only differences are seen: every text has five words. 0.15 is over four standard errors.
    for word, weight in truth.items():
        assert found[word] - found["fair"] == pytest.approx(weight - 0.4, abs=0.15)
    assert bag(["good good", "bad unknown"])[1] == pytest.approx(found["bad"], abs=1e-6)


def test_a_bag_of_words_stands_where_its_gradient_is_zero():
    rows = pairs({"a": 1.0, "b": 0.0, "c": -1.0}, 50, 1)
    rows += [((a, b), True) for (a, b), _ in pairs({"a": 0.0, "c": 0.0}, 20, 2)]
    bag = BagOfWords(rows)
    weights = torch.tensor(bag.weights, requires_grad=True)
    loss = (weights**2).sum() / 2
    for (chosen, rejected), tie in rows:
        gap = sum(weights[bag.words[w]] for w in chosen.split())
        gap = gap - sum(weights[bag.words[w]] for w in rejected.split())
        sides = torch.nn.functional.logsigmoid(torch.stack([gap, -gap]))
        loss = loss - (sides.mean() if tie else sides[0])
    loss.backward()
    assert weights.grad.abs().max() < 1e-2


def test_a_bag_of_words_needs_labels():
    with pytest.raises(FeedbackError, match="no preferences"):
        BagOfWords([])


def test_ensembles_are_what_they_say():
    scores = torch.tensor([[0.0, 1.0, 4.0], [2.0, 1.0, -2.0]])
    assert ensemble(scores, "mean").tolist() == [1, 1, 1]
    assert ensemble(scores, "worst").tolist() == [0, 1, -2]
    assert ensemble(scores, "uncertainty", 0.5).tolist() == [0.5, 1, -3.5]
    with pytest.raises(FeedbackError, match="no ensemble 'vote'"):
        ensemble(scores, "vote")
    with pytest.raises(FeedbackError, match=r"\(models, texts\) have the shape \(3,\)"):
        ensemble(scores[0])


def test_preferences_give_back_the_weights_that_made_them():
    """20,000 Bradley-Terry labels, seed 0: three weights to 0.1, about five standard errors."""
    rng, weights = np.random.default_rng(0), np.array([1.0, -2.0, 0.3])
    gaps = rng.normal(size=(20_000, 3))
    won = rng.random(20_000) < 1 / (1 + np.exp(-gaps @ weights))
    found = fit_preferences(np.where(won[:, None], gaps, -gaps), np.zeros(20_000, bool))
    assert found == pytest.approx(weights, abs=0.1)
    # Ties alone say that no gap matters.
    assert fit_preferences(gaps, np.ones(20_000, bool)) == pytest.approx(0, abs=1e-6)
