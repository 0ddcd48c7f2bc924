"""Which check sees which fault planted in PPO, and which fault does nobody see?

Twelve faults and "none", eight steps each. A check gives the alarm in a seed where what it looks at
leaves, in any step, the range of the healthy seeds other than its own in that step, widened on
either side by its width or by the check's floor, whichever is more; some checks look at one side
alone. J must not be above J* by more than 0.1, and the mean score of the last two steps must be at
least 0.1 above that of the first. The floors were fixed before the record was made.
"""

from functools import partial

from rlhf_lite.experiments import load
from rlhf_lite.pools import Pool

import numpy as np

planted = load("_faults")
SEEDS, HEALTHY, MINUTES = (0, 1, 2), (0, 1, 2, 3, 4, 5), 1
DIALS = {"kl_coef": planted.Checked.price, "steps": 8, "lr": 1e-4}

ARMS = {
    "fault none": {"seeds": HEALTHY},
    "fault flipped sign": {"kl_coef": -DIALS["kl_coef"]},
    "fault score at the padding": {"kind": planted.Padded},
    "fault scores whitened": {"kind": planted.Whitened},
    "fault shifted by one": {"kind": planted.Shifted},
    "fault moving reference": {"kind": planted.Moving},
    "fault filtered": {"kind": planted.Filtered},
    "fault temperature 0.7": {"kind": planted.Cooled},
    "fault positions of the padding": {"kind": planted.Misplaced},
    "fault dropout": {"kind": planted.Dropped},
    "fault advantages late": {"kind": planted.Late},
    "fault advantages reversed": {"kind": planted.Reversed},
    "fault wild rate": {"lr": 3e-3},
}
FAULTS = [name.removeprefix("fault ") for name in ARMS][1:]


def measure(lab, seed, kind=planted.Checked, most=None, **change):
    """Train a policy with a fault, `most` steps or all; return its history."""
    dials = DIALS | change | {"seed": seed}
    return {"dials": dials} | planted.watch(lab.ppo(lab.reward, kind, **dials), most)


def summary(lab, record):
    """Return the height of J*."""
    return {"best": Pool.read("training").at(DIALS["kl_coef"]).objective}


# ---- the checks ----


def beside(key):
    """Return how far an estimate of the KL is from the exact one, in shares of 1 + KL."""
    return lambda row: (row[key] - row["kl"]) / (1 + row["kl"])


# What is looked at, the floor of the margin, and on which sides (-1 below, 1 above).
BANDS = {
    "drawn = recomputed": (lambda row: row["ratio_gap"], 0.002, (1,)),
    "first ratio is 1": (lambda row: row["first_clip_fraction"], 0.002, (1,)),
    "k1 = exact": (beside("kl_k1"), 0.05, (-1, 1)),
    "k3 = exact": (beside("kl_k3"), 0.05, (-1, 1)),
    "entropy": (lambda row: row["entropy"], 0.5, (-1, 1)),
    "share ended": (lambda row: row["ended"], 0.05, (-1, 1)),
    "size of the KL": (lambda row: row["kl"], 0.1, (-1, 1)),
    "gradient": (lambda row: row["cosine"], 0.02, (-1,)),
}
CHECKS = [*BANDS, "J below J*", "score rises"]


def alarms(record, history, seed=None):
    """Return {check: the first step in which it gives the alarm, 0 where it never does}.

    history: list of dicts, a step each; seed: the healthy run that does not count.
    """
    healthy = [run["history"] for s, run in record["arms"]["fault none"].items() if s != str(seed)]
    found = {name: _outside(history, healthy, *band) for name, band in BANDS.items()}
    above = [row["step"] for row in history if row["objective"] > record["best"] + 0.1]
    scores = [row["score"] for row in history]
    flat = np.mean(scores[-2:]) < scores[0] + 0.1
    return found | {"J below J*": (above or [0])[0], "score rises": len(scores) * bool(flat)}


def _outside(history, healthy, look, floor, sides):
    """Return the first step that is outside the widened range of healthy histories, or 0."""
    for row, *theirs in zip(history, *healthy):
        usual = [look(other) for other in theirs]
        room = max(max(usual) - min(usual), floor)
        if any(side * (look(row) - side * max(side * u for u in usual)) > room for side in sides):
            return row["step"]
    return 0


def matrix(record):
    """Return {(fault, check): the first step of the alarm, one a seed}."""
    found = {}
    for fault in ("none", *FAULTS):
        for seed, run in record["arms"][f"fault {fault}"].items():
            for check, step in alarms(record, run["history"], seed).items():
                found.setdefault((fault, check), []).append(step)
    return found


def seen(record, faults=FAULTS, checks=CHECKS):
    """Return how many pairs of these faults and checks give the alarm, (seeds,)."""
    table = matrix(record)
    return np.sum([np.array(table[f, c]) > 0 for f in faults for c in checks], 0)


def unseen(record):
    """Return how many faults no check sees, (seeds,)."""
    return sum(seen(record, [fault]) == 0 for fault in FAULTS)


SAMPLERS = ("filtered", "temperature 0.7")
STATISTICS = {
    **{f"faults seen by {check}": partial(seen, checks=[check]) for check in CHECKS},
    "samplers seen by k1 = exact": partial(seen, faults=SAMPLERS, checks=["k1 = exact"]),
    "samplers seen by gradient": partial(seen, faults=SAMPLERS, checks=["gradient"]),
    "checks that see scores whitened": partial(seen, faults=["scores whitened"]),
    "faults unseen": unseen,
    "alarms without a fault": partial(seen, faults=["none"]),
}
