"""Which terms of gold fall, by choosing and by PPO, and do both lie on one curve of the KL?

PPO without a penalty on a proxy from 300 labels of people who check one claim in four, on the
people of the held-out pool ("known free") or on strangers ("strange free"); "slow": at a third of
the rate, "penalty": with one; "worst", "asked checked": on a remedied proxy. Each arm also holds
best of n and the exact optimum by the same proxy on the same people. Three minutes an arm.
"""

from functools import partial

from rlhf_lite import hacking, ppo
from rlhf_lite.experiments import load

import numpy as np

strange, remedies = load("_strange"), load("remedies")
LAB, NS = strange.StrangeLab, strange.NS

SEEDS, MINUTES = (20, 21, 22), 3
DIALS = remedies.DIALS
SLOW = {"lr": DIALS["lr"] / 3, "steps": 2 * DIALS["steps"]}
ARMS = {
    "known free": {"case": "known"},
    "known slow": {"case": "known"} | SLOW,
    "known penalty": {"case": "known", "kl_coef": 0.1},
    "strange free": {"case": "strange"},
    "strange penalty": {"case": "strange", "kl_coef": 0.3},
    "strange worst": {"case": "strange", "remedy": "worst"},
    "strange asked": {"case": "strange", "remedy": "asked checked"},
}


def measure(lab, seed, case, remedy="single", kl_coef=0.0, **dials):
    """Train one policy; return gold and its terms step by step, and what choosing does."""
    crowd, proxy = getattr(lab, case), lab.remedy(remedy, seed)
    config = ppo.PPOConfig(kl_coef=kl_coef, seed=seed, **DIALS | dials)
    run = ppo.PPORun(lab.policy(), lab.base, lab.tokenizer, crowd.prompts, proxy, config)
    rows, examples = [], []
    for step in run:
        rows.append(row(lab, step))
        if step.step % 8 == 1 or step.step == config.steps:
            examples.append([step.step, *step.texts[:2]])
    chosen = strange.told(strange.scored(proxy, crowd), crowd)
    return {"history": rows, "examples": examples, "chosen": chosen}


def row(lab, step):
    """Return the numbers of one step; all are of the policy before its update."""
    read = [lab.read(t) for t in step.texts]
    points = np.array([lab.auditor.points(r) for r in read])
    gold = points.sum(1)
    return {
        "score": step.score, "kl": step.kl, "gold": gold.mean(), "terms": points.mean(0),
        "halves": [gold[::2].mean(), gold[1::2].mean()],
        **{k: np.mean([getattr(r, k) for r in read]) for k in ("true", "false", "unsupported")},
        "voices": np.mean([r.voices for r in read], 0),
    }  # fmt: skip


# ---- what predictions are judged by, one number a seed ----


def smooth(curves):
    """Return the means over three steps, (..., steps - 2)."""
    return (curves[..., :-2] + curves[..., 1:-1] + curves[..., 2:]) / 3


def change(record, arm):
    """Return gold of the last three steps less that of the base's samples [points]."""
    return smooth(record.arm(arm, "history", "gold"))[:, -1] - start(record, arm)


def start(record, arm):
    """Return gold of the base's samples of the same people, (seeds,) [points]."""
    return record.arm(arm, "chosen", "gold")[..., 0].mean(1)


def fall(record, arm):
    """Return how far gold fell from its best three steps [points].

    The best is sought on one half of each batch and measured on the other, so that the luck of
    the samples makes none; the mean of both ways. That a path wanders stays in it.
    """
    halves = smooth(np.moveaxis(record.arm(arm, "history", "halves"), -1, 1))  # (seeds, 2, steps)
    peak = halves[:, ::-1].argmax(-1)[..., None]
    return (np.take_along_axis(halves, peak, -1)[..., 0] - halves[..., -1]).mean(1)


def lies(record, arm):
    """Return the change that false claims make less half of gold's own [points]."""
    first = record.arm(arm, "chosen", "terms")[..., 0]
    moved = smooth(np.moveaxis(record.arm(arm, "history", "terms"), 1, -1))[..., -1] - first
    return moved[:, 1] - moved.sum(1) / 2


def beside(record, arm, key):
    """Return "score" or "gold" of PPO less that of best of n, at the bound of the last n's KL."""
    at, theirs = hacking.root_kl(NS)[-1] ** 2, {"score": "proxy", "gold": "gold"}[key]
    chosen = record.arm(arm, "chosen", theirs)[..., -1]
    chosen = chosen.mean(1) if key == "gold" else chosen
    kls = np.maximum.accumulate(smooth(record.arm(arm, "history", "kl")), axis=1)
    ours = smooth(record.arm(arm, "history", key))
    return np.array([np.interp(at, x, y) for x, y in zip(kls, ours)]) - chosen


STATISTICS = {
    **{f"change, {arm}": partial(change, arm=arm) for arm in ARMS},
    **{f"fall, {case} free": partial(fall, arm=f"{case} free") for case in ("known", "strange")},
    "lies - half of the change, strange free": partial(lies, arm="strange free"),
    **{f"PPO - best of {NS[-1]}, {key}": partial(beside, arm="known free", key=key)
       for key in ("score", "gold")},
    **{f"{name} - free, {case}": partial(remedies.more_gold, name=f"{case} {name}",
                                         than=f"{case} free")
       for case, name in (("known", "slow"), ("known", "penalty"), ("strange", "penalty"),
                          ("strange", "worst"), ("strange", "asked"))},
    "penalty - slow, known": partial(remedies.more_gold, name="known penalty", than="known slow"),
}  # fmt: skip


def summary(lab, record):
    """Return the steps of the curves, the coefficients, the voices, and what gold is like."""
    return {"ns": NS, "coefs": strange.COEFS, "voices": lab.world.voices,
            "gold sd": lab.gold.std(1).mean()}  # fmt: skip
