"""Turn what judges say of texts into the score that a policy is improved by.

A score is any function from texts to numbers: a reward model, a parser, a rule. A Mixture weighs
several; a Lagrangian moves the weight of one until its mean is as asked. Omits rewards of single
tokens: the course scores whole responses, and divides by no length. Used by every policy run.
"""

from dataclasses import replace

from rlhf_lite.checks import check_list, check_number
from rlhf_lite.rewards import Reward

import torch


class PolicyError(RuntimeError):
    """Says in one sentence why a run cannot start or go on, and which dial to turn."""


def settle_scores(scores, texts, step=None):
    """Return what a score function said of texts as float32 (N,), detached.

    step: for the message. Raises PolicyError unless that is one finite number a text.
    """
    try:
        scores = torch.as_tensor(scores).detach().float().flatten()
    except (TypeError, ValueError, RuntimeError):
        raise PolicyError(
            f"the score function returned a {type(scores).__name__} that holds no numbers; "
            f"expected one number for each of {len(texts)} texts"
        ) from None
    if len(scores) != len(texts):
        raise PolicyError(
            f"the score function returned {len(scores)} numbers for {len(texts)} texts; "
            f"expected one each"
        )
    bad = (~torch.isfinite(scores)).nonzero()
    if len(bad):
        number = int(bad[0])
        when = "" if step is None else f" at step {step}"
        raise PolicyError(
            f"the score of response {number}{when} is {float(scores[number])}; expected a finite "
            f"number for {texts[number]!r}"
        )
    return scores


class Score:
    """A function of texts as a run sees it; this one learns nothing and has no parts.

    state: the numbers that it remembers, saved and put back with the run; learns: whether they move
    with the batches.
    """

    learns = False

    def __init__(self, function):
        self.function, self.state = function, []

    def __call__(self, texts):
        """Return the score of each text, float32 (N,)."""
        return self.judge(texts)[0]

    def judge(self, texts, step=None, bfloat16=False):
        """Return (scores (N,), {what: number} to write down of them).

        step: for messages; bfloat16: whether a Reward reads in it, where that is fast. Raises
        PolicyError for scores that are no finite numbers, one a text.
        """
        return settle_scores(_ask(self.function, texts, bfloat16), texts, step), {}

    def describe(self):
        """Return what can be said of it in words, for the identity of a run."""
        return type(self).__name__

    def learn(self, said):
        """Take in what was written down of a batch, once the policy has learned from it."""


def _ask(function, texts, bfloat16):
    """Return what a function says of texts, a Reward in bfloat16 if asked for."""
    if bfloat16 and isinstance(function, Reward):
        function = replace(function, autocast=True)
    return function(texts)


class Mixture(Score):
    """A weighted sum of scores: `Mixture({"helpful": helpful, "harmless": harmless}, [0.7, 0.3])`.

    parts: {name: function of texts}; weights: a number each. A step writes down
    "score of NAME", a mean, and "weight of NAME". Raises PolicyError for no parts, and for weights
    that do not fit.
    """

    def __init__(self, parts, weights):
        if not isinstance(parts, dict) or not all(map(callable, parts.values())):
            raise PolicyError(f"parts is {parts!r}; expected a dict of functions of texts by name")
        if any(isinstance(part, Score) for part in parts.values()):
            raise PolicyError("a part is a Score itself, which would not learn; expected functions")
        try:
            weights = check_list(weights, "weights", "number")
        except ValueError as error:
            raise PolicyError(str(error)) from None
        if not parts or len(parts) != len(weights):
            raise PolicyError(
                f"{len(weights)} weights for {len(parts)} scores; expected one each, and a score"
            )
        self.parts = dict(parts)
        self.state = [
            float(check_number(w, f"the weight of {name!r}", PolicyError))
            for name, w in zip(parts, weights)
        ]

    def describe(self):
        """Return its kind and the names of its parts."""
        return [type(self).__name__, *self.parts]

    def judge(self, texts, step=None, bfloat16=False):
        """Return the weighted sum, and what its parts said."""
        total, said = torch.zeros(len(texts)), {}
        for (name, function), weight in zip(self.parts.items(), self.state, strict=True):
            try:
                found = settle_scores(_ask(function, texts, bfloat16), texts, step).cpu()
            except PolicyError as error:
                raise PolicyError(f"{name}: {error}") from None
            total = total + weight * found
            said |= {f"score of {name}": float(found.mean()), f"weight of {name}": weight}
        return total, said


class Lagrangian(Mixture):
    """A goal, less a multiplier times a cost, which rises until the cost is within its limit.

    L = goal - lambda (cost - limit); after each batch lambda <- max(0, lambda + rate (mean cost -
    limit)), dual ascent (Ray et al. 2019; Dai et al. 2024 for language models). The limit moves no
    policy and is left out of the score. goal, cost: functions of texts; limit [as the cost]; start:
    the first lambda [goal a unit of cost]. Raises PolicyError for numbers that cannot work.
    """

    learns = True

    def __init__(self, goal, cost, limit, rate=0.1, start=1.0):
        self.limit = check_number(limit, "limit", PolicyError)
        self.rate = check_number(rate, "rate", PolicyError, above=0)
        if check_number(start, "start", PolicyError) < 0:
            raise PolicyError(f"start is {start}; expected 0 or more: a negative lambda pays")
        super().__init__({"goal": goal, "cost": cost}, [1.0, -start])

    @property
    def multiplier(self):
        """Return lambda as it is now."""
        return -self.state[1] + 0.0

    def learn(self, said):
        """Move lambda by what the last batch cost."""
        self.state = [
            1.0,
            -max(0.0, self.multiplier + self.rate * (said["score of cost"] - self.limit)),
        ]
