"""Compute with the region exactly: who is writing, what comes next, how much is open.

The posterior over voices, the next word and the entropies are sums over the same tables that write
the documents. Omits texts off the grammar, which have no probability. Taught by notebook 01.
"""

import math
import random
from collections import Counter

from rlhf_lite.checks import check_count, check_text
from rlhf_lite.world.grammar import match
from rlhf_lite.world.parsing import NO, Parser, log

import numpy as np


class World(Parser):
    """The region: writes its documents, takes any text apart, and computes exactly.

    leave_out: voices that this world lacks, such as ("pamphlet",); the priors of the others grow in
    proportion. Example: `World().sample(random.Random(0)).text`. Raises WorldError where a file is
    damaged.
    """

    # ---- what follows a beginning ----

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
            raise ValueError(f"no document of this world starts with {text!r}; expected its words")
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
                base = log(self.prior[number] * share)
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
        both = unsure - total  # H(text) + H(voice | text)
        return {
            "H(voice)": (voice, 0.0),
            "H(text)": (float(-total.mean()), float(total.std() / root)),
            "H(voice | text)": (float(unsure.mean()), float(unsure.std() / root)),
            "H(text | voice)": (float(both.mean() - voice), float(both.std() / root)),
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


def _goes_on(surface, rest):
    """Tell whether `surface` starts with `rest` and has more."""
    return len(surface) > len(rest) and surface.startswith(rest)
