"""What is a demonstration worth, in preferences, and to whom?

"sft D": D demonstrations of careful people; "dpo P", "labels P": P of their preferences, by DPO, or
by a reward model that picks the best of 16 for SFT ("picks") and is the score of PPO ("ppo"); "half
D": SFT on D, then PPO by 512 preferences; "sure": people who are surer; "fast": SFT at 1e-3;
"coin": people who choose by luck, the control. The test asks about others. Half a minute an arm.
"""

from rlhf_lite.experiments import load

import numpy as np

less = load("_less")
LAB = less.LessLab

SEEDS, MINUTES = (0, 1, 2), 0.7
WRITTEN, BUDGET, SURE = (8, 32, 128, 512, 1024), 1024, 4.0
ARMS = [
    {"base": {"how": "base", "draw": 100}},  # first, so that base responses are read once
    {
        **{f"sft {n}": {"how": "sft", "count": n, "draw": 200 + i} for i, n in enumerate(WRITTEN)},
        f"labels {BUDGET}": {"how": "labels", "count": BUDGET, "draw": 300},
        f"dpo {BUDGET}": {"how": "dpo", "count": BUDGET, "draw": 400},
        "half 128": {"how": "half", "count": 128, "draw": 500},  # at a price of 4
        "sure sft 128": {"how": "sft", "count": 128, "draw": 600, "sure": SURE},
        f"sure dpo {BUDGET}": {"how": "dpo", "count": BUDGET, "draw": 700, "sure": SURE},
        f"fast sft {BUDGET}": {"how": "sft", "count": BUDGET, "draw": 750, "lr": 1e-3},
        "coin sft 128": {"how": "sft", "count": 128, "draw": 800, "sure": 0.0},
        "coin ppo 512": {"how": "ppo", "count": 512, "draw": 810, "sure": 0.0},
    },
]  # fmt: skip


def measure(lab, seed, how, draw, count=0, sure=1.0, lr=3e-4):
    """Train a policy on labels of one kind; return the gold of its responses about others."""
    fresh, policy = 10 * draw + seed, lab.policy()
    if how == "base":
        _ = lab.worth
        return tested(lab, policy, fresh)
    if how == "sft":
        return tested(lab, lab.imitate(policy, lab.written(count, seed, sure), seed, lr), fresh)
    if how == "dpo":
        return tested(lab, lab.directly(count, seed, sure), fresh)
    labels = BUDGET // 2 if how == "half" else count
    score = lab.learned(lab.preferred(labels, seed, sure), seed)
    if how == "half":
        policy = lab.imitate(policy, lab.written(count, seed), seed)
    pushed = tested(lab, lab.push(policy, score, seed), fresh)
    if how != "labels":
        return pushed
    picked = lab.imitate(lab.policy(), lab.picks(score, seed), seed)
    return {"ppo": pushed, "picks": tested(lab, picked, fresh + 50)}


def tested(lab, policy, seed):
    """Return what a LessLab does, of lengths the mean alone, so that the record stays small."""
    found = lab.tested(policy, seed)
    return found | {"words": found["words"].mean()}


# ---- what predictions are judged by ----


def gold(record, arm, *part):
    """Return the gold of an arm's responses, (seeds, prompts) [points]."""
    return record.arm(arm, *part, "gold").mean(-1)


def curve(record):
    """Return (log2 of the numbers of demonstrations, gold of SFT on them (seeds, K) [points])."""
    names = record.names("sft")
    counts = [int(name.split()[-1]) for name in names]
    return np.log2(counts), np.stack([gold(record, n).mean(1) for n in names], 1)


def exchange(record, arm, *part, budget=BUDGET):
    """Return log2 of how many preferences a demonstration replaces, by seed.

    The number of demonstrations at which SFT is as good as `budget` preferences, by straight lines
    in log2 between counts, its curve made to rise; kept to the counts that were tried.
    """
    counts, table = curve(record)
    wanted, found = gold(record, arm, *part).mean(1), []
    for row, least in zip(table, wanted):
        rising = np.maximum.accumulate(row)
        at = np.interp(least, rising + 1e-9 * np.arange(len(row)), counts)
        found.append(np.log2(budget) - at)
    return np.array(found)


def mixed(record, ratio, other):
    """Return what half of the money on each is worth more than all on one, by seed [points].

    ratio: of the prices; other: "sft", all on demonstrations, or "ppo", all on preferences.
    """
    half = gold(record, f"half {BUDGET // 2 // ratio}").mean(1)
    if other == "ppo":
        return half - gold(record, f"labels {BUDGET}", "ppo").mean(1)
    counts, table = curve(record)
    return half - [np.interp(np.log2(BUDGET / ratio), counts, row) for row in table]


def preferred(record, one, other, ties=0.5):
    """Return how often one arm's reply is preferred to another's, (seeds, prompts).

    one, other: keys of an arm; ties: what a tie counts, 1 for "equivalent or preferred".
    """
    mine, theirs = (record.arm(*keys, "gold") for keys in (one, other))
    return less.chances(mine[..., None] - theirs[..., None, :], ties).mean((2, 3))


def surer(record, arm):
    """Return what an arm gains where people are SURE times as rational, (seeds, prompts)."""
    return gold(record, f"sure {arm}") - gold(record, arm)


MODEL, PICKS = ("labels 1024", "ppo"), ("labels 1024", "picks")
STATISTICS = {
    "ppo - sft 1024": lambda r: gold(r, *MODEL) - gold(r, "sft 1024"),
    "ppo - dpo": lambda r: gold(r, *MODEL) - gold(r, "dpo 1024"),
    "picks - base": lambda r: gold(r, *PICKS) - gold(r, "base"),
    "sft 1024 - sft 128": lambda r: gold(r, "sft 1024") - gold(r, "sft 128"),
    "exchange, ppo": lambda r: exchange(r, *MODEL),
    "exchange, dpo": lambda r: exchange(r, "dpo 1024"),
    "exchange, picks": lambda r: exchange(r, *PICKS),
    "sureness, sft - dpo": lambda r: surer(r, "sft 128") - surer(r, "dpo 1024"),
    "half - sft, ratio 4": lambda r: mixed(r, 4, "sft"),
    "half - ppo, ratio 4": lambda r: mixed(r, 4, "ppo"),
    "sft 128, equal or better than ppo": lambda r: preferred(r, ("sft 128",), MODEL, 1.0),
    "fast sft - sft, 1024": lambda r: gold(r, "fast sft 1024") - gold(r, "sft 1024"),
    "coin sft - base": lambda r: gold(r, "coin sft 128") - gold(r, "base"),
    "coin ppo - base": lambda r: gold(r, "coin ppo 512") - gold(r, "base"),
}  # fmt: skip
