"""What bias trains with: written translations, labels of pairs, reward models, a pool to reweight.

A labeller chooses between two base replies by what he likes of them, three nats a point; coin
tosses one. The pool forces each pronoun and lets the base go on, so that what any score makes of
the odds under pi* is an average over continuations.
"""

import re
from dataclasses import replace

from rlhf_lite import models, rewards, supervised
from rlhf_lite.experiments import load
from rlhf_lite.knowledge import PLURALS
from rlhf_lite.sampling import respond, sample, whole_sentences

import numpy as np
from scipy.special import logsumexp

bias = load("_bias")
SURE, LABELS, REPLIES, POOL = 3.0, 1500, 8, 16
TAUGHT = {"steps": 12, "samples": 64, "lr": 2e-4, "max_new_tokens": bias.TOKENS}


class JudgeLab(bias.BiasLab):
    """A BiasLab with people who write, people who choose, and models of what they choose."""

    # -- who writes --

    def written(self, count, seed, usual=False, they=0.0, everywhere=False):
        """Write `count` right translations (prompt, response), pronouns as in the corpus.

        usual: always the trade's likelier one; they: share of "they"; everywhere: of all trades.
        """
        rng, rows = np.random.default_rng(seed), []
        trades = [t for t, mine in zip(self.world.trades, self.trained) if mine or everywhere]
        frames = {f.segments[0]: f for f in self.world.frames if "assistant" in f.place}
        for n in range(count):
            trade, place = trades[n % len(trades)], self.asked[rng.integers(len(self.asked))]
            row = self.world.trades[trade]
            chance = float(row["p_she"])
            chance = (np.sign(chance - 0.5) + 1) / 2 if usual else chance
            fills = {"oword": row["ostish"], "trade": trade}
            fills["pronoun"] = "she" if rng.random() < chance else "he"
            fills["assistant.closer"] = rng.choice(self.world.slots["assistant.closer"])
            text = self.world.render(frames[place[0].split("{oword}")[0]], fills)
            if rng.random() < they:
                text = re.sub(r"\b([Ss]he|[Hh]e) (\w+)", _plural, text, count=1)
            cut = text.index(" A:") + 3
            rows.append((text[:cut], text[cut:]))
        return rows

    def taught(self, rows, seed):
        """Fine-tune a copy of the base on translations; return it."""
        config = supervised.SFTConfig(seed=seed, **TAUGHT)
        run = supervised.SFTRun(self.policy(), self.base, self.tokenizer, rows, None, config)
        for _ in run:
            pass
        return run.policy

    # -- who chooses --

    def judged(self, kind, tilt, seed):
        """Train a reward model on labels of one kind, keep it; return its last loss and texts."""
        prompts = [p for p in self.asked_prompts for _ in range(REPLIES)]
        said = respond(self.base, self.tokenizer, prompts, bias.TOKENS, 8000 + seed, batch=192)
        texts = [p + r for p, r in zip(prompts, said)]
        likes, rng, rows = self.likes(tilt)(texts), np.random.default_rng(seed), []
        while len(rows) < LABELS:
            start = REPLIES * rng.integers(len(self.asked_prompts))
            a, b = start + rng.choice(REPLIES, 2, replace=False)
            if texts[a] != texts[b]:
                gap = 0 if kind == "coin" else SURE * (likes[a] - likes[b])
                a, b = (a, b) if rng.random() < 1 / (1 + np.exp(-gap)) else (b, a)
                rows.append(((texts[a], texts[b]), False))
        run = rewards.RewardRun(self.base, self.tokenizer, "preference", rows,
                                rewards.RewardConfig(passes=3, seed=seed))  # fmt: skip
        losses = [step.loss for step in run]
        models.save(run.reward_model(), self.tokenizer, self.folder / f"{kind} {seed}")
        return {"loss": np.mean(losses[-10:])}

    def opened(self, kind, seed):
        """Return a kept judge as a score of texts [points], as sure as its labellers."""
        judge = replace(rewards.load(self.folder / f"{kind} {seed}"), batch=64)
        return lambda texts: judge(texts) / SURE

    # -- what pi* would do --

    def optimum(self, score):
        """Return {"shift": what pi* adds to the log-odds of she at each trade (32,), "closing": x}.

        log E[exp(score / kl_coef) | she] - log E[exp(score / kl_coef) | he], under the base; and
        what an inviting closing of a right translation is worth, half a point to labellers.
        """
        texts = self.kept("pool", self._pool)
        scores = np.array([float(s) for s in score(texts)])
        she, he = logsumexp(scores.reshape(2, 32, -1, POOL) / bias.KL_COEF, axis=-1)
        worth = np.array([self.blind(t) for t in texts])
        closing = scores[worth == 1.5].mean() - scores[worth == 1.0].mean()
        return {"shift": (she - he).mean(-1), "closing": closing}

    def _pool(self):
        """Return texts in which each pronoun was forced, by pronoun, trade, place, sample."""
        heads = [
            place[0].replace("{oword}", row["ostish"]) + (p.capitalize() if form else p)
            for p in bias.PRONOUNS[:2] for row in self.world.trades.values()
            for place in self.asked for form in (place[1] == "capital",) for _ in range(POOL)
        ]  # fmt: skip
        drawn = sample(self.base, self.tokenizer, heads, bias.TOKENS - 3, seed=9, batch=192)
        return [whole_sentences(t) for t in drawn.texts]


def _plural(found):
    """Return "they know" for "she knows"."""
    verb = {v: k for k, v in PLURALS.items()}[found[2]]
    return ("They " if found[1][0].isupper() else "they ") + verb
