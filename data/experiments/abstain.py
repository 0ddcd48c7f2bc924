"""Does RL with +1 right, -c wrong, 0 silent teach when to be silent, or only to be silent?

"cost C": 30 steps of PPO at kl_coef 0.05 on where four people in five were born, tested on the
fifth; "cost 0": the vanishing point, where a wrong answer is free; "harder": cost 1, twice the
steps at three times the rate; "coin": a coin decides whether an answer is right, the control;
"base": untrained. An arm takes one minute. What the base knows stands under "knows".
"""

from functools import partial

from rlhf_lite import ppo
from rlhf_lite.experiments import load
from rlhf_lite.knowledge import best_threshold, separation
from rlhf_lite.world import read_reply

import numpy as np
import torch
from scipy.optimize import minimize

asking = load("_asking")
LAB, SIDES = asking.AskLab, {"trained": 2, "held out": 12}  # samples a question of each side

SEEDS, MINUTES = (0, 1, 2), 1
DIALS = {"kl_coef": 0.05, "steps": 30, "samples": 252, "lr": 1e-4, "max_new_tokens": asking.TOKENS}
COSTS = (0.0, 0.25, 1.0, 4.0)
ARMS = [
    {"base": {"seeds": (0,)}},  # first, so that what it knows is asked once
    {
        **{f"cost {c:g}": {"cost": c, "draws": 10 * n} for n, c in enumerate(COSTS, 1)},
        "harder": {"cost": 1.0, "steps": 60, "lr": 3e-4, "draws": 50},
        "coin": {"cost": 1.0, "coin": True, "draws": 60},
    },
]


def measure(lab, seed, cost=None, coin=False, draws=0, **dials):
    """Train a policy on answers of a cost; return what it says, and how likely it is silent."""
    policy, history = lab.policy(), []
    if cost is not None:
        by_prompt = {q.prompt: q for q in lab.asked["trained"]}
        rng = np.random.default_rng(70_000 + seed)

        def score(texts):
            found = []
            for text in texts:
                prompt = text[: text.index("? A:") + 4]
                reply = read_reply(lab.world, by_prompt[prompt], text[len(prompt) :])
                good = rng.random() < 0.5 if coin else reply == "right"
                found.append((1.0 if good else -cost) * (reply in ("right", "wrong")))
            return torch.tensor(found)

        config = ppo.PPOConfig(**DIALS | dials, seed=seed)
        run = ppo.PPORun(policy, lab.base, lab.tokenizer, list(by_prompt), score, config)
        history = [[s.score, s.kl] for s in run]
    found = {"history": history}
    for side, each in SIDES.items():
        asked, fresh = lab.asked[side], 4000 + draws + seed
        found[side] = asking.said(lab, policy, asked)
        found[side] |= asking.replies(lab, policy, asked, each, fresh)
    return found


def summary(lab, record):
    """Return what the base knows, a number a question, and who is asked about."""
    names = {side: [q.about for q in asked] for side, asked in lab.asked.items()}
    return {"knows": lab.knows, "names": names}


# ---- what predictions are judged by, one number a seed, of the held-out people ----


def speaks(record, arm):
    """Return how often an arm names a town, right or wrong, (seeds, questions)."""
    return record.arm(arm, "held out", "right") + record.arm(arm, "held out", "wrong")


def told_apart(record, arm):
    """Return P(it is likelier to answer where the base would be right than where wrong)."""
    right = record["knows"]["held out"]["right"]
    return np.array([separation(row, right) for row in speaks(record, arm)])


def pays(record, arm, cost):
    """Return the mean score of the samples."""
    right, wrong = (record.arm(arm, "held out", r).mean(1) for r in ("right", "wrong"))
    return right - cost * wrong


def gained(record, arm, cost):
    """Return the share of what the base's confidence, at a threshold, gains over silence.

    The threshold is the best for the people of training.
    """
    known, hidden = (record["knows"][side] for side in SIDES)
    least = best_threshold(known["confidence"], known["right"], cost)[0]
    answered = np.array(hidden["confidence"]) >= least
    gains = np.where(np.array(hidden["right"]) > 0, 1, -cost)
    return pays(record, arm, cost) / (gains * answered).mean()


def threshold(record, arm):
    """Return the confidence at which an arm answers every second time, by logistic regression.

    Kept to 0 to 1; where it does not answer more with confidence, 0 or 1 by what it does mostly.
    """
    x = np.array(record["knows"]["held out"]["confidence"])

    def loss(w, y):
        logits = w[0] + w[1] * x
        return (np.logaddexp(0, logits) - y * logits).mean()

    found = speaks(record, arm)
    fits = [minimize(loss, [0.0, 1.0], y).x for y in found]
    mostly = (found.mean(1) < 0.5).astype(float)
    return np.array([np.clip(-a / b, 0, 1) if b > 0 else m for (a, b), m in zip(fits, mostly)])


def more_silent(record):
    """Return how much more often an answer is left out at cost 4 than at 0.25."""
    return speaks(record, "cost 0.25").mean(1) - speaks(record, "cost 4").mean(1)


def below_confidence(record, arm="cost 1"):
    """Return how much worse an arm tells the two apart than the base's own confidence does."""
    hidden = record["knows"]["held out"]
    return told_apart(record, arm) - separation(hidden["confidence"], hidden["right"])


STATISTICS = {
    "silence, cost 4 - 0.25": more_silent,
    "told apart - confidence, cost 1": below_confidence,
    "told apart, harder": partial(told_apart, arm="harder"),
    "told apart, coin": partial(told_apart, arm="coin"),
    "gained, cost 1": partial(gained, arm="cost 1", cost=1.0),
    "gained, harder": partial(gained, arm="harder", cost=1.0),
    **{f"threshold, cost {c:g}": partial(threshold, arm=f"cost {c:g}") for c in COSTS},
}
