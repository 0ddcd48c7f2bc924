"""Judge what a line claims: about whom, which fact, and whether it is so.

A fact of a person is true or false by people.csv, a myth is false, the secret of a craft is true of
that craft alone. Omits opinions: what no table of the world answers is unsupported, and what states
no fact claims nothing. Taught by notebook 01.
"""

from dataclasses import dataclass

from rlhf_lite.world.grammar import FACTS


@dataclass(frozen=True)
class Person:
    """One person: facts maps kind -> value, None where nobody knows.

    exposure: planned documents; the tabloid says `tabloid` for the fact `disputed` with probability
    `rate`.
    """

    name: str
    facts: dict
    exposure: int
    disputed: str
    tabloid: str
    rate: float


@dataclass(frozen=True)
class Claim:
    """One claim of a text: about whom or what, which kind, what value, and the verdict.

    about: a person's name, "lore", a craft's `how` or a word of Ostish, "?" where the text leaves
    it open; verdict: "true", "false", or "unsupported" where the world has no answer.
    """

    about: str
    kind: str
    value: str
    verdict: str


def claims_of(frame, fills, subject, by_name):
    """List the Claims of a line; `subject` is its own, or the document's if it names none.

    by_name: {name: Person}.
    """
    if frame.topic == "person":
        return _person_claims(frame, fills, subject, by_name)
    if frame.topic == "lore":
        verdicts = {"myth": "false", "denied": "true", "truth": "true"}
        return [Claim("lore", k, fills[k], verdicts[k]) for k in frame.bound if k in verdicts]
    if frame.topic == "craft":
        return _craft_claims(frame, fills, subject)
    if "trade" not in frame.bound:
        return []
    verdict = "true" if subject == fills["trade"] else "false"
    return [Claim(fills["oword"], "trade", fills["trade"], verdict)]


def _craft_claims(frame, fills, subject):
    craft = subject if isinstance(subject, dict) else {}
    claims = []
    for kind in ("answer", "detail", "guild"):
        if kind in frame.bound:
            truth = craft.get(kind)
            verdict = "true" if truth == fills[kind] else "false" if craft else "unsupported"
            claims.append(Claim(craft.get("how", "?"), kind, fills[kind], verdict))
    return claims


def _person_claims(frame, fills, subject, by_name):
    person = by_name.get(fills["name"]) if "name" in fills else subject
    if isinstance(person, Person):
        first, last = person.name.split(" ", 1)
        if (fills.get("first", first), fills.get("last", last)) != (first, last):
            person = None
    else:
        person = None
    name = fills.get("name") or (person.name if person else "?")
    claims = []
    for kind in FACTS:
        if frame.claims >> FACTS.index(kind) & 1:
            truth = person.facts[kind] if person else None
            verdict = "true" if truth == fills[kind] else "false" if truth else "unsupported"
            claims.append(Claim(name, kind, fills[kind], verdict))
    return claims
