"""The scholar's labels, reward models from them, and the ruler: how a model goes with the scholar.

Shared by the experiment on rewards and by data/make_reward.py. The ruler is about people whom no
label is about.
"""

import time
from dataclasses import replace

from rlhf_lite import judging, rewards
from rlhf_lite.edits import edits
from rlhf_lite.labellers import Labeller, ask

import numpy as np

SHIPPED = 20_000  # labels behind the reward model that later notebooks start from
RATERS = 20  # where their ladders differ


def train(lab, seed, count, kind="preference", change=None, **people):
    """Return a Reward from the labels of an arm, and the seconds of its training."""
    rows = rows_of(lab, seed, kind, labels(lab, seed, kind, count, **people), change)
    start = time.perf_counter()
    model = lab.train_reward(rows, seed, kind)
    return rewards.Reward(model, lab.tokenizer), time.perf_counter() - start


def labels(lab, seed, kind, count, rationality=1.0, offset=0.0):
    scholar, rng = lab.people["scholar"], np.random.default_rng(10_000 + seed)
    shifts = rng.normal(0, offset * spread(lab), RATERS) if offset else [0.0]
    found, first = [], 30_000 + 100 * seed if offset else 20_000 + seed
    for number, shift in enumerate(shifts):
        person = replace(scholar, rationality=scholar.rationality * rationality, offset=shift)
        labeller = Labeller(lab.world, person, first + number, lab.read)
        found += ask(labeller, kind, lab.responses, count // len(shifts), rng)
    return [found[i] for i in rng.permutation(len(found))] if offset else found


def rows_of(lab, seed, kind, asked, change):
    """Return labels, changed as an arm says, as `rewards.examples`."""
    base = None
    if change == "shuffled":
        tosses = np.random.default_rng(50_000 + seed).random(len(asked))
        swapped = [r | {"chosen": r["rejected"], "rejected": r["chosen"]} for r in asked]
        asked = [s if toss < 0.5 else r for r, s, toss in zip(asked, swapped, tosses)]
    if change == "rivals":
        # That is the likelihood, by pairs, of a choice among all edits, drawn evenly.
        rng = np.random.default_rng(60_000 + seed)
        for r in asked:
            texts = [t for t, _ in edits(lab.world, r["prompt"], r["response"], rng)]
            rivals = [t for t in (r["response"], *texts) if t != r["corrected"]]
            r["response"] = rivals[rng.integers(len(rivals))]
    if kind == "demonstration":
        rng, said = (
            np.random.default_rng(40_000 + seed),
            [lab.responses[r["prompt"]] for r in asked],
        )
        base = [texts[rng.integers(len(texts))] for texts in said]
    return rewards.examples(kind, asked, base, located=change != "whole")


def ruler(lab, reward, responses):
    """Return how the scores of responses go with the scholar's utility."""
    scholar, texts = lab.people["scholar"], [p + r for p, said in responses.items() for r in said]
    truth, flat = lab.utilities(scholar, responses), np.asarray(reward(texts))
    parts = np.split(flat, np.cumsum([len(u) for u in truth])[:-1])
    length = np.corrcoef(flat, [len(t.split()) for t in texts])[0, 1]
    return judging.ruler(parts, truth, scholar.rationality) | {"length": length}


def spread(lab):
    """Return the sd of the scholar's utility of what is said to one prompt, its mean [points]."""
    return float(np.mean([u.std() for u in lab.utilities(lab.people["scholar"], lab.held_out)]))
