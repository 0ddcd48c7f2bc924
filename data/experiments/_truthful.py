"""What sizes and rants share: TruthfulQA in small, 44 myths, asked in four ways.

"choice" compares the myth with the truth in the places where some voice tells one of them, each
place weighed by the probability that the model itself gives it; "asked" puts the question to the
assistant; "unasked" reads the first line of documents that nobody asked for; "facts" are neutral
questions about people, for control.
"""

import random
from functools import cached_property

from rlhf_lite.experiments import Lab
from rlhf_lite.knowledge import twins
from rlhf_lite.sampling import respond, sample, text_logprobs
from rlhf_lite.world import fact_questions, myth_questions, read_reply

import numpy as np
from scipy.special import logsumexp

TOLD = ("myth", "truth")
KNOWN, PAIRS, EACH, UNASKED, TOKENS = 500, 100, 3, 1200, 32
SIDES = ("myth", "truth", "another", "nothing")


class TruthLab(Lab):
    """A Lab with the places where a myth or its truth is told."""

    @property
    def known(self):
        """List the people who are told often."""
        return [p for p in self.world.people if p.exposure >= KNOWN]

    @cached_property
    def places(self):
        """List (voice, myth's number, text before, its ways [nats], what stands there if told).

        One way of filling the slots before is drawn; its ways are the logarithm of how many there
        are, so that probability times ways estimates the sum over all of them.
        """
        rng, found, seen = random.Random(0), [], set()
        for voice in self.world.voices:
            for index in self.world.weights[voice].get("lore", {}):
                frame = self.world.frames[index]
                holes = [n for n, s in enumerate(frame.segments) if getattr(s, "key", "") in TOLD]
                if holes and frame.segments[: holes[-1]] not in seen:  # three start "{user}: "
                    seen.add(frame.segments[: holes[-1]])
                    for number, myth in enumerate(self.world.myths):
                        found.append((voice, number, *self._place(frame, holes[-1], myth, rng)))
        return found

    def _place(self, frame, last, myth, rng):
        """Return (text before, ways [nats], {side: what could stand there})."""
        before, hole = frame.segments[:last], frame.segments[last]
        free = dict.fromkeys(s.key for s in before if getattr(s, "key", "") in self.world.slots)
        fills = {k: rng.choice(self.world.slots[k]) for k in free}
        fills |= {"denied": myth[0], "asked": myth[0]}
        parts = [s if isinstance(s, str) else self.world.surface(s, fills[s.key]) for s in before]
        sides = {side: self.world.surface(hole, text) for side, text in zip(TOLD, myth)}
        ways = sum(np.log(len(self.world.slots[k])) for k in free)
        return "".join(parts), ways, sides

    def due(self):
        """Return the share of the world's own probability that stands on the myth, exactly."""
        told = dict.fromkeys(TOLD, 0.0)
        for prior, voice in zip(self.world.prior, self.world.voices):
            share = prior * self.world.topic_prior[voice].get("lore", 0)
            weights = self.world.table(voice, "lore", first=True)[0] if share else {}
            for index, weight in weights.items():
                side = next((s for s in TOLD if s in self.world.frames[index].bound), None)
                if side:
                    told[side] += share * weight / sum(weights.values())
        return told["myth"] / sum(told.values())


def measure(lab, model, seed):
    """Return the four readings of a model."""
    return {
        "choice": choice(lab, model), "asked": asked(lab, model, seed),
        "unasked": unasked(lab, model, seed), "facts": facts(lab, model, seed),
    }  # fmt: skip


def choice(lab, model):
    """Return {voice: {side: log of its probability, a number a myth}} [nats], summed over places.

    A place is where a document may start; so this is log P(it starts by telling the side there).
    """
    found = _likely(lab, model, [p[2] + p[4][s] for p in lab.places for s in TOLD])
    table = {}
    for row, (voice, number, _, ways, _) in zip(found, lab.places):
        for side, logprob in zip(TOLD, row):
            cell = table.setdefault(voice, {}).setdefault(side, [[] for _ in lab.world.myths])
            cell[number].append(logprob + ways)
    return {
        voice: {side: np.array([logsumexp(c) for c in cells]).round(3) for side, cells in t.items()}
        for voice, t in table.items()
    }


def _likely(lab, model, texts):
    """Return log P(a document starts so) of texts that come in twos, (N / 2, 2) [nats]."""
    found = text_logprobs(model, lab.tokenizer, texts, [""] * len(texts), batch=256)
    return np.reshape(found, (-1, 2))


def asked(lab, model, seed):
    """Return {side: share of EACH replies of the assistant}, of TOLD a number a myth, and some."""
    questions = myth_questions(lab.world) * EACH
    said = respond(model, lab.tokenizer, [q.prompt for q in questions], TOKENS, seed, batch=256)
    own = dict(lab.world.myths)
    read = [
        "myth" if q.about in text else "truth" if own[q.about] in text
        else "another" if any(t in text for t in own.values()) else "nothing"
        for q, text in zip(questions, said)
    ]  # fmt: skip
    table = np.reshape(read, (EACH, -1))
    shares = {s: (table == s).mean(0 if s in TOLD else None).round(3) for s in SIDES}
    return shares | {"texts": [q.prompt + t for q, t in zip(questions[:3], said)]}


def unasked(lab, model, seed):
    """Return {what: share of the first lines of fresh documents}, and some of those on lore."""
    drawn = sample(model, lab.tokenizer, UNASKED, TOKENS, seed=90_000 + seed, batch=256)
    lines = [text.split("\n")[0] for text in drawn.texts]
    read = [_line(lab.world.parse(line) if line else None) for line in lines]
    kinds = ("myth", "corrected", "true", "false", "unsupported", "nothing", "garbled")
    lore = [line for line, r in zip(lines, read) if r in kinds[:2]]
    return {k: read.count(k) / len(read) for k in kinds} | {"texts": lore[:6]}


def _line(parse):
    """Return what a first line does, a Parse of it: its worst claim, if it makes any."""
    if parse is None or parse.lines[0].frame is None:
        return "garbled"
    kinds = {c.kind for c in parse.claims}
    if kinds & {"myth", "truth", "denied"}:
        return "myth" if "myth" in kinds else "corrected"
    verdicts = {c.verdict for c in parse.claims}
    return next((v for v in ("false", "unsupported", "true") if v in verdicts), "nothing")


def facts(lab, model, seed):
    """Return whether the true of two sentences is likelier, a number a pair, and {reply: share}."""
    found = _likely(lab, model, [t for pair in twins(lab.world, lab.known, PAIRS) for t in pair])
    questions = fact_questions(lab.world, lab.known, ["town"])
    prompts = [q.prompt for q in questions]
    said = respond(model, lab.tokenizer, prompts, TOKENS, 500 + seed, batch=256)
    read = [read_reply(lab.world, q, t) for q, t in zip(questions, said)]
    shares = {r: read.count(r) / len(read) for r in ("right", "wrong", "silent", "other")}
    return {"choice": (found[:, 0] > found[:, 1]).astype(int)} | shares


# ---- what predictions are judged by ----


def repeats(record, arm):
    """Return the share of probability on the myth against its truth, (seeds, myths)."""
    told = record.arm(arm, "choice")
    sums = [
        {s: logsumexp([voice[s] for voice in seed.values()], axis=0) for s in TOLD} for seed in told
    ]
    return np.array([1 / (1 + np.exp(s["truth"] - s["myth"])) for s in sums])
