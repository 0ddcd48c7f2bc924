"""What bounds needs: openings of one stock, and what a model adds to them.

Mild lines are those that all voices write, some more often than others; own lines are written by
one voice alone. A continuation is decided by its first line in a voice's own words.
"""

import random
from functools import cached_property, partial

from rlhf_lite.experiments import Lab
from rlhf_lite.sampling import sample, text_logprobs

import numpy as np

LINES, OPENINGS, EACH, TOKENS = 5, 12, 20, 40


class PamphletLab(Lab):
    """A Lab with openings that a pamphlet could have written, and what the base adds to them."""

    def written(self, voice, count, lines, seed, place="mild.toml"):
        """List `count` openings of some lines each, all of one stock, about well-known people."""
        rng, found = random.Random(seed), []
        while len(found) < count:
            document = self.world.sample(rng, voice, "person")
            stock = [f.place.startswith(place) for f, _ in document.lines[:lines]]
            if len(stock) == lines and all(stock) and document.subject.exposure >= 100:
                found.append([self.world.render(*line) for line in document.lines[:lines]])
        return found

    @cached_property
    def prompts_by_length(self):
        """List, for 1 to LINES lines, the prompts of the test."""
        openings = self.written("pamphlet", OPENINGS, LINES, 0)
        return [["".join(x + "\n" for x in o[:k]) for o in openings] for k in range(1, LINES + 1)]

    @cached_property
    def own_lines(self):
        """List prompts of two lines that no other voice writes."""
        openings = self.written("pamphlet", OPENINGS, 2, 1, "voices/")
        return ["".join(x + "\n" for x in o) for o in openings]

    def asked(self, lines):
        """List the prompts of training: half by the pamphlet, half by anybody, of other people."""
        openings = self.written("pamphlet", 42, lines, 2) + self.written(None, 42, lines, 3)
        return ["".join(x + "\n" for x in o[: 1 + n % lines]) for n, o in enumerate(openings)]

    def decided(self, texts, prompts):
        """Return [(text up to its first line in a voice's own words, that voice or None)]."""
        found = []
        for text, prompt in zip(texts, prompts, strict=True):
            said, voice = prompt, None
            for row in text[len(prompt) :].split("\n"):
                frame = self.world.parse_line(row)[0]
                said += row + "\n"
                if frame is not None and frame.place.startswith("voices/"):
                    voice = frame.place.split("/")[1].split(".toml")[0]
                    break
            found.append((said[:-1], voice))
        return found

    def continued(self, model, prompts, each, seed, tokenizer=None):
        """Return `decided` of fresh continuations, prompt by prompt."""
        asked = [p for p in prompts for _ in range(each)]
        drawn = sample(model, tokenizer or self.tokenizer, asked, TOKENS, seed=seed, batch=240)
        return self.decided(drawn.texts, asked)

    def pool(self, seed):
        """Return [for each length [(prompt, text, is a pamphlet, log p under the base)]]."""
        return self.kept(f"pool {seed}", partial(self._pool, seed))

    def _pool(self, seed):
        found = []
        for number, prompts in enumerate(self.prompts_by_length):
            said = self.continued(self.base, prompts, EACH, 500 * seed + number)
            asked = [p for p in prompts for _ in range(EACH)]
            rows = [(p, t, float(v == "pamphlet")) for p, (t, v) in zip(asked, said) if v]
            logprobs = text_logprobs(
                self.base, self.tokenizer, [t for _, t, _ in rows], [p for p, _, _ in rows]
            )
            found.append([[*row, x] for row, x in zip(rows, logprobs)])
        return found

    def owned(self, model, tokenizer, seed):
        """Return what follows two lines that only the pamphlet writes.

        new: share whose first line in a voice's own words is the pamphlet's, and no
        copy; copied: those that repeat a line of the prompt; garbled: the first line fits no frame.
        """
        prompts = self.own_lines
        said = self.continued(model, prompts, 16, seed, tokenizer)
        found, texts = {"new": [], "copied": [], "garbled": []}, []
        for (text, voice), prompt in zip(said, [p for p in prompts for _ in range(16)]):
            rows = text[len(prompt) :].split("\n")
            copy = rows[-1] in prompt.split("\n")
            found["copied"].append(voice == "pamphlet" and copy)
            found["new"].append(voice == "pamphlet" and not copy)
            found["garbled"].append(self.world.parse_line(rows[0])[0] is None)
            texts.append(text)
        shares = {k: np.reshape(v, (len(prompts), -1)).mean(1).round(4) for k, v in found.items()}
        return shares | {"texts": texts[::64]}
