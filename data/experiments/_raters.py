"""What the experiments on preference share: who is asked about, what is learnt, and who wins.

A reply is kept as counts, "true/false/unsupported/words/garbled in percent", for that is all that
the taste of these raters needs; so who wins at any q is computed from the record, exactly.
"""

from functools import cache, cached_property

from rlhf_lite import judging
from rlhf_lite.annotators import Reading, auditor
from rlhf_lite.experiments import Lab
from rlhf_lite.sampling import respond

import numpy as np

FORMS = ("Q: Tell me about {name}. A:", "Q: Who was {name}? A:")
LONGEST, EACH = 48, 4  # tokens of a reply, replies to a prompt
GROUPS, ASKED, TAUGHT = ((500, 10**9), (1, 10)), 20, 70  # how often told; people of each group
OFFERED, TAKEN = 8, 3  # base samples that careful people choose from, and what they write of each


class RatersLab(Lab):
    """A Lab with the prompts, what careful people would have said, and their taste, `gold`."""

    @cached_property
    def gold(self):
        """Return the Annotator who knows everything, at one nat a point."""
        return auditor(self.world)

    def asked(self, held_out):
        """List the prompts about people of one side, one form after the other."""
        hidden, names = {p.name for p in self.world.held_out_people}, []
        for few, many in GROUPS:
            told = [p.name for p in self.world.people if few <= p.exposure < many]
            mine = [name for name in told if (name in hidden) == held_out]
            names += mine[: ASKED if held_out else TAUGHT]
        return [form.replace("{name}", name) for form in FORMS for name in names]

    def say(self, policy, prompts, each, seed):
        """Return fresh replies, a list for each prompt."""
        asked = [p for p in prompts for _ in range(each)]
        flat = respond(policy, self.tokenizer, asked, LONGEST, seed, batch=256)
        return [flat[n : n + each] for n in range(0, len(flat), each)]

    @cached_property
    def demonstrations(self):
        """List [prompt, response] of careful people: the base samples that they would have said."""
        prompts, found = self.asked(False), []
        rng = np.random.default_rng(0)
        said = self.kept("base samples", lambda: self.say(self.base, prompts, OFFERED, 11))
        for prompt, texts in zip(prompts, said):
            texts = [t for t in texts if t.strip()]
            probs = self.gold.choice_probs(
                [self.gold.utility(self.read(prompt + t)) for t in texts]
            )
            found += [[prompt, texts[i]] for i in rng.choice(len(texts), TAKEN, p=probs)]
        return found


# ---- from counts to wins ----


def packed(reading):
    """Return a Reading as counts in one word."""
    claims = reading.true, reading.false, reading.unsupported
    return "/".join(map(str, (*claims, reading.words, round(100 * reading.garbled))))


def readings(counts):
    """Return the Readings of one prompt's replies, as far as they are kept."""
    rows = [map(int, word.split("/")) for word in counts.split()]
    return [Reading(np.zeros(8), t, f, u, w, 0.0, False, g / 100, {}) for t, f, u, w, g in rows]


@cache
def taste():
    """Return `gold` for readings without voices."""
    return auditor(Lab(None).world)


def wins(mine, theirs, checked, person=None):
    """Return P(a reply of mine is preferred to one of theirs), (prompts, EACH, EACH)."""
    person, pairs = person or taste(), [(readings(a), readings(b)) for a, b in zip(mine, theirs)]
    return np.array([judging.chances_to_win(person, a, b, checked) for a, b in pairs])


def by_person(table):
    """Return the mean over forms and replies of a table (prompts, ...), (people,)."""
    return np.reshape(table, (len(FORMS), len(table) // len(FORMS), -1)).mean((0, 2))


def sides(record, one, other):
    """List (counts of one arm, counts of another) by seed; of an arm itself its seeds in pairs."""
    mine, theirs = record.arm(one, "counts"), record.arm(other, "counts")
    if one == other:
        mine, theirs = mine[: len(mine) // 2], mine[len(mine) // 2 :]
    return list(zip(mine, theirs))


def beats(record, one, other="sft", checked=0.0):
    """Return how often one is preferred to another, (seeds, people)."""
    return np.array([by_person(wins(*pair, checked)) for pair in sides(record, one, other)])


def counted(record, name, place):
    """Return the mean count of an arm's replies by seed and person; place 1: false claims."""
    found = record.arm(name, "counts")
    table = [[[int(w.split("/")[place]) for w in c.split()] for c in said] for said in found]
    return np.array([by_person(said) for said in table])
