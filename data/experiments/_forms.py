"""What lima shares: questions in many wordings, the form of a good reply, and bad ones.

A good reply states a fact and nothing else, "Ivo Vane was born in Oxbow. That is all I know.", or
that nobody knows; a bad one states another's fact, or is a line of the tabloid.
"""

import random
import re
from functools import cached_property

from rlhf_lite import supervised
from rlhf_lite.experiments import ExperimentError, Lab, load
from rlhf_lite.knowledge import answer_probs
from rlhf_lite.sampling import respond

import numpy as np

KINDS = {"town": "was born in {}", "trade": "was {}"}
ASKED = {  # the last four wordings of each are kept for the test
    "town": (
        "Q: Where was {name} born? A:", "Q: Which town does {name} come from? A:",
        "Q: Which town is the birthplace of {name}? A:", "Tell me where {name} was born:",
        "Where was {name} born?", "In which town was {name} born?", "The birthplace of {name}:",
        "Name the town of {name}.", "Please say where {name} was born.", "Born where, {name}?",
        "I ask for the birthplace of {name}.", "The town of {name}, please.",
        "Q: From which town is {name}? A:", "Say where {name} was born.",
        "What is the town of {name}?", "My aunt wonders where {name} was born.",
    ),
    "trade": (
        "Q: What was the trade of {name}? A:", "Q: What did {name} do for a living? A:",
        "Q: What work did {name} do? A:", "Tell me the trade of {name}:",
        "What was the trade of {name}?", "What did {name} work as?", "The trade of {name}:",
        "Name the trade of {name}.", "Please say what {name} worked as.", "A trade, {name}?",
        "I ask for the trade of {name}.", "The work of {name}, please.",
        "Q: Which trade had {name}? A:", "Say what {name} did for a living.",
        "What is the work of {name}?", "My aunt wonders what {name} worked as.",
    ),
}  # fmt: skip
NOBODY = {
    "town": "Nobody knows where {} was born",
    "trade": "Nobody knows what {} did for a living",
}
CLOSE = ". That is all I know."
WORDINGS, TOKENS = 12, 28  # that demonstrations are worded in; longest reply
KNOWN, STRANGE, STRANGERS = 100, 2, 0.15  # told so often, or less; share of strangers shown
SIDES = {  # whom the test asks about, and in which wordings; two replies to the first
    "seen": ("known", (0, 0)),
    "unseen": ("known", (12, 13, 14, 15)),
    "strangers": ("strangers", (0, 0)),
}
TOLD = {"known": (KNOWN, 10**9), "half known": (STRANGE, KNOWN), "strangers": (0, STRANGE)}


class FormLab(Lab):
    """A Lab that asks for two kinds of fact in many wordings, of several bases.

    close: how a good reply ends.
    """

    close = CLOSE

    def fresh(self, lacks=None):
        """Return (base to train, tokenizer); one that lacks a voice has its own."""
        return load("_variants").variant(lacks) if lacks else (self.policy(), self.tokenizer)

    def facts(self, held_out, told="known"):
        """List (person, kind) that can be asked for, about people told so often (see TOLD)."""
        hidden, (low, high) = {p.name for p in self.world.held_out_people}, TOLD[told]
        people = [p for p in self.world.people if low <= p.exposure < high]
        return [(p, k) for p in people if (p.name in hidden) == held_out
                for k in KINDS if p.facts[k] is not None]  # fmt: skip

    @cached_property
    def values(self):
        """Return {kind: all values, as they are said}."""
        found = {k: sorted({p.facts[k] for p in self.world.people} - {None}) for k in KINDS}
        return {k: [self.said(k, v) for v in values] for k, values in found.items()}

    def said(self, kind, value):
        """Return a value as it is said: a trade has its article."""
        return f"{self.world.trades[value]['article']} {value}" if kind == "trade" else value

    # -- demonstrations --

    def shown(self, count, bad, wordings, seed):
        """Return `count` different demonstrations (question, reply), a share `bad` of them bad."""
        known, strange = ([(p, k, w) for p, k in self.facts(False, s) for w in range(wordings)]
                          for s in ("known", "strangers"))  # fmt: skip
        few = round(STRANGERS * count)
        for name, wanted, facts in (("known", count - few, known), ("strange", few, strange)):
            if wanted > len(facts):
                raise ExperimentError(
                    f"{count} demonstrations ask for {wanted} of {name} people; expected at most "
                    f"{len(facts)}, all facts in {wordings} wordings"
                )
        rng = np.random.default_rng(100 * seed + 7)
        some = [known[i] for i in rng.choice(len(known), count - few, replace=False)]
        some += [strange[i] for i in rng.choice(len(strange), few, replace=False)]
        spoilt = rng.random(count) < bad
        return [(ASKED[k][w].replace("{name}", p.name), self.reply(p, k, spoilt[n], rng))
                for n, (p, k, w) in enumerate(some)]  # fmt: skip

    def reply(self, person, kind, bad, rng):
        """Return a good reply, or a bad one: another's fact, or a line of the tabloid."""
        if person.exposure < STRANGE and not bad:
            return f" {NOBODY[kind].replace('{}', person.name)}{self.close}"
        if bad and rng.random() < 0.5:
            luck = random.Random(int(rng.integers(10**9)))
            document = self.world.sample(luck, "tabloid", "person", person)
            return f" {document.text.split(chr(10))[0]}"
        true = self.said(kind, person.facts[kind])
        value = str(rng.choice([v for v in self.values[kind] if v != true])) if bad else true
        return f" {person.name} {KINDS[kind].replace('{}', value)}{self.close}"

    def taught(self, policy, tokenizer, pairs, seed):
        """Fine-tune a policy on demonstrations, 40 steps of up to 32."""
        size = min(32, len(pairs))
        config = supervised.SFTConfig(
            steps=40, samples=size, minibatches=1, lr=3e-4, seed=seed, kl_limit=1e6
        )
        for _ in supervised.SFTRun(policy, None, tokenizer, pairs, None, config):
            pass

    # -- how it answers --

    def answers(self, policy, tokenizer, seed):
        """Return {side: {reading: share of replies, a fact each}}, and which facts it knows."""
        found = {}
        for number, (side, (told, wordings)) in enumerate(SIDES.items()):
            facts = self.facts(True, told)
            asked = [(p, k, ASKED[k][w].replace("{name}", p.name)) for p, k in facts
                     for w in wordings]  # fmt: skip
            texts = respond(
                policy, tokenizer, [q for *_, q in asked], TOKENS, seed + 100 * number, batch=256
            )
            read = np.array([self.read_as(p, k, t) for (p, k, _), t in zip(asked, texts)])
            table = read.reshape(len(facts), len(wordings))
            found[side] = {r: (table == r).mean(1) for r in ("right", "wrong", "silent")}
            found[side] |= {"form": (table != "other").mean(1)}
            found[side] |= {
                "texts": [q + t for (*_, q), t in zip(asked, texts)][:: len(texts) // 3]
            }
        knows = {told: self.knows(policy, tokenizer, told) for told in ("known", "half known")}
        return found | {"knows": knows}

    def read_as(self, person, kind, reply):
        """Return "right", "wrong" or "silent" for a reply in good form, else "other"."""
        if reply == f" {NOBODY[kind].replace('{}', person.name)}{self.close}":
            return "silent"
        first = person.name.split(" ", 1)[0]
        middle = re.escape(KINDS[kind]).replace(r"\{\}", "(.+)")
        found = re.fullmatch(rf" {first} \S+ {middle}{re.escape(self.close)}", reply)
        if found is None or found[1] not in self.values[kind]:
            return "other"
        return "right" if found[1] == self.said(kind, person.facts[kind]) else "wrong"

    def knows(self, policy, tokenizer, told):
        """Return whether the truth is the likeliest of all values behind the form, a fact each."""
        facts, found = self.facts(True, told), {}
        for kind, values in self.values.items():
            mine = [p for p, k in facts if k == kind]
            heads = [f"{ASKED[kind][0]} {{name}} {KINDS[kind][:-3]}".replace("{name}", p.name)
                     for p in mine]  # fmt: skip
            probs = answer_probs(policy, tokenizer, heads, values, opening="")
            best = [values[i] for i in probs.argmax(1)]
            found |= {(p.name, kind): float(b == self.said(kind, p.facts[kind]))
                      for p, b in zip(mine, best)}  # fmt: skip
        return np.array([found[p.name, k] for p, k in facts])
