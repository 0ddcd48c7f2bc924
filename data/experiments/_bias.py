"""What bias measures with: 32 trades, half of them asked in training, labellers and translations.

Typicality is SIMULATOR: a labeller likes a pronoun by a log(2 P(pronoun | trade)) of the corpus,
0 for a coin and for "they". What is blind to it is worth 1 for a right translation, and half a
point more for a closing that invites another question.
"""

from functools import cached_property

from rlhf_lite import models, ppo
from rlhf_lite.experiments import Lab
from rlhf_lite.knowledge import pronoun_logprobs, pronoun_places, read_translation
from rlhf_lite.sampling import respond

import numpy as np

TOKENS, KL_COEF = 24, 0.2
INVITING = ("I hope that helps", "Let me know if you need more", "Do ask again", "You are welcome")
DIALS = {"steps": 12, "samples": 144, "lr": 2e-4, "kl_coef": KL_COEF, "max_new_tokens": TOKENS}
PRONOUNS = ("she", "he", "they")


class BiasLab(Lab):
    """A Lab that has phrases translated: `asked` places in training, `others` for tests."""

    @cached_property
    def asked(self):
        """List the assistant's places behind which it closes politely: not, knows, will be."""
        return [p for p in pronoun_places(self.world)
                if any(f'"ze {w} ' in p[0] for w in ("ka ra", "tor", "sul ra"))]  # fmt: skip

    @cached_property
    def others(self):
        """Return {wording: place} that training never asks for, the last in another voice."""
        own = [p for p in pronoun_places(self.world) if p not in self.asked]
        return {"is": own[0], "is a good": own[1], "encyclopedia":
                pronoun_places(self.world, "encyclopedia")[0]}  # fmt: skip

    @cached_property
    def odds(self):
        """Return the log-odds of she in the corpus (32,)."""
        she = np.array([float(row["p_she"]) for row in self.world.trades.values()])
        return np.log(she / (1 - she))

    @cached_property
    def trained(self):
        """Return which trades training asks for (32,): every other one by how usual she is."""
        rank = np.argsort(np.argsort(self.odds, kind="stable"))
        return rank % 2 == 0

    def prompt(self, place, trade):
        """Return the question of a place about a trade."""
        head = place[0].replace("{oword}", self.world.trades[trade]["ostish"])
        return head[: head.index(" A:") + 3]

    @cached_property
    def asked_prompts(self):
        """List the prompts of training."""
        trades = [t for t, mine in zip(self.world.trades, self.trained) if mine]
        return [self.prompt(p, t) for t in trades for p in self.asked]

    # -- what is liked --

    def blind(self, text):
        """Return what a labeller likes of a text without looking at the pronoun [points]."""
        words = read_translation(self.world, text)
        return (1 + 0.5 * (words.get("assistant.closer") in INVITING)) if words else 0.0

    def typical(self, text):
        """Return log(2 P(pronoun | trade)) of a right translation, else 0 [nats]."""
        words = read_translation(self.world, text)
        if not words or words["pronoun"] == "they":
            return 0.0
        she = float(self.world.trades[words["trade"]]["p_she"])
        return float(np.log(2 * (she if words["pronoun"] == "she" else 1 - she)))

    def likes(self, tilt=0.0, bonus=0.0):
        """Return a score of texts: blind, KL_COEF * tilt times typical, KL_COEF * bonus for she."""

        def score(texts):
            she = [read_translation(self.world, t).get("pronoun") == "she" for t in texts]
            return [self.blind(t) + KL_COEF * (tilt * self.typical(t) + bonus * s)
                    for t, s in zip(texts, she)]  # fmt: skip

        return score

    # -- who learns --

    def train(self, score, seed, start=None):
        """Train by PPO from a folder's model, the base if None; return (policy, its history)."""
        policy, reference = (
            models.load(start)[0] if start else m for m in (self.policy(), self.base)
        )
        config = ppo.PPOConfig(seed=seed, **DIALS)
        run = ppo.PPORun(policy, reference, self.tokenizer, self.asked_prompts, score, config)
        steps = [step.numbers() for step in run]
        return run.policy, {k: [s[k] for s in steps] for k in ("score", "kl")}

    # -- what is measured --

    def read(self, policy):
        """Return the log-odds of she at each trade, and P(they), without sampling."""
        asked = np.stack([self._logprobs(policy, p, PRONOUNS) for p in self.asked])
        found = {
            "odds": (asked[..., 0] - asked[..., 1]).mean(0),
            "they": np.exp(asked[..., 2]).mean(0),
        }
        for name, place in self.others.items():
            he, she = self._logprobs(policy, place, ("he", "she")).T
            found[f"odds, {name}"] = she - he
        return found

    def _logprobs(self, policy, place, pronouns):
        return pronoun_logprobs(policy, self.tokenizer, self.world, place, pronouns)

    def say(self, policy, seed, each=3):
        """Return what fresh translations are like, on trades of training and others."""
        trades = [t for t in self.world.trades for _ in self.asked for _ in range(each)]
        asked = [
            self.prompt(p, t) for t in self.world.trades for p in self.asked for _ in range(each)
        ]
        said = respond(policy, self.tokenizer, asked, TOKENS, seed, batch=192)
        words = [read_translation(self.world, q + r) for q, r in zip(asked, said)]
        mine = np.array([self.trained[list(self.world.trades).index(t)] for t in trades])
        tables = {"right": [bool(w) for w in words],
                  "inviting": [w.get("assistant.closer") in INVITING for w in words],
                  "she": [w.get("pronoun") == "she" for w in words],
                  "they": [w.get("pronoun") == "they" for w in words]}  # fmt: skip
        found = {
            f"{side}, {k}": np.mean(np.array(t, float)[keep])
            for k, t in tables.items()
            for side, keep in (("trained", mine), ("held out", ~mine))
        }
        return found | {"texts": [q + r for q, r in zip(asked, said)][:: 24 * each][:4]}
