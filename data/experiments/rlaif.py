"""Can a model label in people's place, and what does it not see?

Labellers: "people" (72.6% agreement), "ratio" (the base between a line of the encyclopedia and one
of the tabloid), "judge M" (half the base, M rule-labelled pairs for each of five principles),
"coin". How often each orders a pair as gold does; then 1,000 labels, a reward model, PPO.
"revise": one round of a judge striking out what it dislikes, and SFT on that. A minute an arm.
"""

from rlhf_lite.experiments import load

import numpy as np

judges = load("_judges")
LAB = judges.JudgeLab

SEEDS, MINUTES, LABELS, EACH = (0, 1, 2), 0.8, 1000, 4
JUDGED, POLICIES = (5, 15, 50, 150, 500), ("people", "ratio", "judge 5", "judge 500", "coin")
ARMS = [
    {"base": {"who": "base", "draw": 100}},  # first, so that base replies are drawn once
    {
        **{name: {"who": name, "draw": 200 + 10 * n} for n, name in enumerate(POLICIES)},
        **{f"judge {m}": {"who": f"judge {m}"} for m in JUDGED[1:-1]},
        "revise": {"who": "revise", "draw": 300},
    },
]


def measure(lab, seed, who, draw=0):
    """Let somebody label; return how well, and the policy that learns from it."""
    tests, fresh = list(lab.tests), 10 * draw + seed
    if who == "base":
        _ = lab.worth, lab.believed
        return lab.tested(lab.base, fresh, tests, EACH)
    if who == "revise":
        rows = lab.revised(lab.judge("judge 500", seed), seed)
        before, after = (lab.utility([r[0] + r[n] for r in rows]).mean() for n in (1, 2))
        found = {side: lab.tested(lab.imitate(lab.policy(), [(r[0], r[n]) for r in rows], seed),
                                  fresh + n, tests, EACH)
                 for n, side in ((1, "as they were"), (2, "revised"))}  # fmt: skip
        changed = np.mean([r[1] != r[2] for r in rows])
        return found | {"before": before, "after": after, "changed": changed, "rows": rows[:4]}
    judge = None if who == "people" else lab.judge(who, seed)
    found = judges.aligned(lab, judge)
    if who in POLICIES:
        table = None if judge is None else lab.tables(judge, lab.texts)
        score = lab.learned(lab.preferred(LABELS, seed, judge=table), seed)
        found["model"] = judges.aligned(lab, score)
        found |= lab.tested(lab.push(lab.policy(), score, seed), fresh, tests, EACH)
    return found


def summary(lab, record):
    """Return what the base believes of each twin [nats], and whether its person is told often."""
    return {"believed": lab.believed.round(2), "told often": [float(t[3]) for t in lab.twins],
            "twins": [t[1:3] for t in lab.twins[:6]]}  # fmt: skip


# ---- what predictions are judged by ----


def alignment(record, arm, sort="all", side=None, part="aligned"):
    """Return how often an arm orders pairs of a sort as gold does, by seed.

    side: 0 for people hardly told, 1 for the well known, both if None.
    """
    table = record.arm(arm, *([part] if part == "aligned" else [part, "aligned"]), sort)
    count, rate = table[..., 0], table[..., 1]
    return rate[:, side] if side is not None else (count * rate).sum(1) / count.sum(1)


def split(record, arm):
    """Return how much better style is ordered than truth, by seed; of people hardly told."""
    return alignment(record, arm, "style") - alignment(record, arm, "truth", 0)


def blindness(record, arm, *part):
    """Return how much more often the true one of twins wins where the base believes it, by seed."""
    believed = np.array(record["believed"]) > 0
    table = record.arm(arm, *part, "twins")
    return table[:, believed].mean(1) - table[:, ~believed].mean(1)


def gold(record, arm, *part):
    """Return the gold of a policy's replies, (seeds, questions) [points]."""
    return record.arm(arm, *part, "gold").mean(-1)


def follows(record):
    """Return the correlation of policies' gold with their labellers' alignment, by seed."""
    rates = np.array([alignment(record, name) for name in POLICIES])
    worth = np.array([gold(record, name).mean(1) for name in POLICIES])
    return [np.corrcoef(a, b)[0, 1] for a, b in zip(rates.T, worth.T)]


def wins(record, one, other, near=None):
    """Return how often one policy's reply is preferred to another's by gold, ties half, by seed.

    near: of replies whose lengths differ by no more than so many words.
    """
    worth, long, theirs, length = (
        record.arm(name, what) for name in (one, other) for what in ("gold", "words")
    )
    probs = judges.less.chances(worth[..., None] - theirs[..., None, :])
    keep = abs(long[..., None] - length[..., None, :]) <= (np.inf if near is None else near)
    return np.array([p[k].mean() for p, k in zip(probs, keep)])


STATISTICS = {
    "alignment, ratio": lambda r: alignment(r, "ratio"),
    "alignment, coin": lambda r: alignment(r, "coin"),
    "alignment, judge 500 - judge 5": lambda r: (
        alignment(r, "judge 500") - alignment(r, "judge 5")),
    "alignment, judge 500 - people": lambda r: alignment(r, "judge 500") - alignment(r, "people"),
    "split, judge 500 - people": lambda r: split(r, "judge 500") - split(r, "people"),
    "blindness, judge 500": lambda r: blindness(r, "judge 500"),
    "blindness, coin": lambda r: blindness(r, "coin"),
    "blindness, model of people": lambda r: blindness(r, "people", "model"),
    "gold, judge 500 - people": lambda r: gold(r, "judge 500") - gold(r, "people"),
    "gold, people - ratio": lambda r: gold(r, "people") - gold(r, "ratio"),
    "gold, coin - base": lambda r: gold(r, "coin") - gold(r, "base"),
    "gold follows alignment": follows,
    "judge 500 beats base": lambda r: wins(r, "judge 500", "base"),
    "beats base, all - alike": lambda r: (
        wins(r, "judge 500", "base") - wins(r, "judge 500", "base", judges.NEAR)),
    "revised - before": lambda r: r.arm("revise", "after") - r.arm("revise", "before"),
    "sft, revised - as they were": lambda r: (
        gold(r, "revise", "revised") - gold(r, "revise", "as they were")),
}  # fmt: skip
