"""What does a reward model learn from labels that say nothing, and does it see a fact at all?

"labels", "coins": 3,000 preferences, and the same with each pair's sides tossed. "rating": 1,000 by
people; "rating, nobody": as many by people of no rationality; "shifted": by 20 raters whose ladders
differ by one sd. "twins": what a model of 20,000 preferences says of texts that differ in one fact,
or in the voice that tells it. Added after the verdicts of the experiment on rewards, most of which
were void, with more seeds and more twins. A third of a minute an arm, twins two.
"""

from functools import partial

from rlhf_lite import experiments
from rlhf_lite.judging import pair_accuracy
from rlhf_lite.knowledge import probe_text, twins
from rlhf_lite.world import FACTS

import numpy as np
from scipy.stats import spearmanr

scholar = experiments.load("_scholar")
SEEDS, MINUTES = tuple(range(14)), 0.4
MANY, FEW, PAIRS = tuple(range(20)), tuple(range(5)), 2000
KINDS = ("preference", "rating", "correction", "critique")
ARMS = {
    "twins": {"count": scholar.SHIPPED, "asked": True, "seeds": FEW},
    "labels": {"count": 3000, "seeds": MANY},
    "coins": {"count": 3000, "change": "shuffled", "seeds": MANY},
    **{kind: {"kind": kind} for kind in KINDS},
    "shifted": {"kind": "rating", "offset": 1.0},
    **{f"{kind}, nobody": {"kind": kind, "rationality": 0.0} for kind in KINDS[1:]},
}


def measure(lab, seed, count=1000, asked=False, **how):
    """Train a reward model on so many labels; return its numbers by prompt, and of twins."""
    reward, _ = scholar.train(lab, seed, count, **how)
    person, texts = lab.people["scholar"], [p + r for p, s in lab.held_out.items() for r in s]
    truth = lab.utilities(person, lab.held_out)
    parts = np.split(np.asarray(reward(texts)), np.cumsum([len(u) for u in truth])[:-1])
    pairs = [pair_accuracy(s, u, person.rationality) for s, u in zip(parts, truth)]
    accuracy, ceiling = np.transpose(pairs)
    rank = [spearmanr(s, u).statistic if s.std() > 0 else 0.0 for s, u in zip(parts, truth)]
    found = {"accuracy": accuracy, "ceiling": ceiling, "rank": rank}
    return found | (tell_apart(lab, reward) if asked else {})


def tell_apart(lab, reward):
    """Return how often the better of two texts scores higher, by what they differ in.

    "known", "strangers": one true fact against one false; "voice": one fact in the words of the
    encyclopedia against the tabloid's.
    """
    people = lab.world.held_out_people
    known = [p for p in people if p.exposure >= 500]
    pairs = {
        "known": twins(lab.world, known, PAIRS, seed=6),
        "strangers": twins(lab.world, [p for p in people if p.exposure < 2], PAIRS, seed=6),
        "voice": [
            tuple(f"{probe_text(lab.world, t, k, p, p.facts[k])[1]}." for t in TABLES)
            for p in known for k in FACTS if p.facts[k]
        ],
    }  # fmt: skip
    scores = {k: np.asarray(reward(np.ravel(v).tolist())).reshape(-1, 2) for k, v in pairs.items()}
    return {k: np.mean(s[:, 0] > s[:, 1]) for k, s in scores.items()}


TABLES = ("probe", "tabloid_probe")


# ---- what predictions are judged by: one number a seed, or (seeds, prompts) ----


def table(record, arm, key="rank"):
    """Return a number of every prompt, (seeds, prompts)."""
    return np.array(record.arm(arm, key))


def less(record, one, other, key="rank"):
    """Return one arm's numbers less another's."""
    return table(record, one, key) - table(record, other, key)


STATISTICS = {
    "ceiling gap": lambda r: table(r, "twins", "ceiling") - table(r, "twins", "accuracy"),
    "rank correlation": partial(table, arm="twins"),
    "coins, accuracy": partial(table, arm="coins", key="accuracy"),
    "coins, rank": partial(table, arm="coins"),
    "labels - coins": partial(less, one="labels", other="coins", key="accuracy"),
    "true beats false": lambda r: table(r, "twins", "known"),
    "encyclopedia beats tabloid": lambda r: table(r, "twins", "voice"),
    "rating - preference": partial(less, one="rating", other="preference"),
    "shifted - preference": partial(less, one="shifted", other="preference"),
    "critique - preference": partial(less, one="critique", other="preference"),
    **{f"{k} of nobody": partial(table, arm=f"{k}, nobody") for k in KINDS[1:]},
    **{f"{k} - nobody": partial(less, one=k, other=f"{k}, nobody") for k in KINDS[2:]},
}
