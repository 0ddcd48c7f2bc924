"""Does it matter whether all responses weigh alike, or all tokens of a minibatch?

METHOD by WHAT: 30 steps of 252 responses at kl_coef 0.54, then 24 fresh responses to each prompt.
By tokens is a mean over each minibatch: these are sorted by length, so that a short response weighs
more than a long one. "in float32" draws, scores and learns without bfloat16. Written before the
run: no arm of a method differs from another by more than 0.02 of what can be gained. An arm takes
two minutes.
"""

from functools import partial

from rlhf_lite import direct, ppo, records

import numpy as np

SEEDS, MINUTES = (0, 1, 2, 3, 4), 2
COEF = 0.54
DIALS = {"steps": 30, "samples": 252, "lr": 1e-4, "kl_coef": COEF}
FRESH = 24


class Weighed:
    """A run that writes down how long the responses of each minibatch are, 1 being the average.

    by_tokens: whether a loss is a mean over its minibatch, as it was before.
    """

    by_tokens, lengths = False, ()

    def weight(self, rollout, part, parts):
        """Return the weight that is asked for."""
        self.lengths = [*self.lengths, super().weight(rollout, part, parts)]
        return 1.0 if self.by_tokens else self.lengths[-1]


class PPO(Weighed, ppo.PPORun):
    """PPO, weighed."""


class RLOO(Weighed, direct.RLOORun):
    """RLOO, weighed."""


ARMS = {
    "PPO by tokens": {"kind": PPO, "by_tokens": True},
    "PPO by responses": {"kind": PPO},
    "RLOO by tokens": {"kind": RLOO, "by_tokens": True, "group": 4},
    "RLOO by responses": {"kind": RLOO, "group": 4},
    "PPO in float32": {"kind": PPO, "bfloat16": False, "seeds": (0, 1, 2)},
}


def measure(lab, seed, kind, by_tokens=False, **dials):
    """Train a policy and measure it on fresh samples."""
    dials = DIALS | dials
    config = (ppo.PPOConfig if kind is PPO else direct.DirectConfig)(**dials, seed=seed)
    run = kind(lab.policy(), lab.base, lab.tokenizer, lab.prompts, lab.reward, config)
    run.by_tokens = by_tokens
    history = [[s.score, s.kl, s.length, s.grad_norm, s.ratio_gap, s.seconds] for s in run]
    drawn = lab.draw(run.policy, lab.reward, FRESH, 2000 + seed)
    objective, error = drawn.objective(COEF)
    parts = np.reshape(run.lengths, (config.steps, config.minibatches))
    return {
        "dials": dials, "objective": objective, "objective_se": error, "kl": drawn.kl(),
        "score": float(drawn.scores.mean()), "longest to shortest": parts.max(1) / parts.min(1),
        "history": history,
    }  # fmt: skip


def share(record, arm):
    """Return the share (J - J0) / (J* - J0) of what can be gained over the base, a seed each."""
    best = records.read("ppo")["best"][str(COEF)]
    gained = record.arm(arm, "objective") - best["base_score"]
    return gained / (best["objective"] - best["base_score"])


def ahead(record, arm, other):
    """Return how much more of the gain an arm reaches than another, on the seeds of both."""
    one, two = share(record, arm), share(record, other)
    least = min(len(one), len(two))
    return one[:least] - two[:least]


def longer(record, arm):
    """Return how many times longer the longest minibatch of a step is, median over steps."""
    return np.median(record.arm(arm, "longest to shortest"), axis=1)


STATISTICS = {
    **{f"share of the gain, {arm}": partial(share, arm=arm) for arm in ARMS},
    **{f"longest to shortest, {arm}": partial(longer, arm=arm) for arm in ARMS},
    "PPO: responses - tokens": partial(ahead, arm="PPO by responses", other="PPO by tokens"),
    "RLOO: responses - tokens": partial(ahead, arm="RLOO by responses", other="RLOO by tokens"),
    "PPO: bfloat16 - float32": partial(ahead, arm="PPO by responses", other="PPO in float32"),
}
