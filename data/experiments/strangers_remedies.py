"""Which remedy helps where a proxy hurts, on people of whom the base model knows nothing?

Best of n, on strangers and on the people of the pool, by proxies from 300 labels each: "single",
the disease; "five": five such, "alone", or by their mean, their worst, their mean less variance;
"checked", "asked busy", "asked checked", "length" as in `_strange`; "coin" and "light", gold plus
light noise, the controls; "gold": the parser itself, for what there is to gain. Two minutes an arm.
"""

from functools import partial

from rlhf_lite import hacking, proxies
from rlhf_lite.experiments import load

import numpy as np

strange = load("_strange")
LAB, NS, COEFS = strange.StrangeLab, strange.NS, strange.COEFS

SEEDS, MINUTES = (10, 11, 12, 13, 14), 1.5  # no label or model of before
JOINS = ("alone", *proxies.ENSEMBLES)
CASES = ("known", "strange")
TRUSTED = 1.0  # the KL coefficient at which the exact optimum meets best of n
ARMS = [
    {"gold": {"kind": "gold", "seeds": (0,)}},
    {k: {"kind": k} for k in ("single", "five", "checked", "asked busy", "asked checked",
                              "length", "coin", "light")},
]  # fmt: skip


def measure(lab, seed, kind):
    """Push one proxy, or five, on both crowds; return what it does to gold and its terms."""
    if kind == "five":
        members = [lab.member(seed, m) for m in range(strange.MEMBERS)]
        return {case: joined(getattr(lab, case), members) for case in CASES}
    if kind in ("gold", "light"):
        spread = (lab.noisy("light", seed) - lab.gold).std() if kind == "light" else 0.0
        return {case: noised(getattr(lab, case), spread, seed) for case in CASES}
    proxy = lab.remedy(kind, seed)
    found = {}
    for case in CASES:
        crowd = getattr(lab, case)
        found[case] = strange.told(strange.scored(proxy, crowd), crowd)
    return found


def noised(crowd, spread, seed):
    """Return what gold, plus noise of this spread, does to a crowd."""
    gold = crowd.points.sum(-1)
    noise = np.random.default_rng(91_000 + seed).normal(0, 1, gold.shape)
    return strange.told(gold + spread * noise, crowd)


def joined(crowd, members):
    """Return curves of gold, (P, K), by five proxies joined, and the mean over each alone."""
    tables = np.stack([strange.scored(m, crowd) for m in members])
    gold = crowd.points.sum(-1)
    found = {"alone": np.mean([hacking.push(t, gold, NS) for t in tables], 0)}
    for how in proxies.ENSEMBLES:
        table = proxies.ensemble(tables.reshape(len(tables), -1), how)
        found[how] = hacking.push(np.asarray(table).reshape(gold.shape), gold, NS)
    return {how: {"gold": curves} for how, curves in found.items()}


# ---- what predictions are judged by, (seeds, prompts) [points] ----


def change(record, *keys):
    """Return gold of best of the last n less gold of the base; nothing is sought, so nothing won.

    keys: the arm, the crowd, and of "five" how they are joined.
    """
    gold = record.arm(*keys, "gold")
    return gold[..., -1] - gold[..., 0]


def better(record, one, other):
    """Return by how much one remedy changes gold for the better than another; both as keys."""
    return change(record, *one) - change(record, *other)


def penalty(record, arm="single", crowd="strange"):
    """Return gold of the exact optimum at TRUSTED less that of best of n at equal KL."""
    at, d2 = COEFS.index(TRUSTED), hacking.root_kl(NS) ** 2
    chosen = record.arm(arm, crowd, "gold")
    kl, gold = (record.arm(arm, crowd, "tilted", key)[:, at] for key in ("kl", "gold"))
    there = [[np.interp(x, d2, g) for x, g in zip(*rows)] for rows in zip(kl, chosen)]
    return gold - np.array(there)


def lies(record, arm="single", crowd="strange"):
    """Return the change that false claims make less half of gold's own, (seeds,)."""
    terms = record.arm(arm, crowd, "terms")
    moved = terms[..., -1] - terms[..., 0]
    return moved[:, 1] - moved.sum(1) / 2


SINGLE = [k for k in ARMS[1] if k != "five"]
STATISTICS = {
    **{f"change, {k}, {c}": partial(lambda r, k, c: change(r, k, c), k=k, c=c)
       for k in SINGLE for c in CASES},
    **{f"{k} - single, {c}": partial(better, one=(k, c), other=("single", c))
       for k in SINGLE[1:-1] for c in CASES},
    **{f"{how} - alone, {c}": partial(better, one=("five", c, how), other=("five", c, "alone"))
       for how in proxies.ENSEMBLES for c in CASES},
    "penalty - best of n at equal KL": penalty,
    "lies - half of the change": lies,
}  # fmt: skip


def summary(lab, record):
    """Return the steps of the curves, and how many labels and people there are."""
    return {"ns": NS, "coefs": COEFS, "labels": strange.FEW, "people": len(lab.strange.prompts),
            "labelled people": len(lab.asked)}  # fmt: skip
