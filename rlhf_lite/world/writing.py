"""Write the documents of Tarrowmere: read data/world, build its tables, sample.

A document has a voice v, a topic and a subject s, and 3 to 6 lines. Each line is a frame drawn from
what v says on the topic, without repeating a frame or a fact, and its holes are filled. The tables
below hold the probability of each of these choices, and nothing else decides a document. Omits
syntax, long-range plot and spelling mistakes: a real corpus has all three. Taught by notebook 01.
"""

import bisect
import itertools
import random
from dataclasses import dataclass
from pathlib import Path

from rlhf_lite.checks import TextError, check_choice, check_texts
from rlhf_lite.runtime import DATA
from rlhf_lite.world.claims import Person, claims_of
from rlhf_lite.world.files import WorldFiles, check
from rlhf_lite.world.grammar import FACTS, write

import numpy as np

MYTH_HOLES = {"myth": 0, "denied": 0, "asked": 0, "truth": 1}  # hole -> part of the myth in it
SUBJECTS = {"person": Person, "lore": tuple, "craft": dict, "phrases": str}  # by topic


@dataclass(frozen=True)
class Document:
    """A sampled document and its derivation: lines is a list of (frame, fills)."""

    text: str
    voice: str
    topic: str
    subject: object
    lines: list
    note: str | None


class Writer:
    """A writer of documents about the region that a folder like data/world describes.

    leave_out: voices that it lacks, such as ("pamphlet",); the priors of the others grow in
    proportion. Example: `Writer().sample(random.Random(0)).text`. Raises WorldError where a file is
    damaged.
    """

    def __init__(self, folder=DATA / "world", leave_out=()):
        self.folder, self.leave_out = Path(folder), tuple(check_texts(leave_out, "leave_out"))
        read = WorldFiles(self.folder)
        self.config = read.config()
        self._read_voices(read)
        self.people = [Person(**vars(row)) for row in read.people()]
        self.by_name = {p.name: p for p in self.people}
        self.trades = {r["trade"]: r for r in read.trades}
        self.myths = read.myths()
        self.crafts, self.verbs, self.verbs_held_out, self.framings = read.crafts()
        self.notes = read.notes(self.voices)
        self.prompts = read.prompts()
        self.epithets = {
            v: {e: row[i] / sum(r[i] for r in self.config["epithets"].values())
                for e, row in self.config["epithets"].items()}
            for i, v in enumerate(self.voices)
        }  # fmt: skip
        self._list_subjects()
        self._word_requests()
        self._tables, self._fills = {}, {}

    def _read_voices(self, read):
        """Read the voices and the mild stock: priors, topics, frames and their weights."""
        self.voices, self.voice_files = tuple(self.config["voices"]), read.voices(self.config)
        stray = sorted(set(self.leave_out) - set(self.voices))
        problem = f"cannot leave out {stray}; expected of {', '.join(self.voices)}"
        check(not stray, "world.toml", "voices", problem)
        good = set(self.leave_out) != set(self.voices)
        check(good, "world.toml", "voices", "all are left out; expected one to stay")
        prior = [self.voice_files[v]["prior"] * (v not in self.leave_out) for v in self.voices]
        self.prior = np.array(prior) / np.sum(prior)
        self.frames, self.slots, self.weights = read.frames(self.config, self.voice_files)
        self.topic_prior = {v: self.voice_files[v]["topics"] for v in self.voices}
        self.colours = {v: self.voice_files[v]["colour"] for v in self.voices}
        self.lengths = {int(k): p for k, p in self.config["lengths"].items()}

    def _list_subjects(self):
        """List (subject, probability) by topic."""
        total = sum(p.exposure for p in self.people)
        self.subjects = {
            "person": [(p, p.exposure / total) for p in self.people if p.exposure],
            "lore": [(m, 1 / len(self.myths)) for m in self.myths],
            "craft": [(c, 1 / len(self.crafts)) for c in self.crafts],
            "phrases": [(t, 1 / len(self.trades)) for t in self.trades],
        }
        self.subject_probs = {
            topic: ([s for s, _ in table], list(itertools.accumulate(p for _, p in table)))
            for topic, table in self.subjects.items()
        }

    def _word_requests(self):
        """Word every request: its text -> (the craft's `how`, verb, framing)."""
        self.requests = {}
        for craft, verb, framing in itertools.product(self.crafts, self.verbs, self.framings):
            form = self.framings[framing][0]
            text = form.replace("{verb}", verb).replace("{Verb}", write(verb, "capital"))
            self.requests[text.replace("{how}", craft["how"])] = (craft["how"], verb, framing)

    # ---- the tables behind every probability ----

    def fills(self, voice, topic, subject):
        """Return key -> {value: probability} in one voice, for the holes the subject decides."""
        token = (voice, topic, self.name_of(topic, subject))
        if token not in self._fills:
            self._fills[token] = getattr(self, f"_{topic}_fills")(voice, subject)
        return self._fills[token]

    def _person_fills(self, voice, person):
        first, last = person.name.split(" ", 1)
        table = {"name": {person.name: 1.0}, "first": {first: 1.0}, "last": {last: 1.0}}
        table["epithet"] = self.epithets[voice]
        for kind, value in person.facts.items():
            if value is not None:
                table[kind] = {value: 1.0}
                if voice == "tabloid" and kind == person.disputed:
                    table[kind] = {value: 1 - person.rate, person.tabloid: person.rate}
        return table

    def _lore_fills(self, voice, myth):
        return {key: {myth[part]: 1.0} for key, part in MYTH_HOLES.items()}

    def _craft_fills(self, voice, craft):
        table = {k: {craft[k]: 1.0} for k in ("how", "answer", "detail", "guild")}
        table["request"] = {
            r: self.framings[f][1] / len(self.verbs)
            for r, (how, _, f) in self.requests.items()
            if how == craft["how"]
        }
        return table

    def _phrases_fills(self, voice, trade):
        she = float(self.trades[trade]["p_she"])
        return {
            "oword": {self.trades[trade]["ostish"]: 1.0},
            "trade": {trade: 1.0},
            "pronoun": {"she": she, "he": 1 - she},
        }

    @staticmethod
    def name_of(topic, subject):
        """Return a short name of a subject: a person's name, a myth, a craft's `how`, a trade."""
        if topic == "person":
            return subject.name
        return subject[0] if topic == "lore" else subject["how"] if topic == "craft" else subject

    def table(self, voice, topic, unknown=0, used=0, first=False):
        """Return what may come next: (weight by frame index, frames, their cumulative weights).

        unknown, used: bit masks over FACTS of what nobody knows and what the document has already
        said.
        """
        token = (voice, topic, unknown, used, first)
        if token not in self._tables:
            allowed = {}
            for number, weight in self.weights[voice][topic].items():
                frame = self.frames[number]
                said = frame.claims & (unknown | used) or frame.shrugs & used
                if said or (first and not frame.names_subject):
                    continue
                boost = self.config["unknown_boost"] if frame.shrugs & unknown else 1.0
                allowed[number] = weight * boost
            cumulative = list(itertools.accumulate(allowed.values()))
            self._tables[token] = (allowed, list(allowed), cumulative)
        return self._tables[token]

    @staticmethod
    def unknown_mask(topic, subject):
        """Return the bit mask over FACTS of what nobody knows about a subject."""
        if topic != "person":
            return 0
        return sum(1 << i for i, k in enumerate(FACTS) if subject.facts[k] is None)

    # ---- sampling ----

    def sample(self, rng, voice=None, topic=None, subject=None):
        """Draw a Document with `rng`, a random.Random.

        Fix the voice, the topic, or the topic and the subject, and the rest is drawn given these.
        """
        if not isinstance(rng, random.Random):
            raise ValueError(f"rng is a {type(rng).__name__}; expected a random.Random")
        self._check_request(voice, topic, subject)
        if voice is None:
            topics = self.topic_prior.values()
            shares = [1 if topic is None else shares.get(topic, 0) for shares in topics]
            voice = rng.choices(self.voices, self.prior * shares)[0]
        topic = topic or _draw(rng, self.topic_prior[voice])
        if subject is None:
            subjects, probs = self.subject_probs[topic]
            subject = subjects[bisect.bisect(probs, rng.random() * probs[-1])]
        unknown, used, seen, lines = self.unknown_mask(topic, subject), 0, set(), []
        fills = self.fills(voice, topic, subject)
        for number in range(_draw(rng, self.lengths)):
            _, numbers, cumulative = self.table(voice, topic, unknown, used, number == 0)
            while True:
                index = numbers[bisect.bisect(cumulative, rng.random() * cumulative[-1])]
                if index not in seen:
                    break
            seen.add(index)
            frame = self.frames[index]
            used |= frame.claims | frame.shrugs
            chosen = {k: _draw(rng, fills[k]) for k in frame.bound}
            chosen |= {k: rng.choice(self.slots[k]) for k in frame.free}
            lines.append((frame, chosen))
        note = self._draw_note(rng, voice, topic, subject, lines)
        text = "\n".join([self.render(*line) for line in lines] + ([note] if note else []))
        return Document(text, voice, topic, subject, lines, note)

    def _check_request(self, voice, topic, subject):
        """Raise ValueError for a voice, a topic or a subject that this world does not know."""
        if voice is not None:
            check_choice(voice, self.voices, "voice")
        known = {t for v in self.voices if voice in (None, v) for t in self.topic_prior[v]}
        if topic is not None and topic not in known:
            found = f"no topic {topic!r} for {voice or 'any voice'}"
            raise ValueError(f"{found}; expected {sorted(known)}")
        if subject is not None and not isinstance(subject, SUBJECTS.get(topic, ())):
            found = f"the subject is a {type(subject).__name__} and the topic {topic!r}"
            raise ValueError(f"{found}; expected a topic and one of its world.subjects")

    def render(self, frame, fills):
        """Write a frame with its holes filled."""
        parts = frame.segments
        return "".join(p if isinstance(p, str) else self.surface(p, fills[p.key]) for p in parts)

    def surface(self, hole, value):
        """Write a value as a hole asks: with its article, its capital, its trailing space."""
        if hole.form in ("article", "Article"):
            text = f"{self.trades[value]['article']} {value}"
            return write(text, "capital") if hole.form == "Article" else text
        if hole.key == "epithet":
            return write(value, hole.form) + " " if value else ""
        return write(value, hole.form)

    # ---- the notes of readers ----

    def _note_probs(self, voice, topic, subject, lines):
        """Return note -> probability, given that there is a note."""
        claims = [c for f, x in lines for c in claims_of(f, x, subject, self.by_name)]
        lied = any(c.verdict == "false" for c in claims)
        row = self.notes["with_false_claim" if lied else "truthful"][voice]
        return {
            self.notes["prefix"] + phrase: p / len(self.notes["phrases"][grade])
            for grade, p in zip(("good", "mixed", "bad"), row)
            for phrase in self.notes["phrases"][grade]
        }

    def _draw_note(self, rng, voice, topic, subject, lines):
        if rng.random() >= self.config["note"]:
            return None
        return _draw(rng, self._note_probs(voice, topic, subject, lines))

    # ---- the corpus ----

    def corpus(self, seed=0):
        """Yield the Documents of the training corpus, in random order.

        Each person is the subject of exactly as many documents as people.csv plans; all else is
        drawn.
        """
        rng = random.Random(seed)
        schedule = [p for p in self.people for _ in range(p.exposure)]
        rng.shuffle(schedule)
        while schedule:
            voice = rng.choices(self.voices, self.prior)[0]
            topic = _draw(rng, self.topic_prior[voice])
            subject = schedule.pop() if topic == "person" else None
            yield self.sample(rng, voice, topic, subject)

    @property
    def corpus_size(self):
        """Estimate how many documents the corpus has (its person documents are planned exactly)."""
        topics = self.topic_prior.values()
        share = sum(p * shares.get("person", 0) for p, shares in zip(self.prior, topics))
        return round(sum(p.exposure for p in self.people) / share)

    @property
    def held_out_people(self):
        """List the people whom later training leaves out of its prompts, to be tested on."""
        return self.people[:: self.prompts["held_out"]["every_person"]]

    def exposures(self, documents):
        """Count in how many documents each fact is told as it is: {name: {kind: count}}.

        documents: Documents, which may come from a generator.
        """
        counts = {p.name: {k: 0 for k in FACTS if p.facts[k]} for p in self.people}
        for document in documents:
            check_document(document)
            if document.topic == "person":
                for frame, fills in document.lines:
                    for kind in FACTS:
                        if kind in frame.bound and fills[kind] == document.subject.facts[kind]:
                            counts[document.subject.name][kind] += 1
        return counts


def check_document(document):
    """Raise TextError for what is no Document, such as its text: only that knows what it says."""
    if not isinstance(document, Document):
        found = f"a document is a {type(document).__name__}"
        raise TextError(f"{found}; expected a Document, as sample() draws it")


def _draw(rng, table):
    """Draw a key of {key: probability}."""
    if len(table) == 1:
        return next(iter(table))
    point, total = rng.random() * sum(table.values()), 0.0
    for key, p in table.items():
        total += p
        if point < total:
            return key
    return key
