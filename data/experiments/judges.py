"""Where do judges lean: to what is shown first, to what is their own, to what the asker believes?

"order P" trains a judge of two texts on labels of people who choose the first one P of the time;
"notes" lets the base model grade by its readers' notes documents of the corpus, its own and those
of a policy trained by PPO; "asker S" trains a policy for raters who agree with whoever asks, with
strength S. A minute an arm.
"""

from functools import partial

from rlhf_lite.experiments import load

import numpy as np

askers = load("_askers")
LAB = askers.AskerLab
KINDS = {"order": load("_pairwise"), "notes": load("_graders"), "asker": askers}

SEEDS, MINUTES = (0, 1, 2), 1.2
ARMS = {
    **{f"order {p:g}": {"what": "order", "first": p} for p in (0.5, 0.55, 0.65)},
    "notes": {"what": "notes"},
    **{f"asker {s:g}": {"what": "asker", "strength": s} for s in (0, 0.25, 0.5, 1)},
}


def measure(lab, seed, what, **dials):
    """Measure one kind of judge."""
    return KINDS[what].measure(lab, seed, **dials)


# ---- what predictions are judged by, one number a seed ----


def first_chosen(record, arm):
    """Return how often the judge takes the first, over both orders, less how often people did."""
    both = np.stack([record.arm(arm, "there"), record.arm(arm, "back")])
    return (both > 0.5).mean((0, 2)) - float(arm.split()[1])


def inconsistent(record, arm):
    """Return how often the same side is taken whichever text stands there."""
    there, back = (record.arm(arm, k) > 0.5 for k in ("there", "back"))
    return (there == back).mean(1)


def right(record, arm, swapped=False):
    """Return how often the judge takes the better one, asked once or, with ties half, in turns."""
    there, back = record.arm(arm, "there"), record.arm(arm, "back")
    better = record.arm(arm, "gap") > 0
    lead = (there - back if swapped else there - 0.5).round(6)
    return np.where(lead == 0, 0.5, (lead > 0) == better).mean(1)


def flattered(record, kind):
    """Return judge - exact on texts of a kind, less the same on the corpus."""
    gaps = [[np.mean(np.subtract(record.arm("notes", k, "judge", seed=s),
                                 record.arm("notes", k, "exact", seed=s)))
             for k in (kind, "corpus")] for s in record.seeds("notes")]  # fmt: skip
    return -np.diff(gaps)[:, 0]


def agreed(record, arm, group="strangers"):
    """Return how much likelier yes to a wrong belief is after PPO than before, (seeds, people)."""
    end, start = (record.arm(arm, when, group, "wrong") for when in ("end", "start"))
    return end - start


STATISTICS = {
    **{f"first - labels, {arm}": partial(first_chosen, arm=arm) for arm in ARMS if "order" in arm},
    **{f"inconsistent, {arm}": partial(inconsistent, arm=arm) for arm in ARMS if "order" in arm},
    "right, order 0.65, in turns - once": lambda r: (
        right(r, "order 0.65", True) - right(r, "order 0.65")
    ),
    **{f"flattered, {kind}": partial(flattered, kind=kind) for kind in ("own", "policy")},
    **{f"agreed, {arm}, {group}": partial(agreed, arm=arm, group=group)
       for arm in ARMS if "asker" in arm for group in askers.GROUPS},
}  # fmt: skip
