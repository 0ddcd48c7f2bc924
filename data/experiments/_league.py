"""How many comparisons rank five policies rightly, and how often does an interval hold the truth?

The raters check every other claim, and the truth is the mean over all replies of an experiment.
"""

from rlhf_lite import judging
from rlhf_lite.experiments import load

import numpy as np

raters = load("_raters")

TEAMS, CHECKED = ("base", "sft", "ppo 0", "ppo 1", "ptx 0"), 0.5
GAMES, TIMES = (50, 100, 200, 400, 800, 1600, 3200, 6400), 300
SHAPES = ((200, 1), (40, 5), (20, 10), (10, 20))  # prompts, judgements of the pair on each


def play(counts, seed):
    """Play the league; return strengths [nats], true win rates, and what simulated studies find.

    counts: of each of TEAMS, one text a prompt.
    """
    rng, count = np.random.default_rng(seed), len(TEAMS)
    odds = {(i, j): raters.wins(counts[i], counts[j], CHECKED)
            for i in range(count) for j in range(i)}  # fmt: skip
    true = np.zeros((count, count))
    for (i, j), table in odds.items():
        true[i, j], true[j, i] = table.mean(), 1 - table.mean()
    strength = judging.bradley_terry(true)
    found = {n: [ranking(odds, n, rng) for _ in range(TIMES)] for n in GAMES}
    right = {str(n): np.mean([same(s, strength) for s in f]) for n, f in found.items()}
    best = {str(n): np.mean([s.argmax() == strength.argmax() for s in f]) for n, f in found.items()}
    cover = {f"{m} x {k}": coverage(odds[2, 1], m, k, rng) for m, k in SHAPES}
    return {"strength": strength, "wins": true, "ranked": right, "best": best, "coverage": cover}


def ranking(odds, games, rng):
    """Return strengths after so many games between random pairs, each on a random prompt.

    Each pair starts with a tenth of a win each way, so that nobody has won everything.
    """
    wins = np.zeros((len(TEAMS), len(TEAMS)))
    played = np.bincount(rng.integers(len(odds), size=games), minlength=len(odds))
    for (pair, table), number in zip(odds.items(), played):
        won = (rng.random(number) < rng.choice(table.ravel(), number)).sum()
        wins[pair], wins[pair[::-1]] = won, number - won
    return judging.bradley_terry(wins, prior=0.1)


def same(one, other):
    """Tell whether two lists of strengths are in one order."""
    return bool((np.argsort(one) == np.argsort(other)).all())


def coverage(odds, prompts, each, rng, times=1000):
    """Return (how often a 95% interval holds the true rate, its width), naive and clustered."""
    found = np.zeros((2, 2))
    for _ in range(times):
        shown = rng.integers(np.array(odds.shape)[:, None], size=(3, prompts))
        wins = (rng.random((prompts, each)) < odds[tuple(shown)][:, None]).ravel()
        for way, clusters in enumerate((None, np.repeat(np.arange(prompts), each))):
            _, low, high = judging.win_rate(wins, clusters)
            found[way] += low <= odds.mean() <= high, high - low
    return found / times
