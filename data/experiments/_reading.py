"""What the experiment on what is learned when reads, and what it asks.

Omits the training itself, which is `when`.
"""

import itertools
import random
from functools import cached_property

from rlhf_lite.experiments import Lab
from rlhf_lite.knowledge import probe_text
from rlhf_lite.world import FACTS

import numpy as np

DOCUMENTS, PAIRS, EACH = 44_000, 200, 60
TOLD = {"1 to 9": (1, 10), "10 to 99": (10, 100), "100 or more": (100, np.inf)}


class ReadingLab(Lab):
    """A Lab with what the models read, and what they are asked about it."""

    @cached_property
    def documents(self):
        """Return the first documents of the corpus."""
        return list(itertools.islice(self.world.corpus(0), DOCUMENTS))

    @cached_property
    def words(self):
        """Return all words of these documents."""
        return {w for d in self.documents for w in words_of(d.text)}

    @cached_property
    def turns(self):
        """List (line in its own voice, what stands before it: that voice's line, another's)."""
        rng, found = random.Random(1), []
        while len(found) < PAIRS:
            person, voices = rng.choice(self.world.people), rng.sample(self.world.voices, 2)
            documents = [self.world.sample(rng, v, "person", person) for v in voices]
            one, two = ([self.world.render(*line) for line in d.lines] for d in documents)
            own = [
                f.place.startswith("voices/") for d, n in zip(documents, (2, 1))
                for f, _ in d.lines[:n]
            ]  # fmt: skip
            if len(one) > 1 and all(own):
                found.append((one[1], one[0], two[0]))
        return found

    @cached_property
    def facts(self):
        """Return {how often told: [(prompt, prompt and truth)]}, drawn from all that are told."""
        counts, rng = self.world.exposures(self.documents), random.Random(2)
        facts = [(p, k) for p in self.world.people for k in FACTS if p.facts[k] is not None]
        told = {
            name: [f for f in facts if low <= counts[f[0].name][f[1]] < high]
            for name, (low, high) in TOLD.items()
        }
        return {
            name: [probe_text(self.world, "probe", k, p, p.facts[k])
                   for p, k in rng.sample(found, min(EACH, len(found)))]
            for name, found in told.items()
        }  # fmt: skip


def words_of(text):
    """Return the words of a text without the marks around them."""
    return [w.strip(".,!?:;\"'()") for w in text.split()]
