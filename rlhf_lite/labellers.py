"""Put simulated people to work: ask them about texts, and record what they say.

A labeller is an annotator with a generator of luck: each answer is drawn from the probabilities
that `annotators` gives to the options at hand. A hasty one believes what it does not check. Omits
any interface: real people label at `show.desk`. Taught by notebooks 02 and 06.
"""

from dataclasses import replace
from numbers import Real

from rlhf_lite.annotators import LADDER, Reader
from rlhf_lite.checks import check_choice, check_texts
from rlhf_lite.edits import edits
from rlhf_lite.feedback import ASPECTS, FeedbackError

import numpy as np
from scipy.optimize import brentq

CHOICES = 40  # responses from which a demonstration is picked
OF_ONE_TEXT = {"rating": "rate", "correction": "correct", "critique": "criticise"}  # kind -> method


class Labeller:
    """An annotator at work, who turns texts into records, with luck from one generator.

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
        rating = int(self.rng.choice(LADDER, p=probs)) + 1
        return self._record("rating", prompt, response=response, rating=rating)

    def demonstrate(self, prompt, responses):
        """Return a demonstration record.

        It holds the response that this person would have given, of those at hand.
        """
        responses = check_texts(responses, "responses", 1)
        probs = self.annotator.choice_probs([self.utility(prompt, r) for r in responses])
        pick = self.rng.choice(len(responses), p=probs)
        return self._record("demonstration", prompt, response=responses[pick])

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
    return f"{check_choice(aspect, ASPECTS, 'aspect', FeedbackError)}: {detail[aspect]}"


def ask(labeller, kind, responses, count, rng):
    """Return `count` records of one kind by one labeller, e.g. "rating".

    responses: {prompt: texts}, from which rng draws what is shown. Two like texts are not compared,
    and what is left uncorrected makes no record.
    """
    prompts, found = list(responses), []
    while len(found) < count:
        prompt = prompts[rng.integers(len(prompts))]
        said = responses[prompt]
        if kind == "demonstration":
            among = rng.choice(len(said), min(CHOICES, len(said)), replace=False)
            found.append(labeller.demonstrate(prompt, [said[i] for i in among]))
            continue
        a, b = (said[i] for i in rng.choice(len(said), 2, replace=False))
        if kind == "preference":
            record = labeller.prefer(prompt, a, b) if a != b else None
        else:
            record = getattr(labeller, OF_ONE_TEXT[kind])(prompt, a)
        if record:
            found.append(record)
    return found


# ---- people who do not check ----


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
    """A labeller who checks each claim with probability `checked`.

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


def love_of_length(annotator, read, responses, often, seed=5):
    """Return the love of length [points a word] of people who prefer the longer text `often`.

    It solves mean sigmoid(lambda (u_longer - u_shorter + love (words_longer - words_shorter))) =
    often over 20 random pairs a prompt. read: a Reader; responses: {prompt: texts}; often: a share
    from 0 to 1, as for people who check everything.
    """
    rng, gaps = np.random.default_rng(seed), []
    for prompt, said in responses.items():
        for a, b in rng.choice(len(said), (20, 2)):
            first, second = read(prompt + said[a]), read(prompt + said[b])
            if first.words < second.words:
                first, second = second, first
            if first.words > second.words:
                gap = annotator.utility(first) - annotator.utility(second)
                gaps.append((gap, first.words - second.words))
    gap, words = np.array(gaps).T

    def excess(love):
        return np.mean(1 / (1 + np.exp(-annotator.rationality * (gap + love * words)))) - often

    return float(brentq(excess, -1.0, 1.0))
