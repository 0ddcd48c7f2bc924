"""How much of what a class wants do its labels carry, for 3, 10 and 30 students of 20 labels each?

"one taste 30": thirty simulated students who all want what the scholar wants, each with noise of
their own; "five tastes 30": six of each of the five people; "clickers 30": the control, students
who toss a coin; "clickers again": forty more such classes, added when the reward models of the
first twenty had been right less often than a coin. Each student is dealt 20 of the 150 shared pairs
by name, as at the desk. What the class's linear reward model is worth is measured on 21 prompts
about people whom no label is about: their 96 base answers each are taken as the base, so pi* of any
score and its KL are exact. A second an arm, after half a minute of reading.
"""

from dataclasses import replace
from functools import cached_property, partial

from rlhf_lite import classroom, feedback, judging, rewards
from rlhf_lite.experiments import Lab
from rlhf_lite.labellers import Labeller
from rlhf_lite.optimum import tilt_to
from rlhf_lite.proxies import Features, LinearReward
from rlhf_lite.runtime import DATA

import numpy as np

SEEDS, MINUTES = tuple(range(20)), 0.1
EACH, NATS = 20, 1.0  # labels a student, and the KL at which classes are compared
TASTES = ("scholar", "gossip", "poet", "zealot", "salesman")
ARMS = {
    **{f"one taste {n}": {"students": n} for n in (3, 10, 30)},
    "five tastes 30": {"students": 30, "tastes": TASTES},
    "clickers 30": {"students": 30, "sharp": 0.0},
    "clickers again": {"students": 30, "sharp": 0.0, "seeds": tuple(range(20, 60))},
}


class LAB(Lab):
    """A Lab with the pairs that are dealt, the features of texts, and the answers to judge by."""

    @cached_property
    def items(self):
        """List the shared pairs, each once."""
        path = DATA / "feedback" / "shared.jsonl"
        rows = [r for r in feedback.read(path).records if r["annotator"] == "scholar"]
        return [{"prompt": r["prompt"], "responses": [r["chosen"], r["rejected"]]} for r in rows]

    @cached_property
    def features(self):
        """Return the features of texts."""
        return Features(self.base, self.tokenizer)

    @cached_property
    def answers(self):
        """Return {prompt: as many answers to each} about people whom no label is about."""
        least = min(map(len, self.held_out.values()))
        return {prompt: said[:least] for prompt, said in self.held_out.items()}

    @cached_property
    def worth(self):
        """Return {taste: lambda u of all answers}, arrays (prompts, answers) [nats]."""
        people = {taste: self.people[taste] for taste in TASTES}
        return {
            taste: person.rationality * np.array(self.utilities(person, self.answers))
            for taste, person in people.items()
        }

    def student(self, seed, number, taste, sharp=1.0):
        """Return (records, the chances of their three sides) of one student."""
        person = self.people[taste]
        person = replace(person, rationality=sharp * person.rationality)
        name = f"student-{number}-{seed}"
        at_desk = Labeller(self.world, person, 1000 * seed + number, self.read)
        records, chances = [], {}
        for item in classroom.deal(self.items, name)[:EACH]:
            a, b = sorted(item["responses"])
            records.append(at_desk.prefer(item["prompt"], a, b) | {"annotator": name})
            worth = [at_desk.utility(item["prompt"], text) for text in (a, b)]
            chances[feedback.record_key(records[-1])] = person.preference_probs(*worth)
        return records, chances


def measure(lab, seed, students, tastes=("scholar",), sharp=1.0):
    """Return what a class agrees on, and what its reward model knows and gains."""
    desks = [lab.student(seed, n, tastes[n % len(tastes)], sharp) for n in range(students)]
    records = [r for rows, _ in desks for r in rows]
    found = judging.panel({n: judging.choices(rows) for n, (rows, _) in enumerate(desks)})
    score = LinearReward(lab.features, rewards.examples("preference", records))
    shape = next(iter(lab.worth.values())).shape
    table = score([p + a for p, said in lab.answers.items() for a in said]).numpy().reshape(shape)
    wanted = np.mean([lab.worth[t] for t in tastes], 0)
    return {
        "labels": len(records), "agreement": found, "expected": expected([c for _, c in desks]),
        "accuracy": classroom.held_out(records, lab.features)[0],
        "shuffled": classroom.held_out(classroom.shuffled(records, seed), lab.features)[0],
        "share": gain(table, wanted) / gain(wanted, wanted),
    }  # fmt: skip


def expected(desks):
    """Return how often two answers to one item are alike, by the chances behind them."""
    items = {}
    for chances in desks:
        for key, probs in chances.items():
            items.setdefault(key, []).append(probs)
    alike, answers = 0.0, 0
    for rows in (np.array(r) for r in items.values() if len(r) > 1):
        pairs = (rows.sum(0) ** 2 - (rows**2).sum(0)).sum()
        alike, answers = alike + pairs / (len(rows) - 1), answers + len(rows)
    return alike / answers


def gain(scores, wanted):
    """Return what pi* of these scores, NATS from the base, gains of what is wanted [nats]."""
    q = tilt_to(scores, NATS)
    return float((q * (wanted - wanted.mean(1, keepdims=True))).sum(1).mean())


# ---- what predictions are judged by ----


def gap(record, one, key, other):
    """Return by how much a number of one arm exceeds another's, (seeds,)."""
    return record.arm(one, key) - record.arm(other, key)


def alpha(record, arm):
    """Return the alpha of an arm, (seeds,)."""
    return record.arm(arm, "agreement", "alpha")


thirty = partial(gap, one="one taste 30")
STATISTICS = {
    "accuracy, 30 - 3 students": partial(thirty, key="accuracy", other="one taste 3"),
    "share, 30 - 10 students": partial(thirty, key="share", other="one taste 10"),
    "share, one - five tastes": partial(thirty, key="share", other="five tastes 30"),
    "share, 30 students": lambda record: record.arm("one taste 30", "share"),
    "share, clickers": lambda record: record.arm("clickers 30", "share"),
    "shuffled accuracy": lambda record: record.arm("one taste 30", "shuffled"),
    "agreement - expected": lambda record: (
        record.arm("one taste 30", "agreement", "share") - record.arm("one taste 30", "expected")
    ),
    "alpha, one - five tastes": lambda record: (
        alpha(record, "one taste 30") - alpha(record, "five tastes 30")
    ),
    "alpha, clickers": partial(alpha, arm="clickers 30"),
}


def summary(lab, record):
    """Return the labels a student, the pairs, and the KL at which classes are compared."""
    return {"each": EACH, "items": len(lab.items), "nats": NATS}
