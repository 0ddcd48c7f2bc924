"""How many samples buy which share of the gain, and does another method buy more?

tune: four times the budget of the record "methods" as more steps, as larger batches, or as both,
seed 10. PPO x N: N times the budget by the best rule. Then other methods, and a critic that reads
the reward model's trunk, on one budget. All are read on the *same* responses. More ways to spend it
are tried by the experiment spent.
"""

from functools import partial

from rlhf_lite import direct, ppo
from rlhf_lite.experiments import load
from rlhf_lite.policies import PolicyError
from rlhf_lite.world import draw_prompts

import numpy as np

price, spending = load("_price"), load("_spending")
LAB, COEF = price.PriceLab, price.COEF

SEEDS, MINUTES = (0, 1, 2), 3
FRESH, TUNED_ON, BUDGET = 24, 10, 7560
SPLITS = {"steps": 1.0, "both": 0.5, "batch": 0.0}  # the power of the budget that goes to steps
TIMES = (0.25, 0.5, 1, 2, 4, 8, 17)
FITTED, LONGEST = TIMES[:4], TIMES[-1]


def dials(times, power):
    """Return steps, batch and rate for so many times the budget.

    The rate grows like the square root of the batch, so that a response moves the policy as far.
    """
    samples = 84 * round(3 * times ** (1 - power))
    lr = 1e-4 * (samples / 252) ** 0.5
    return {"steps": round(BUDGET * times / samples), "samples": samples, "lr": lr}


def train(lab, seed, kind=ppo.PPORun, trunk=False, wordings=("plain",), keep="",
          probed=True, **own):  # fmt: skip
    """Train a policy by a method; return its numbers."""
    asked = sorted(set(draw_prompts(lab.world, 84 * len(wordings), wordings=wordings)))
    own = {"steps": 30, "samples": 252, "lr": 1e-4, "kl_coef": COEF} | own
    config = (ppo.PPOConfig if kind is ppo.PPORun else direct.DirectConfig)(**own, seed=seed)
    more = {"trunk": lab.reward.model} if trunk else {}
    run = kind(lab.policy(), lab.base, lab.tokenizer, asked, lab.reward, config, **more)
    stopped, seconds = "", []
    try:
        seconds = [step.seconds for step in run]
    except PolicyError as error:
        stopped = str(error)[:200]
    if keep:
        lab.keep_policy(keep, seed, run.policy)
    found = {"dials": own, "prompts": len(asked), "stopped": stopped, "training": sum(seconds)}
    return found | look(lab, run.policy, seed, probed and seed != TUNED_ON)


def by_rule(lab, seed, times):
    """Train by PPO on so many times the budget, split as the tuning says."""
    arms = {name: lab.arm(f"tune {name}", TUNED_ON)["objective"] for name in SPLITS}
    power = SPLITS[max(arms, key=arms.get)]
    keep = "PPO" if times == 1 else ""
    return train(lab, seed, keep=keep, **dials(times, power))


def look(lab, policy, seed, probed):
    """Measure a policy on fresh samples and, if asked, read it on the probe."""
    drawn = lab.draw(policy, lab.reward, FRESH, 3000 + seed)
    objective, error = drawn.objective(COEF)
    gold = lab.gold("scholar")([t for row in drawn.texts for t in row])
    return {
        "objective": objective, "objective_se": error, "score": float(drawn.scores.mean()),
        "kl": drawn.kl(), "gold": float(gold.mean()),
        **price.where_it_goes(drawn.scores, drawn.logprobs - drawn.ref_logprobs),
        "probe": np.round(lab.on_probe(policy), 2).ravel() if probed else None,
    }  # fmt: skip


ARMS = [
    {f"tune {name}": {"what": train, **dials(4, power), "seeds": (TUNED_ON,),
                      "keep": "tune" if name == "both" else ""} for name, power in SPLITS.items()},
    {f"PPO x {n}": {"what": by_rule, "times": n, "seeds": (0,) if n == LONGEST else SEEDS}
     for n in TIMES},
    {
        "RLOO": {"what": train, "kind": direct.RLOORun, "group": 4},
        "target": {"what": train, "kind": spending.TargetRun, "group": 4},
        "replay": {"what": train, "kind": spending.ReplayRun, "group": 3, "lr": 5e-5},
        "reweighted": {"what": train, "kind": spending.ReweightedRun, "group": 3,
                       "steps": 90, "offline": 30},
        "trunk": {"what": train, "trunk": True},
    },
]  # fmt: skip


def measure(lab, seed, what, **arm):
    """Measure an arm."""
    return what(lab, seed, **arm)


def summary(lab, record):
    """Return what the probe was paid, (P, PROBED) [nats], and how many responses a size has."""
    scores = lab.reward(lab.probe[1]).view(-1, price.PROBED) / COEF
    sizes = {}
    for n in TIMES:
        own = record.arm(f"PPO x {n}", "dials", seed=0)
        sizes[str(n)] = own["steps"] * own["samples"]
    return {"coef": COEF, "paid": np.round(scores, 2), "responses": sizes, "fitted": FITTED}


OTHERS = ("RLOO", "target", "replay", "reweighted", "trunk")
STATISTICS = {
    "exponent": lambda record: price.law(record)[0],
    **{f"gap x {n} / law": partial(price.beyond, times=n) for n in TIMES[4:]},
    **{f"share, {name} - PPO": partial(price.ahead, name=name) for name in OTHERS},
    "residuals shared by two seeds": price.shared,
}
