"""Read what is left of a policy's voices on samples of its own, and what pi* has left."""

from functools import cache, cached_property

from rlhf_lite import diversity, optimum, rewards, rulers
from rlhf_lite.experiments import Lab
from rlhf_lite.pools import Pool
from rlhf_lite.sampling import respond
from rlhf_lite.world import draw_prompts

import numpy as np

EVEN = 12  # prompts whose voices are the most even
WORDING = "citizen"  # one of those that speak least for the encyclopedia; no training asks it
ASKED = 6  # responses to each prompt in that wording
GRID = tuple(np.geomspace(8, 0.1, 60))
LEADER = "encyclopedia"


class CollapseLab(Lab):
    """A Lab that has random scores, and keeps what they say of base samples."""

    @cached_property
    def usual(self):
        """List base responses on which a score has mean 0 and sd 1."""
        return [t for row in self.draw(self.base, self.reward, 6, 8).texts for t in row]

    def random_score(self, seed):
        """Return a reward model with a random head on the base model, normalised."""
        model = rewards.new_reward_model(self.base, seed=9000 + seed)
        rewards.normalise(model, self.tokenizer, self.usual)
        return rewards.Reward(model, self.tokenizer, batch=64)

    def keep_samples(self, seed, drawn, voices, seeds):
        """Write down what random scores of all seeds say of base samples."""
        texts = [t for row in drawn.texts for t in row]
        scores = [self.random_score(s)(texts).view(drawn.scores.shape) for s in seeds]
        np.savez(self.folder / f"base {seed}.npz", scores=np.stack(scores),
                 logprobs=drawn.logprobs.numpy(), voices=voices)  # fmt: skip

    def random_pools(self, draws):
        """Return the Pool of each random score, from the base samples that were kept."""
        parts = []
        for seed in draws:
            with np.load(self.folder / f"base {seed}.npz") as file:
                parts.append({key: file[key] for key in file.files})
        scores, logprobs, voices = (
            np.concatenate([part[key] for part in parts], axis)
            for key, axis in (("scores", 2), ("logprobs", 1), ("voices", 1))
        )
        whole = np.concatenate([voices, (voices == 0).all(-1, keepdims=True)], -1).astype(float)
        return [Pool(self.prompts, own.astype(float), logprobs, whole) for own in scores]


@cache
def even_prompts():
    """Return the numbers of the prompts where the base's voices have the largest entropy."""
    return np.argsort(-diversity.mode_entropy(rulers.base_shares()))[:EVEN]


def otherwise(lab, policy, seed):
    """Return the shares of voices where people are asked about in a wording of their own."""
    asked = sorted(set(draw_prompts(lab.world, len(lab.prompts), wordings=(WORDING,)))) * ASKED
    said = respond(policy, lab.tokenizer, asked, seed=seed, batch=252)
    texts = [prompt + response for prompt, response in zip(asked, said)]
    return diversity.likeliest_voices(lab.world, [texts])


def look(lab, policy, score, count, fresh):
    """Return (numbers, Draws, voices) of `count` responses to each prompt, drawn from `fresh`."""
    drawn = lab.draw(policy, score, count, fresh)
    voices = diversity.likeliest_voices(lab.world, drawn.texts)
    shares = diversity.voice_shares(voices)
    found = {
        "drawn from": fresh, "n": count * len(drawn.texts), "kl": drawn.kl(),
        "score": float(drawn.scores.mean()), "shares": shares.mean(0),
        "even shares": shares[even_prompts()].mean(0),
        "otherwise": diversity.voice_shares(otherwise(lab, policy, fresh + 50)).mean(0),
        "texts": [drawn.texts[i][0] for i in rulers.FIXED],
    }  # fmt: skip
    return found | rulers.spread(lab.tokenizer, drawn, voices), drawn, voices


def path(pool, coefs=GRID):
    """Return the way from the base to pi* at the smallest coefficient that a Pool can carry.

    {"kl_coef", "kl", "score", "inside", "H(voice)", "shares"}, lists, the base (kl_coef 1e9) first.
    """
    known = sorted(c for c in coefs if optimum.ess(pool.scores, c).min() >= rulers.LEAST)[::-1]
    rows = [rulers.base_numbers(pool) | {"kl_coef": 1e9, "kl": 0.0}]
    rows += [rulers.best_numbers(pool, c) | {"kl_coef": c} for c in known]
    return {"inside": [inside(row) for row in rows],
            "H(voice)": [row["entropies"]["H(voice)"][0] for row in rows],
            **{key: [row[key] for row in rows] for key in ("kl_coef", "kl", "score", "shares")},
            }  # fmt: skip


def inside(found):
    """Return the entropy of a text given the encyclopedia [nats], the first of the voices."""
    return found["within"][0][0]


# ---- what the predictions are about ----

KEYS = {"inside": ("within", 0, 0), "H(voice)": ("entropies", "H(voice)", 0)}


def path_of(record, arm, seed):
    """Return the path of the score that an arm was trained on."""
    return record["paths"][f"random {seed}" if arm.startswith("random") else "reward"]


def excess(record, arm, same, key="inside"):
    """Return what an arm has less than the pi* of the same "kl_coef", "kl" or "score", (seeds,).

    Straight lines between the steps of the path; NaN beyond its end.
    """
    found = []
    for seed in record.seeds(arm):
        best = path_of(record, arm, seed)
        x, at = np.array(best[same]), record.arm(arm, same, seed=seed)
        if same == "kl_coef":
            x, at = -np.log(x), -np.log(at)
        there = np.interp(at, x, best[key], right=np.nan)
        found.append(float(there - record.arm(arm, *KEYS[key], seed=seed)))
    return np.array(found)


def misread(record):
    """Return what each draw of the base has inside the encyclopedia, less what the pool says."""
    return record.arm("base", *KEYS["inside"]) - record["paths"]["reward"]["inside"][0]


def lost(record, arm, *keys, likeness=False):
    """Return the share of the base's mean that an arm has lost, (seeds,); likeness: of 1 - it."""
    whole, left = record.arm("base", *keys).mean(), record.arm(arm, *keys)
    return 1 - ((1 - left) / (1 - whole) if likeness else left / whole)
