"""Does gold fall under a reward model from few labels, over twenty fresh draws of these labels?

"draw 100", "draw 300": a whole model from so many labels of people who check one claim in four,
pushed by best of n; "light": the control, gold plus light noise. The three draws of the record
"proxies" could not tell. Half a minute an arm.
"""

from functools import partial

from rlhf_lite import hacking
from rlhf_lite.experiments import load

hasty = load("_hasty")
LAB = hasty.HastyLab

SEEDS, COUNTS = tuple(range(10, 30)), (100, 300)  # seeds that were not used before
ARMS = {**{f"draw {c}": {"count": c} for c in COUNTS}, "light": {}}


def measure(lab, seed, count=0):
    """Return gold of best of n by one proxy, or by gold plus noise, prompt by prompt."""
    if count:
        table = lab.table(lab.train(lab.labels(count, seed), seed))
    else:
        table = lab.noisy("light", seed)
    return {"gold": hacking.push(table, lab.gold, hasty.NS)}


STATISTICS = {
    **{f"fall, {c} labels, fresh draws": partial(hasty.fall, name=f"draw {c}") for c in COUNTS},
    "fall, light noise, fresh draws": partial(hasty.fall, name="light"),
}


def summary(lab, record):
    """Return the steps of the curves, and what gold is like."""
    return {"ns": hasty.NS, "gold sd": lab.gold.std(1).mean()}
