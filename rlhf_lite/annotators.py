"""Simulate people who judge texts: what they see, what they value, how sharply they choose.

A person has a utility u(text), a sum over aspects that the parser sees, and gives every kind of
feedback as a reward-rational choice (Jeon, Milli and Dragan 2020): of the options at hand, option c
is taken with a probability proportional to exp(lambda u(what c stands for)). One rationality lambda
serves all five kinds. Omits the drawing of labels (see `labellers`), fatigue, boredom and learning
on the job: real people have all three. Taught by notebook 02, the auditor by 06.
"""

import json
import math
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

from rlhf_lite.checks import check_number, check_numbers, check_text, check_texts
from rlhf_lite.feedback import FeedbackError
from rlhf_lite.runtime import DATA
from rlhf_lite.world import match

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logsumexp

NUMBERS = ("true", "false", "unsupported", "tone", "words", "length", "evasive", "garbled")
LADDER = 7


# ---- what there is to see ----


@dataclass(frozen=True)
class Reading:
    """What a judge can see in a text.

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
    """The eyes of all annotators, which read a text once and remember it.

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
        kinds["tone"] = max(dict.fromkeys(spoken), key=spoken.count) if spoken else "flat"
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
    """One simulated person: values in points, and how sharply they choose.

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

        In the order of `feedback.ASPECTS`.
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
            source = "expected one from load_annotators or calibrate"
            raise FeedbackError(f"the annotator {self.name} has no anchors to rate by; {source}")
        above = expit(self.rationality * (utility + self.offset - self.anchors))
        return -np.diff(np.concatenate([[1.0], above, [0.0]]))

    def choice_probs(self, utilities):
        """Return P(option) of a free choice, (N,): softmax(lambda u).

        Demonstrations and corrections.
        """
        worth = self.rationality * check_numbers(utilities, "utilities", 1, FeedbackError)
        return np.exp(worth - logsumexp(worth))

    def critique_probs(self, reading):
        """Return P(remark) of each aspect, (8,): speak if mending it beats keeping silent.

        P = sigmoid(lambda loss - silence).
        """
        return expit(self.rationality * self.losses(reading) - self.silence)


# ---- the people of annotators.toml, and the auditor ----


def _settings(folder=DATA / "feedback"):
    """Return annotators.toml as a dict, its shape checked."""
    try:
        settings = tomllib.loads((folder / "annotators.toml").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        problem = f"annotators.toml cannot be read ({error}); expected TOML in UTF-8"
        raise FeedbackError(problem) from None
    needed = ("agreement", "tie", "silence", "facts", "warm", "cold")
    missing = [k for k in needed if k not in settings]
    if missing:
        raise FeedbackError(f"annotators.toml lacks {missing[0]!r}; expected it above the people")
    for key in ("warm", "cold"):
        check_texts(settings[key], f"annotators.toml, {key}")
    for key in needed[:4]:
        check_number(settings[key], f"annotators.toml, {key}", FeedbackError)
    return settings


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
        return {name: _calibrated(person, found[name]) for name, person in people.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"does not cover the annotators ({type(error).__name__}: {error})"
        expected = "expected a run of data/make_feedback.py"
        raise FeedbackError(f"calibration.json {problem}; {expected}") from None


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
    for key in NUMBERS:
        above = 0 if key == "words" else None
        check_number(row[key], f"{place}, {key}", FeedbackError, above)
    for voice in world.voices:
        check_number(rated[voice], f"{place}, voices, {voice}", FeedbackError)


def _calibrated(annotator, row):
    """Return an annotator with what calibration.json holds; raise ValueError where it is unfit."""
    rationality, anchors = row["rationality"], row["anchors"]
    anchors = check_numbers(anchors, "anchors").astype(float)
    if not rationality > 0 or len(anchors) != LADDER - 1:
        raise ValueError(f"{annotator.name} has no {LADDER - 1} anchors or no rationality above 0")
    return replace(annotator, rationality=rationality, anchors=anchors)


# What is wanted [points]: a lie costs two truths, the voice does not matter, 32 words are enough.
GOLD = {
    "true": 1.0, "false": -2.0, "unsupported": -1.0, "tone": 0.0, "words": 32.0, "length": 0.8,
    "evasive": 0.0, "garbled": 2.0,
}  # fmt: skip


def auditor(world, rationality=1.0):
    """Return the Annotator whose utility is gold: indifferent to voices, never fooled."""
    blurb = "Checks every claim, and likes it short."
    return Annotator("auditor", blurb, np.zeros(len(world.voices)), dict(GOLD), rationality)


# ---- how sharply they choose ----


def calibrate(annotator, utilities, agreement):
    """Find the rationality at which two such people agree as often as asked; set the anchors too.

    utilities: one array a prompt, of base samples [points]. Solves E[p^2 + (1 - p)^2] = agreement
    over pairs of responses to the same prompt, p = sigmoid(lambda (u_a - u_b)), for lambda.
    """
    if not 0.5 < agreement < 1:
        raise FeedbackError(f"agreement is {agreement}; expected more than 0.5 and less than 1")
    if not np.iterable(utilities) or not len(utilities):
        raise FeedbackError("no utilities; expected one array of finite numbers a prompt")
    for prompt, values in enumerate(utilities):
        check_numbers(values, f"utilities of prompt {prompt}", 1, FeedbackError)
    gaps = np.concatenate([_gaps(u) for u in utilities])

    def excess(rationality):
        p = expit(rationality * gaps)
        return float(np.mean(p**2 + (1 - p) ** 2)) - agreement

    if not excess(1e3) > 0:
        found = f"no rationality gives {annotator.name} an agreement of {agreement}"
        raise FeedbackError(f"{found}; expected texts whose utilities differ")
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

    probs = check_numbers(probs, "probs (people, outcomes)", 2, FeedbackError)
    if not np.allclose(probs.sum(axis=1), 1):
        raise FeedbackError("probs do not sum to 1; expected (people, outcomes), each person's to")
    return float(bits(probs.mean(axis=0)) - bits(probs).mean())
