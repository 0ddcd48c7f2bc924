"""Measure judges: how far two people agree, and how often a score is right about a label.

Agreement, kappa and majorities of people; accuracy and reliability of a score against noisy labels.
Omits win rates and Elo, which notebook 09 brings. Taught by notebooks 02 and 03.
"""

import math

from rlhf_lite.checks import check_alike, check_count
from rlhf_lite.feedback import FeedbackError, record_key
from rlhf_lite.optimum import best_of_n

import numpy as np
from scipy.special import expit
from scipy.stats import spearmanr


def choices(records):
    """Return {item key: side} of one person's preferences; other kinds are left out.

    side: +1 where the response that comes first in the alphabet is chosen, -1 where the other, 0 in
    a tie. Where an item was labelled twice the last label counts.
    """
    table = {}
    for record in records:
        if record["kind"] == "preference":
            a, b = record["chosen"], record["rejected"]
            table[record_key(record)] = 0 if record["tie"] or a == b else 1 if a < b else -1
    return table


def agreement(a, b):
    """Return (share of shared items on which two people agree, number of shared items).

    a, b: `choices`. A tie agrees with a tie only. The share is nan where no item is shared.
    """
    shared = sorted(a.keys() & b.keys())
    return float(np.mean([a[k] == b[k] for k in shared])) if shared else math.nan, len(shared)


def cohen_kappa(a, b):
    """Return agreement beyond chance: kappa = (p_o - p_e) / (1 - p_e) (Cohen 1960, eq. 1).

    p_o: `agreement` of two `choices`; p_e: the agreement of two people who draw from their own
    shares of -1, 0 and +1. nan where no item is shared, or where chance alone agrees always.
    """
    observed, number = agreement(a, b)
    if not number:
        return math.nan
    x, y = (np.array([c[k] for k in a.keys() & b.keys()]) for c in (a, b))
    chance = sum(float(np.mean(x == c) * np.mean(y == c)) for c in (-1, 0, 1))
    return (observed - chance) / (1 - chance) if chance < 1 else math.nan


def agreement_matrix(raters):
    """Return (names, agreement (n, n), kappa (n, n), shared items (n, n)) of {name: choices}."""
    names = list(raters)
    pairs = [[agreement(raters[m], raters[n]) for n in names] for m in names]
    kappa = [[cohen_kappa(raters[m], raters[n]) for n in names] for m in names]
    shares, counts = np.moveaxis(np.array(pairs).reshape(len(names), len(names), 2), 2, 0)
    return names, shares, np.array(kappa), counts.astype(int)


def expected_agreement(p):
    """Return how often two people agree who are each right with probability p on forced choices.

    p^2 + (1 - p)^2, if their errors are independent. Example: `expected_agreement(0.836)` is 0.726.
    """
    return p**2 + (1 - p) ** 2


def accuracy_for_agreement(a):
    """Return the p of at least 1/2 whose `expected_agreement` is a: (1 + sqrt(2a - 1)) / 2."""
    if not 0.5 <= a <= 1:
        raise FeedbackError(f"no accuracy gives the agreement {a}; expected from 0.5 to 1")
    return (1 + math.sqrt(2 * a - 1)) / 2


def majority_accuracy(p, raters):
    """Return how often the majority of people is right, each right with probability p.

    The binomial sum above one half (Condorcet 1785); an even panel that is split tosses a coin.
    """
    probs = [math.comb(raters, k) * p**k * (1 - p) ** (raters - k) for k in range(raters + 1)]
    return sum(o * (1.0 if 2 * k > raters else 0.5) for k, o in enumerate(probs) if 2 * k >= raters)


def pair_accuracy(scores, utilities, rationality):
    """Return (accuracy, ceiling) of scores on one prompt's pairs, against one noisy label each.

    The annotator prefers i to j with p = sigmoid(lambda (u_i - u_j)). Accuracy averages p over the
    pairs that the scores order so, and 1 - p over the others; the ceiling is E max(p, 1 - p), which
    no scorer can pass. Both are expectations over labels, so no luck of labelling is left in them.
    """
    scores, utilities = check_alike({"scores": scores, "utilities": utilities})
    if len(scores) < 2:
        raise ValueError("one score makes no pair; expected two or more")
    i, j = np.triu_indices(len(scores), 1)
    p = expit(rationality * (utilities[i] - utilities[j]))
    gap = scores[i] - scores[j]
    right = np.where(gap > 0, p, np.where(gap < 0, 1 - p, 0.5))
    return float(right.mean()), float(np.maximum(p, 1 - p).mean())


def ruler(scores, utilities, rationality):
    """Return what scores are worth by someone's utilities, both one array a prompt; means over it.

    accuracy and its ceiling: `pair_accuracy`; rank: Spearman's correlation, 0 where the scores are
    all alike; best16, oracle16: what the best of 16 gains by score, and by utility itself [points].
    """
    rows = []
    for s, u in zip(scores, utilities):
        rank = spearmanr(s, u).statistic if s.std() > 0 else 0.0
        gains = [best_of_n(by, u, 16) - u.mean() for by in (s, u)]
        rows.append([*pair_accuracy(s, u, rationality), rank, *gains])
    names = ("accuracy", "ceiling", "rank", "best16", "oracle16")
    return dict(zip(names, np.mean(rows, axis=0).tolist()))


def reliability(confidence, right, bins=10):
    """Return ([(mean confidence, share right, count)], expected calibration error).

    Over equal-width bins from 0.5 to 1; the error is that of Guo et al. 2017.
    """
    confidence, right = check_alike({"confidence": confidence, "right": right})
    if confidence.min() < 0 or confidence.max() > 1:
        found = f"confidence from {confidence.min():g} to {confidence.max():g}"
        raise ValueError(f"{found}; expected probabilities")
    right = right.astype(float)
    check_count(bins, "bins")
    at = np.clip(((confidence - 0.5) * 2 * bins).astype(int), 0, bins - 1)
    full = [at == k for k in range(bins) if (at == k).any()]
    rows = [(float(confidence[k].mean()), float(right[k].mean()), int(k.sum())) for k in full]
    error = sum(n * abs(c - r) for c, r, n in rows) / len(confidence)
    return rows, float(error)
