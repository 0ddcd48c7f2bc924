"""What does offline DPO do to answers that stand in no pair?

pairs thin, pairs rich: DPO at its own rate on one batch of 128 pairs, or on 40 of them, at equal
steps, about 20 seconds. On the testbed of the experiment bed, whose record must be there.
"""

from functools import partial

from rlhf_lite import experiments, records, testbed

import numpy as np

SEEDS = (0, 1, 2, 3, 4)
ARMS = {"pairs thin": {"batches": 1}, "pairs rich": {"batches": 40}}
BEYOND, CHOSEN, UNSEEN = 1, 5, 7  # columns of a curve
bed = experiments.load("bed")


def measure(lab, seed, batches):
    """Train at the rate of the record bed; return what `follow` does."""
    lr = records.read("bed")["rates"]["DPO offline"]
    return follow(bed.new_run("DPO offline", seed, lr, offline=batches), batches)


def follow(run, batches, task=0, every=10):
    """Train; return {"pairs": how many, "curve": a row every few steps, "best": of pi*}.

    A row: step, what `bed.look` says, the mean log pi of chosen and of rejected answers [nats] and
    the probability of all that stand in no pair; "best": the last three of pi*.
    """
    here = bed.bed(task)
    chosen, rejected = places(run, batches, task)
    unseen = np.ones(here.scores.shape, bool)
    unseen[chosen] = unseen[rejected] = False

    def told(ours):
        mass = float((np.exp(ours) * unseen).sum(1).mean())
        return [float(ours[chosen].mean()), float(ours[rejected].mean()), mass]

    def row(step):
        ours = bed.logprobs(run.policy)
        return [step, *bed.look(ours, task), *told(ours)]

    rows = [row(0), *(row(step.step) for step in run if step.step % every == 0)]
    best = testbed.optimal_logprobs(here.base_logprobs, here.scores, bed.COEF)
    return {"pairs": len(chosen[0]), "curve": rows, "best": told(best)}


def places(run, batches, task=0):
    """Return where chosen and rejected answers stand in a table (P, S), two pairs of arrays."""
    sides = [], []
    for run.step in range(batches):
        batch = run.rollout()
        found = [bed.bed(task).place(text) for text in batch.texts]
        for side, rows in zip(sides, run.pairs(batch)):
            side += [found[row] for row in rows]
    run.step = 0
    return [tuple(np.array(side).T) for side in sides]


def end(record, arm, column=BEYOND):
    """Return a number of the last row."""
    return record.arm(arm, "curve", -1, column)


def further(record):
    """Return how much further from pi* thin pairs end than rich ones [nats]."""
    return end(record, "pairs thin") - end(record, "pairs rich")


def gained(record, column):
    """Return how much a number of thin pairs grew from the first row to the last."""
    return end(record, "pairs thin", column) - record.arm("pairs thin", "curve", 0, column)


def beyond_best(record, column):
    """Return how much more thin pairs end with than pi* has."""
    return end(record, "pairs thin", column) - record.arm("pairs thin", "best", column - CHOSEN)


STATISTICS = {
    "KL to pi*, thin - rich pairs": further,
    "KL to pi*, thin pairs": partial(end, arm="pairs thin"),
    "log pi of chosen gained, thin pairs": partial(gained, column=CHOSEN),
    "unseen mass gained, thin pairs": partial(gained, column=UNSEEN),
}
