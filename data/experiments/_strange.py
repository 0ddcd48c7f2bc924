"""What experiments on strangers share: base samples about them, gold in its terms, and remedies.

Strangers stand in one document of the corpus or in none. Those whom `strangers` looked at are left
out: of each five others one is measured, and labels are asked about two.
"""

from collections import namedtuple
from functools import cached_property, partial

from rlhf_lite import hacking, optimum, proxies
from rlhf_lite.experiments import by_prompt, load
from rlhf_lite.sampling import respond

import numpy as np
import torch

hasty = load("_hasty")
FEW = hasty.FEW

NS = (1, 2, 4, 8, 16, 32, 64)  # up to a tenth of the samples: beyond, too few texts carry the mean
MEASURED, ASKED = (1,), (2, 4)  # places in each five strangers
EACH, LABELLED = 1024, 100  # base samples of a stranger of either lot
COEFS = (4.0, 2.0, 1.4, 1.0, 0.7)  # KL coefficients of the exact optimum on the proxy
MEMBERS = 5

Crowd = namedtuple("Crowd", "prompts texts points")  # P, P lists of N, gold's terms (P, N, 8)


class StrangeLab(hasty.HastyLab):
    """A HastyLab that knows two crowds, each with gold in its terms, and remedies."""

    @cached_property
    def known(self):
        """Return the Crowd of the held-out pool."""
        return self._crowd("known", self.pool.prompts, self.pool.texts)

    @cached_property
    def strange(self):
        """Return the Crowd of the strangers who are measured."""
        texts = self.kept("strange texts", partial(self._drawn, MEASURED, EACH, 9000))
        return self._crowd("strange", self.strangers(MEASURED), texts)

    @cached_property
    def asked(self):
        """Return {prompt: base responses} about other strangers, whom labels may be about."""
        drawn = self.kept("asked texts", partial(self._drawn, ASKED, LABELLED, 9500))
        pairs = [(n, t[len(n) :]) for n, row in zip(self.strangers(ASKED), drawn) for t in row]
        return by_prompt(*zip(*pairs))

    def strangers(self, places):
        """List the strangers at these places of each five."""
        names = [p.name for p in self.world.people if p.exposure <= 1]
        return [name for number, name in enumerate(names) if number % 5 in places]

    def _drawn(self, places, each, first):
        return [
            [name + r for r in respond(self.base, self.tokenizer, [name] * each, seed=s, batch=512)]
            for s, name in enumerate(self.strangers(places), first)
        ]

    def _crowd(self, name, prompts, texts):
        def read():
            return [[self.auditor.points(self.read(t)) for t in row] for row in texts]

        return Crowd(prompts, texts, np.array(self.kept(f"{name} points", read)))

    def remedy(self, kind, seed):
        """Return the proxy that a remedy leads to, a function of texts, each from FEW labels.

        "single": of people who check one claim in four, about the people of training; "worst": the
        worst of five such; "length": one without what a line in length explains; "checked": of
        people who check every claim; "asked busy", "asked checked": of either people, about
        strangers; "coin": of a coin.
        """
        if kind == "worst":
            members = [self.member(seed, m) for m in range(MEMBERS)]
            return lambda texts: proxies.ensemble(torch.stack([m(texts) for m in members]), "worst")
        if kind in ("single", "length"):
            single = self.member(seed, 0)
            if kind == "single":
                return single
            return load("remedies").without_length(self, single, self.table(single))
        checked = 1.0 if kind.endswith("checked") else hasty.CHECKED
        asked = self.asked if kind.startswith("asked") else self.responses
        labels = self.labels(FEW, seed, checked, responses=asked)
        return self.train(tossed(labels, seed) if kind == "coin" else labels, seed)


def tossed(labels, seed):
    """Return preferences whose winner a coin has named."""
    rng = np.random.default_rng(60_000 + seed)
    return [
        r | {"chosen": r["rejected"], "rejected": r["chosen"]} if rng.random() < 0.5 else r
        for r in labels
    ]


def scored(proxy, crowd):
    """Return what a proxy scores a crowd, (P, N)."""
    flat = np.asarray(proxy([t for row in crowd.texts for t in row]), dtype=float)
    return flat.reshape(crowd.points.shape[:2])


def told(table, crowd):
    """Return what best of n and the exact optimum, each on a table of scores, do to gold.

    gold (P, K) and its terms (8, K) [points], proxy (K,) [its own units] by best of NS; tilted: of
    exp(score / kl_coef) for each of COEFS: KL [nats] and gold [points], (C, P), and the smallest
    effective number of samples, (C,).
    """
    gold = crowd.points.sum(-1)
    terms = [hacking.push(table, term, NS).mean(0) for term in np.moveaxis(crowd.points, -1, 0)]
    tilts = [optimum.weights(table, c) for c in COEFS]
    return {
        "gold": hacking.push(table, gold, NS), "terms": terms,
        "proxy": hacking.push(table, table, NS).mean(0),
        "tilted": {
            "kl": [(w * np.log(np.maximum(w, 1e-300) * w.shape[1])).sum(1) for w in tilts],
            "gold": [(w * gold).sum(1) for w in tilts],
            "ess": [(1 / (w**2).sum(1)).min() for w in tilts],
        },
    }  # fmt: skip
