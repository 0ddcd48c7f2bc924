"""Do the voices come back when the price of the KL goes from 0.1 to 2 in the middle of a run?

"journey": fifteen steps at 0.1, then 25 at 2, with the dials of notebook 04's panel; "stay": all
forty at 0.1, the control.
"""

from functools import partial
from itertools import islice

from rlhf_lite import diversity, rulers
from rlhf_lite.pools import Pool

import numpy as np

SEEDS, MINUTES = (0, 1, 2), 2
LOW, HIGH = 0.1, 2.0
TURN, STEPS, LAST = 15, 40, 5
DIALS = {"kl_coef": LOW, "steps": 200, "samples": 126, "minibatches": 3}
ARMS = {"journey": {"then": HIGH}, "stay": {"then": LOW}}
KEYS = ("step", "kl_coef", "score", "kl", "objective", "entropy")


def measure(lab, seed, then):
    """Train a policy, turn its price on the way, and listen to its voices in every batch."""
    run, history = lab.ppo(lab.reward, **DIALS, seed=seed), []
    for step in islice(run, STEPS):
        shares = diversity.batch_voices(lab.world, step.texts)
        history.append({k: getattr(step, k) for k in KEYS} | {"shares": shares})
        if run.step == TURN:
            run.kl_coef = then
    return {"dials": DIALS | {"then": then}, "history": history}


def summary(lab, record):
    """Return the voices, and their shares in pi* at both prices and in the base."""
    pool = Pool.read("training")
    best = rulers.best_numbers(pool, HIGH)
    return {
        "voices": lab.world.voices, "turn": TURN, "last": LAST,
        "base": rulers.base_numbers(pool)["shares"],
        "best": {"shares": best["shares"], "kl": best["kl"]},
    }  # fmt: skip


def loudest(record, arm="journey"):
    """Return the encyclopedia's share in every step, (seeds, steps)."""
    place = record["voices"].index("encyclopedia")
    return np.array(record.arm(arm, "history", "shares"))[:, :, place]


def end(record, arm):
    """Return the encyclopedia's share in the last five steps less pi*'s at 2, (seeds,)."""
    best = record["best"]["shares"][record["voices"].index("encyclopedia")]
    return loudest(record, arm)[:, -LAST:].mean(1) - best


def last_kl(record, arm):
    """Return the KL of the last five steps, (seeds,) [nats]."""
    return record.arm(arm, "history", "kl")[:, -LAST:].mean(1)


STATISTICS = {
    "encyclopedia - pi*, journey": partial(end, arm="journey"),
    "encyclopedia - pi*, stay": partial(end, arm="stay"),
    "KL at the end, journey": partial(last_kl, arm="journey"),
    "KL at the end, stay": partial(last_kl, arm="stay"),
}
