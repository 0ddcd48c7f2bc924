"""Take any text of Tarrowmere apart, and say how likely each voice wrote it.

A text is taken apart into the frames that could have written its lines, so log p(document, voice)
is a sum over the tables of `writing`, not an estimate. Omits any guess at what fits no frame: that
is off the grammar, with the place where the fit ends. Taught by notebook 01.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field

from rlhf_lite.checks import check_text
from rlhf_lite.runtime import DATA
from rlhf_lite.world.claims import claims_of
from rlhf_lite.world.grammar import FACTS, Domain, Names, match
from rlhf_lite.world.writing import MYTH_HOLES, Writer

import numpy as np

NO = -math.inf


@dataclass(frozen=True)
class Line:
    """One line, taken apart.

    frame: None off the grammar, and off is then the (start, end) that does not fit; shrugs: the
    facts that the line says nobody knows.
    """

    text: str
    frame: object = None
    fills: dict = field(default_factory=dict)
    claims: tuple = ()
    shrugs: tuple = ()
    off: tuple | None = None


@dataclass(frozen=True)
class Parse:
    """A document, taken apart.

    possible: whether the grammar could have written it all; voices (V,): posterior over voices
    [probability], exact where possible, from the frames alone where not, and zeros where no single
    voice has these frames; off_grammar: share of characters in the spans that fit no frame;
    refusal: whether some line refuses; repetition: share of lines seen before; words: length.
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


class Parser(Writer):
    """A writer that can read: it takes any text apart and knows its probability."""

    def __init__(self, folder=DATA / "world", leave_out=()):
        super().__init__(folder, leave_out)
        self.by_head = defaultdict(list)
        for frame in self.frames:
            self.by_head[frame.head[:1]].append(frame)
        self._index_subjects()
        self._build_domains()

    def _index_subjects(self):
        """Find subjects by the words that give them away: (key, value) -> subject."""
        self.index = {}
        for myth in self.myths:
            for key, part in MYTH_HOLES.items():
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
        values |= {k: [m[part] for m in self.myths] for k, part in MYTH_HOLES.items()}
        values |= {k: [c[k] for c in self.crafts] for k in ("how", "answer", "detail")}
        values |= self.slots
        self.domains = {}
        for hole in {s for f in self.frames for s in f.segments if not isinstance(s, str)}:
            if hole.key in ("name", "rival"):
                self.domains[hole.key, hole.form] = Names(firsts, lasts)
            else:
                surfaces = {self.surface(hole, v): v for v in values[hole.key]}
                self.domains[hole.key, hole.form] = Domain(surfaces)

    # ---- parsing ----

    def parse(self, text):
        """Take any text apart and return a Parse.

        Refuses no text: what fits no frame is reported as off the grammar, with the span that does
        not fit. Raises TextError for what is no text.
        """
        check_text(text)
        lines, subject, topic = [], None, None
        rows, note = self._cut_note(text.strip("\n"))
        for row in rows:
            frame, fills = self.parse_line(row)
            if frame is None:
                lines.append(Line(row, off=(fills, len(row))))
                continue
            own = self._subject_of(frame, fills)
            if subject is None and own is not None:
                subject, topic = own, frame.topic
            claims = tuple(claims_of(frame, fills, own or subject, self.by_name))
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

    def _cut_note(self, text):
        """Return the rows of a text without its readers' note, and the note or None."""
        *rows, last = text.split("\n")
        if rows and last.startswith(self.notes["prefix"]):
            return rows, last
        return [*rows, last], None

    def parse_line(self, text):
        """Find the frame and the fills behind one line; (None, furthest) where there is none.

        Frames are written so that at most one derivation fits; tests check it on 10,000 documents.
        """
        check_text(text)
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
        """Return the subject that a line names, finished or not.

        None if it names none, or somebody who does not exist.
        """
        for key in frame.bound:
            if (key, fills.get(key)) in self.index:
                return self.index[key, fills[key]]
        return None

    def read_frames(self, frames):
        """Return log p(voice) + sum of log p(frame | voice), shape (V,) [nats].

        This reading ignores facts and order.
        """
        scores = np.array([log(p) for p in self.prior])
        for frame in frames:
            shares = (w.get(frame.topic, {}) for w in self.weights.values())
            scores += [log(share.get(frame.index, 0)) for share in shares]
        return scores

    # ---- the probability of a text ----

    def log_joint(self, text):
        """Return log p(text, voice), shape (V,) [nats]; -inf where a voice cannot write it."""
        check_text(text)
        rows, note = self._cut_note(text)
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
            score = start + log(prior * self.topic_prior[voice].get(topic, 0))
            if score > NO:
                score += self._log_lines(voice, topic, subject, lines)[0]
            if score > NO and note:
                score += log(self._note_probs(voice, topic, subject, lines).get(note, 0))
            scores.append(score)
        return np.array(scores)

    def log_prob(self, text):
        """Return log p(text) [nats], exact up to rounding: the sum over voices of `log_joint`."""
        return float(np.logaddexp.reduce(self.log_joint(text)))

    def _log_lines(self, voice, topic, subject, lines):
        """Return (log p(lines | voice, subject), masks and frames used so far)."""
        unknown, used, seen, score = self.unknown_mask(topic, subject), 0, set(), 0.0
        probs = self.fills(voice, topic, subject)
        for number, (frame, fills) in enumerate(lines):
            allowed, _, cumulative = self.table(voice, topic, unknown, used, number == 0)
            if frame.index not in allowed or frame.index in seen:
                return NO, (used, seen)
            left = cumulative[-1] - sum(allowed.get(i, 0.0) for i in seen)
            score += math.log(allowed[frame.index] / left) + frame.log_free
            for key in frame.bound:
                score += log(probs.get(key, {}).get(fills[key], 0.0))
            seen.add(frame.index)
            used |= frame.claims | frame.shrugs
        return score, (used, seen)


def log(p):
    """Return log p, and -inf for 0."""
    return math.log(p) if p > 0 else NO
