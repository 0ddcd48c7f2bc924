"""Which methods reach the optimum over several tasks, each at a rate of its own?

tune METHOD: six learning rates, the same for every method, each on two tasks of their own and for
half of the steps; METHOD: at the rate that ended nearest to pi* on average; noise: the variance of
gradients, as in the experiment gradients; pairs: offline DPO on 128 pairs, on 128 whose labels are
drawn anew at each reading, and on 5,120. A seed is a task, another tiny GPT-2 with other scores,
and other luck; task 0, of the experiment bed, is not among them. Every distance is exact.
"""

from functools import partial

from rlhf_lite import experiments

SEEDS, MINUTES = tuple(range(1, 7)), 0.4
TUNED_ON = (100, 101)
RATES = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
bed, gradients, pairs = (experiments.load(name) for name in ("bed", "gradients", "pairs"))
METHODS = (
    "PPO", "PPO, textbook", "REINFORCE", "RLOO, k = 4", "RLOO, 4 passes", "RLOO, 4 passes, no clip",
    "GRPO", "GRPO, undivided", "GRPO, KL in reward", "rejection", "BoN distillation", "DPO offline",
    "DPO online",
)  # fmt: skip


def tune(lab, seed, method):
    """Return {rate: KL(pi || pi*) at the end} on the seed's task, 99 for a run that stopped."""
    half = bed.STEPS // 2
    runs = {f"{lr:g}": bed.train(method, seed, lr, half, half, seed) for lr in RATES}
    return {"rates": {lr: 99.0 if r["stopped"] else r["curve"][-1][2] for lr, r in runs.items()}}


def own_rate(tunings):
    """Return the rate that ended nearest to pi* on average."""
    return float(min(tunings[0]["rates"], key=lambda lr: sum(t["rates"][lr] for t in tunings)))


def rate_of(lab, method):
    """Return a method's own rate."""
    return own_rate([lab.arm(f"tune {method}", task) for task in TUNED_ON])


def race(lab, seed, method):
    """Train a method at its own rate on the task of the seed."""
    return bed.train(method, seed, rate_of(lab, method), every=20, task=seed)


def noise(lab, seed):
    """Return how noisy gradients are on the task of the seed."""
    return gradients.noise(seed, seed)


def follow(lab, seed, batches, method="DPO offline"):
    """Follow offline DPO on so many batches of pairs of the task of the seed."""
    run = bed.new_run(method, seed, rate_of(lab, "DPO offline"), task=seed, offline=batches)
    return pairs.follow(run, batches, seed, every=20)


ARMS = [
    {f"tune {m}": {"what": tune, "method": m, "seeds": TUNED_ON} for m in METHODS},
    {
        **{m: {"what": race, "method": m} for m in METHODS},
        "noise": {"what": noise},
        "pairs thin": {"what": follow, "batches": 1},
        "pairs anew": {"what": follow, "batches": 1, "method": "DPO, labels anew"},
        "pairs rich": {"what": follow, "batches": 40},
    },
]


def measure(lab, seed, what, **arm):
    return what(lab, seed, **arm)


def summary(lab, record):
    tunings = {m: [record["arms"][f"tune {m}"][str(t)] for t in TUNED_ON] for m in METHODS}
    rates = {m: own_rate(found) for m, found in tunings.items()}
    edges = [m for m, rate in rates.items() if rate in (RATES[0], RATES[-1])]
    return {"coef": bed.COEF, "steps": bed.STEPS, "samples": bed.SAMPLES, "rates": rates,
            "at the edge": edges}  # fmt: skip


def beyond(record, method, other):
    """Return how much further from pi* one method ends than another [nats]."""
    return bed.end(record, method) - bed.end(record, other)


def by_heart(record):
    """Return the share of thin pairs' loss against rich ones that goes with labels drawn anew."""
    thin, anew, rich = (pairs.end(record, f"pairs {name}") for name in ("thin", "anew", "rich"))
    return (thin - anew) / (thin - rich)


def unclipped(record):
    """Return how much nearer to pi* four passes end without the clip [nats]."""
    return beyond(record, "RLOO, 4 passes", "RLOO, 4 passes, no clip")


STATISTICS = {
    "KL to pi*, worse of PPO and RLOO": partial(bed.worse, one="PPO", other="RLOO, k = 4"),
    "KL to pi*, GRPO as published": partial(bed.end, method="GRPO"),
    "KL to pi*, textbook - our PPO": partial(beyond, method="PPO, textbook", other="PPO"),
    "KL to pi*, DPO online - RLOO": partial(beyond, method="DPO online", other="RLOO, k = 4"),
    "KL to pi*, clipped - free": unclipped,
    "gradient variance, k = 2 / k = 8": gradients.noisier,
    "KL to pi*, thin - rich pairs": pairs.further,
    "share of it that new labels undo": by_heart,
    "log pi of chosen - pi*'s, thin pairs": partial(pairs.beyond_best, column=pairs.CHOSEN),
    "unseen mass - pi*'s, thin pairs": partial(pairs.beyond_best, column=pairs.UNSEEN),
}
