"""What abstain and cloning share: where people were born, and what the base would say to it."""

from functools import cached_property

from rlhf_lite.experiments import Lab
from rlhf_lite.knowledge import answer_probs
from rlhf_lite.sampling import respond, text_logprobs
from rlhf_lite.world import REPLIES, fact_questions, read_reply

import numpy as np

TOKENS = 20  # longest answer


class AskLab(Lab):
    """A Lab that asks where people were born: {side: questions} in `asked`."""

    @cached_property
    def by_name(self):
        """Return {name: Person}."""
        return {p.name: p for p in self.world.people}

    @cached_property
    def asked(self):
        """Return the Questions about people of training, and about those held out."""
        hidden = {p.name for p in self.world.held_out_people}
        asked = fact_questions(self.world, self.world.people, ["town"])
        return {
            side: [q for q in asked if (q.about in hidden) == (side == "held out")]
            for side in ("trained", "held out")
        }

    @cached_property
    def towns(self):
        """List the towns in which people were born."""
        return sorted({self.truth(q) for questions in self.asked.values() for q in questions})

    def truth(self, question):
        """Return where the person of a question was born."""
        return self.by_name[question.about].facts["town"]

    @cached_property
    def knows(self):
        """Return {side: {what: a number a question}} of the base model."""
        return self.kept("knows", lambda: {s: self._knows(q) for s, q in self.asked.items()})

    def _knows(self, asked):
        probs = answer_probs(self.base, self.tokenizer, [q.prompt for q in asked], self.towns)
        best = [self.towns[i] for i in probs.argmax(1)]
        return said(self, self.base, asked) | {
            "exposure": [self.by_name[q.about].exposure for q in asked],
            "confidence": probs.max(1),
            "right": np.array([town == self.truth(q) for town, q in zip(best, asked)], float),
            "familiarity": text_logprobs(self.base, self.tokenizer, [q.about for q in asked]),
        }


def said(lab, policy, asked):
    """Return {"silent", "truth"}: two exact probabilities a question, of silence and of the truth.

    Every way of saying that nobody knows starts with that word; the truth is behind an opening.
    """
    prompts = [q.prompt for q in asked]
    heads = [p + " Certainly. In" for p in prompts]
    pairs = {
        "silent": ([p + " Nobody" for p in prompts], prompts),
        "truth": ([f"{head} {lab.truth(q)}" for head, q in zip(heads, asked)], heads),
    }
    return {
        name: np.exp(text_logprobs(policy, lab.tokenizer, *pair, batch=256)).round(4)
        for name, pair in pairs.items()
    }


def replies(lab, policy, asked, each, seed):
    """Return {reply: its share of `each` samples, a number a question}, and a few samples."""
    prompts = [q.prompt for q in asked] * each
    texts = respond(policy, lab.tokenizer, prompts, TOKENS, seed=seed, batch=256)
    read = [read_reply(lab.world, q, t) for q, t in zip(asked * each, texts)]
    table = np.reshape(read, (each, len(asked)))
    shown = [asked[i].prompt + texts[i] for i in range(0, len(asked), max(1, len(asked) // 6))]
    return {r: (table == r).mean(0).round(3) for r in REPLIES} | {"texts": shown}
