"""What the experiments on hallucination share: questions with and without a card, SFT, and labels.

Labellers see the card, or know the world; they check each claim with some probability and believe
the rest. A made-up claim is one that neither card nor world supports. Tests ask about people whom
no training asks for.
"""

import os
from dataclasses import replace
from functools import cached_property

from rlhf_lite import models, rewards, supervised
from rlhf_lite.annotators import Annotator
from rlhf_lite.experiments import Lab, by_prompt
from rlhf_lite.labellers import HastyLabeller, ask
from rlhf_lite.sampling import respond, text_logprobs
from rlhf_lite.truth import (
    SupportReader,
    best_temperature,
    calibration_error,
    card_questions,
    demonstration,
    open_questions,
    reliability,
    support,
)

import numpy as np
from scipy.special import softmax

GROUPS = ("on the card", "not on the card", "who, by the card", "known", "once", "never")
VALUES = {  # what a claim is worth, in points: as in notebook 06
    "true": 1.0, "false": -2.0, "unsupported": -1.0, "tone": 0.0, "words": 1.0, "length": 0.0,
    "evasive": 0.0, "garbled": 2.0,
}  # fmt: skip
LABELS, PASSES, POOL = 600, 3, 200  # preferences behind a reward model; prompts that they are about
SFT = {"steps": 40, "samples": 128, "lr": 1e-3}
TOKENS = 32


class CardLab(Lab):
    """A Lab that asks about people, with and without a card."""

    def group(self, asked):
        """Return which of GROUPS a question is in."""
        if asked.card is not None:
            return asked.where
        told = self.world.by_name[asked.about].exposure
        return "known" if told >= 500 else "once" if told == 1 else "never"

    def people_told(self, held_out):
        """List the people told 500 times or more, once, and never, of training or held out."""
        hidden = {p.name for p in self.world.held_out_people}
        return [p for p in self.world.people
                if (p.name in hidden) == held_out and not 2 <= p.exposure < 500]  # fmt: skip

    def spelled(self, people):
        """List those whose surname somebody well known has too: others a small model misspells."""
        read = {p.name.split(" ", 1)[1] for p in self.world.people if p.exposure >= 100}
        return [p for p in people if p.name.split(" ", 1)[1] in read]

    @cached_property
    def asked(self):
        """List the questions that training asks: 500 with a card, and all without."""
        people, rng = self.people_told(False), np.random.default_rng(0)
        closed = card_questions(self.world, self.spelled(people), 0)
        return [closed[i] for i in rng.permutation(len(closed))[:500]] + open_questions(
            self.world, people
        )

    @cached_property
    def tests(self):
        """List the questions about people held out."""
        people = self.people_told(True)
        closed = card_questions(self.world, self.spelled(people), 1)
        half = [a for n, a in enumerate(closed) if (n // 4 + n) % 2]  # of each kind of question
        return half + open_questions(self.world, people)

    @cached_property
    def eyes(self):
        """Return the SupportReader of all questions."""
        return SupportReader(self.world, self.asked + self.tests)

    @cached_property
    def person(self):
        """Return the Annotator who values supported claims, and hates others once noticed."""
        return Annotator("checker", "Counts claims.", np.zeros(len(self.world.voices)), VALUES)

    # -- supervised fine-tuning, its pool, and what labellers teach --

    def sft(self, seed):
        """Return the fine-tuned policy of a seed, from this experiment's folder if it is there."""
        folder = self.folder / f"sft {seed}"
        if not folder.exists():
            pairs = [(a.prompt, demonstration(self.world, a)) for a in self.asked
                     if a.card is not None or self.group(a) == "known"]  # fmt: skip
            config = supervised.SFTConfig(**SFT, seed=seed)
            run = supervised.SFTRun(self.policy(), self.base, self.tokenizer, pairs, None, config)
            for _ in run:
                pass
            half = self.folder / f".sft {seed} {os.getpid()}"
            models.save(run.policy, self.tokenizer, half)
            half.rename(folder)
        return models.load(folder)[0]

    def pool(self, seed):
        """Return {prompt: three replies of the base, three of SFT}."""
        rng = np.random.default_rng(30_000 + seed)
        asked = [self.asked[i] for i in rng.permutation(len(self.asked))[:POOL]]
        prompts, found = [a.prompt for a in asked for _ in range(3)], {}
        for number, model in enumerate((self.base, self.sft(seed))):
            luck = 40_000 + 10 * seed + number
            said = respond(model, self.tokenizer, prompts, TOKENS, seed=luck, batch=240)
            for prompt, texts in by_prompt(prompts, said).items():
                found.setdefault(prompt, []).extend(texts)
        return {p: texts for p, texts in found.items() if len(set(texts)) > 1}

    def reward_from(self, responses, checked, seed, shuffled=False):
        """Return a Reward from preferences of people who check each claim so often.

        shuffled: whether each label is turned by a coin, the control.
        """
        labeller = HastyLabeller(self.world, self.person, 50_000 + seed, self.eyes, None, checked)
        rng = np.random.default_rng(60_000 + seed)
        labels = ask(labeller, "preference", responses, LABELS, rng)
        if shuffled:
            labels = [{**r, "chosen": r["rejected"], "rejected": r["chosen"]}
                      if rng.random() < 0.5 else r for r in labels]  # fmt: skip
        rows = rewards.examples("preference", labels)
        config = rewards.RewardConfig(passes=PASSES, seed=seed)
        run = rewards.RewardRun(self.sft(seed), self.tokenizer, "preference", rows, config)
        for _ in run:
            pass
        model = run.reward_model()
        rewards.normalise(model, self.tokenizer, [p + t for p, x in responses.items() for t in x])
        return rewards.Reward(model, self.tokenizer, batch=64, autocast=True)

    def seen_by(self, score, responses):
        """Return how a score correlates with the true worth of replies, within prompts."""
        found = []
        for prompt, said in responses.items():
            worth = [self.person.utility(self.eyes(prompt + r)) for r in said]
            scores = np.asarray(score([prompt + r for r in said]))
            if np.std(worth) > 0 and np.std(scores) > 0:
                found.append(np.corrcoef(worth, scores)[0, 1])
        return float(np.mean(found))

    # -- what a policy claims, and what it holds likely --

    def claims(self, policy, seed):
        """Ask a policy all test questions once; return {group: counts, and shares by person}."""
        prompts = [a.prompt for a in self.tests]
        said = respond(policy, self.tokenizer, prompts, TOKENS, seed=seed, batch=256)
        found = [support(self.world, a, r) for a, r in zip(self.tests, said)]
        return {g: self._counted(g, found) for g in GROUPS}

    def _counted(self, group, found):
        rows = [(a.about, s) for a, s in zip(self.tests, found) if self.group(a) == group]
        people = dict.fromkeys(name for name, _ in rows)
        by = {name: [s for n, s in rows if n == name] for name in people}
        counts = {k: sum(getattr(s, k) for _, s in rows)
                  for k in ("true", "false", "unsupported", "silent", "lines")}  # fmt: skip
        return {
            **counts, "replies": len(rows),
            "other": sum(not s.claims and not s.silent for _, s in rows),
            "made up": [np.mean([s.made_up > 0 for s in x]) for x in by.values()],
            "right": [np.mean([s.true > 0 and not s.made_up for s in x]) for x in by.values()],
        }  # fmt: skip


def calibration(model, tokenizer, lab, seed=0):
    """Return how far a model's probability of one of four answers can be trusted.

    Of each fact of the people held out who are told twice or more, the true value and three others
    are read as replies. The temperature of each half of them is fitted on the other half.
    """
    rng, texts, prompts = np.random.default_rng(seed), [], []
    people = [p for p in lab.world.held_out_people if p.exposure > 1]
    for asked in (a for a in open_questions(lab.world, people) if a.kind != "who"):
        own = lab.world.by_name[asked.about].facts[asked.kind]
        values = sorted({p.facts[asked.kind] for p in lab.world.people} - {None, own})
        if own is not None:
            for value in (own, *rng.choice(values, 3, replace=False)):
                card = replace(asked, card={asked.kind: str(value)})
                texts.append(asked.prompt + demonstration(lab.world, card))
                prompts.append(asked.prompt)
    logits = np.asarray(text_logprobs(model, tokenizer, texts, prompts)).reshape(-1, 4)
    halves, truth = np.arange(len(logits)) % 2, np.zeros(len(logits), int)
    heats, cooled = [], np.zeros(logits.shape)
    for half in (0, 1):
        heats.append(best_temperature(logits[halves == half], truth[halves == half]))
        cooled[halves != half] = softmax(logits[halves != half] / heats[-1], 1)
    probs = softmax(logits, 1)
    return {
        "bins": reliability(probs, truth), "ECE": calibration_error(probs, truth),
        "ECE repaired": calibration_error(cooled, truth), "T": np.sqrt(heats[0] * heats[1]),
        "right": np.mean(probs.argmax(1) == 0),
    }  # fmt: skip
