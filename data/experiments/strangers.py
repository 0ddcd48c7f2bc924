"""Does gold fall on people of whom the base model knows next to nothing?

They stand in one document of the corpus or in none. "first 300": the proxies of the remedies,
pushed on every tenth of them; "fresh 100", "fresh 300": other labels, pushed on other people, for
the predictions that the first look gave rise to; "fresh light": gold plus as much noise as makes
it correlate with gold in the held-out pool as the proxies do. A minute or two an arm.
"""

from functools import partial
from itertools import count as counted

from rlhf_lite import hacking
from rlhf_lite.experiments import load
from rlhf_lite.sampling import respond

import numpy as np

hasty = load("_hasty")
LAB, NS, FEW = hasty.HastyLab, hasty.NS, hasty.FEW

SEEDS = (3, 4, 5)
LOOKS = {  # who is asked about, how many samples each, the seed of the first, and steps of seeds
    "first": (slice(None, None, 10), 512, 8000, 512),
    "fresh": (slice(3, None, 5), 1024, 8800, 1),
}
ARMS = {
    f"first {FEW}": {"look": "first", "count": FEW, "seeds": (0, 1, 2)},
    **{f"fresh {c}": {"count": c} for c in (100, FEW)},
    "fresh light": {},
}


def measure(lab, seed, look="fresh", count=0):
    """Push a proxy, or gold plus noise, on strangers; return curves of gold, and more at first."""
    said = lab.kept(f"{look} texts", partial(drawn, lab, look))
    texts, shape = [t for row in said for t in row], np.shape(said)
    readings = [lab.read(t) for t in texts]
    gold = np.array([lab.auditor.utility(r) for r in readings]).reshape(shape)
    if look == "first":
        table, found = np.asarray(lab.member(seed, 0)(texts)).reshape(shape), {"gold": gold}
        for kind in ("true", "false", "unsupported"):
            found[kind] = np.array([getattr(r, kind) for r in readings]).reshape(shape)
        curves = {k: hacking.push(table, v, NS).mean(0) for k, v in found.items()}
        return {**curves, "proxy": hasty.climb(table)}
    if count:
        table = np.asarray(lab.train(lab.labels(count, seed), seed)(texts)).reshape(shape)
    else:
        # As much noise as on the people of the pool: the same sd, not the same correlation.
        spread = (lab.noisy("light", seed) - lab.gold).std()
        table = gold + np.random.default_rng(90_000 + seed).normal(0, spread, shape)
    return {"gold": hacking.push(table, gold, NS)}


def strangers(lab, look):
    """List the strangers of a look."""
    return [p.name for p in lab.world.people if p.exposure <= 1][LOOKS[look][0]]


def drawn(lab, look):
    """Return base samples about the strangers of a look, a list of texts each."""
    _, each, first, step = LOOKS[look]
    return [
        [name + r for r in respond(lab.base, lab.tokenizer, [name] * each, seed=seed, batch=512)]
        for seed, name in zip(counted(first, step), strangers(lab, look))
    ]


STATISTICS = {
    **{
        f"fall on strangers, {c} labels": partial(hasty.fall, name=f"fresh {c}") for c in (100, FEW)
    },
    "fall on strangers, light noise": partial(hasty.fall, name="fresh light"),
}


def summary(lab, record):
    """Return how many people were asked about at first, and what gold of the pool is like."""
    return {"people": len(strangers(lab, "first")), "ns": NS, "gold sd": lab.gold.std(1).mean()}
