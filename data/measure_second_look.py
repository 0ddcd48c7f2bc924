"""Look at notebook 06 a second time, with more power; record it in data/runs/second_look.json.

    python data/measure_second_look.py        # about half an hour on one core

First, twenty fresh draws of 100 and of 300 labels, where three could not tell whether gold falls.
Second, a gold with a summit: length pleases up to 24 words and hurts beyond. Reward models learn it
from pairs that all lie below the summit, or from as many pairs of all lengths. Third, the same with
a reward model of five numbers, linear in what the parser reads.

Killed? The same command goes on: each finished arm lies in data/runs/my-hacking.
"""

import json
from dataclasses import replace

from rlhf_lite import hacking, records, rewards
from rlhf_lite.annotators import calibrate

import numpy as np
from measure_hacking import EACH, FOLDER, NOISE_CORRELATION, NS, Bench, clustered, noisy, tidy
from tqdm import tqdm

DRAWS = tuple(range(10, 30))  # seeds of labels and of training, none of them used before
FEW = (100, 300)
SUMMIT = 24.0  # words
PRICE = 4.5  # points lost at twice or at none of SUMMIT; at 40 words it is two points
SEEDS = (10, 11, 12, 13, 14)
COUNT = 1000


def summit_auditor(own):
    """Return the auditor for whom a response is best at SUMMIT words, as sure as the other one."""
    values = own.auditor.values | {"words": SUMMIT, "length": PRICE}
    gold = replace(own.auditor, values=values)
    utilities = [
        np.array([gold.utility(own.read(p + r)) for r in said[:40]])
        for p, said in own.asked.items()
    ]
    return calibrate(gold, utilities, own.read.settings["agreement"])


def below_summit(own):
    """Return the base responses that are no longer than SUMMIT words, by prompt."""
    short = {
        p: [r for r in said if own.read(p + r).words <= SUMMIT] for p, said in own.asked.items()
    }
    return {p: said for p, said in short.items() if len(set(said)) > 1}


def draw_arm(own, count, seed):
    """Train a reward model on fresh labels; return gold of best-of-n, prompt by prompt."""
    table = own.on_pool(own.train("whole", own.labels(count, seed), seed))
    return {"gold": [tidy(row) for row in hacking.push(table, own.gold, NS)]}


def summit_arm(own, gold, pool, seed):
    """Train a reward model on labels of people with a summit, on some pool of responses.

    Returns the curves of best-of-n: gold prompt by prompt, proxy and words in the mean.
    """
    table = own.on_pool(own.train("whole", own.labels(COUNT, seed, 1.0, pool=pool), seed))
    proxy = hacking.push(table, table, NS).mean(0)
    return {
        "gold": [tidy(row) for row in hacking.push(table, gold, NS)],
        "proxy": tidy((proxy - proxy[0]) / table.std(1).mean()),
        "words": tidy(hacking.push(table, own.words, NS).mean(0)),
    }


def numbers(reading):
    """Return the five numbers that a linear reward model sees of a text."""
    return [
        min(reading.true, 3), reading.false, reading.unsupported, reading.garbled, reading.words
    ]  # fmt: skip


def linear_arm(own, gold, pool, seed):
    """Fit a linear reward model to the labels of `summit_arm`; return curves and weights."""
    labels = own.labels(COUNT, seed, 1.0, pool=pool)
    chosen, rejected = (
        np.array([numbers(own.read(r["prompt"] + r[side])) for r in labels], dtype=float)
        for side in ("chosen", "rejected")
    )
    weights = rewards.fit_preferences(chosen - rejected, [r["tie"] for r in labels])
    table = np.array([numbers(own.read(t)) for t in own.texts]) @ weights
    table = table.reshape(own.gold.shape)
    return {
        "gold": [tidy(row) for row in hacking.push(table, gold, NS)],
        "words": tidy(hacking.push(table, own.words, NS).mean(0)),
        "weights": tidy(weights),
    }


def kept(name, make):
    """Return an arm from its file, made and written down where there is none."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        path.write_text(json.dumps(make()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def summit(own):
    """Return what the reward models of either pool do to a gold with a summit."""
    own.auditor = summit_auditor(own)
    gold = np.array([own.auditor.utility(own.read(t)) for t in own.texts])
    gold = gold.reshape(own.gold.shape)
    short, found = below_summit(own), {}
    for kind, pool in (("short", short), ("all", own.asked)):
        for seed in tqdm(SEEDS, desc=f"{kind} pairs"):
            name = f"summit {kind} {seed}"
            arm = kept(name, lambda s=seed, p=pool: summit_arm(own, gold, p, s))
            found.setdefault(kind, []).append(arm)
            line = kept(f"linear {kind} {seed}", lambda s=seed, p=pool: linear_arm(own, gold, p, s))
            found.setdefault(f"linear, {kind}", []).append(line)
    return {
        "words": SUMMIT, "price": PRICE, "labels": COUNT, "seeds": SEEDS,
        "share below": sum(map(len, short.values())) / sum(map(len, own.asked.values())),
        "gold sd": float(gold.std(1).mean()),
        "rationality": own.auditor.rationality,
        "by length": [[int(w), round(float(gold[own.words == w].mean()), 3),
                       int((own.words == w).sum())] for w in np.unique(own.words) if w >= 8],
        "arms": {k: [{**a, "gold": tidy(np.mean(a["gold"], 0))} for a in v]
                 for k, v in found.items()},
    }, {k: np.array([hacking.fall(a["gold"]) for a in v]) for k, v in found.items()}  # fmt: skip


def main():
    records.plain_output()
    own = Bench()
    curves = {
        count: np.array([
            kept(f"draw {count} {s}", lambda c=count, s=s: draw_arm(own, c, s))["gold"]
            for s in tqdm(DRAWS, desc=f"{count} labels")
        ])
        for count in FEW
    }  # fmt: skip
    light = [hacking.push(noisy(own, NOISE_CORRELATION, "light", s), own.gold, NS) for s in DRAWS]
    spread = float(own.gold.std(1).mean())
    top, falls = summit(own)
    claims = {
        f"fall, {count} labels, fresh draws": clustered([hacking.fall(c) for c in rows])
        for count, rows in curves.items()
    } | {
        "fall, light noise, fresh draws": clustered([hacking.fall(c) for c in light]),
        "fall beyond the summit, short pairs": clustered(falls["short"]),
        "fall beyond the summit, all pairs": clustered(falls["all"]),
        "fall beyond the summit, short - all": clustered(falls["short"] - falls["all"]),
        "fall beyond the summit, linear, short pairs": clustered(falls["linear, short"]),
        "fall beyond the summit, linear, short - all": clustered(
            falls["linear, short"] - falls["linear, all"]
        ),
    }  # fmt: skip
    results = {
        "ns": NS, "pool": EACH, "gold sd": spread, "draws": DRAWS,
        "curves": {f"{c} labels": [tidy(np.mean(row, 0)) for row in rows]
                   for c, rows in curves.items()},
        "summit": top, "claims": claims,
    }  # fmt: skip
    records.write_record("second_look", results, "python data/measure_second_look.py", list(DRAWS))
    print(json.dumps(claims, indent=1))


if __name__ == "__main__":
    main()
