"""How much of the trade-off between helpful and harmless is in the goal, the judge, the optimiser?

Stage 1: "judge KIND", a reward model from 1,000 labels of one kind of labeller, and which of two
base replies it prefers, one that tells and one that refuses. Stage 2: "w W", PPO on W times the
helpful judge and 1 - W times the harmless one; "limit L", the helpful one while a multiplier holds
the share of secrets told at L; "front", what the exact optimum and best-of-n by the same judges do.
"""

from functools import partial

from rlhf_lite.experiments import load
from rlhf_lite.optimum import best_of_n, ess, weights
from rlhf_lite.scores import Lagrangian, Mixture

import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp

by_craft, judges = load("_guild").by_craft, load("_guild_judges")
LAB, KINDS = judges.JudgeLab, judges.KINDS

SEEDS, MINUTES, SIDES = (0, 1, 2), 0.5, ("trained", "held out")
WEIGHTS = (0.0, 0.15, 0.3, 0.4, 0.5, 0.7, 1.0)
KL_COEF, BEST_OF = 0.2, 8
DIALS = {"steps": 20, "kl_coef": KL_COEF, "lr": 2e-4}
ARMS = [
    {"base": {"what": "base", "seeds": (0,)},
     **{f"judge {k}": {"what": "judge", "kind": k} for k in KINDS}},
    {"front": {"what": "front"}, **{f"w {w}": {"what": "policy", "weight": w} for w in WEIGHTS},
     **{f"limit {c}": {"what": "policy", "limit": c} for c in (0.05, 0.2)}},
]  # fmt: skip


def measure(lab, seed, what, **dials):
    """Measure one judge, one policy, or the fronts of one seed's judges."""
    if what == "base":
        return lab.measure(lab.base, 4000) | {"facts": lab.evasion(lab.base, 4001)}
    if what == "judge":
        return lab.judged(seed, **dials)
    return {"front": front, "policy": policy}[what](lab, seed, **dials)


def policy(lab, seed, weight=None, limit=None):
    """Train a policy on two judges, or on one under a limit; measure it on fresh samples."""
    parts = {kind: lab.opened(kind, seed) for kind in ("helpful", "harmless")}
    if limit is None:
        score = Mixture(parts, [weight, 1 - weight])
    else:  # half of the requests are secrets
        told = lab.judge(lambda q: float(q.kind == "secret"))
        score = Lagrangian(parts["helpful"], told, limit / 2, rate=2.0, start=1.0)
    run, history = lab.train(score, seed, **DIALS)
    number = 5000 + 2000 * seed + int(100 * (weight if limit is None else 10 + limit))
    found = lab.measure(run.policy, number)
    return found | {"history": history, "facts": lab.evasion(run.policy, number + 500)}


def front(lab, seed):
    """Return where the exact optima and best-of-n stand, for every weight, on base replies."""
    found = {}
    for side, (questions, texts, told, _) in lab.pool.items():
        pair = [lab.scored(k, seed, questions, texts) for k in ("helpful", "harmless")]
        secret = np.array([q.kind == "secret" for q in questions])
        rows = []
        for w in WEIGHTS:
            learned = w * pair[0] + (1 - w) * pair[1]
            kl = kl_of(learned, KL_COEF)
            gold = told * np.where(secret, 2 * w - 1, w)[:, None]  # w told - (1 - w) secret told
            coef = coef_at(gold, kl)
            chosen = [best_of_n(s, t, BEST_OF) for s, t in zip(learned, told)]
            shares = {"judges": (weights(learned, KL_COEF) * told).sum(1), "best of n": chosen,
                      "gold": (weights(gold, coef) * told).sum(1)}  # fmt: skip
            rows.append({name: by_craft(questions, s, "told") for name, s in shares.items()}
                        | {"kl": kl, "gold kl": kl_of(gold, coef),
                           "samples": np.percentile(ess(learned, KL_COEF), (0, 50))})  # fmt: skip
        found[side] = rows
    return found


def kl_of(scores, coef):
    """Return KL(pi* || pi0), the mean over prompts [nats]."""
    q = weights(scores, coef)
    log_z = logsumexp(scores / coef, axis=1) - np.log(scores.shape[1])
    return ((q * scores).sum(1) / coef - log_z).mean()


def coef_at(scores, kl, low=0.05, high=50.0):
    """Return the kl_coef at which pi* of these scores is `kl` from the base, `low` at the least."""
    if kl_of(scores, low) <= kl:
        return low
    return brentq(lambda c: kl_of(scores, c) - kl, low, high) if kl_of(scores, high) < kl else high


# ---- what predictions are judged by ----


def told_wins(record, kind, side, c):
    """Return how often a judge prefers the reply that tells, (seeds, crafts)."""
    return record.arm(f"judge {kind}", side, f"told wins {c}")


def told(record, arm, side, kind):
    """Return the share of requests of a class that are told, (seeds, crafts)."""
    return record.arm(arm, side, f"told {kind}")


def ideal(record, arm, side):
    """Return the mean of helpful and harmless, 1 in the best corner, (seeds, pairs)."""
    return (1 + told(record, arm, side, "benign") - told(record, arm, side, "secret")) / 2


def of_front(record, name, side):
    """Return the same of a front at w = 0.3: "gold", "judges" or "best of n"."""
    keys = "front", side, WEIGHTS.index(0.3), name
    secret, benign = (record.arm(*keys, f"told {k}") for k in ("secret", "benign"))
    return (1 + benign - secret) / 2


def lost(record, side, part):
    """Return what the "judge" costs on the way from gold to the policy at w = 0.3, or PPO does."""
    judged = of_front(record, "judges", side).mean(1)
    if part == "judge":
        return of_front(record, "gold", side).mean(1) - judged
    return judged - ideal(record, "w 0.3", side).mean(1)


def multiplier_gain(record):
    """Return how many more look-alikes a limit of 0.2 tells than fixed weights, at like leaks."""
    secret, benign = (
        np.stack([told(record, f"w {w}", "trained", k).mean(1) for w in WEIGHTS], 1)
        for k in ("secret", "benign")
    )
    ours = [told(record, "limit 0.2", "trained", k).mean(1) for k in ("secret", "benign")]
    return [b - np.interp(s, np.sort(x), np.maximum.accumulate(y[np.argsort(x)]))
            for s, b, x, y in zip(*ours, secret, benign)]  # fmt: skip


STATISTICS = {
    **{f"{kind}: told wins, {side} {c}": partial(told_wins, kind=kind, side=side, c=c)
       for kind in KINDS for side in SIDES for c in ("secret", "benign")},
    **{f"corner, w 0.3, {side}": partial(ideal, arm="w 0.3", side=side)
       for side in (*SIDES, "new verb")},
    **{f"lost to the {part}, {side}": partial(lost, part=part, side=side)
       for part in ("judge", "optimiser") for side in SIDES},
    "above the front, limit 0.2": multiplier_gain,
    "look-alikes told, w 0.0, held out":
        partial(told, arm="w 0.0", side="held out", kind="benign"),
    "secrets told, limit 0.05": partial(told, arm="limit 0.05", side="trained", kind="secret"),
}  # fmt: skip
