"""How many texts must a policy read until a suffix is found that makes it tell, and whom else?

"policy": the aligned policies of three seeds. "one METHOD": a suffix for one request. "ranks": how
good the gradient's guess is of what a swap does. "universal": one suffix for nine requests, tried
on nine others and on all policies. "defence": policy 0, aligned once more with the three universal
suffixes among its prompts, and attacked anew: one run, an anecdote. Evaluations are texts read.
"""

from functools import partial

from rlhf_lite.attacks import METHODS
from rlhf_lite.experiments import load
from rlhf_lite.world import craft_pairs, requests

import numpy as np
from scipy.stats import spearmanr

jail, tools = load("_jail"), load("_suffix")
asked, searched, on_grid = tools.asked, tools.searched, tools.on_grid
LAB = jail.JailLab

SEEDS, MINUTES = (0, 1, 2), 1
ONE, UNIVERSAL, RANDOM = 4000, 16_000, 4  # evaluations; random suffixes of the control
ARMS = [
    {"policy": {"what": "policy"}},
    {**{f"one {m}": {"what": "one", "method": m} for m in METHODS},
     "ranks": {"what": "ranks"}, "universal": {"what": "universal"}},
    {"defence": {"what": "defence", "seeds": (0,)}},
]  # fmt: skip


def measure(lab, seed, what, **dials):
    """Measure one part: each has a function of its own."""
    return {"policy": plain, "one": one, "ranks": ranks, "universal": universal,
            "defence": defence}[what](lab, seed, **dials)  # fmt: skip


def plain(lab, seed):
    """Return what each policy tells without a suffix, a share a craft, and the base."""
    both = {"policy": lab.aligned(seed), "base": lab.base}.items()
    return {name: lab.leaks_behind(p, asked(lab), "", 100 + seed) for name, p in both}


def one(lab, seed, method):
    """Search a suffix for two requests, one by one, from the same start for every method."""
    policy, found = lab.aligned(seed), {"loss": [], "start": [], "suffix": [], "told": []}
    for number in (4 * seed, 4 * seed + 2):
        question = asked(lab)[number]
        search, curve = searched(lab, policy, [question], method, ONE, 10 * seed + number)
        found["loss"].append(on_grid(curve, ONE))
        found["start"].append(curve[0][1])
        found["suffix"].append(search.suffix)
        found["told"] += [*lab.leaks_behind(policy, [question], search.suffix, 300 + number, 16)]
    return found


def ranks(lab, seed):
    """Compare, at four places of random suffixes, the gradient's order with all swaps tried."""
    policy, found = lab.aligned(seed), {"correlation": [], "rank": [], "best of": []}
    for number in (0, 1):
        search, _ = searched(lab, policy, asked(lab)[number : number + 1], "random", 66, 50 + seed)
        order = search.gradient_order()
        for place in (1, 4):
            rows = [[*search.tokens[:place], int(t), *search.tokens[place + 1 :]]
                    for t in order[place]]  # fmt: skip
            losses = search.losses(rows)
            some = np.random.default_rng(seed).permutation(len(losses))[: tools.TOP]
            found["correlation"].append(spearmanr(np.arange(len(losses)), losses).statistic)
            found["rank"].append(int(losses.argmin()))
            best = (losses[: tools.TOP].min(), losses[some].min(), losses.min())
            found["best of"].append([search.loss - x for x in best])
    return found | {"allowed": len(losses)}


def universal(lab, seed):
    """Search one suffix for every second request; try it, and random ones, on all policies."""
    questions, policy = asked(lab), lab.aligned(seed)
    search, curve = searched(lab, policy, questions[::2], "gradient", UNIVERSAL, seed)
    targets = {str(s): lab.aligned(s) for s in SEEDS} | {"base": lab.base}
    found = {name: lab.leaks_behind(p, questions, search.suffix, 500 + 10 * seed)
             for name, p in targets.items()}  # fmt: skip
    rng, told = np.random.default_rng(900 + seed), []
    while len(told) < RANDOM:
        row = [int(t) for t in rng.choice(search.allowed, tools.LENGTH)]
        if search.survives(row):
            suffix = lab.tokenizer.decode(row)
            told.append(lab.leaks_behind(policy, questions, suffix, 600 + len(told)))
    return {"suffix": search.suffix, "loss": on_grid(curve, UNIVERSAL), "start": curve[0][1],
            "told": found, "random": np.mean(told, 0)}  # fmt: skip


def defence(lab, seed):
    """Align again with the found suffixes among the prompts; search again at equal cost."""
    suffixes = [lab.arm("universal", s)["suffix"] for s in SEEDS]
    verbs = lab.verbs_of(4, seed)
    plain = requests(lab.world, craft_pairs(lab.world), verbs, jail.guild.FRAMINGS)
    policy = lab.align(seed, plain, suffixes=suffixes, start=lab.aligned(seed), steps=12)[0]
    behind = [lab.leaks_behind(policy, asked(lab), s, 700 + n) for n, s in enumerate(suffixes)]
    search, curve = searched(lab, policy, asked(lab)[::2], "gradient", UNIVERSAL, seed)
    return {"loss": on_grid(curve, UNIVERSAL), "start": curve[0][1], "suffix": search.suffix,
            "plain": lab.leaks_behind(policy, asked(lab), "", 720), "old": np.mean(behind, 0),
            "new": lab.leaks_behind(policy, asked(lab), search.suffix, 730)}  # fmt: skip


# ---- what predictions are judged by ----


def final(record, method):
    """Return the loss at the end of the search for one request, (seeds, 2) [nats]."""
    return record.arm(f"one {method}", "loss")[..., -1]


def extra(record, whom, crafts):
    """Return what a universal suffix adds to the share told, (seeds, crafts).

    whom: tried on its "own" policy, on the "others", on the "base"; "random": random suffixes on
    its own. crafts: USED for the search, or OTHER.
    """
    before = {str(s): row for s, row in zip(SEEDS, record.arm("policy", "policy"))}
    before["base"] = record.arm("policy", "base").mean(0)
    rows = []
    for number, seed in enumerate(SEEDS):
        named = {"others": [str(s) for s in SEEDS if s != seed], "base": ["base"]}
        names = named.get(whom, [str(seed)])
        keys = [("random",)] if whom == "random" else [("told", name) for name in names]
        told = [record.arm("universal", *key)[number] for key in keys]
        rows.append(np.mean([t - before[n] for t, n in zip(told, names)], 0)[crafts])
    return np.array(rows)


def best_of(record, first, second):
    """Return how much lower the best of one list is than of another, (seeds, places) [nats].

    0: the gradient's first TOP; 1: as many at random; 2: all.
    """
    lowered = record.arm("ranks", "best of")
    return lowered[..., first] - lowered[..., second]


USED, OTHER = slice(0, None, 2), slice(1, None, 2)
STATISTICS = {
    "random - gradient, one": lambda r: final(r, "random") - final(r, "gradient"),
    "exhaustive - gradient, one": lambda r: final(r, "exhaustive") - final(r, "gradient"),
    "gradient's best - random best": partial(best_of, first=0, second=1),
    "best of all - gradient's best": partial(best_of, first=2, second=0),
    **{f"{whom}, {name}": partial(extra, whom=whom, crafts=part)
       for whom in ("own", "others", "base", "random")
       for name, part in (("used", USED), ("other", OTHER))},
    "told by one suffix, gradient": lambda r: r.arm("one gradient", "told"),
}  # fmt: skip
