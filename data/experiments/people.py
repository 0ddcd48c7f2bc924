"""Whose voice does a policy take on, if PPO is paid by what one of five annotators likes?

"person NAME": 14 steps on that person's own utility, beside the voices of its optimum pi*, from
base samples. An arm takes about two minutes.
"""

from rlhf_lite import diversity, optimum, rulers

import numpy as np

SEEDS = (0,)
DIALS = {"kl_coef": 0.35, "steps": 14, "lr": 1e-4}
ARMS = {
    f"person {name}": {"name": name} for name in ("scholar", "gossip", "poet", "zealot", "salesman")
}


def measure(lab, seed, name):
    """Train a policy on somebody's utility and measure it on fresh samples."""
    dials = DIALS | {"seed": seed}
    run = lab.ppo(lab.gold(name), **dials)
    found = {"dials": dials} | rulers.follow(run) | rulers.measure(lab, run)
    return found | {"best shares": best_shares(lab, run.score, run.kl_coef)}


def best_shares(lab, score, kl_coef):
    """Return the shares of voices under pi*, (V + 1,), from base samples."""
    drawn = lab.draw(lab.base, score, rulers.READ, 4242)
    weights = optimum.weights(drawn.scores.numpy(), kl_coef)
    voices = diversity.likeliest_voices(lab.world, drawn.texts)
    return diversity.voice_shares(voices, weights).mean(0)


def voices_found(record):
    """Return for how many people the policy's first voice is the optimum's."""
    return np.sum(
        [
            record.arm(name, "shares").argmax(1) == record.arm(name, "best shares").argmax(1)
            for name in record.names("person")
        ],
        axis=0,
    )


STATISTICS = {"annotators whose voice was found": voices_found}
