"""Which method gains most on the language model, each at a learning rate of its own?

tune METHOD: four learning rates, the same for every method, on a seed of its own and for half of
the steps, fifteen minutes at most; METHOD: the experiment methods at the rate whose policy had the
largest objective, three seeds, four to seven minutes each. Responses, steps and kl_coef are those
of methods; what is new is a textbook PPO and GRPO as published, each response divided by its own
length.
"""

from functools import partial

from rlhf_lite import direct, experiments, ppo
from rlhf_lite.policies import PolicyError

SEEDS, MINUTES = (0, 1, 2), 5.5
TUNED_ON = 10
RATES = (5e-5, 1e-4, 2e-4, 4e-4)
bed, groups, methods = (experiments.load(name) for name in ("bed", "_groups", "methods"))
METHODS = {
    "PPO": {"kind": ppo.PPORun},
    "PPO, textbook": {"kind": ppo.PPORun, **bed.TEXTBOOK},
    "RLOO, k = 4": {"kind": direct.RLOORun, "group": 4},
    "GRPO": {"kind": groups.LengthRun, "group": 4},
    "GRPO by tokens": {"kind": direct.GRPORun, "group": 4},
    "GRPO, KL in reward": {"kind": direct.GRPORun, "group": 4, "k3_loss": False},
    "rejection": {"kind": direct.RejectionRun, "group": 4},
    "DPO online": {"kind": methods.Told, "group": 2},
    "DPO offline": {"kind": methods.Told, "group": 2, "offline": 30},
}


def tune(lab, seed, method):
    """Return {rate: J after half of the steps}, -99 for a run that stopped."""
    half = {"steps": methods.DIALS["steps"] // 2}
    return {"rates": {f"{lr:g}": reached(lab, seed, half | METHODS[method] | {"lr": lr})
                      for lr in RATES}}  # fmt: skip


def reached(lab, seed, dials):
    """Train by some dials; return J on fresh responses."""
    run = methods.new_run(lab, seed, **methods.DIALS | dials)
    try:
        for _ in run:
            pass
    except PolicyError:
        return -99.0
    return lab.draw(run.policy, lab.reward, methods.FRESH, 1000 + seed).objective(methods.COEF)[0]


def own_rate(tuned):
    """Return the learning rate whose policy had the largest objective."""
    return float(max(tuned["rates"], key=tuned["rates"].get))


def race(lab, seed, method):
    """Train and measure a method at its own rate."""
    lr = own_rate(lab.arm(f"tune {method}", TUNED_ON))
    return methods.measure(lab, seed, **METHODS[method] | {"lr": lr})


ARMS = [
    {f"tune {m}": {"what": tune, "method": m, "seeds": (TUNED_ON,)} for m in METHODS},
    {m: {"what": race, "method": m} for m in METHODS},
]


def measure(lab, seed, what, method):
    return what(lab, seed, method)


def summary(lab, record):
    rates = {m: own_rate(record["arms"][f"tune {m}"][str(TUNED_ON)]) for m in METHODS}
    edges = [m for m, rate in rates.items() if rate in (RATES[0], RATES[-1])]
    return {"coef": methods.COEF, "rates": rates, "at the edge": edges}


PAIRS = {
    "RLOO - PPO": ("RLOO, k = 4", "PPO"),
    "textbook - our PPO": ("PPO, textbook", "PPO"),
    "GRPO - RLOO": ("GRPO", "RLOO, k = 4"),
    "GRPO by length - by tokens": ("GRPO", "GRPO by tokens"),
    "GRPO, KL in reward - RLOO": ("GRPO, KL in reward", "RLOO, k = 4"),
    "DPO online - offline": ("DPO online", "DPO offline"),
}
STATISTICS = {
    f"share of the gain, {name}": partial(methods.ahead, method=one, other=other)
    for name, (one, other) in PAIRS.items()
}
