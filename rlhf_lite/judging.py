"""Measure judges: how far two people agree, and how often a score is right about a label.

Agreement, kappa, alpha and majorities of people; accuracy and reliability of a score against noisy
labels; win rates, Bradley-Terry and Elo. Omits who judges: `labellers`, and people at
`show.blind_test`.
Taught by notebooks 02, 03 and 09.
"""

import math
from dataclasses import replace
from numbers import Real

from rlhf_lite.checks import check_alike, check_count, check_list, check_numbers
from rlhf_lite.feedback import FeedbackError, record_key
from rlhf_lite.optimum import best_of_n

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.special import expit
from scipy.stats import norm, spearmanr
from scipy.stats import t as student


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


def panel(raters):
    """Return the agreement of {name: `choices`} of people who each saw some of the items, a dict.

    share p_o: how often two answers to one item are alike, every answer counting once; chance p_e:
    how often any two answers are; alpha = (p_o - p_e) / (1 - p_e), for two people who saw the same
    items nearly kappa (Krippendorff 2011, nominal data); low, high: its 95% interval by the
    jackknife over items, the people taken as given; items: those with two answers or more; seen:
    answers to such an item, on average. nan where nothing can be said.
    """
    answers = {}
    for table in raters.values():
        for key, side in table.items():
            answers.setdefault(key, []).append(side)
    rows = [[a.count(side) for side in (-1, 0, 1)] for a in answers.values() if len(a) > 1]
    counts = np.array(rows, dtype=float).reshape(-1, 3)
    each = counts.sum(1)
    alike = (counts * (counts - 1)).sum(1) / np.maximum(each - 1, 1)

    def alpha(n, same, sides):
        with np.errstate(divide="ignore", invalid="ignore"):
            share, chance = same / n, (sides * (sides - 1)).sum(-1) / (n * (n - 1))
            return share, chance, (share - chance) / (1 - chance)

    share, chance, whole = map(float, alpha(each.sum(), alike.sum(), counts.sum(0)))
    left = alpha(each.sum() - each, alike.sum() - alike, counts.sum(0) - counts)[2]
    size = len(each)
    half = student.ppf(0.975, size - 1) * math.sqrt(size - 1) * left.std() if size > 2 else math.nan
    return {
        "share": share, "chance": chance, "alpha": whole, "low": whole - half,
        "high": whole + half, "items": size, "seen": float(each.mean()) if size else math.nan,
    }  # fmt: skip


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


# ---- who wins, and how sure one may be ----


def chances_to_win(annotator, ones, others, checked=1.0):
    """Return P(one is preferred to another), ties half, by somebody who checks a little, (N, M).

    ones, others: Readings; checked: the probability q that a claim is checked, and otherwise
    believed. Exact: the mean of `preference_probs` over all that `labellers.glance` may see.
    Example: `chances_to_win(auditor(world), [read(a)], [read(b)], 0.25)`.
    """
    (p, u), (r, v) = (_glances(annotator, readings, checked) for readings in (ones, others))
    gap = u[:, None, :, None] - v[None, :, None, :]
    odds = np.exp(-annotator.rationality / 2 * gap)
    win = (1 + annotator.tie / 2 * odds) / (1 + annotator.tie * odds + odds**2)
    return np.einsum("nk,ml,nmkl->nm", p, r, win)


def _glances(annotator, readings, checked):
    """Return the probability and the utility [points] of all that a glance at each may see."""
    readings = check_list(readings, "readings", "Reading", least=1)
    if not isinstance(checked, Real) or not 0 <= checked <= 1:
        raise FeedbackError(f"checked is {checked}; expected a probability from 0 to 1")
    most = [1 + max(getattr(r, k) for r in readings) for k in ("false", "unsupported")]
    probs, worth = np.zeros((2, len(readings), most[0] * most[1]))
    for number, r in enumerate(readings):
        for place, (f, u) in enumerate(np.ndindex(r.false + 1, r.unsupported + 1)):
            chance = _binomial(f, r.false, checked) * _binomial(u, r.unsupported, checked)
            believed = r.true + r.false + r.unsupported - f - u
            seen = replace(r, true=believed, false=f, unsupported=u)
            probs[number, place], worth[number, place] = chance, annotator.utility(seen)
    return probs, worth


def _binomial(caught, claims, checked):
    """Return how likely so many of the claims are caught; scipy's takes fifty times as long."""
    return math.comb(claims, caught) * checked**caught * (1 - checked) ** (claims - caught)


def win_rate(wins, clusters=None):
    """Return (rate, low, high): mean of wins with its 95% interval, clustered.

    wins: 1, 1/2 for a tie, 0, or probabilities; clusters: what each comparison shares with others,
    such as its prompt, one label each; None takes each comparison for itself. The variance is
    G / (G - 1) sum_g (sum of residuals of cluster g)^2 / N^2, with t of G - 1 degrees of freedom
    (Liang and Zeger 1986); where all won, or all lost, the exact bound of as many unanimous
    clusters (Clopper and Pearson 1934). Raises FeedbackError where there is nothing to average.
    """
    wins, groups = _grouped(wins, clusters)
    rate, count = wins.mean(), groups.max() + 1
    if count < 2:
        return float(rate), -math.inf, math.inf
    if rate in (0, 1):
        bound = 0.025 ** (1 / count)
        return (1.0, bound, 1.0) if rate else (0.0, 0.0, 1 - bound)
    residuals = np.bincount(groups, wins - rate)
    error = math.sqrt(count / (count - 1) * (residuals**2).sum()) / len(wins)
    half = student.ppf(0.975, count - 1) * error
    return float(rate), float(rate - half), float(rate + half)


def _grouped(wins, clusters):
    """Return wins as an array and the number of each one's cluster."""
    wins = check_numbers(wins, "wins", 1, FeedbackError).astype(float)
    if not len(wins) or wins.min() < 0 or wins.max() > 1:
        raise FeedbackError("wins are no numbers from 0 to 1; expected 1, 0, and 0.5 for a tie")
    clusters = range(len(wins)) if clusters is None else list(clusters)
    if len(clusters) != len(wins):
        raise FeedbackError(f"{len(clusters)} clusters for {len(wins)} wins; expected one each")
    return wins, np.unique(clusters, return_inverse=True)[1]


def comparisons_for(rate, power=0.8, ties=0.0):
    """Return how many independent comparisons show that a win rate is not 1/2.

    n = (z_0.975 sqrt(v0) + z_power sqrt(v1))^2 / (rate - 1/2)^2 with v = r (1 - r) - ties / 4, the
    variance of one comparison at r = 1/2 and at r = rate. power: how often a study of that size
    finds it; ties: their share. Example: `comparisons_for(0.55)` is 783.
    """
    if not 0 < rate < 1 or rate == 0.5 or not 0 < power < 1 or not 0 <= ties < 1:
        found = f"rate {rate}, power {power}, ties {ties}"
        raise FeedbackError(f"{found}; expected a rate other than 0.5, and shares between 0 and 1")
    none, some = 0.25 - ties / 4, max(0.0, rate * (1 - rate) - ties / 4)
    reach = norm.ppf(0.975) * math.sqrt(none) + norm.ppf(power) * math.sqrt(some)
    return math.ceil((reach / (rate - 0.5)) ** 2)


def bradley_terry(wins, prior=0.0):
    """Return strengths (n,) [nats, mean 0] with P(i beats j) = sigmoid(s_i - s_j).

    wins (n, n): how often i beat j, a tie half a win to both; prior: wins that each pair is given
    each way beforehand. By Zermelo's iteration (Hunter 2004, eq. 3). Raises FeedbackError where
    somebody, or some group, won or lost everything, as no finite strengths fit then.
    """
    wins = check_numbers(wins, "wins (n, n)", 2, FeedbackError).astype(float)
    if wins.shape[0] != wins.shape[1] or len(wins) < 2 or wins.min() < 0:
        raise FeedbackError(f"wins of shape {wins.shape}; expected a square of counts")
    wins = (wins + prior) * (1 - np.eye(len(wins)))
    if connected_components(wins > 0, connection="strong")[0] > 1:
        raise FeedbackError("somebody won or lost everything; expected wins both ways, or a prior")
    strength, games = np.ones(len(wins)), wins + wins.T
    for _ in range(10_000):
        before = strength
        strength = wins.sum(1) / (games / (before[:, None] + before)).sum(1)
        strength = strength / np.exp(np.log(strength).mean())
        if np.abs(np.log(strength / before)).max() < 1e-9:
            break
    return np.log(strength)


def elo(games, players, step=32.0):
    """Return the ratings (players,) after games in this order, everybody starting from 0.

    games: (i, j, outcome for i: 1, 1/2 or 0). After each, i gains step (outcome - expected) and j
    loses it, expected = 1 / (1 + 10^((R_j - R_i) / 400)) (Elo 1978).
    """
    ratings = np.zeros(players)
    for i, j, outcome in games:
        gain = step * (outcome - 1 / (1 + 10 ** ((ratings[j] - ratings[i]) / 400)))
        ratings[i] += gain
        ratings[j] -= gain
    return ratings
