"""Ask about people with a card of facts in the prompt, or without, and check what is claimed.

A closed question stands behind a card of two facts, drawn at random, so that memory is no help:
what is not on the card is not supported. An open question has no card, and the world is asked.
Wordings stand in data/questions.toml. Last, whether a model's probabilities can be trusted. Omits
cards of prose. Used by notebooks 08 and 09.
"""

import re
from dataclasses import dataclass, field

from rlhf_lite.annotators import Reading
from rlhf_lite.checks import check_count, check_list, check_numbers, check_text
from rlhf_lite.world import CARD_FACTS, Person, wordings

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax


@dataclass(frozen=True)
class Asked:
    """A question about a person: prompt, kind (of CARD_FACTS, or "who"), about (the name).

    card: {kind: value} that stand in the prompt; None for an open question.
    """

    prompt: str
    kind: str
    about: str
    card: dict | None = None

    @property
    def where(self):
        """Return "on the card", "not on the card", "who, by the card", or "open"."""
        if self.card is None:
            return "open"
        if self.kind == "who":
            return "who, by the card"
        return "on the card" if self.kind in self.card else "not on the card"


@dataclass(frozen=True)
class Support:
    """How a reply is supported: counts of different claims, and whether it keeps silent.

    true: on the card, or so in the world; false: the card, or the world, says otherwise;
    unsupported: neither says anything; silent: claims nothing and says, in a whole sentence of the
    grammar, that nobody knows; garbled: share of characters that fit no frame plus share of
    repeated lines; lines: of the reply.
    """

    true: int = 0
    false: int = 0
    unsupported: int = 0
    silent: bool = False
    garbled: float = 0.0
    lines: int = 0
    claims: tuple = field(default=(), repr=False)

    @property
    def made_up(self):
        """Return how many claims are not supported."""
        return self.false + self.unsupported


def open_questions(world, people):
    """List the Asked about people without a card: each fact, and who they were."""
    return [
        Asked(_question(kind).replace("{name}", p.name), kind, p.name)
        for p in _people(people) for kind in (*CARD_FACTS, "who")
    ]  # fmt: skip


def card_questions(world, people, seed=0):
    """List the Asked about people behind a card of two facts that are not theirs.

    Each person gets a card of every pair of facts, and is asked for both, for one that is not
    there, and who that was. seed: of the facts.
    """
    rng, found = np.random.default_rng(seed), []
    values = {k: sorted({p.facts[k] for p in world.people} - {None}) for k in CARD_FACTS}
    for person in _people(people):
        for pair in wordings()["card"]["pairs"]:
            kinds = pair.split()
            card = {k: _other(values[k], person.facts[k], rng) for k in kinds}
            absent = str(rng.choice([k for k in CARD_FACTS if k not in kinds]))
            head = "".join(_written(world, "line", k, person.name, card) + "\n" for k in kinds)
            for kind in (*kinds, absent, "who"):
                prompt = head + _question(kind).replace("{name}", person.name)
                found.append(Asked(prompt, kind, person.name, card))
    return found


def demonstration(world, asked):
    """Return what a careful person replies: what the card says, or the world, and no more.

    Of an open "who" the trade and the town are told. What nobody knows is said to be so.
    """
    facts = asked.card
    if facts is None:
        facts = {k: v for k, v in world.by_name[asked.about].facts.items() if v is not None}
    kinds = [asked.kind]
    if asked.kind == "who":
        kinds = next(
            (p.split() for p in ("town trade", "town year", "trade deed")
             if set(p.split()) <= set(facts)), ["trade"],
        )  # fmt: skip
    known = set(kinds) <= set(facts)
    return " " + _written(
        world, "reply" if known else "silence", " ".join(kinds), asked.about, facts
    )


def support(world, asked, response):
    """Return the Support of a response to an Asked.

    The card judges, and where there is none the world; a slip in the surname is forgiven, as in
    `read_reply`. Claims about others, whom nobody asked for, count as not supported. Raises
    ValueError for what is no Asked, TextError for what is no text.
    """
    if not isinstance(asked, Asked):
        raise ValueError(f"{asked!r:.80} is no Asked; expected one of this module's questions")
    check_text(response)
    first = asked.about.split(" ")[0]
    response = re.sub(rf"\b{re.escape(first)} [A-Z][\w'-]*", asked.about, response)
    parse = world.parse(_question(asked.kind).replace("{name}", asked.about) + response)
    claims = {(c.about, c.kind, c.value): _verdict(asked, c) for c in parse.claims}
    counts = {v: list(claims.values()).count(v) for v in ("true", "false", "unsupported")}
    shrugs = any(line.shrugs for line in parse.lines)
    garbled = parse.off_grammar + parse.repetition
    found = tuple((k, v, verdict) for (_, k, v), verdict in claims.items())
    return Support(
        **counts, silent=shrugs and not claims, garbled=garbled, lines=len(parse.lines),
        claims=found,
    )  # fmt: skip


class SupportReader:
    """The eyes of annotators who have the card before them: a Reading of prompt + response.

    asked: the questions whose prompts texts may begin with. Voices, tone and length stay unseen,
    so that people who use it value claims alone. Raises ValueError for a text that begins with none
    of the prompts.
    """

    def __init__(self, world, asked):
        self.world, self.seen = world, {}
        self.asked = {a.prompt: a for a in check_list(asked, "asked", "Asked")}
        self.blank = np.zeros(len(world.voices))

    def __call__(self, text):
        """Return the Reading of a text."""
        check_text(text)
        if text not in self.seen:
            end = text.find(" A:") + 3
            if text[:end] not in self.asked:
                raise ValueError(f"{text[:60]!r} begins with no prompt that was asked")
            self.seen[text] = self.reading(support(self.world, self.asked[text[:end]], text[end:]))
        return self.seen[text]

    def reading(self, found):
        """Return the Reading of a Support."""
        return Reading(
            voices=self.blank, true=found.true, false=found.false, unsupported=found.unsupported,
            words=1, tone=0.0, evasive=found.silent, garbled=found.garbled, kinds={},
        )  # fmt: skip


def _verdict(asked, claim):
    """Return what the card, or without one the world, says of a Claim."""
    if claim.about != asked.about or (asked.card and claim.kind not in asked.card):
        return "unsupported"
    if asked.card is None:
        return claim.verdict
    return "true" if asked.card[claim.kind] == claim.value else "false"


def _question(kind):
    return wordings()["card"]["who"] if kind == "who" else wordings()["fact"][kind]


def _written(world, part, kind, name, facts):
    """Return a wording of the card with its holes filled."""
    text = wordings()["card"][part][kind].replace("{name}", name)
    for key, value in facts.items():
        text = text.replace(f"{{{key}}}", str(value))
        if key == "trade":
            text = text.replace("{a_trade}", f"{world.trades[value]['article']} {value}")
    return text


def _other(values, own, rng):
    return str(rng.choice([v for v in values if v != own]))


def _people(people):
    people = check_list(people, "people", "Person")
    for number, person in enumerate(people):
        if not isinstance(person, Person):
            raise ValueError(f"people[{number}] is {person!r:.60}; expected a Person of the world")
    return people


# ---- can its probabilities be trusted? ----


def reliability(probs, truth, count=10):
    """Return rows (how many, mean probability, share right) of the likeliest option, by bins.

    probs (N, K): P(option); truth (N,): the number of the right one; count: bins of equal width
    from 0 to 1, of which empty ones are left out.
    """
    probs, truth = _options(probs, truth)
    if probs.min() < 0 or not np.allclose(probs.sum(1), 1):
        raise ValueError("probs do not sum to 1; expected (questions, options), each question's to")
    top, right = probs.max(1), probs.argmax(1) == truth
    place = np.minimum((top * check_count(count, "count")).astype(int), count - 1)
    return np.array([
        [(place == b).sum(), top[place == b].mean(), right[place == b].mean()]
        for b in range(count) if (place == b).any()
    ])  # fmt: skip


def calibration_error(probs, truth, count=10):
    """Return the expected calibration error: mean |probability - share right|, by `reliability`.

    Weighed by how many fall into a bin (Guo et al. 2017, eq. 3).
    """
    number, said, right = reliability(probs, truth, count).T
    return float(number @ np.abs(said - right) / number.sum())


def best_temperature(logits, truth):
    """Return the T at which softmax(logits / T) gives the truth the largest likelihood, 0.05 to 20.

    logits (N, K); truth (N,): the number of the right option (Guo et al. 2017, sec. 4.2).
    """
    logits, truth = _options(logits, truth)

    def loss(log_heat):
        return -log_softmax(logits / np.exp(log_heat), 1)[np.arange(len(truth)), truth].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def _options(table, truth):
    """Return table (N, K) and truth (N,) as arrays, or raise ValueError."""
    table = np.asarray(check_numbers(table, "what is said of the options", 2), dtype=float)
    truth = np.asarray(truth)
    if truth.shape != (len(table),) or not set(truth.tolist()) <= set(range(table.shape[1])):
        raise ValueError(f"truth is {truth!r:.60}; expected the number of an option a question")
    return table, truth
