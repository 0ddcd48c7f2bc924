"""Which curves tell a fault planted in PPO from a healthy run?

"fault flipped sign": leaving the reference pays; "score at the padding": it never arrives; "shifted
by one": the reference's log-probabilities; "filtered": sampling keeps four tokens and the formulas
do not know; "wild rate": thirty times too high; "none". Twelve steps each, a minute.
"""

from unittest.mock import patch

from rlhf_lite import ppo, rulers, sampling

import torch

SEEDS = (0,)
DIALS = {"kl_coef": 0.54, "steps": 12, "lr": 1e-4}


class Padded(ppo.PPORun):
    """A run whose score falls on the padding, where no advantage hears of it."""

    def plan(self, rollout):
        """Teach the batch as if every response scored 0."""
        scores, rollout.scores = rollout.scores, torch.zeros_like(rollout.scores)
        plan = super().plan(rollout)
        rollout.scores = scores
        return plan


class Shifted(ppo.PPORun):
    """A run whose reference is read one token late."""

    def read(self, rollout):
        """Read the batch, and shift what the reference said."""
        rollout = super().read(rollout)
        rollout.ref_logprobs = rollout.ref_logprobs.roll(1, 1) * rollout.real
        return rollout


class Filtered(ppo.PPORun):
    """A run that draws from the four likeliest tokens and writes down log pi all the same."""

    def collect(self, model, step):
        """Draw the batch with a filter that no formula knows of."""
        plain = sampling._draw

        def filtered(probs, generator):
            least = probs.topk(4).values[:, -1:]
            return plain(probs.where(probs >= least, 0), generator)

        with patch.object(sampling, "_draw", filtered):
            return super().collect(model, step)


ARMS = {
    "fault none": {},
    "fault flipped sign": {"kl_coef": -DIALS["kl_coef"]},
    "fault score at the padding": {"kind": Padded},
    "fault shifted by one": {"kind": Shifted},
    "fault filtered": {"kind": Filtered},
    "fault wild rate": {"lr": 3e-3},
}
STATISTICS = {}


def measure(lab, seed, kind=ppo.PPORun, **change):
    """Train a policy with a fault; return its history."""
    dials = DIALS | change | {"seed": seed}
    return {"dials": dials} | rulers.follow(lab.ppo(lab.reward, kind, **dials))
