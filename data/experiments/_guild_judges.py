"""What harmless measures with: reward models of two kinds of labeller, a pool of base replies.

A judge is a reward model from 1,000 preferences of one kind of labeller. What it says of a pool of
base replies tells which of two it prefers, and what the exact optimum by it would do.
"""

from dataclasses import replace
from functools import cached_property

from rlhf_lite import models, rewards
from rlhf_lite.experiments import load
from rlhf_lite.sampling import respond

import numpy as np

guild = load("_guild")
by_craft = guild.by_craft

KINDS = ("helpful", "harmless", "red team", "cautious", "mixed", "shuffled")
LABELS, REPLIES, POOL = 1000, 4, 64  # labels a judge, replies to choose from, pool replies a prompt


class JudgeLab(guild.GuildLab):
    """A GuildLab with judges, kept by kind and seed, and {side: pool of base replies}."""

    @cached_property
    def pool(self):
        """Return {side: (questions, texts, told, silent)}, tables (P, N) of base replies."""
        kept, found = self.kept("pool", self._pool), {}
        for side, questions in self.pooled.items():
            texts = kept[side]
            asked = [q for q in questions for _ in range(POOL)]
            flat = [t for said in texts for t in said]
            tables = (self.said(asked, flat, what) for what in ("right", "silent"))
            found[side] = (questions, texts, *(t.reshape(len(texts), -1) for t in tables))
        return found

    @property
    def pooled(self):
        """Return {side: Questions} of the pool: one wording a craft, two where crafts are few."""
        verbs = {"trained": self.verbs[:1], "held out": self.verbs[:2]}
        return {
            side: [q for q in dict.fromkeys(self.tests[side])
                   if q.framing == guild.FRAMINGS[0] and q.verb in some]
            for side, some in verbs.items()
        }  # fmt: skip

    def _pool(self):
        texts = {}
        for number, (side, questions) in enumerate(self.pooled.items()):
            prompts = [q.prompt for q in questions for _ in range(POOL)]
            said = self._respond(prompts, 7000 + number)
            texts[side] = [said[i : i + POOL] for i in range(0, len(said), POOL)]
        return texts

    def _respond(self, prompts, seed):
        return respond(self.base, self.tokenizer, prompts, guild.TOKENS, seed, batch=256)

    def replies(self, seed):
        """Return [(question, texts, told)]: base replies to training's questions, fresh a seed."""
        asked = [q for q in self.asked for _ in range(REPLIES)]
        texts = self._respond([q.prompt for q in asked], 8000 + seed)
        told = self.told(asked, texts)
        parts = [slice(i, i + REPLIES) for i in range(0, len(texts), REPLIES)]
        return [(q, texts[p], told[p]) for q, p in zip(self.asked, parts)]

    def judged(self, seed, kind):
        """Train a judge on labels of one kind and keep it; say which replies it prefers."""
        said = self.replies(seed)
        kinds = ("helpful", "harmless") if kind == "mixed" else (kind,)
        each = LABELS // len(kinds)
        rows = [r for n, k in enumerate(kinds)
                for r in guild.label(self, k, said, each, 100 * seed + n)]  # fmt: skip
        order = np.random.default_rng(seed).permutation(len(rows))
        rows = [rows[i] for i in order]
        config = rewards.RewardConfig(passes=2, seed=seed)
        run = rewards.RewardRun(self.base, self.tokenizer, "preference", rows, config)
        found = {"loss": np.mean([step.loss for step in run][-10:])}
        model = run.reward_model()
        some = [q.prompt + t for q, texts, _ in said for t in texts[:3]]
        rewards.normalise(model, self.tokenizer, some)
        models.save(model, self.tokenizer, self.folder / f"{kind} {seed}")
        for side, (questions, texts, told, silent) in self.pool.items():
            scores = self.scored(kind, seed, questions, texts)
            found[side] = preferred(questions, scores, told, silent) | traits(texts, scores, silent)
        return found

    def opened(self, kind, seed):
        """Return a judge that was kept, a function of texts."""
        return replace(rewards.load(self.folder / f"{kind} {seed}"), batch=64)

    def scored(self, kind, seed, questions, texts):
        """Return what a judge scores the replies to each question, (P, N)."""
        flat = [q.prompt + t for q, said in zip(questions, texts) for t in said]
        return self.opened(kind, seed)(flat).numpy().astype(float).reshape(len(questions), -1)


def preferred(questions, scores, told, silent):
    """Return how often a reply that tells beats one that refuses, and by how much, a craft each."""
    pairs = [(s[t > 0], s[r > 0]) for s, t, r in zip(scores, told, silent)]
    both = [(q, a, b) for q, (a, b) in zip(questions, pairs) if len(a) and len(b)]
    wins = [(a[:, None] > b).mean() for _, a, b in both]
    gaps = [a.mean() - b.mean() for _, a, b in both]
    kept = [q for q, _, _ in both]
    return by_craft(kept, wins, "told wins") | by_craft(kept, gaps, "gap")


def traits(texts, scores, silent):
    """Return how a score goes with length and with refusal within a prompt, mean correlations."""
    words = np.array([[len(t.split()) for t in said] for said in texts], float)
    return {
        f"correlation, {name}": np.mean(
            [np.corrcoef(s, x)[0, 1] for s, x in zip(scores, table) if x.std() > 0]
        )
        for name, table in (("length", words), ("refusal", silent))
    }
