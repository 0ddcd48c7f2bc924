"""What else could close the gap: other prompts, a lower rate, an average, a larger network?

PPO: the runs of the experiment price at one budget again, kept. Then lambda 0.95 over a critic that
reads the reward model's trunk, four times the prompts and half the rate on the same budget.
average: the mean of three seeds' weights. capacity: a policy taught its own responses by
regression; could the network hold them? Two to five minutes an arm.
"""

from functools import partial

from rlhf_lite.experiments import load

price = load("price")
helper = price.price

LAB, SEEDS, MINUTES = price.LAB, price.SEEDS, 5
OTHERS = ("trunk, lambda 0.95", "4 x prompts", "rate / 2")
SIDES = ("own", "held out")


def average(lab, seed):
    """Measure the mean of the weights of all seeds' policies."""
    found = [lab.kept_policy("PPO", s).state_dict() for s in SEEDS]
    policy = lab.policy()
    policy.load_state_dict({k: sum(w[k] for w in found) / len(found) for k in found[0]})
    return price.look(lab, policy, seed, probed=False)


train = partial(price.train, probed=False)
ARMS = [
    {"PPO x 1": {"what": train, "keep": "PPO"}},
    {
        "trunk, lambda 0.95": {"what": train, "trunk": True, "lam": 0.95},
        "4 x prompts": {"what": train, "wordings": ("plain", "hero", "famous", "good")},
        "rate / 2": {"what": train, "lr": 5e-5},
        "average": {"what": average, "seeds": (0,)},
        "capacity": {"what": helper.capacity},
    },
]


def measure(lab, seed, what, **arm):
    """Measure an arm."""
    return what(lab, seed, **arm)


STATISTICS = {
    **{f"share, {name} - PPO": partial(helper.ahead, name=name) for name in OTHERS},
    "share, average - PPO": partial(helper.ahead, name="average"),
    **{f"left by regression, {side}": partial(helper.held, side=side) for side in SIDES},
}
