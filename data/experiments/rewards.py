"""What does a label of each kind teach a reward model, and what does that model look at?

"preference 300": so many labels of a kind. "offset 1.0": ratings by 20 raters whose ladders are
shifted with an sd of one sd of the utility. "knob 0.3 rating": by people of so much of the
calibrated rationality. "whole": corrections not cut behind the change. "rivals 1000": against
another edit instead of the original (added after the verdicts). "shuffled": the control. "extras":
what else the largest model is asked. The ruler is the scholar's utility of what is said about
people whom no label is about. 20,000 labels take three minutes, 1,000 half a minute.
"""

from functools import partial

from rlhf_lite import experiments, knowledge
from rlhf_lite.rewards import KINDS
from rlhf_lite.sampling import respond
from rlhf_lite.world import draw_prompts

import numpy as np
from scipy.stats import linregress

scholar = experiments.load("_scholar")
SEEDS = (0, 1, 2)
SIZES, SHIPPED = (30, 100, 300, 1000, 3000, 10_000), scholar.SHIPPED
KIND_SIZES, KNOB_SIZE = (100, 300, 1000, 3000), 300
TURNED = [(x, k) for x in (0.0, 0.3, 3.0) for k in KINDS]
ARMS = {
    f"preference {SHIPPED}": {"count": SHIPPED},
    "extras": {"count": SHIPPED, "extras": True},
    **{f"preference {n}": {"count": n} for n in SIZES[::-1]},
    **{f"{k} {n}": {"kind": k, "count": n} for k in KINDS[1:] for n in KIND_SIZES},
    **{f"offset {x}": {"kind": "rating", "offset": x} for x in (0.5, 1.0, 2.0)},
    "whole": {"kind": "correction", "change": "whole"},
    "shuffled": {"count": 3000, "change": "shuffled"},
    **{f"knob {x} {k}": {"kind": k, "count": KNOB_SIZE, "rationality": x} for x, k in TURNED},
    "density ratio": {"count": 0, "seeds": (0,)},
    "rivals 1000": {"kind": "correction", "change": "rivals"},
}


def measure(lab, seed, count=1000, extras=False, **how):
    """Train a reward model on so many labels and measure it, unless there are none."""
    if not count:
        return {"error": density_ratio_error(lab)}
    reward, seconds = scholar.train(lab, seed, count, **how)
    if extras:
        away = scholar.ruler(lab, reward, reworded(lab))
        return {"twins": twins(lab, reward), "other wordings": away}
    return scholar.ruler(lab, reward, lab.held_out) | {"seconds": seconds, "labels": count}


def reworded(lab):
    """Return responses in wordings that no label was asked in."""
    wordings = ("hero", "so_called", "learned", "citizen")
    prompts = [q for q in draw_prompts(lab.world, 24, 7, True, wordings) for _ in range(32)]
    said = respond(lab.base, lab.tokenizer, prompts, seed=77, batch=192)
    return experiments.by_prompt(prompts, said)


def twins(lab, reward):
    """Return how often the true one of two texts that differ in one fact scores higher."""
    found = {}
    for name, (low, high) in {"known": (500, np.inf), "strangers": (0, 1)}.items():
        people = [p for p in lab.world.held_out_people if low <= p.exposure <= high]
        pairs = knowledge.twins(lab.world, people, 300, seed=5)
        true, false = np.asarray(reward(np.ravel(pairs).tolist())).reshape(-1, 2).T
        found[name] = {"wins": np.mean(true > false), "gap": np.mean(true - false), "n": len(true)}
    return found


def density_ratio_error(lab):
    """Return the largest |fitted logit - (lambda u - log Z)| of 48 responses to one prompt.

    The base draws each of them alike, experts choose among them, and a classifier with one free
    logit a response minimises the exact expected loss by Newton steps.
    """
    person, (prompt, said) = lab.people["scholar"], next(iter(lab.held_out.items()))
    u = lab.utilities(person, {prompt: sorted(set(said))[:48]})[0]
    expert, base, logit = person.choice_probs(u), 1 / len(u), np.zeros(len(u))
    for _ in range(60):
        p = 1 / (1 + np.exp(-logit))
        gradient, curvature = (expert + base) * p - expert, (expert + base) * p * (1 - p)
        logit -= np.clip(gradient / curvature, -1, 1)
    worth = person.rationality * u
    return np.abs(logit - (worth - np.log(np.mean(np.exp(worth))))).max()


def value(record, arm, *, less=None, keys=("rank",)):
    """Return a number of an arm, less that of another, one a seed."""
    return record.arm(arm, *keys) - (record.arm(less, *keys) if less else 0)


def ceiling_gap(record):
    """Return how far the largest model is below the accuracy that label noise allows."""
    top = f"preference {SHIPPED}"
    return record.arm(top, "ceiling") - record.arm(top, "accuracy")


def points_per_doubling(record):
    """Return the slope of accuracy over log2 of the labels, from 100 on [points]."""
    y = 100 * np.array([record.arm(f"preference {n}", "accuracy") for n in SIZES[1:]])
    return [linregress(np.log2(SIZES[1:]), of_seed).slope for of_seed in y.T]


def demonstration_behind(record):
    """Return what the best of 16 gains by demonstrations, less by the worst other kind [points]."""
    best = {k: record.arm(f"{k} 1000", "best16") for k in KINDS}
    return best.pop("demonstration") - np.min([*best.values()], axis=0)


STATISTICS = {
    "ceiling gap": ceiling_gap,
    "shuffled accuracy": partial(value, arm="shuffled", keys=("accuracy",)),
    "rank correlation": partial(value, arm=f"preference {SHIPPED}"),
    "shuffled rank correlation": partial(value, arm="shuffled"),
    "points per doubling": points_per_doubling,
    "true beats false": partial(value, arm="extras", keys=("twins", "known", "wins")),
    "true beats false, strangers": partial(
        value, arm="extras", keys=("twins", "strangers", "wins")
    ),
    "correction - preference": partial(value, arm="correction 1000", less="preference 1000"),
    "critique - preference": partial(value, arm="critique 1000", less="preference 1000"),
    "rating - preference, one scale": partial(value, arm="rating 1000", less="preference 1000"),
    "rating - preference, shifted scales": partial(value, arm="offset 1.0", less="preference 1000"),
    "correction, no rationality": partial(value, arm="knob 0.0 correction"),
    "critique, no rationality": partial(value, arm="knob 0.0 critique"),
    "rating, no rationality": partial(value, arm="knob 0.0 rating"),
    "demonstration - next worst, best of 16": demonstration_behind,
    "density ratio error": partial(value, arm="density ratio", keys=("error",)),
    "located - whole": partial(value, arm="correction 1000", less="whole"),
}


def summary(lab, record):
    sizes = {"sizes": SIZES, "kind sizes": KIND_SIZES, "shipped": SHIPPED, "knob size": KNOB_SIZE}
    return sizes | {"spread": scholar.spread(lab)}
