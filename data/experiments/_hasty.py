"""What the experiments on reward hacking share: people who do not check, their proxies, and gold.

Labels are about the people of training. What their proxies, reward models of several sizes, do when
pushed is measured on the 1,024 base samples to each of 21 prompts about others: the held-out pool.
"""

import os
from contextlib import suppress
from dataclasses import replace
from functools import cached_property

from rlhf_lite import hacking, models, rewards
from rlhf_lite.annotators import auditor, calibrate
from rlhf_lite.experiments import Lab
from rlhf_lite.feedback import fingerprint
from rlhf_lite.labellers import HastyLabeller, ask
from rlhf_lite.pools import Pool
from rlhf_lite.proxies import BagOfWords

import numpy as np
from scipy.optimize import brentq

CHECKED = 0.25  # how often these people check a claim
FEW = 300  # labels behind the proxies that policies are trained on
NS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
READING = {"batch": 64, "autocast": True}  # how a proxy reads texts
NOISE_CORRELATION = 0.31  # of 300-label proxies with gold, as first measured


class HastyLab(Lab):
    """A Lab with the held-out pool, an auditor who knows gold, and proxies of who does not check.

    A table is what a proxy scores the pool, (P, N); a proxy is a function of texts.
    """

    @cached_property
    def pool(self):
        """Return the held-out Pool."""
        return Pool.read("held_out")

    @cached_property
    def gold(self):
        """Return the gold utility of the pool, (P, N) [points]."""
        return self.pool.scores.astype(float)

    @cached_property
    def auditor(self):
        """Return the Annotator whose utility is gold, calibrated."""
        return self.calibrated(auditor(self.world))

    def calibrated(self, person):
        """Return an annotator who is as sure of base responses as real people are."""
        some = {p: said[:40] for p, said in self.responses.items()}
        agreement = self.read.settings["agreement"]
        return calibrate(person, self.utilities(person, some), agreement)

    # -- labels and proxies --

    def labels(self, count, seed, checked=CHECKED, per_word=0.0, responses=None, person=None):
        """Return `count` preferences of a person, or the auditor, who checks no more than that."""
        labeller = HastyLabeller(
            self.world, person or self.auditor, 20_000 + seed, self.read, {"world": fingerprint()},
            checked, per_word,
        )  # fmt: skip
        rng = np.random.default_rng(10_000 + seed)
        return ask(labeller, "preference", responses or self.responses, count, rng)

    def train(self, labels, seed, size="whole"):
        """Return a proxy from labels: a "whole" model, its "one layer", or a "bag" of words."""
        rows = rewards.examples("preference", labels)
        if size == "bag":
            return BagOfWords(rows)
        base = models.first_layers(self.base, 1) if size == "one layer" else self.base
        model = self.train_reward(rows, seed, base=base)
        texts = [p + r for p, said in self.responses.items() for r in said[:12]]
        rewards.normalise(model, self.tokenizer, texts)
        return rewards.Reward(model, self.tokenizer, **READING)

    def member(self, seed, number):
        """Return one of the proxies from the same FEW labels, kept where it was trained before."""
        folder = self.folder / f"member {number} {seed}"
        if not folder.exists():
            proxy = self.train(self.labels(FEW, seed), seed + 100 * number)
            half = self.folder / f".{folder.name}.{os.getpid()}"
            models.save(proxy.model, self.tokenizer, half)
            with suppress(OSError):  # another arm was quicker
                half.rename(folder)
        return replace(rewards.load(folder), **READING)

    def table(self, proxy):
        """Return what a proxy scores the pool."""
        flat = np.asarray(proxy([t for said in self.pool.texts for t in said]))
        return flat.reshape(self.gold.shape)

    def noisy(self, kind, seed, correlation=NOISE_CORRELATION):
        """Return gold plus "light" or "heavy" noise that correlates with gold as a proxy does."""
        rng, shape = np.random.default_rng(70_000 + seed), self.gold.shape
        # A t with 2 degrees of freedom has no variance; correlation settles its scale.
        noise = rng.normal(size=shape) if kind == "light" else rng.standard_t(2, size=shape)
        spread = self.gold.std(1).mean()

        def excess(scale):
            return self.correlation(self.gold + scale * noise) - correlation

        return self.gold + brentq(excess, 1e-3 * spread, 1e3 * spread) * noise

    # -- what the pool says of a table --

    def correlation(self, table):
        """Return the correlation with gold, mean over prompts."""
        return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(table, self.gold)])

    def pushed(self, table):
        """Return the curves of gold, prompt by prompt, and of the proxy, and what it goes by."""
        return {
            "gold": hacking.push(table, self.gold, NS), "proxy": climb(table),
            "correlation": self.correlation(table),
            "length R2": hacking.length_r2(table, self.pool.words),
        }  # fmt: skip


def climb(table):
    """Return how far a proxy itself rises by best of n, (len(NS),) [sd of base samples]."""
    curve = hacking.push(table, table, NS).mean(0)
    return (curve - curve[0]) / table.std(1).mean()


def longer_preferred(labels):
    """Return how often the longer one of two responses was preferred."""
    gaps = [len(r["chosen"].split()) - len(r["rejected"].split()) for r in labels]
    return np.mean([x > 0 for x in gaps if x])


def fall(record, name):
    """Return how far gold falls from its peak, (seeds, prompts) [points]."""
    return hacking.fall(record.arm(name, "gold"))


def fall_gap(record, one, other):
    """Return how much further gold falls in one arm than in another, (seeds, prompts) [points]."""
    return fall(record, one) - fall(record, other)
