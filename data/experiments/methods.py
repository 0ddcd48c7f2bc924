"""Which method gains most on the language model, at equal samples and PPO's learning rate?

METHOD: 30 steps of 252 responses at the KL coefficient whose optimum lies near 1 nat, then 12 fresh
responses to each prompt, scored by the reward model and by the scholar whom it was made after: four
minutes. DPO also writes down what it thinks of its pairs. The experiment tuned gives every method a
rate of its own.
"""

from functools import partial

from rlhf_lite import direct, ppo, records
from rlhf_lite.policies import PolicyError

import numpy as np

SEEDS = (0, 1, 2)
COEF = 0.54
DIALS = {"steps": 30, "samples": 252, "lr": 1e-4, "kl_coef": COEF}
FRESH = 12  # samples a prompt that measure a policy


class Told(direct.DPORun):
    """A run of DPO that writes down what it thinks of each pair before it learns from it.

    told: a row a step, log pi - log ref of chosen and of rejected [nats], means over the batch.
    """

    told = ()

    def plan(self, rollout):
        """Write down one row."""
        gap = ((rollout.logprobs - rollout.ref_logprobs) * rollout.real).sum(1)
        row = [float(gap[side].mean()) for side in self.pairs(rollout)]
        self.told = [*self.told, row]
        return super().plan(rollout)


ARMS = {
    "RLOO, k = 4": {"kind": direct.RLOORun, "group": 4},
    "DPO online": {"kind": Told, "group": 2},
    "DPO offline": {"kind": Told, "group": 2, "offline": 30},
    "GRPO": {"kind": direct.GRPORun, "group": 4},
    "rejection": {"kind": direct.RejectionRun, "group": 4},
    "PPO": {"kind": ppo.PPORun},
    "GRPO, undivided": {"kind": direct.GRPORun, "group": 4, "divide": False},
    "BoN distillation": {
        "kind": direct.RejectionRun, "group": 16, "offline": 30, "samples": 256,
    },
    "REINFORCE": {"kind": direct.ReinforceRun, "group": 1},
    "RLOO, k = 2": {"kind": direct.RLOORun, "group": 2},
}  # fmt: skip


def new_run(lab, seed, kind, prompts=None, **dials):
    """Return an untrained run of a method, on all prompts or on some."""
    config = (ppo.PPOConfig if kind is ppo.PPORun else direct.DirectConfig)(**dials, seed=seed)
    asked = prompts or lab.prompts
    return kind(lab.policy(), lab.base, lab.tokenizer, asked, lab.reward, config)


def measure(lab, seed, kind, **dials):
    """Train and measure a method."""
    gold, dials = lab.gold("scholar"), DIALS | dials
    run = new_run(lab, seed, kind, **dials)
    steps, stopped = [], ""
    try:
        for s in run:
            judged = float(gold(s.texts).mean()) if s.step % 3 == 1 or s.step == s.of else None
            steps.append([s.step, s.score, s.kl, judged, s.seconds])
    except PolicyError as error:
        stopped = str(error)[:200]
    drawn = lab.draw(run.policy, lab.reward, FRESH, 1000 + seed)
    objective, error = drawn.objective(COEF)
    judged = gold([t for row in drawn.texts for t in row])
    return {
        "dials": dials, "objective": objective, "objective_se": error,
        "score": float(drawn.scores.mean()), "kl": drawn.kl(), "gold": float(judged.mean()),
        "gold_se": float(judged.std() / len(judged) ** 0.5), "n": len(judged),
        "seconds": float(np.median([row[-1] for row in steps])) * len(steps),
        "history": steps, "stopped": stopped,
        "told": getattr(run, "told", None), "text": drawn.texts[5][0],
    }  # fmt: skip


def summary(lab, record):
    return {"coef": COEF}


def share(objective):
    """Return the share (J - J0) / (J* - J0) of what can be gained over the base."""
    best = records.read("ppo")["best"][str(COEF)]
    return (objective - best["base_score"]) / (best["objective"] - best["base_score"])


def ahead(record, method, other):
    """Return how much more of the gain a method reaches than another."""
    return share(record.arm(method, "objective")) - share(record.arm(other, "objective"))


def ahead_of_sweep(record, method):
    """Return how much more of the gain a method reaches than PPO in the record ppo."""
    theirs = records.read("ppo").arm(f"sweep {COEF}", "objective")
    return share(record.arm(method, "objective")) - share(theirs)


STATISTICS = {
    "share of the gain, RLOO - PPO": partial(ahead_of_sweep, method="RLOO, k = 4"),
    "share of the gain, DPO online - offline": partial(
        ahead, method="DPO online", other="DPO offline"
    ),
}
