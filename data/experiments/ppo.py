"""How much of what can be gained does PPO gain, and what does it lose on the way?

"sweep 0.54": 30 steps at a KL coefficient; at 0, where nothing holds the policy, 16. "ablation": at
0.54 with one dial turned. "adaptive 2.0": a coefficient that starts there and steers to a KL of 1
nat. "constant": all responses score alike, and "coins": a reward model learned from coin tosses,
the controls. "base": untrained. An arm takes about four minutes, "4 x samples" twelve.
"""

from dataclasses import replace
from functools import partial

from rlhf_lite import feedback, optimum, rewards, rulers
from rlhf_lite.pools import Pool
from rlhf_lite.runtime import DATA

import numpy as np
import torch
from scipy.stats import spearmanr

SEEDS, ONCE = (0, 1, 2), {"seeds": (0,)}
COEFS = (2.0, 1.3, 0.9, 0.54, 0.35, 0.24, 0.1, 0.04)
LOOSE, MIDDLE, STRICT = 2.0, 0.54, 0.24
JUDGED = dict.fromkeys((0.9, MIDDLE, STRICT), 60)  # more samples; pi* is at 0.5, 1 and 2 nats
STEERED = {"target_kl": 1.0, "horizon": 800}
DIALS = {"kl_coef": MIDDLE, "steps": 30, "lr": 1e-4}
ABLATION = {
    "4 x samples": {"samples": 1008}, "gradient head": {"critic": "head"},
    "lambda 0.95": {"lam": 0.95}, "exact KL in the loss": {"kl_loss": True},
    "rate x 3": {"lr": 3e-4}, "4 epochs": {"epochs": 4},
}  # fmt: skip

ARMS = {
    "base": {"diverse": True, "train": False} | ONCE,
    **{f"sweep {c}": {"kl_coef": c, "count": JUDGED.get(c, 24), "diverse": True} for c in COEFS},
    "sweep 0": {"kl_coef": 0.0, "steps": 16, "diverse": True},
    "constant": {"score": "constant", "steps": 10, "diverse": True},
    "coins": {"score": "coins", "steps": 10},
    **{f"ablation {name}": change | ONCE for name, change in ABLATION.items()},
    **{f"adaptive {c}": {"kl_coef": c} | STEERED | ONCE for c in (2.0, 0.05)},
}


def measure(lab, seed, score="reward", count=rulers.READ, diverse=False, train=True, **dials):
    """Train a policy and measure it on fresh samples."""
    scores = {
        "reward": lambda: lab.reward, "coins": lambda: coins(lab, seed),
        "constant": lambda: lambda texts: torch.zeros(len(texts)),
    }  # fmt: skip
    dials = DIALS | dials | {"seed": seed}
    run = lab.ppo(scores[score](), **dials)
    run.step = 0 if train else run.config.steps
    return {"dials": dials} | rulers.follow(run) | rulers.measure(lab, run, count, diverse)


def coins(lab, seed):
    """Return a reward model that was trained on coin tosses."""
    rng = np.random.default_rng(50_000 + seed)
    labels = feedback.read(DATA / "feedback" / "preferences.jsonl").records[:2000]
    pairs = rewards.examples("preference", labels)
    rows = [(pair[::-1] if rng.random() < 0.5 else pair, tie) for pair, tie in pairs]
    config = rewards.RewardConfig(passes=1, seed=seed)
    run = rewards.RewardRun(lab.base, lab.tokenizer, "preference", rows, config)
    for _ in run:
        pass
    reward = replace(lab.reward, model=run.reward_model())
    texts = [t for row in lab.draw(lab.base, lab.reward, 6, 8).texts for t in row]
    rewards.normalise(reward.model, lab.tokenizer, texts)
    return reward


def summary(lab, record):
    """Return what base samples say of the base model and of pi*, as far as they can."""
    pool = Pool.read("training")
    known = [c for c in COEFS if optimum.ess(pool.scores, c).min() >= rulers.LEAST]
    return {
        "best": {str(c): rulers.best_numbers(pool, c) for c in known},
        "base": rulers.base_numbers(pool), "coefs": COEFS, "voices": lab.world.voices,
        "fixed prompts": [lab.prompts[i] for i in rulers.FIXED],
    }  # fmt: skip


# ---- what predictions are judged by, one number a seed ----


def share_of_gain(record, coef):
    """Return the share (J - J0) / (J* - J0) of what can be gained over the base."""
    start = record["base"]["score"]
    gained = record.arm(f"sweep {coef}", "objective") - start
    return gained / (record["best"][str(coef)]["objective"] - start)


def largest_share(record):
    """Return the largest share of the gain at any coefficient."""
    return np.max([share_of_gain(record, coef) for coef in record["best"]], axis=0)


def order(record, entropy):
    """Return the rank correlation of an entropy with the coefficient."""
    coefs = [*record["coefs"], 0]
    table = np.array([record.arm(f"sweep {c}", "entropies", entropy, 0) for c in coefs])
    return [spearmanr(coefs, of_seed).statistic for of_seed in table.T]


def lost_beside(record, arm, keys, best=None):
    """Return what stands under keys of the base model, or of pi* at `best`, less that of an arm.

    A voice may be named among the keys.
    """
    voices, theirs = record["voices"], record["best"][best] if best else record["base"]
    keys = [voices.index(key) if key in voices else key for key in keys]
    for key in keys:
        theirs = theirs[key]
    return theirs - record.arm(arm, *keys)


def gained(record, arm, keys):
    """Return what an arm has more than the base model."""
    return -lost_beside(record, arm, keys)


def lost_more(record, one, other):
    """Return the share lost of one thing from the loose to the strict price, less of another."""

    def lost(keys):
        return 1 - record.arm(f"sweep {STRICT}", *keys) / record.arm(f"sweep {LOOSE}", *keys)

    return lost(one) - lost(other)


def last_kl(record, kind):
    """Return the KL of the last five steps, (seeds, arms): two starts are not two seeds."""
    histories = [record.arm(name, "history", "kl") for name in record.names(kind)]
    return np.stack([kl[:, -5:].mean(1) for kl in histories], 1)


VOICE, WITHIN = ("entropies", "H(voice)", 0), ("within", 0, "encyclopedia")
SHARE, TALES, KNOWN = ("shares", "encyclopedia"), ("tasks", "openings"), ("tasks", "fact")
STATISTICS = {
    **{f"share of the gain at {c}": partial(share_of_gain, coef=c) for c in JUDGED},
    "largest share of the gain": largest_share,
    "order of H(voice) with kl_coef": partial(order, entropy="H(voice)"),
    "order of H(text) with kl_coef": partial(order, entropy="H(text)"),
    "H(voice) lost, constant reward": partial(lost_beside, arm="constant", keys=VOICE),
    "excess collapse": partial(lost_beside, arm=f"sweep {MIDDLE}", keys=WITHIN, best=str(MIDDLE)),
    "excess collapse, constant reward": partial(lost_beside, arm="constant", keys=WITHIN),
    "EAD lost per prompt - across prompts": partial(lost_more, one=("EAD", 0), other=("EAD", 1)),
    "openings lost - facts lost": partial(lost_more, one=TALES, other=KNOWN),
    "encyclopedia gained, coin labels": partial(gained, arm="coins", keys=SHARE),
    "adaptive KL": partial(last_kl, kind="adaptive"),
}
