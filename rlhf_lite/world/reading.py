"""Read any text of Tarrowmere and compute with the region exactly.

A text is taken apart into the frames that could have written its lines. So log p(document), the
posterior over voices, the next word and the entropies are sums over the tables of `writer`, not
estimates. Omits any guess at what fits no frame: that is off the grammar, with the place where the
fit ends. Notebook 01 teaches it.
"""

import math
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from rlhf_lite.runtime import DATA, TextError, check_count
from rlhf_lite.world.grammar import FACTS, Domain, Names, match
from rlhf_lite.world.writing import MYTH_HOLES, Writer

import numpy as np

NO = -math.inf


@dataclass(frozen=True)
class Line:
    """Hold one line, taken apart.

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
    """Hold a document, taken apart.

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


class World(Writer):
    """Be the region: write its documents, take any text apart, and compute exactly.

    leave_out: voices that this world lacks, such as ("pamphlet",); the priors of the others grow in
    proportion. Example: `World().sample(random.Random(0)).text`. Raises WorldError where a file is
    damaged.
    """

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
        scores = np.array([_log(p) for p in self.prior])
        for frame in frames:
            scores += [
                _log(self.weights[v].get(frame.topic, {}).get(frame.index, 0)) for v in self.voices
            ]
        return scores

    # ---- exact probabilities ----

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
            score = start + _log(prior * self.topic_prior[voice].get(topic, 0))
            if score > NO:
                score += self._log_lines(voice, topic, subject, lines)[0]
            if score > NO and note:
                score += _log(self._note_probs(voice, topic, subject, lines).get(note, 0))
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
                score += _log(probs.get(key, {}).get(fills[key], 0.0))
            seen.add(frame.index)
            used |= frame.claims | frame.shrugs
        return score, (used, seen)

    def posterior(self, text):
        """Return p(voice | the document starts with `text`), shape (V,) [probability].

        `text` may stop anywhere in its lines, even inside a word, but not in a readers' note; an
        empty text gives the prior. Raises ValueError where no document can start so.
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
        for _, frame, score, (probs, fills, opened) in self._openings(text):
            number, rest = opened if opened else (len(frame.segments), "")
            self._spell(words, frame, probs, fills, number, rest, "", math.exp(score), False)
        total = sum(words.values())
        return {w: p / total for w, p in words.most_common()} if total else {}

    def _spell(self, words, frame, probs, fills, number, rest, text, weight, fresh=True):
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
            return self._spell(words, frame, probs, fills, number + 1, "", more, weight)
        options = self._options(piece, probs, fills)
        options = options if fresh else [o for o in options if _goes_on(o[0], rest)]
        share = sum(p for _, _, p in options)
        for surface, value, p in options:
            if p > 0:
                more, known = text + surface[len(rest) :], {**fills, piece.key: value}
                self._spell(words, frame, probs, known, number + 1, "", more, weight * p / share)

    def _options(self, hole, probs, fills):
        """Return [(surface, value, probability)] for a hole, given what the frame already holds."""
        if hole.key in fills:
            return [(self.surface(hole, fills[hole.key]), fills[hole.key], 1.0)]
        table = probs.get(hole.key)
        if table is None:
            words = self.slots[hole.key]
            table = dict.fromkeys(words, 1 / len(words))
        return [(self.surface(hole, v), v, p) for v, p in table.items()]

    def _openings(self, text):
        """Yield (voice number, frame, log p, (probs, fills, open)) for each way to begin.

        A document begins with `text`, and the frame is that of its last line; probs: see `fills`;
        fills, open: see `match`.
        """
        check_text(text)
        *whole, last = text.split("\n")
        lines = [self.parse_line(row) for row in whole]
        if any(f is None for f, _ in lines):
            return
        ways = []
        for frame in self.frames:
            if not (frame.head.startswith(last) or last.startswith(frame.head)):
                continue
            found = match(frame, last, self.domains, partial=True)[0]
            ways += [(frame, fills, opened) for fills, opened in found]
        for number, voice in enumerate(self.voices):
            for topic, share in self.topic_prior[voice].items():
                mine = [w for w in ways if w[0].index in self.weights[voice][topic]]
                base = _log(self.prior[number] * share)
                for subject, chance in self._candidates(topic, lines, mine):
                    start = base + math.log(chance)
                    yield from self._go_on(number, topic, subject, lines, mine, start)

    def _candidates(self, topic, lines, ways):
        """Return the (subject, probability) pairs that could be meant so far."""
        if not ways or (lines and lines[0][0].topic != topic):
            return []
        first = lines[:1] or [(frame, fills) for frame, fills, _ in ways]
        found = [self._subject_of(*line) for line in first]
        if None in found and not lines:
            return self.subjects[topic]
        named = {self.name_of(topic, s) for s in found if s is not None}
        return [(s, p) for s, p in self.subjects[topic] if self.name_of(topic, s) in named]

    def _go_on(self, number, topic, subject, lines, ways, start):
        """Yield the openings of one voice and subject; start: log p of both and the topic."""
        voice = self.voices[number]
        score, (used, seen) = self._log_lines(voice, topic, subject, lines)
        if score == NO:
            return
        score += start
        probs = self.fills(voice, topic, subject)
        unknown = self.unknown_mask(topic, subject)
        allowed, _, cumulative = self.table(voice, topic, unknown, used, not lines)
        left = cumulative[-1] - sum(allowed.get(i, 0.0) for i in seen)
        for frame, fills, opened in ways:
            if frame.index not in allowed or frame.index in seen:
                continue
            p = allowed[frame.index] / left
            for key, value in fills.items():
                p *= probs[key].get(value, 0.0) if key in probs else 1 / len(self.slots[key])
            if p and opened and not isinstance(frame.segments[opened[0]], str):
                options = self._options(frame.segments[opened[0]], probs, fills)
                # A word that ends just here is another way: there the next segment is open.
                p *= sum(q for s, _, q in options if _goes_on(s, opened[1]))
            if p > 0:
                yield number, frame, score + math.log(p), (probs, fills, opened)

    # ---- entropies ----

    def entropies(self, samples=2000, seed=0):
        """Return entropies [nats] as {name: (value, standard error)}.

        H(voice) is exact. The others average over `samples` documents, each with its exact
        log-probability: H(text) = -E log p(text), H(voice | text), and H(text | voice) = H(text) +
        H(voice | text) - H(voice).
        """
        check_count(samples, "samples")
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
        """Return KL(p || q) between the mild sentences of all pairs of voices.

        Shape (V, V) [nats a sentence]. It counts which frame is used and which epithet stands
        before the name, not the facts.
        """
        mild = [f.index for f in self.frames if f.place.startswith("mild.toml")]
        rows = np.array([[self.weights[v]["person"][i] for i in mild] for v in self.voices])
        rows /= rows.sum(axis=1, keepdims=True)
        words = np.array([list(self.epithets[v].values()) for v in self.voices])
        named = rows @ np.array(["epithet" in self.frames[i].bound for i in mild])
        frames = np.sum(rows[:, None] * np.log(rows[:, None] / rows[None]), axis=2)
        epithets = np.sum(words[:, None] * np.log(words[:, None] / words[None]), axis=2)
        return frames + named[:, None] * epithets


def check_text(text):
    """Raise TextError for what is no text, such as a list of texts."""
    if not isinstance(text, str):
        raise TextError(f"text is a {type(text).__name__}; expected one text")


def _goes_on(surface, rest):
    """Tell whether `surface` starts with `rest` and has more."""
    return len(surface) > len(rest) and surface.startswith(rest)


def _log(p):
    """Return log p, and -inf for 0."""
    return math.log(p) if p > 0 else NO
