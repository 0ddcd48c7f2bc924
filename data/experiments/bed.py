"""Which methods reach the optimum, and how fast, where all of it is known?

tune METHOD: four learning rates, the same for every method, on a seed of its own and for half of
the steps; METHOD: a run at the best of them, about 10 seconds. On the testbed of 512 answers, so
that every distance to pi* is exact. One task: the experiment beds draws several.
"""

import copy
from functools import cache, partial

from rlhf_lite import direct, experiments, ppo, testbed
from rlhf_lite.optimum import OptimumError
from rlhf_lite.policies import PolicyError

import numpy as np
import torch

SEEDS, TUNED_ON = (0, 1, 2), 10
RATES = (5e-4, 1e-3, 2e-3, 4e-3)
COEF, STEPS, SAMPLES = 0.7, 200, 256
METHODS = {
    "PPO": (ppo.PPORun, {}),
    "REINFORCE": (direct.ReinforceRun, {"group": 1}),
    "RLOO, k = 2": (direct.RLOORun, {"group": 2}),
    "RLOO, k = 4": (direct.RLOORun, {"group": 4}),
    "RLOO, k = 8": (direct.RLOORun, {"group": 8}),
    "GRPO": (direct.GRPORun, {"group": 8}),
    "GRPO, undivided": (direct.GRPORun, {"group": 8, "divide": False}),
    "GRPO, KL in reward": (direct.GRPORun, {"group": 8, "k3_loss": False}),
    "rejection": (direct.RejectionRun, {"group": 4}),
    "BoN distillation": (direct.RejectionRun, {"group": 8, "offline": STEPS}),
    "DPO offline": (direct.DPORun, {"group": 2, "offline": STEPS}),
    "DPO online": (direct.DPORun, {"group": 2}),
}
helper = experiments.load("_bed")
TEXTBOOK = {"critic": "head", "lam": 0.95, "epochs": 4, "charge": "token", "whiten": "full"}
LATER = {  # on several tasks alone
    "PPO, textbook": (ppo.PPORun, TEXTBOOK),
    "RLOO, 4 passes": (direct.RLOORun, {"group": 4, "epochs": 4}),
    "RLOO, 4 passes, no clip": (direct.RLOORun, {"group": 4, "epochs": 4, "cliprange": 1e6}),
    "DPO, labels anew": (helper.Anew, {"group": 2, "offline": STEPS}),
}


@cache
def bed(task=0):
    """Return the Testbed of a task."""
    return testbed.new_testbed(task, words=2)


def new_run(method, seed, lr, steps=STEPS, task=0, **dials):
    """Return an untrained run of a method on a task."""
    kind, own = (METHODS | LATER)[method]
    config = (ppo.PPOConfig if kind is ppo.PPORun else direct.DirectConfig)(
        kl_coef=COEF, steps=steps, samples=SAMPLES, minibatches=2, max_new_tokens=3,
        bfloat16=False, lr=lr, seed=seed, **own | dials,
    )  # fmt: skip
    here = bed(task)
    policy = copy.deepcopy(here.model)
    if task:  # task 0 stays as it was recorded
        helper.seal(policy)
    return kind(policy, None, here.tokenizer, here.prompts, here.score, config)


@torch.no_grad()
def logprobs(policy):
    """Return log pi of all answers, (P, S) [nats]."""
    return torch.log_softmax(bed().sequence_logprobs(policy), 1).numpy()


def look(ours, task=0):
    """Return [KL(pi || pi*), KL(pi* || pi), J, KL(pi || pi0)] of log-probabilities (P, S)."""
    found = testbed.exact(ours, bed(task).base_logprobs, bed(task).scores, COEF)
    return [found.to_optimum, found.from_optimum, found.objective, found.kl]


def tune(lab, seed, method):
    """Return {rate: KL(pi || pi*) at the end}, 99 for a run that stopped."""
    runs = {f"{lr:g}": train(method, seed, lr, STEPS // 2, every=STEPS // 2) for lr in RATES}
    return {"rates": {lr: 99.0 if r["stopped"] else r["curve"][-1][2] for lr, r in runs.items()}}


def race(lab, seed, method):
    """Train a method at its own rate."""
    return train(method, seed, best_rate(lab.arm(f"tune {method}", TUNED_ON)))


def best_rate(tuned):
    """Return the learning rate that ended nearest to pi*."""
    return float(min(tuned["rates"], key=tuned["rates"].get))


def train(method, seed, lr, steps=STEPS, every=10, task=0):
    """Train; return {"curve": a row every few steps, "stopped": why or ""}.

    A row: samples, seconds of training, and what `look` says of the policy.
    """
    run, seconds, stopped = new_run(method, seed, lr, steps, task), 0.0, ""
    rows = [[0, 0.0, *look(logprobs(run.policy), task)]]
    try:
        for step in run:
            seconds += step.seconds
            if step.step % every == 0:
                rows.append([step.step * SAMPLES, seconds, *look(logprobs(run.policy), task)])
    except (PolicyError, OptimumError) as error:
        stopped = str(error)[:120]
    found = {"lr": lr, "curve": rows, "stopped": stopped}
    return found | ({"to_rest": to_rest(run, task)} if method.startswith("GRPO") else {})


def to_rest(run, task=0):
    """Return KL(pi || the rest of large groups) [nats] of a GRPO policy."""
    ours = logprobs(run.policy)
    # With the KL in the reward it is divided as well, and pi*, where all returns are equal, rests.
    dials = (run.config.divide, 3) if run.config.k3_loss else (False, 0)
    rest = direct.fixed_point(bed(task).base_logprobs, bed(task).scores, COEF, *dials)[0]
    return float((np.exp(ours) * (ours - rest)).sum(1).mean())


ARMS = [
    {f"tune {m}": {"what": tune, "method": m, "seeds": (TUNED_ON,)} for m in METHODS},
    {m: {"what": race, "method": m} for m in METHODS},
]


def measure(lab, seed, what, **arm):
    return what(lab, seed, **arm)


def summary(lab, record):
    tuned = {m: record["arms"][f"tune {m}"][str(TUNED_ON)] for m in METHODS}
    rates = {m: best_rate(t) for m, t in tuned.items()}
    return {"coef": COEF, "steps": STEPS, "samples": SAMPLES, "rates": rates}


def end(record, method):
    """Return KL(pi || pi*) [nats] after the last step, 99 for a run that stopped."""
    stopped = np.array([bool(why) for why in record.arm(method, "stopped")])
    return np.where(stopped, 99.0, record.arm(method, "curve", -1, 2))


def worse(record, one, other):
    """Return the larger of two methods' distances [nats]."""
    return np.maximum(end(record, one), end(record, other))


STATISTICS = {
    "KL to pi*, worse of PPO and RLOO": partial(worse, one="PPO", other="RLOO, k = 4"),
    "KL to pi*, GRPO as published": partial(end, method="GRPO"),
}
