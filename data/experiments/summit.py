"""Does gold with a summit fall under a reward model that has seen only one side of it?

Length pleases these people up to 24 words and hurts beyond. "network short": a whole model from
1,000 labels on pairs that all lie below the summit; "network all": from as many on pairs of all
lengths; "line short", "line all": five numbers, linear in what the parser reads, fitted to the same
labels; "light": the control, gold of everybody else plus light noise. A minute an arm.
"""

from dataclasses import replace
from functools import cached_property, partial

from rlhf_lite import hacking
from rlhf_lite.annotators import auditor
from rlhf_lite.experiments import load
from rlhf_lite.proxies import fit_preferences

import numpy as np

hasty, draws = load("_hasty"), load("draws")

SEEDS, COUNT = (10, 11, 12, 13, 14), 1000
SUMMIT = 24.0  # words
PRICE = 4.5  # points lost at twice or at none of SUMMIT; at 40 words it is two points
ARMS = {
    **{f"network {pairs}": {"pairs": pairs} for pairs in ("short", "all")},
    **{f"line {pairs}": {"pairs": pairs, "line": True} for pairs in ("short", "all")},
    "light": {"seeds": draws.SEEDS},
}


class LAB(hasty.HastyLab):
    """A HastyLab with somebody for whom a response is best at SUMMIT words."""

    @cached_property
    def person(self):
        """Return this Annotator, as sure of their choices as the auditor is."""
        plain = auditor(self.world)
        return self.calibrated(
            replace(plain, values=plain.values | {"words": SUMMIT, "length": PRICE})
        )

    @cached_property
    def summit(self):
        """Return their utility of the pool, (P, N) [points]."""
        texts = self.pool.texts
        return np.array([[self.person.utility(self.read(t)) for t in said] for said in texts])

    @cached_property
    def short(self):
        """Return the base responses that are no longer than SUMMIT words, by prompt."""
        short = {
            p: [r for r in said if self.read(p + r).words <= SUMMIT]
            for p, said in self.responses.items()
        }
        return {p: said for p, said in short.items() if len(set(said)) > 1}


def measure(lab, seed, pairs="", line=False):
    """Push a proxy from labels of that person; return curves of gold, of words, and what it is."""
    if not pairs:
        return draws.measure(lab, seed)
    responses = lab.short if pairs == "short" else lab.responses
    labels = lab.labels(COUNT, seed, 1.0, responses=responses, person=lab.person)
    if line:
        table, weights = fitted(lab, labels)
        found = {"weights": weights}
    else:
        table = lab.table(lab.train(labels, seed))
        found = {"proxy": hasty.climb(table)}
    words = hacking.push(table, lab.pool.words, hasty.NS).mean(0)
    return {"gold": hacking.push(table, lab.summit, hasty.NS), "words": words, **found}


def fitted(lab, labels):
    """Return the table of a linear proxy, (P, N), and its five weights."""
    chosen, rejected = (
        np.array([numbers(lab.read(r["prompt"] + r[side])) for r in labels], dtype=float)
        for side in ("chosen", "rejected")
    )
    weights = fit_preferences(chosen - rejected, [r["tie"] for r in labels])
    seen = [numbers(lab.read(t)) for said in lab.pool.texts for t in said]
    return (np.array(seen) @ weights).reshape(lab.gold.shape), weights


def numbers(seen):
    """Return the five numbers that a linear proxy sees of a text."""
    return [min(seen.true, 3), seen.false, seen.unsupported, seen.garbled, seen.words]


BEYOND = "fall beyond the summit"
STATISTICS = {
    f"{BEYOND}, short pairs": partial(hasty.fall, name="network short"),
    f"{BEYOND}, all pairs": partial(hasty.fall, name="network all"),
    f"{BEYOND}, short - all": partial(hasty.fall_gap, one="network short", other="network all"),
    f"{BEYOND}, linear, short pairs": partial(hasty.fall, name="line short"),
    f"{BEYOND}, linear, short - all": partial(hasty.fall_gap, one="line short", other="line all"),
    "fall, light noise, fresh draws": partial(hasty.fall, name="light"),
}


def summary(lab, record):
    """Return what the summit is like: gold by length as [words, mean gold, samples]."""
    words, below = lab.pool.words, sum(map(len, lab.short.values()))
    return {
        "ns": hasty.NS, "words": SUMMIT, "price": PRICE, "labels": COUNT,
        "share below": below / sum(map(len, lab.responses.values())),
        "gold sd": lab.summit.std(1).mean(), "rationality": lab.person.rationality,
        "by length": [[int(w), lab.summit[words == w].mean(), int((words == w).sum())]
                      for w in np.unique(words) if w >= 8],
    }  # fmt: skip
