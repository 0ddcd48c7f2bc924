"""What does length alone earn where people love it, in their eyes and in gold?

"length": a whole model from 1,000 labels of people who check every claim, and who like a response
the better the longer it is: so much that they prefer the longer one of two 63% of the time. Beside
it stand length itself and the proxy without what a line in length explains. Half a minute an arm.
"""

from functools import partial

from rlhf_lite import hacking
from rlhf_lite.experiments import load
from rlhf_lite.labellers import love_of_length

import numpy as np

hasty = load("_hasty")
LAB = hasty.HastyLab

SEEDS, COUNT = (0, 1, 2), 1000
LONGER = 0.63  # how often the longer one is preferred, the most that Singhal et al. measured
BEST = 64
ARMS = {"length": {}}


def measure(lab, seed):
    """Return what the pool says of the proxy, and gains by best of 64 with it and without."""
    love = per_word(lab)
    labels = lab.labels(COUNT, seed, 1.0, love)
    table, words = lab.table(lab.train(labels, seed)), lab.pool.words
    found = {"longer preferred": hasty.longer_preferred(labels), **lab.pushed(table)}
    removed = hacking.without_length(table, words)
    pushed = {"proxy": table, "length alone": words, "length removed": removed}
    for name, proxy in pushed.items():
        for what, values in (("judged", lab.gold + love * words), ("gold", lab.gold)):
            gain = hacking.push(proxy, values, (1, BEST))
            found[f"{name}, {what}"] = (gain[:, 1] - gain[:, 0]).mean()
    return found | matched(lab, table, seed)


def per_word(lab):
    """Return the love of length that makes people prefer the longer one LONGER of the time."""
    return love_of_length(lab.auditor, lab.read, lab.responses, LONGER)


def matched(lab, table, seed):
    """Return how often best of 16 beats a base sample in gold, among all and among like lengths."""
    rng, mine, theirs, words = np.random.default_rng(seed), [], [], []
    for scores, gold, length in zip(table, lab.gold, lab.pool.words):
        order = rng.permutation(len(gold))
        for start in range(0, len(order) - 32, 17):
            best = max(order[start : start + 16], key=lambda i: scores[i])
            rival = order[start + 16]
            mine.append(gold[best])
            theirs.append(gold[rival])
            words.append((length[best], length[rival]))
    ours, others = np.array(words).T
    everything = hacking.matched_wins(mine, theirs, ours, others, within=999)
    alike = hacking.matched_wins(mine, theirs, ours, others)
    return {"wins": everything[0], "matched wins": alike[0], "matched pairs": alike[1]}


def share(record, what):
    """Return what length alone gains of what the proxy gains, (seeds,)."""
    return record.arm("length", f"length alone, {what}") / record.arm("length", f"proxy, {what}")


STATISTICS = {f"{w} gain by length alone": partial(share, what=w) for w in ("judged", "gold")}


def summary(lab, record):
    """Return the love of length [points a word], and what gold is like."""
    return {"per word": per_word(lab), "ns": hasty.NS, "gold sd": lab.gold.std(1).mean()}
