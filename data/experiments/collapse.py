"""Does PPO lose more than the score asked for, held against pi* at equal price, KL and score?

"ppo C": 30 steps at a KL coefficient, 0 like the rest. "random C": the same on a random score, a
random head on the base model, another one a seed: it pulls, and at nothing that anybody likes.
"base": untrained, drawn again and again. Every arm and seed is read on samples of its own; some of
them answer the twelve prompts whose voices are the most even, some a wording that is never trained.
"""

from functools import partial

from rlhf_lite import rulers
from rlhf_lite.experiments import load
from rlhf_lite.pools import Pool

import numpy as np
from scipy.stats import spearmanr

collapse = load("_collapse")
LAB, EXCESS = collapse.CollapseLab, collapse.excess

SEEDS, MINUTES = (0, 1, 2), 4
DRAWN = tuple(range(6))
COEFS, RANDOM = (2.0, 0.9, 0.54, 0.24, 0.1, 0.0), (0.9, 0.1)
JUDGED = (0.54, 0.24)
DIALS = {"steps": 30, "samples": 252, "lr": 1e-4}
READ, READ_WELL, READ_BEST = 24, 48, 96

ARMS = {
    "base": {"draw": 1, "count": READ_WELL, "seeds": DRAWN},
    **{f"ppo {c}": {"draw": n, "kl_coef": c, "count": READ_BEST if c in JUDGED else READ}
       for n, c in enumerate(COEFS, 2)},
    **{f"random {c}": {"draw": n, "kl_coef": c, "random": True,
                     "count": READ_WELL if c == RANDOM[-1] else READ_BEST}
       for n, c in enumerate(RANDOM, 2 + len(COEFS))},
}  # fmt: skip


def fresh_seed(draw, seed):
    """Return where the samples of an arm and seed start; each batch of them counts one on."""
    return 100_000 * draw + 100 * seed


def measure(lab, seed, draw, kl_coef=None, random=False, count=READ, **dials):
    """Train a policy and read it, or read the base, on samples that no other arm has."""
    score, fresh = lab.random_score(seed) if random else lab.reward, fresh_seed(draw, seed)
    if kl_coef is None:
        found, drawn, voices = collapse.look(lab, lab.base, score, count, fresh)
        lab.keep_samples(seed, drawn, voices, SEEDS)
        return found
    dials = DIALS | {"kl_coef": kl_coef, "seed": seed} | dials
    run = lab.ppo(score, **dials)
    history = rulers.follow(run)
    curves = {key: [row[key] for row in history["history"]] for key in ("score", "kl")}
    found = collapse.look(lab, run.policy, score, count, fresh)[0]
    return {"dials": dials, "stopped": history["stopped"], "curves": curves,
            "kl_coef": kl_coef} | found  # fmt: skip


def summary(lab, record):
    """Return the path of pi* for each score, and which prompts are even."""
    paths = {"reward": collapse.path(Pool.read("training"), (*collapse.GRID, *COEFS[:-1]))}
    seeds = record.seeds("random 0.9")
    pools = lab.random_pools(record.seeds("base"))
    paths |= {f"random {seed}": collapse.path(pools[seed]) for seed in seeds}
    return {
        "paths": paths, "coefs": COEFS, "voices": lab.world.voices,
        "even prompts": [lab.prompts[i] for i in collapse.even_prompts()],
        "even shares": rulers.base_shares()[collapse.even_prompts()].mean(0),
    }  # fmt: skip


# ---- what predictions are judged by, one number a seed ----


def order(record):
    """Return the rank correlation of H(voice) with the coefficient, 0 among them."""
    table = np.array([record.arm(f"ppo {c}", "entropies", "H(voice)", 0) for c in COEFS])
    return [spearmanr(COEFS, of_seed).statistic for of_seed in table.T]


def likeness(record, arm):
    """Return the share of 1 - BLEU lost among answers to one prompt, less that across prompts."""
    one, many = (collapse.lost(record, arm, "self-BLEU", n, likeness=True) for n in (0, 1))
    return one - many


def beside(record, coef):
    """Return the share of H(voice) that a random score costs over what the reward model costs."""
    ours, theirs = (collapse.lost(record, f"{kind} {coef}", "entropies", "H(voice)", 0)
                    for kind in ("random", "ppo"))  # fmt: skip
    return ours / theirs


def leading(record, arm, key):
    """Return the encyclopedia's share."""
    return record.arm(arm, key, record["voices"].index(collapse.LEADER))


SAME = {"beta": "kl_coef", "KL": "kl", "score": "score"}
STATISTICS = {
    **{f"excess at {c}, equal {name}": partial(EXCESS, arm=f"ppo {c}", same=key)
       for c in JUDGED for name, key in SAME.items()},
    "excess at 0.9, random score": partial(EXCESS, arm="random 0.9", same="score"),
    "base, fresh draws - pool": collapse.misread,
    "order of H(voice), 0 in full": order,
    "1 - BLEU lost at 0.24, per prompt - across": partial(likeness, arm="ppo 0.24"),
    "H(voice) lost at 0.1, random / reward": partial(beside, coef=0.1),
    "encyclopedia at 0.24, even prompts": partial(leading, arm="ppo 0.24", key="even shares"),
    "encyclopedia at 0.24, other wording": partial(leading, arm="ppo 0.24", key="otherwise"),
}  # fmt: skip
