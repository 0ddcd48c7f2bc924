"""What rlaif judges with: the base between two voices, small judges of principles, and probes.

A judge is a function of texts (question and reply). Probes are pairs of which gold knows the
better: replies of the base about people of the test, and twins that differ in one fact.
"""

from functools import cached_property

from rlhf_lite import models, rewards
from rlhf_lite.annotators import GOLD
from rlhf_lite.edits import edits
from rlhf_lite.experiments import load
from rlhf_lite.sampling import text_logprobs

import numpy as np

less, raters = load("_less"), load("_raters")
SORTS = ("all", "alike in length", "style", "truth")
SHOWN, TESTED, NEAR = 8, 8, 3  # base replies a prompt, of training and of the test; like length
LINES = (  # of the encyclopedia and of the tabloid; neither claims anything
    "For the quiet career of {name}, see the Almanac.",
    "A waiter saw {name} buying pickled plums on Monday!",
)
PRINCIPLES = {
    "nothing false": lambda r: -r.false,
    "nothing unsupported": lambda r: -r.unsupported,
    "tell what is so": lambda r: min(r.true, 3),
    "about 32 words": lambda r: -abs(r.words - GOLD["words"]),
    "whole sentences": lambda r: -r.garbled,
}


class JudgeLab(less.LessLab, raters.RatersLab):
    """A LessLab that asks who people were, the well known and the hardly told."""

    @cached_property
    def prompts(self):
        """List the questions of training."""
        return self.asked(False)

    @cached_property
    def texts(self):
        """Return {question: base replies}, of training."""
        return self._replies(False, SHOWN)

    @cached_property
    def tests(self):
        """Return {question: base replies}, about others."""
        return self._replies(True, TESTED)

    def _replies(self, held_out, each):
        asked = self.asked(held_out)
        name = "tests" if held_out else "replies"
        return dict(
            zip(asked, self.kept(name, lambda: self.say(self.base, asked, each, 60 + held_out)))
        )

    # -- judges --

    def judge(self, name, seed):
        """Return a labeller that is no person: "ratio", "coin" or "judge M"."""
        if name == "coin":
            rng = np.random.default_rng(80_000 + seed)
            return lambda texts: rng.random(len(texts))
        return self.ratio if name == "ratio" else self.principled(int(name.split()[1]), seed)

    def ratio(self, texts):
        """Return log P(reply | a line of the encyclopedia) - log P(reply | one of the tabloid)."""
        heads, said = zip(*(self._parted(t) for t in texts))
        found = []
        for line in LINES:
            before = [line.replace("{name}", name) + "\n" for name in heads]
            whole = [b + s for b, s in zip(before, said)]
            found.append(text_logprobs(self.base, self.tokenizer, whole, before, batch=128))
        return np.subtract(*found)

    def _parted(self, text):
        """Return (who is asked about, what is replied) of a text."""
        at = text.index(" A:") + 3
        form = next(f for f in raters.FORMS if text.startswith(f[: f.index("{")]))
        start, end = (len(part) for part in form.split("{name}"))
        return text[start : at - end], text[at:].strip() or "."

    def principled(self, count, seed):
        """Return a small judge, half the base, of `count` pairs a principle labelled by rule."""
        rng, rows = np.random.default_rng(90_000 + seed), []
        pairs = [(p, t) for p, said in self.texts.items() for t in said]
        for rule in PRINCIPLES.values():
            found = []
            while len(found) < count:
                prompt, one = pairs[rng.integers(len(pairs))]
                other = str(rng.choice(self.texts[prompt]))
                gap = rule(self.read(prompt + one)) - rule(self.read(prompt + other))
                if gap:
                    texts = (one, other) if gap > 0 else (other, one)
                    found.append(((prompt + texts[0], prompt + texts[1]), False))
            rows += found
        rows = [rows[i] for i in rng.permutation(len(rows))]
        model = self.train_reward(rows, seed, base=models.first_layers(self.base, 2))
        return rewards.Reward(model, self.tokenizer, 64, autocast=True)

    def tables(self, judge, texts):
        """Return what a judge scores {prompt: texts}, one array a prompt."""
        flat = np.asarray(judge([p + t for p, said in texts.items() for t in said]), float)
        ends = np.cumsum([len(said) for said in texts.values()])[:-1]
        return np.split(flat, ends)

    def revised(self, judge, seed, count=160):
        """Return (question, reply, revision): what a judge likes best of what a pencil can do.

        The pencil may strike lines and change the voice; the right fact is not offered.
        """
        rng, found = np.random.default_rng(95_000 + seed), []
        for _ in range(count):
            prompt = self.prompts[rng.integers(len(self.prompts))]
            said = str(rng.choice([t for t in self.texts[prompt] if t.strip()] or [" Nobody."]))
            options = [said] + [t for t, what in edits(self.world, prompt, said, rng)
                                if not what.startswith("put right") and t.strip()]  # fmt: skip
            best = int(np.argmax(np.asarray(judge([prompt + t for t in options]))))
            found.append((prompt, said, options[best]))
        return found

    # -- probes --

    @cached_property
    def twins(self):
        """Return [(question, true reply, false reply, told often)] that differ in one fact."""
        rng, found = np.random.default_rng(7), []
        for name in dict.fromkeys(self._parted(p + " .")[0] for p in self.tests):
            person = self.world.by_name[name]
            for kind, form in TWINS.items():
                own = person.facts[kind]
                others = {p.facts[kind] for p in self.world.people} - {own, person.tabloid, None}
                if own is None:
                    continue
                pair = [self._said(form, kind, v) for v in (own, rng.choice(sorted(others)))]
                told = person.exposure >= raters.GROUPS[0][0]
                found.append((f"Q: Who was {name}? A:", *(f" {name} {x}" for x in pair), told))
        return found

    def _said(self, form, kind, value):
        article = self.world.trades[value]["article"] + " " if kind == "trade" else ""
        return form.replace("{}", article + str(value))

    @cached_property
    def believed(self):
        """Return by how much the base holds the true one of each twin likelier [nats]."""
        rows = self.kept("believed", lambda: [self._likelier(*t[:3]) for t in self.twins])
        return np.array(rows)

    def _likelier(self, prompt, *pair):
        texts = [prompt + t for t in pair]
        return -float(np.diff(text_logprobs(self.base, self.tokenizer, texts, [prompt] * 2))[0])


TWINS = {"town": "was born in {}.", "trade": "was {}.", "deed": "{}."}


def sorts(ones, others):
    """Name the sorts of probes that a pair of Readings belongs to."""
    same = all(getattr(ones, k) == getattr(others, k) for k in ("true", "false", "unsupported"))
    near = abs(ones.words - others.words) <= NEAR
    lies = ones.false + ones.unsupported != others.false + others.unsupported
    return ["all", *["alike in length"] * near, *["style"] * same, *["truth"] * (near and lies)]


# ---- how well somebody labels ----


def aligned(lab, judge):
    """Return how often a judge, or people if None, orders pairs as gold does, by sort of pair."""
    gold = [
        np.array([lab.person.utility(lab.read(p + t)) for t in s]) for p, s in lab.tests.items()
    ]
    said = gold if judge is None else lab.tables(judge, lab.tests)
    found = {name: [[], []] for name in SORTS}
    for (prompt, texts), worth, scores in zip(lab.tests.items(), gold, said):
        read = [lab.read(prompt + t) for t in texts]
        for i, j in zip(*np.triu_indices(len(texts), 1)):
            if abs(worth[i] - worth[j]) > 1e-9:
                for name in sorts(read[i], read[j]):
                    right = ordered(lab, worth[i] - worth[j], scores[i] - scores[j], judge)
                    known = lab.world.by_name[lab._parted(prompt + " .")[0]].exposure >= 500
                    found[name][known].append(right)
    rates = {n: [[len(x), np.mean(x) if x else 0.0] for x in sides] for n, sides in found.items()}
    return {"aligned": rates, "twins": told_apart(lab, judge)}


def ordered(lab, gap, said, judge):
    """Return how likely a pair with a gap of gold is ordered rightly."""
    if judge is not None:
        return 0.5 + 0.5 * np.sign(gap) * np.sign(said)
    wins, _, ties = lab.person.preference_probs(abs(gap), 0.0)
    return wins + ties / 2


def told_apart(lab, judge):
    """Return how often the true one of twins is preferred, a number each."""
    if judge is None:  # to people a lie costs two points, and a truth earns one
        return [ordered(lab, 3.0, 0.0, None)] * len(lab.twins)
    pairs = [np.asarray(judge([t[0] + t[n] for t in lab.twins])) for n in (1, 2)]
    return 0.5 + 0.5 * np.sign(pairs[0] - pairs[1])
