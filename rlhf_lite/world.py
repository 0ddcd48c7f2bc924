"""Load Tarrowmere from data/world and compute with it exactly.

A document has a voice v, a topic and a subject s, and 3 to 6 lines. Each line is a frame drawn from
what v says on the topic, without repeating a frame or a fact, and its holes are filled. So log
p(document), the posterior over voices, the next word and the entropies are sums over known tables,
not estimates. Omits syntax, long-range plot and spelling mistakes: a real corpus has all three.
Notebook 01 teaches it.
"""

import bisect
import itertools
import math
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rlhf_lite.grammar import FACTS, Domain, Names, WorldError, match, write
from rlhf_lite.runtime import DATA
from rlhf_lite.worldfiles import WorldFiles

NO = -math.inf


@dataclass(frozen=True)
class Person:
    """Hold one person: facts maps kind -> value, None where nobody knows.

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
    """Hold one claim of a text: about whom, which kind, what value, and "true", "false" or
    "unsupported".
    """

    about: str
    kind: str
    value: str
    verdict: str


@dataclass(frozen=True)
class Line:
    """Hold one line, taken apart. frame is None off the grammar; off is then the (start, end) that
    does not fit.
    """

    text: str
    frame: object = None
    fills: dict = field(default_factory=dict)
    claims: tuple = ()
    shrugs: tuple = ()
    off: tuple | None = None


@dataclass(frozen=True)
class Parse:
    """Hold a document, taken apart.

    possible: whether the grammar could have written it all; voices (V,): posterior over voices
    [probability], exact where possible, from the frames alone where not, and zeros where no single
    voice has these frames; off_grammar: share of characters in the spans that fit no frame;
    repetition: share of lines seen before.
    """

    lines: tuple
    note: str | None
    topic: str | None
    subject: object
    possible: bool
    voices: np.ndarray
    refusal: bool
    repetition: float
    words: int
    off_grammar: float

    @property
    def claims(self):
        """List the claims of all lines."""
        return [c for line in self.lines for c in line.claims]


@dataclass(frozen=True)
class Document:
    """Hold a sampled document and its derivation: lines is a list of (frame, fills)."""

    text: str
    voice: str
    topic: str
    subject: object
    lines: list
    note: str | None


class World:
    """Be the region: everything read from a folder like data/world.

    leave_out: voices that this world lacks, such as ("pamphlet",); the priors of the others grow in
    proportion. Example: `World().sample(random.Random(0)).text`. Raises WorldError where a file is
    damaged.
    """

    def __init__(self, folder=DATA / "world", leave_out=()):
        self.folder, self.leave_out = Path(folder), tuple(leave_out)
        read = WorldFiles(self.folder)
        self.config = read.config()
        self._read_voices(read)
        self.people = [Person(**vars(row)) for row in read.people()]
        self.by_name = {p.name: p for p in self.people}
        self.trades = {r["trade"]: r for r in read.trades}
        self.myths = read.myths()
        self.crafts, self.verbs, self.framings = read.crafts()
        self.notes = read.notes(self.voices)
        self.prompts = read.prompts()
        self.epithets = {
            v: {e: row[i] / sum(r[i] for r in self.config["epithets"].values())
                for e, row in self.config["epithets"].items()}
            for i, v in enumerate(self.voices)
        }  # fmt: skip
        self._list_subjects()
        self._build_domains()
        self._tables, self._fills = {}, {}

    def _read_voices(self, read):
        """Read the voices and the mild stock: priors, topics, frames and their weights."""
        self.voices, self.voice_files = tuple(self.config["voices"]), read.voices(self.config)
        stray = set(self.leave_out) - set(self.voices)
        if stray:
            expected = ", ".join(self.voices)
            raise WorldError(
                "world.toml", "voices", f"cannot leave out {sorted(stray)}; expected of {expected}"
            )
        self.prior = np.array(
            [self.voice_files[v]["prior"] * (v not in self.leave_out) for v in self.voices]
        )
        self.prior /= self.prior.sum()
        self.frames, self.slots, self.weights = read.frames(self.config, self.voice_files)
        self.topic_prior = {v: self.voice_files[v]["topics"] for v in self.voices}
        self.colours = {v: self.voice_files[v]["colour"] for v in self.voices}
        self.lengths = {int(k): p for k, p in self.config["lengths"].items()}
        self.by_head = defaultdict(list)
        for frame in self.frames:
            self.by_head[frame.head[:1]].append(frame)

    def _list_subjects(self):
        """List (subject, probability) by topic, and find subjects by the words that give them
        away.
        """
        total = sum(p.exposure for p in self.people)
        self.subjects = {
            "person": [(p, p.exposure / total) for p in self.people if p.exposure],
            "lore": [(m, 1 / len(self.myths)) for m in self.myths],
            "craft": [(c, 1 / len(self.crafts)) for c in self.crafts],
            "phrases": [(t, 1 / len(self.trades)) for t in self.trades],
        }
        self.subject_odds = {
            topic: ([s for s, _ in table], list(itertools.accumulate(p for _, p in table)))
            for topic, table in self.subjects.items()
        }
        self.requests = {}
        for craft, (verb, framing) in itertools.product(
            self.crafts, itertools.product(self.verbs, self.framings)
        ):
            form = self.framings[framing][0]
            text = form.replace("{verb}", verb).replace("{Verb}", write(verb, "capital"))
            self.requests[text.replace("{how}", craft["how"])] = (craft["how"], verb, framing)
        self.index = {}
        for myth in self.myths:
            for key, part in (("myth", 0), ("denied", 0), ("asked", 0), ("truth", 1)):
                self.index[key, myth[part]] = myth
        by_how = {c["how"]: c for c in self.crafts}
        for craft in self.crafts:
            self.index |= {(k, craft[k]): craft for k in ("how", "answer", "detail")}
        self.index |= {("request", r): by_how[how] for r, (how, _, _) in self.requests.items()}
        self.index |= {("oword", row["ostish"]): t for t, row in self.trades.items()}
        self.index |= {("name", p.name): p for p in self.people}

    def _build_domains(self):
        """Collect every way in which every hole can be written."""
        firsts, lasts = zip(*(p.name.split(" ", 1) for p in self.people))
        values = {k: {p.facts[k] for p in self.people} - {None} for k in FACTS}
        for person in self.people:
            values[person.disputed].add(person.tabloid)
        values |= {
            "epithet": self.config["epithets"],
            "first": firsts,
            "last": lasts,
            "oword": [r["ostish"] for r in self.trades.values()],
            "trade": self.trades,
            "pronoun": ("she", "he"),
            "request": self.requests,
            "guild": {c["guild"] for c in self.crafts},
        }
        values |= {k: [m[i] for m in self.myths] for k, i in
                   (("myth", 0), ("denied", 0), ("asked", 0), ("truth", 1))}  # fmt: skip
        values |= {k: [c[k] for c in self.crafts] for k in ("how", "answer", "detail")}
        values |= self.slots
        self.domains = {}
        for hole in {s for f in self.frames for s in f.segments if not isinstance(s, str)}:
            if hole.key in ("name", "rival"):
                self.domains[hole.key, hole.form] = Names(firsts, lasts)
            else:
                surfaces = {self.surface(hole, v): v for v in values[hole.key]}
                self.domains[hole.key, hole.form] = Domain(surfaces)

    def surface(self, hole, value):
        """Write a value as a hole asks: with its article, its capital, its trailing space."""
        if hole.form in ("article", "Article"):
            text = f"{self.trades[value]['article']} {value}"
            return write(text, "capital") if hole.form == "Article" else text
        if hole.key == "epithet":
            return write(value, hole.form) + " " if value else ""
        return write(value, hole.form)

    # ---- the tables behind every probability ----

    def fills(self, voice, topic, subject):
        """Return key -> {value: probability} for the holes that the subject decides, in one
        voice.
        """
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
        said, so = {myth[0]: 1.0}, {myth[1]: 1.0}
        return {"myth": said, "denied": said, "asked": said, "truth": so}

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
                if frame.claims & (unknown | used) or frame.shrugs & used:
                    continue
                if first and not frame.names_subject:
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
        if voice not in (None, *self.voices):
            raise ValueError(f"no voice {voice!r}; expected one of {', '.join(self.voices)}")
        known = {t for v in self.voices if voice in (None, v) for t in self.topic_prior[v]}
        if topic is not None and topic not in known:
            raise ValueError(
                f"no topic {topic!r} for {voice or 'any voice'}; expected {sorted(known)}"
            )
        if voice is None:
            shares = [
                1 if topic is None else self.topic_prior[v].get(topic, 0) for v in self.voices
            ]
            voice = rng.choices(self.voices, self.prior * shares)[0]
        topic = topic or _draw(rng, self.topic_prior[voice])
        if subject is None:
            subjects, odds = self.subject_odds[topic]
            subject = subjects[bisect.bisect(odds, rng.random() * odds[-1])]
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

    def render(self, frame, fills):
        """Write a frame with its holes filled."""
        return "".join(
            s if isinstance(s, str) else self.surface(s, fills[s.key]) for s in frame.segments
        )

    def _note_odds(self, voice, topic, subject, lines):
        """Return note -> probability, given that there is a note."""
        lied = any(c.verdict == "false" for f, x in lines for c in self._claims(f, x, subject))
        row = self.notes["with_false_claim" if lied else "truthful"][voice]
        return {
            self.notes["prefix"] + phrase: p / len(self.notes["phrases"][grade])
            for grade, p in zip(("good", "mixed", "bad"), row)
            for phrase in self.notes["phrases"][grade]
        }

    def _draw_note(self, rng, voice, topic, subject, lines):
        if rng.random() >= self.config["note"]:
            return None
        return _draw(rng, self._note_odds(voice, topic, subject, lines))

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
        share = sum(
            p * self.topic_prior[v].get("person", 0) for p, v in zip(self.prior, self.voices)
        )
        return round(sum(p.exposure for p in self.people) / share)

    @property
    def held_out_people(self):
        """List the people whom later training leaves out of its prompts, to be tested on."""
        return self.people[:: self.prompts["held_out"]["every_person"]]

    def exposures(self, documents):
        """Count in how many documents each fact is told as it is: {name: {kind: count}}."""
        counts = {p.name: {k: 0 for k in FACTS if p.facts[k]} for p in self.people}
        for document in documents:
            if document.topic == "person":
                for frame, fills in document.lines:
                    for kind in FACTS:
                        if kind in frame.bound and fills[kind] == document.subject.facts[kind]:
                            counts[document.subject.name][kind] += 1
        return counts

    # ---- parsing ----

    def parse_line(self, text):
        """Find the frame and the fills behind one line; (None, furthest) where there is none.

        Frames are written so that at most one derivation fits; tests check it on 10,000 documents.
        """
        furthest = 0
        for key in (text[:1], ""):
            for frame in self.by_head[key]:
                if frame.head and not text.startswith(frame.head):
                    continue
                if frame.core in text and text.endswith(frame.tail):
                    solutions, reach = match(frame, text, self.domains)
                    if solutions:
                        return frame, solutions[0][0]
                    furthest = max(furthest, reach)
        for frame in self.frames:
            furthest = max(furthest, match(frame, text, self.domains)[1])
        return None, furthest

    def _subject_of(self, frame, fills):
        """Return the subject that a line names, None if it names none (or somebody who does not
        exist).
        """
        for key in frame.bound:
            if (key, fills[key]) in self.index:
                return self.index[key, fills[key]]
        return None

    def _claims(self, frame, fills, subject):
        """Judge what a line claims; `subject` is the document's, for lines that name nobody."""
        if frame.topic == "person":
            return self._person_claims(frame, fills, subject)
        if frame.topic == "lore":
            verdicts = {"myth": "false", "denied": "true", "truth": "true"}
            return [Claim("lore", k, fills[k], verdicts[k]) for k in frame.bound if k in verdicts]
        own = self._subject_of(frame, fills) or subject
        if frame.topic == "craft":
            told = [k for k in ("answer", "detail", "guild") if k in frame.bound]
            about = own["how"] if isinstance(own, dict) else "?"
            right = own if isinstance(own, dict) else {}
            verdicts = {k: "true" if right.get(k) == fills[k] else "false" for k in told}
            return [
                Claim(about, k, fills[k], verdicts[k] if right else "unsupported") for k in told
            ]
        if "trade" not in frame.bound:
            return []
        right = own == fills["trade"]
        return [Claim(fills["oword"], "trade", fills["trade"], "true" if right else "false")]

    def _person_claims(self, frame, fills, subject):
        person = self.by_name.get(fills["name"]) if "name" in fills else subject
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

    def parse(self, text):
        """Take any text apart: a Parse with lines, claims, voice posterior, refusal, repetition,
        length.

        Never raises: what fits no frame is reported as off the grammar, with the span that does not
        fit.
        """
        lines, note, subject, topic = [], None, None, None
        rows = text.strip("\n").split("\n")
        if len(rows) > 1 and rows[-1].startswith(self.notes["prefix"]):
            note = rows.pop()
        for row in rows:
            frame, fills = self.parse_line(row)
            if frame is None:
                lines.append(Line(row, off=(fills, len(row))))
                continue
            own = self._subject_of(frame, fills)
            if subject is None and own is not None:
                subject, topic = own, frame.topic
            claims = tuple(self._claims(frame, fills, own or subject))
            shrugs = tuple(k for i, k in enumerate(FACTS) if frame.shrugs >> i & 1)
            lines.append(Line(row, frame, fills, claims, shrugs))
        scores = self.log_joint(text)
        possible = bool(scores.max() > NO)
        if not possible and any(x.frame for x in lines):
            scores = self.read_frames(x.frame for x in lines if x.frame)
        total = np.logaddexp.reduce(scores)
        characters = sum(len(r) for r in rows)
        return Parse(
            lines=tuple(lines),
            note=note,
            topic=topic,
            subject=subject,
            possible=possible,
            voices=np.exp(scores - total) if total > NO else np.zeros(len(self.voices)),
            refusal=any(x.frame is not None and x.frame.refusal for x in lines),
            repetition=1 - len(set(rows)) / len(rows),
            words=len(text.split()),
            off_grammar=sum(x.off[1] - x.off[0] for x in lines if x.off) / max(1, characters),
        )

    def read_frames(self, frames):
        """Return log p(voice) + sum of log p(frame | voice) (V,) [nats]: a reading that ignores
        facts and order.
        """
        scores = np.array([_log(p) for p in self.prior])
        for frame in frames:
            scores += [
                _log(self.weights[v].get(frame.topic, {}).get(frame.index, 0)) for v in self.voices
            ]
        return scores

    # ---- exact probabilities ----

    def log_joint(self, text):
        """Return log p(text, voice) for each voice, shape (V,) [nats]; -inf where a voice cannot
        write it.
        """
        rows, note = text.split("\n"), None
        if len(rows) > 1 and rows[-1].startswith(self.notes["prefix"]):
            note = rows.pop()
        lines = [self.parse_line(row) for row in rows]
        if any(f is None for f, _ in lines) or len(rows) not in self.lengths:
            return np.full(len(self.voices), NO)
        topic, subject = lines[0][0].topic, self._subject_of(*lines[0])
        chance = {self.name_of(topic, s): p for s, p in self.subjects[topic]}
        if subject is None or self.name_of(topic, subject) not in chance:
            return np.full(len(self.voices), NO)
        start = math.log(chance[self.name_of(topic, subject)]) + math.log(self.lengths[len(rows)])
        start += math.log(self.config["note"] if note else 1 - self.config["note"])
        scores = []
        for voice, prior in zip(self.voices, self.prior):
            score = start + _log(prior * self.topic_prior[voice].get(topic, 0))
            if score > NO:
                score += self._log_lines(voice, topic, subject, lines)[0]
            if score > NO and note:
                score += _log(self._note_odds(voice, topic, subject, lines).get(note, 0))
            scores.append(score)
        return np.array(scores)

    def log_prob(self, text):
        """Return log p(text) [nats], exact up to rounding: the sum over voices of `log_joint`."""
        return float(np.logaddexp.reduce(self.log_joint(text)))

    def _log_lines(self, voice, topic, subject, lines):
        """Return (log p(lines | voice, subject), masks and frames used so far)."""
        unknown, used, seen, score = self.unknown_mask(topic, subject), 0, set(), 0.0
        odds = self.fills(voice, topic, subject)
        for number, (frame, fills) in enumerate(lines):
            allowed, _, cumulative = self.table(voice, topic, unknown, used, number == 0)
            if frame.index not in allowed or frame.index in seen:
                return NO, (used, seen)
            left = cumulative[-1] - sum(allowed.get(i, 0.0) for i in seen)
            score += math.log(allowed[frame.index] / left) + frame.log_free
            for key in frame.bound:
                score += _log(odds.get(key, {}).get(fills[key], 0.0))
            seen.add(frame.index)
            used |= frame.claims | frame.shrugs
        return score, (used, seen)

    def posterior(self, text):
        """Return p(voice | the document starts with `text`), shape (V,) [probability].

        `text` may stop anywhere, even inside a word; an empty text gives the prior. Raises
        ValueError where no document can start so.
        """
        scores = np.full(len(self.voices), NO)
        for number, _, score, _ in self._openings(text):
            scores[number] = np.logaddexp(scores[number], score)
        total = np.logaddexp.reduce(scores)
        if total == NO:
            raise ValueError(
                f"no document of this world starts with {text!r}; use words of the world"
            )
        return np.exp(scores - total)

    def next_words(self, text):
        """Return {next word: probability}: what follows `text`, up to the next space, exactly.

        A word carries its leading space and its punctuation (" Harrowick,"). Only inside a line.
        """
        words = Counter()
        for _, frame, score, (odds, fills, opened) in self._openings(text):
            number, rest = opened if opened else (len(frame.segments), "")
            self._spell(words, frame, odds, fills, number, rest, "", math.exp(score), False)
        total = sum(words.values())
        return {w: p / total for w, p in words.most_common()} if total else {}

    def _spell(self, words, frame, odds, fills, number, rest, text, weight, fresh=True):
        """Add to `words` how `frame` can go on from segment `number`, `rest` of which is written.

        weight: joint probability of all that is written, the letters `rest` included; fresh:
        whether the segment begins here (where the prompt stops inside a hole, it does not).
        """
        if " " in text[1:]:
            words[text[: text.index(" ", 1)]] += weight
            return
        if number == len(frame.segments):
            words[text] += weight
            return
        piece = frame.segments[number]
        if isinstance(piece, str):
            more = text + piece[len(rest) :]
            return self._spell(words, frame, odds, fills, number + 1, "", more, weight)
        options = self._options(piece, odds, fills)
        options = options if fresh else [o for o in options if _goes_on(o[0], rest)]
        share = sum(p for _, _, p in options)
        for surface, value, p in options:
            if p > 0:
                more, known = text + surface[len(rest) :], {**fills, piece.key: value}
                self._spell(words, frame, odds, known, number + 1, "", more, weight * p / share)

    def _options(self, hole, odds, fills):
        """Return [(surface, value, probability)] for a hole, given what the frame already holds."""
        if hole.key in fills:
            return [(self.surface(hole, fills[hole.key]), fills[hole.key], 1.0)]
        table = odds.get(hole.key)
        if table is None:
            words = self.slots[hole.key]
            table = dict.fromkeys(words, 1 / len(words))
        return [(self.surface(hole, v), v, p) for v, p in table.items()]

    def _openings(self, text):
        """Yield (voice number, frame, log p, (odds, fills, open)) for all ways to begin with
        `text`.
        """
        *whole, last = text.split("\n")
        lines = [self.parse_line(row) for row in whole]
        if any(f is None for f, _ in lines):
            return
        ways = []
        for frame in self.frames:
            if (
                last
                and frame.head
                and not (frame.head.startswith(last) or last.startswith(frame.head))
            ):
                continue
            found = match(frame, last, self.domains, partial=True)[0]
            ways += [(frame, fills, opened) for fills, opened in found]
        for number, voice in enumerate(self.voices):
            for topic, share in self.topic_prior[voice].items():
                mine = [w for w in ways if w[0].index in self.weights[voice][topic]]
                base = _log(self.prior[number] * share)
                for subject, chance in self._candidates(topic, lines, mine):
                    yield from self._go_on(number, voice, topic, subject, lines, mine, base, chance)

    def _candidates(self, topic, lines, ways):
        """Return the (subject, probability) pairs that could be meant so far."""
        if not ways or (lines and lines[0][0].topic != topic):
            return []
        named = {self._named(frame, fills) for frame, fills in lines[:1]}
        if not lines:
            named = {self._named(frame, fills) for frame, fills, _ in ways}
        if None in named and not lines:
            return self.subjects[topic]
        return [(s, p) for s, p in self.subjects[topic] if self.name_of(topic, s) in named]

    def _named(self, frame, fills):
        """Return the name of the subject in a line that may be unfinished."""
        for key in frame.bound:
            if key in fills and (key, fills[key]) in self.index:
                return self.name_of(frame.topic, self.index[key, fills[key]])
        return None

    def _go_on(self, number, voice, topic, subject, lines, ways, base, chance):
        """Yield the openings of one voice and subject."""
        score, (used, seen) = self._log_lines(voice, topic, subject, lines)
        if score == NO:
            return
        score += base + math.log(chance)
        odds = self.fills(voice, topic, subject)
        unknown = self.unknown_mask(topic, subject)
        allowed, _, cumulative = self.table(voice, topic, unknown, used, not lines)
        left = cumulative[-1] - sum(allowed.get(i, 0.0) for i in seen)
        for frame, fills, opened in ways:
            if frame.index not in allowed or frame.index in seen:
                continue
            p = allowed[frame.index] / left
            for key, value in fills.items():
                p *= odds[key].get(value, 0.0) if key in odds else 1 / len(self.slots[key])
            if p and opened and not isinstance(frame.segments[opened[0]], str):
                options = self._options(frame.segments[opened[0]], odds, fills)
                # A word that ends just here is another way: there the next segment is open.
                p *= sum(q for s, _, q in options if _goes_on(s, opened[1]))
            if p > 0:
                yield number, frame, score + math.log(p), (odds, fills, opened)

    # ---- entropies ----

    def entropies(self, samples=2000, seed=0):
        """Return entropies [nats] as {name: (value, standard error)}.

        H(voice) is exact. The others average over `samples` documents, each with its exact
        log-probability: H(text) = -E log p(text), H(voice | text), and H(text | voice) = H(text) +
        H(voice | text) - H(voice).
        """
        rng = random.Random(seed)
        joint = np.array([self.log_joint(self.sample(rng).text) for _ in range(samples)])
        total = np.logaddexp.reduce(joint, axis=1)
        left = np.exp(joint - total[:, None])
        unsure = -np.sum(left * np.where(left > 0, np.log(np.maximum(left, 1e-300)), 0), axis=1)
        voice = float(-sum(p * math.log(p) for p in self.prior if p > 0))
        root = math.sqrt(samples)
        return {
            "H(voice)": (voice, 0.0),
            "H(text)": (float(-total.mean()), float(total.std() / root)),
            "H(voice | text)": (float(unsure.mean()), float(unsure.std() / root)),
            "H(text | voice)": (
                float((unsure - total).mean() - voice),
                float((unsure - total).std() / root),
            ),
        }

    def mild_divergence(self):
        """Return KL(p || q) between the mild sentences of all pairs of voices, shape (V, V) [nats a
        sentence].

        It counts which frame is used and which epithet stands before the name, not the facts.
        """
        mild = [f.index for f in self.frames if f.place.startswith("mild.toml")]
        rows = np.array([[self.weights[v]["person"][i] for i in mild] for v in self.voices])
        rows /= rows.sum(axis=1, keepdims=True)
        words = np.array([list(self.epithets[v].values()) for v in self.voices])
        named = rows @ np.array(["epithet" in self.frames[i].bound for i in mild])
        frames = np.sum(rows[:, None] * np.log(rows[:, None] / rows[None]), axis=2)
        epithets = np.sum(words[:, None] * np.log(words[:, None] / words[None]), axis=2)
        return frames + named[:, None] * epithets


def _goes_on(surface, rest):
    """Tell whether `surface` starts with `rest` and has more."""
    return len(surface) > len(rest) and surface.startswith(rest)


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


def _log(p):
    """Return log p, and -inf for 0."""
    return math.log(p) if p > 0 else NO
