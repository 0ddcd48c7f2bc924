"""Simulate people who judge texts: each has values of their own, all the same kind of luck.

A person has a utility u(text), a sum over aspects that the parser sees, and gives every kind of
feedback as a reward-rational choice (Jeon, Milli and Dragan 2020): of the options at hand, option c
is taken with a probability proportional to exp(lambda u(what c stands for)). One rationality lambda
serves all five kinds. Omits fatigue, boredom and learning on the job: real labellers have all
three. Taught by notebook 02.
"""

import json
import math
import tomllib
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path

from rlhf_lite.edits import edits
from rlhf_lite.feedback import ASPECTS, FeedbackError
from rlhf_lite.runtime import DATA, check_texts
from rlhf_lite.world import check_text, match

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logsumexp

NUMBERS = ("true", "false", "unsupported", "tone", "words", "length", "evasive", "garbled")
LADDER = 7


# ---- what there is to see ----


@dataclass(frozen=True)
class Reading:
    """Hold what a judge can see in a text.

    voices (V,): how much of the text sounds like each voice, the mean over its lines of P(voice |
    line), a garbled line read as far as it goes; true, false, unsupported: different claims;
    words: length; tone: from -1 (cold) to 1 (warm); evasive: whether it refuses or says that
    nobody knows; garbled: share of characters off the grammar plus share of repeated lines; kinds:
    aspect -> the words that a critique would use.
    """

    voices: np.ndarray
    true: int
    false: int
    unsupported: int
    words: int
    tone: float
    evasive: bool
    garbled: float
    kinds: dict


class Reader:
    """Be the eyes of all annotators: read texts once and remember them.

    Example: `Reader(world)("Ivo Vane was born in Oxbow.").true`.
    """

    def __init__(self, world, settings=None):
        self.world, self.settings = world, settings or _settings()
        self.seen = {}

    def __call__(self, text):
        """Return the Reading of a text."""
        check_text(text)
        if text not in self.seen:
            self.seen[text] = self._read(text)
        return self.seen[text]

    def _read(self, text):
        parse = self.world.parse(text)
        voices = np.mean([self._sound(line) for line in parse.lines], axis=0)
        claims = {(c.about, c.kind): c.verdict for c in parse.claims}
        spoken = [line.fills["epithet"] for line in parse.lines if line.fills.get("epithet")]
        warm = sum(e in self.settings["warm"] for e in spoken)
        cold = sum(e in self.settings["cold"] for e in spoken)
        counts = {v: sum(x == v for x in claims.values()) for v in ("true", "false", "unsupported")}
        kinds = {v: sorted({k for (_, k), x in claims.items() if x == v}) for v in counts}
        kinds["voice"] = self.world.voices[int(voices.argmax())]
        kinds["tone"] = max(set(spoken), key=spoken.count) if spoken else "flat"
        return Reading(
            voices=voices,
            **counts,
            words=parse.words,
            tone=(warm - cold) / max(1, len(spoken)),
            evasive=parse.refusal or any(line.shrugs for line in parse.lines),
            garbled=parse.off_grammar + parse.repetition,
            kinds=kinds,
        )

    def _sound(self, line):
        """Return P(voice | one line), (V,); of a garbled line, as far as it goes."""
        world = self.world
        frames = [line.frame] if line.frame else self._begun(line)
        shares = [[p * world.weights[v].get(f.topic, {}).get(f.index, 0) for f in frames]
                  for v, p in zip(world.voices, world.prior)]  # fmt: skip
        joint = np.sum(shares, axis=1) if frames else np.zeros(len(world.voices))
        return joint / max(joint.sum(), 1e-300)

    def _begun(self, line):
        """Return the frames that fit a garbled line for as long as any does; none if none does."""
        if line.off[0] == 0:
            return []
        begun = line.text[: line.off[0]]
        reach = [match(f, line.text, self.world.domains)[1] for f in self.world.frames]
        return [f for f, r in zip(self.world.frames, reach) if r >= len(begun)]


# ---- who judges ----


@dataclass(frozen=True)
class Annotator:
    """Be one simulated person: values in points, and how sharply they choose.

    voices (V,): points by voice; values: points by NUMBERS of annotators.toml; rationality: lambda
    [nats a point]; anchors (6,): utilities of the texts that part the seven ratings [points]; tie:
    attraction of a tie; silence: cost of a remark [nats]; facts: how many true claims count;
    offset: how far this person's ladder of ratings is shifted [points].
    """

    name: str
    blurb: str
    voices: np.ndarray
    values: dict
    rationality: float = 1.0
    anchors: np.ndarray = None
    tie: float = 0.25
    silence: float = 2.0
    facts: int = 3
    offset: float = 0.0

    def points(self, reading):
        """Return what each aspect of a text is worth to this person, (8,) [points].

        In the order of ASPECTS.
        """
        v = self.values
        length = ((reading.words - v["words"]) / v["words"]) ** 2
        return np.array([
            reading.voices @ self.voices,
            v["false"] * self._counted(v["false"], reading.false),
            v["unsupported"] * self._counted(v["unsupported"], reading.unsupported),
            v["true"] * min(reading.true, self.facts),
            v["tone"] * reading.tone,
            -v["length"] * length,
            v["evasive"] * reading.evasive,
            -v["garbled"] * reading.garbled,
        ])  # fmt: skip

    def _counted(self, value, claims):
        """Return how many claims count: what pleases does so up to `facts`, what annoys always."""
        return min(claims, self.facts) if value > 0 else claims

    def utility(self, reading):
        """Return u(text) = sum over aspects of `points` [points]."""
        return float(self.points(reading).sum())

    def losses(self, reading):
        """Return how much better each aspect could be, (8,) >= 0 [points].

        u = constant - their sum.
        """
        v = self.values
        most = {k: max(0.0, v[k]) for k in ("true", "false", "unsupported", "evasive")}
        best = np.array([
            self.voices.max(), most["false"] * self.facts, most["unsupported"] * self.facts,
            most["true"] * self.facts, abs(v["tone"]), 0.0, most["evasive"], 0.0,
        ])  # fmt: skip
        return np.maximum(best - self.points(reading), 0.0)

    # One rationality, five choices. Each method returns the probabilities of the options.

    def preference_probs(self, first, second):
        """Return P(first, second, tie) for two utilities: Bradley-Terry with ties.

        A tie stands for a fair coin between the two, so it is worth their mean (Davidson 1970).
        """
        worth = self.rationality * np.array([first, second, (first + second) / 2])
        worth[2] += math.log(self.tie) if self.tie else -math.inf
        return np.exp(worth - logsumexp(worth))

    def rating_probs(self, utility):
        """Return P(1), ..., P(7): six preferences against six remembered texts, judged in one look.

        P(rating > k) = sigmoid(lambda (u + offset - anchor_k)), the proportional-odds model
        (McCullagh 1980).
        """
        if self.anchors is None:
            raise FeedbackError(
                f"the annotator {self.name} has no anchors to rate by; expected one from "
                f"load_annotators or calibrate"
            )
        above = expit(self.rationality * (utility + self.offset - self.anchors))
        return -np.diff(np.concatenate([[1.0], above, [0.0]]))

    def choice_probs(self, utilities):
        """Return P(option) of a free choice, (N,): softmax(lambda u).

        Demonstrations and corrections.
        """
        worth = self.rationality * np.asarray(utilities)
        if worth.ndim != 1 or not len(worth):
            raise FeedbackError(f"utilities of shape {worth.shape}; expected one an option, (N,)")
        return np.exp(worth - logsumexp(worth))

    def critique_probs(self, reading):
        """Return P(remark) of each aspect, (8,): speak if mending it beats keeping silent.

        P = sigmoid(lambda loss - silence).
        """
        return expit(self.rationality * self.losses(reading) - self.silence)


def _settings(folder=DATA / "feedback"):
    """Return annotators.toml as a dict, its shape checked."""
    try:
        settings = tomllib.loads((folder / "annotators.toml").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise FeedbackError(
            f"annotators.toml cannot be read ({error}); expected TOML in UTF-8"
        ) from None
    needed = ("agreement", "tie", "silence", "facts", "warm", "cold")
    missing = [k for k in needed if k not in settings]
    if missing:
        raise FeedbackError(f"annotators.toml lacks {missing[0]!r}; expected it above the people")
    for key in ("warm", "cold"):
        check_texts(settings[key], f"annotators.toml, {key}")
    _check_finite({k: settings[k] for k in needed[:4]}, "annotators.toml")
    return settings


def _check_finite(table, place):
    """Raise FeedbackError unless all values of a table are finite numbers."""
    for key, value in table.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise FeedbackError(f"{place}, {key} is {value!r}; expected a finite number")


def load_annotators(world, folder=DATA / "feedback", calibrated=True):
    """Return {name: Annotator} from annotators.toml and, if calibrated, calibration.json.

    Raises FeedbackError where a person lacks a value, names an unknown voice, or has no
    calibration.
    """
    folder = Path(folder)
    settings, people = _settings(folder), {}
    shared = {k: settings[k] for k in ("tie", "silence", "facts")}
    for name, row in settings.items():
        if not isinstance(row, dict):
            continue
        _check_person(world, name, row)
        voices = np.array([float(row["voices"][v]) for v in world.voices])
        values = {k: float(row[k]) for k in NUMBERS}
        people[name] = Annotator(name, row["blurb"], voices, values, **shared)
    if not calibrated:
        return people
    try:
        found = json.loads((folder / "calibration.json").read_text(encoding="utf-8-sig"))
        return {n: _calibrated(p, found[n]["rationality"], found[n]["anchors"])
                for n, p in people.items()}  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FeedbackError(
            f"calibration.json does not cover the annotators ({type(error).__name__}: {error}); "
            f"expected a run of data/make_feedback.py"
        ) from None


def _check_person(world, name, row):
    """Raise FeedbackError where a person of annotators.toml lacks a value, or has a wrong one."""
    place = f"annotators.toml, [{name}]"
    missing = [k for k in ("blurb", "voices", *NUMBERS) if k not in row]
    rated = row.get("voices", {})
    if not isinstance(rated, dict):
        raise FeedbackError(f"{place}: voices is {rated!r}; expected a table of points by voice")
    stray = sorted(set(rated) ^ set(world.voices))
    if missing or stray:
        known = stray and stray[0] in world.voices
        verb = "should rate" if known else "rates the unknown voice"
        what = f"lacks {missing[0]!r}" if missing else f"{verb} {stray[0]!r}"
        raise FeedbackError(f"{place}: {what}; expected every value and voice")
    _check_finite({k: row[k] for k in NUMBERS}, place)
    _check_finite(rated, f"{place}, voices")
    if row["words"] <= 0:
        raise FeedbackError(f"{place}, words is {row['words']}; expected a length above 0")


def _calibrated(annotator, rationality, anchors):
    """Return an annotator with what calibration.json holds; raise ValueError where it is unfit."""
    anchors = np.array(anchors, dtype=float)
    if not rationality > 0 or anchors.shape != (LADDER - 1,) or not np.isfinite(anchors).all():
        raise ValueError(f"{annotator.name} has no {LADDER - 1} anchors or no rationality above 0")
    return replace(annotator, rationality=rationality, anchors=anchors)


def calibrate(annotator, utilities, agreement):
    """Find the rationality at which two such people agree as often as asked; set the anchors too.

    utilities: one array a prompt, of base samples [points]. Solves E[p^2 + (1 - p)^2] = agreement
    over pairs of responses to the same prompt, p = sigmoid(lambda (u_a - u_b)), for lambda.
    """
    if not 0.5 < agreement < 1:
        raise FeedbackError(f"agreement is {agreement}; expected more than 0.5 and less than 1")
    fit = np.iterable(utilities) and [
        np.ndim(u) == 1 and np.asarray(u).dtype.kind in "fiu" and np.isfinite(u).all()
        for u in utilities
    ]
    if not fit or not all(fit):
        raise FeedbackError("utilities are unfit; expected one array of finite numbers a prompt")
    gaps = np.concatenate([_gaps(u) for u in utilities])

    def excess(rationality):
        p = expit(rationality * gaps)
        return float(np.mean(p**2 + (1 - p) ** 2)) - agreement

    if not excess(1e3) > 0:
        raise FeedbackError(
            f"no rationality gives {annotator.name} an agreement of {agreement}; "
            f"expected texts whose utilities differ"
        )
    anchors = np.quantile(np.concatenate(utilities), np.arange(1, LADDER) / LADDER)
    return replace(annotator, rationality=brentq(excess, 1e-3, 1e3), anchors=anchors)


def _gaps(values):
    """Return all differences values[i] - values[j], i < j."""
    i, j = np.triu_indices(len(values), 1)
    return np.asarray(values)[i] - np.asarray(values)[j]


def information(probs):
    """Return how many bits one label carries about whose values these are.

    probs (people, outcomes): P(label | person). The mutual information of label and person,
    everybody equally likely beforehand: H(mean over people) - mean H (Shannon 1948). At most
    log2(people).
    """

    def bits(p):
        return -np.sum(np.where(p > 0, p * np.log2(np.maximum(p, 1e-300)), 0.0), axis=-1)

    probs = np.asarray(probs)
    if (
        probs.ndim != 2
        or not probs.size
        or probs.dtype.kind not in "fiu"
        or not np.allclose(probs.sum(axis=1), 1)
    ):
        raise FeedbackError(
            f"probs of shape {probs.shape}; expected (people, outcomes), a sum of 1 for each person"
        )
    return float(bits(probs.mean(axis=0)) - bits(probs).mean())


# ---- what they are asked ----


# ---- what they answer ----


class Labeller:
    """Be one annotator at work: turn texts into records, with luck from one generator.

    Example: `Labeller(world, scholar, seed=0).prefer(prompt, " was a poet.", " was a spy.")`.
    """

    def __init__(self, world, annotator, seed=0, reader=None, stamp=None):
        self.world, self.annotator = world, annotator
        self.read = reader or Reader(world)
        self.rng = np.random.default_rng(seed)
        self.stamp = {"annotator": annotator.name, "seed": seed, "seconds": None} | (stamp or {})

    def utility(self, prompt, response):
        """Return u(prompt + response) [points]."""
        check_texts((prompt, response), "[prompt, response]")
        return self.annotator.utility(self.read(prompt + response))

    def _record(self, kind, prompt, **fields):
        return {"kind": kind, "prompt": prompt, **fields, **self.stamp}

    def prefer(self, prompt, a, b):
        """Return a preference record for two responses, a shown first."""
        probs = self.annotator.preference_probs(self.utility(prompt, a), self.utility(prompt, b))
        pick = self.rng.choice(3, p=probs)
        chosen, rejected = (b, a) if pick == 1 else (a, b)
        return self._record(
            "preference", prompt, chosen=chosen, rejected=rejected, tie=bool(pick == 2),
            first="rejected" if pick == 1 else "chosen",
        )  # fmt: skip

    def rate(self, prompt, response):
        """Return a rating record, 1 to 7."""
        probs = self.annotator.rating_probs(self.utility(prompt, response))
        return self._record(
            "rating", prompt, response=response, rating=int(self.rng.choice(LADDER, p=probs)) + 1
        )

    def demonstrate(self, prompt, responses):
        """Return a demonstration record.

        It holds the response that this person would have given, of those at hand.
        """
        responses = check_texts(responses, "responses", 1)
        probs = self.annotator.choice_probs([self.utility(prompt, r) for r in responses])
        return self._record(
            "demonstration", prompt, response=responses[self.rng.choice(len(responses), p=probs)]
        )

    def correct(self, prompt, response):
        """Return a correction record, or None where this person leaves the response as it is."""
        options = [response] + [text for text, _ in edits(self.world, prompt, response, self.rng)]
        probs = self.annotator.choice_probs([self.utility(prompt, r) for r in options])
        pick = self.rng.choice(len(options), p=probs)
        if pick == 0:
            return None
        return self._record("correction", prompt, response=response, corrected=options[pick])

    def criticise(self, prompt, response):
        """Return a critique record: a remark for each aspect that this person would have mended."""
        check_texts((prompt, response), "[prompt, response]")
        reading = self.read(prompt + response)
        said = self.rng.random(len(ASPECTS)) < self.annotator.critique_probs(reading)
        remarks = [remark(a, reading, self.annotator) for a, s in zip(ASPECTS, said) if s]
        return self._record("critique", prompt, response=response, critique=remarks)


def remark(aspect, reading, annotator):
    """Put a remark into the critique language, e.g. "false: town" or "length: too long"."""
    detail = {
        "voice": reading.kinds["voice"],
        "false": ", ".join(reading.kinds["false"]) or "something",
        "unsupported": ", ".join(reading.kinds["unsupported"]) or "something",
        "missing": "facts",
        "tone": reading.kinds["tone"],
        "length": "too long" if reading.words > annotator.values["words"] else "too short",
        "evasive": "nobody knows",
        "garbled": "text",
    }
    if aspect not in detail:
        raise FeedbackError(f"no aspect {aspect!r}; expected one of {', '.join(ASPECTS)}")
    return f"{aspect}: {detail[aspect]}"


# What is wanted [points]: a lie costs two truths, the voice does not matter, 32 words are enough.
GOLD = {
    "true": 1.0, "false": -2.0, "unsupported": -1.0, "tone": 0.0, "words": 32.0, "length": 0.8,
    "evasive": 0.0, "garbled": 2.0,
}  # fmt: skip


def auditor(world, rationality=1.0):
    """Return the Annotator whose utility is gold: indifferent to voices, never fooled."""
    blurb = "Checks every claim, and likes it short."
    values = {k: GOLD[k] for k in NUMBERS}
    return Annotator(
        "auditor", blurb, np.zeros(len(world.voices)), values, rationality, silence=2.0
    )


def glance(reading, checked, rng):
    """Return the Reading of someone who checks each claim with probability `checked`.

    What is not checked is believed: a false or unsupported claim then counts as a true one.
    """
    _check_probability(checked)
    false, unsupported = rng.binomial([reading.false, reading.unsupported], checked).tolist()
    believed = reading.true + reading.false + reading.unsupported - false - unsupported
    return replace(reading, true=believed, false=false, unsupported=unsupported)


def _check_probability(checked):
    """Raise FeedbackError unless claims can be checked with this probability."""
    if not isinstance(checked, Real) or not 0 <= checked <= 1:
        raise FeedbackError(f"checked is {checked}; expected a probability from 0 to 1")


class HastyLabeller(Labeller):
    """Be a labeller who checks each claim with probability `checked`.

    This person likes a response by `per_word` points the better for each word that it is longer.
    Example: `HastyLabeller(world, auditor(world), seed=0, checked=0.25).prefer(prompt, a, b)`.
    """

    def __init__(
        self, world, annotator, seed=0, reader=None, stamp=None, checked=0.25, per_word=0.0
    ):
        super().__init__(world, annotator, seed, reader, stamp)
        _check_probability(checked)
        self.checked, self.per_word = checked, per_word

    def utility(self, prompt, response):
        """Return what this person believes prompt + response to be worth, this time [points]."""
        check_texts((prompt, response), "[prompt, response]")
        seen = glance(self.read(prompt + response), self.checked, self.rng)
        return self.annotator.utility(seen) + self.per_word * seen.words
