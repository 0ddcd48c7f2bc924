"""How many samples buy which share of the gain, where does the rest go, and what would help?

tune: four times the budget of the record "methods" as more steps, as larger batches, or as both,
seed 10. PPO x N: N times the budget by the best rule. Then other ways to spend one budget: methods,
the reward model's trunk, four times the prompts. All are read on the *same* responses. average: the
mean of three seeds' weights. capacity: a policy taught its own responses; could it hold them?
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


def train(lab, seed, kind=ppo.PPORun, trunk=False, wordings=("plain",), keep="", **own):
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
    return found | look(lab, run.policy, seed)


def by_rule(lab, seed, times):
    """Train by PPO on so many times the budget, split as the tuning says."""
    arms = {name: lab.arm(f"tune {name}", TUNED_ON)["objective"] for name in SPLITS}
    power = SPLITS[max(arms, key=arms.get)]
    keep = "PPO" if times == 1 else ""
    return train(lab, seed, keep=keep, **dials(times, power))


def look(lab, policy, seed):
    """Measure a policy on fresh samples and read it on the probe."""
    drawn = lab.draw(policy, lab.reward, FRESH, 3000 + seed)
    objective, error = drawn.objective(COEF)
    gold = lab.gold("scholar")([t for row in drawn.texts for t in row])
    return {
        "objective": objective, "objective_se": error, "score": float(drawn.scores.mean()),
        "kl": drawn.kl(), "gold": float(gold.mean()),
        **price.where_it_goes(drawn.scores, drawn.logprobs - drawn.ref_logprobs),
        "probe": None if seed == TUNED_ON else np.round(lab.on_probe(policy), 2).ravel(),
    }  # fmt: skip


def average(lab, seed):
    """Measure the mean of the weights of all seeds' policies."""
    found = [lab.kept_policy("PPO", s).state_dict() for s in SEEDS]
    policy = lab.policy()
    policy.load_state_dict({k: sum(w[k] for w in found) / len(found) for k in found[0]})
    return look(lab, policy, seed)


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
        "trunk, lambda 0.95": {"what": train, "trunk": True, "lam": 0.95},
        "4 x prompts": {"what": train, "wordings": ("plain", "hero", "famous", "good")},
        "rate / 2": {"what": train, "lr": 5e-5},
        "average": {"what": average, "seeds": (0,)},
        "capacity": {"what": price.capacity},
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


SIDES = ("own", "held out")
OTHERS = ("RLOO", "target", "replay", "reweighted", "trunk", "trunk, lambda 0.95", "4 x prompts",
          "rate / 2")  # fmt: skip
STATISTICS = {
    "exponent": lambda record: price.law(record)[0],
    **{f"gap x {n} / law": partial(price.beyond, times=n) for n in TIMES[4:]},
    **{f"share, {name} - PPO": partial(price.ahead, name=name) for name in OTHERS},
    "share, average - PPO": partial(price.ahead, name="average"),
    "residuals shared by two seeds": price.shared,
    **{f"left by regression, {side}": partial(price.held, side=side) for side in SIDES},
}
