"""Whose labels teach what people's teach, where people's teach something?

The task of labour. 1,024 pairs of base responses are labelled by "people", "ratio" (the base
between two voices), "judge M" (half the base, M rule-labelled pairs for each of five principles) or
a "coin"; then a reward model, PPO. "base" is untrained. A minute an arm.
"""

from rlhf_lite.experiments import load

import numpy as np

judges, labour = load("_judges"), load("labour")

SEEDS, MINUTES = (0, 1, 2), 1.0
LABELLERS, TESTED = ("people", "ratio", "judge 5", "judge 50", "judge 500", "coin"), 24
ARMS = [
    {"base": {"who": "base", "draw": 100}},  # first, so that base responses are read once
    {name: {"who": name, "draw": 200 + 10 * n} for n, name in enumerate(LABELLERS)},
]


class DeputyLab(judges.JudgeLab):
    """A JudgeLab whose texts are those of labour: a name, and how the base goes on."""

    prompts, texts = judges.less.LessLab.prompts, judges.less.LessLab.texts

    def _parted(self, text):
        """Return (who a text is about, the text itself)."""
        names = (*self.texts, *self.held_out)
        return max((name for name in names if text.startswith(name)), key=len), text

    def agreement(self, judge):
        """Return how often a judge, or people if None, orders base responses about others rightly.

        A number a prompt, over all pairs of TESTED responses that gold tells apart.
        """
        texts, found = {p: said[:TESTED] for p, said in self.held_out.items()}, []
        gold = self.utilities(self.person, texts)
        for worth, scores in zip(gold, gold if judge is None else self.tables(judge, texts)):
            pairs = [(i, j) for i, j in zip(*np.triu_indices(TESTED, 1)) if worth[i] != worth[j]]
            found.append(np.mean([
                judges.ordered(self, worth[i] - worth[j], scores[i] - scores[j], judge)
                for i, j in pairs
            ]))  # fmt: skip
        return np.array(found)


LAB = DeputyLab


def measure(lab, seed, who, draw):
    """Let somebody label; return how well, and the policy that learns from it."""
    if who == "base":
        _ = lab.worth
        return labour.tested(lab, lab.base, 10 * draw + seed)
    judge = None if who == "people" else lab.judge(who, seed)
    table = None if judge is None else lab.tables(judge, lab.texts)
    score = lab.learned(lab.preferred(labour.BUDGET, seed, judge=table), seed)
    found = {"aligned": lab.agreement(judge), "model": lab.agreement(score)}
    return found | labour.tested(lab, lab.push(lab.policy(), score, seed), 10 * draw + seed)


# ---- what predictions are judged by ----


def gold(record, arm):
    """Return the gold of an arm's responses, (seeds, prompts) [points]."""
    return labour.gold(record, arm)


def ahead(record, one, other):
    """Return the gold of one arm less that of another, (seeds, prompts) [points]."""
    return gold(record, one) - gold(record, other)


def follows(record):
    """Return the correlation of policies' gold with their labellers' alignment, by seed."""
    rates, worth = (
        np.array([read(record, name).mean(1) for name in LABELLERS])
        for read in (lambda r, name: r.arm(name, "aligned"), gold)
    )
    return [np.corrcoef(a, b)[0, 1] for a, b in zip(rates.T, worth.T)]


STATISTICS = {
    "judge 500 - people": lambda r: ahead(r, "judge 500", "people"),
    "people - coin": lambda r: ahead(r, "people", "coin"),
    "judge 500 - coin": lambda r: ahead(r, "judge 500", "coin"),
    "ratio - coin": lambda r: ahead(r, "ratio", "coin"),
    "coin - base": lambda r: ahead(r, "coin", "base"),
    "gold follows alignment": follows,
}
