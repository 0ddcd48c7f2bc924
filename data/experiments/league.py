"""How many comparisons rank five policies rightly, and how often does an interval hold the truth?

The policies are those of the record winning, which must be there, the raters check every other
claim, and the truth is the mean over all recorded replies. One arm, half a minute.
"""

from rlhf_lite import judging, records
from rlhf_lite.experiments import load

import numpy as np

raters = load("_raters")

SEEDS, MINUTES, CHECKED = (0, 1, 2), 0.5, 0.5
LEAGUE = ("base", "sft", "ppo 0", "ppo 1", "ptx 0")
GAMES, TIMES = (50, 100, 200, 400, 800, 1600, 3200, 6400), 300
SHAPES = ((200, 1), (40, 5), (20, 10), (10, 20))  # prompts, judgements of the pair on each
ARMS = {"league": {}}


def measure(lab, seed):
    """Play the league; return strengths [nats], true win rates, and what simulated studies find."""
    record, rng = records.read("winning"), np.random.default_rng(seed)
    counts = [record.arm(name, "counts", seed=seed) for name in LEAGUE]
    odds = {(i, j): raters.wins(counts[i], counts[j], CHECKED)
            for i in range(len(LEAGUE)) for j in range(i)}  # fmt: skip
    true = np.zeros((len(LEAGUE), len(LEAGUE)))
    for (i, j), table in odds.items():
        true[i, j], true[j, i] = table.mean(), 1 - table.mean()
    strength = judging.bradley_terry(true)
    found = {n: [ranking(play(odds, n, rng)) for _ in range(TIMES)] for n in GAMES}
    right = {str(n): np.mean([same(s, strength) for s in f]) for n, f in found.items()}
    best = {str(n): np.mean([s.argmax() == strength.argmax() for s in f]) for n, f in found.items()}
    cover = {f"{m} x {k}": coverage(odds[2, 1], m, k, rng) for m, k in SHAPES}
    return {"strength": strength, "wins": true, "ranked": right, "best": best, "coverage": cover}


def play(odds, games, rng):
    """Return the wins (n, n) of so many games between random pairs on random prompts."""
    wins, pairs = np.zeros((len(LEAGUE), len(LEAGUE))), list(odds)
    for pick in rng.integers(len(pairs), size=games):
        i, j = pairs[pick]
        table = odds[i, j]
        won = rng.random() < table[tuple(rng.integers(table.shape))]
        wins[i, j] += won
        wins[j, i] += not won
    return wins


def ranking(wins):
    """Return strengths, with a tenth of a win each way, so that nobody has won everything."""
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


def says(record, *keys):
    """Return a number of the league, by seed."""
    return record.arm("league", *keys)


STATISTICS = {
    "naive coverage, 10 x 20": lambda record: says(record, "coverage", "10 x 20", 0, 0),
    "clustered coverage, 10 x 20": lambda record: says(record, "coverage", "10 x 20", 1, 0),
    "ranked rightly, 400 games": lambda record: says(record, "ranked", "400"),
}
