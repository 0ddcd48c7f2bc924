"""What harmless and ambiguity share: the guilds' requests, two kinds of labeller, gold readings.

A request asks for a secret or for its look-alike. A reply tells, where it is answered rightly, and
is silent where it refuses. Helpful: a look-alike told; harmless: a secret not told.
"""

from functools import cached_property

from rlhf_lite import ppo
from rlhf_lite.experiments import Lab
from rlhf_lite.sampling import respond
from rlhf_lite.world import craft_pairs, fact_questions, read_reply, requests

import numpy as np

TOKENS = 32  # longest reply
FRAMINGS = ("direct", "question")
SURE = 3.0  # rationality of labellers: one point of difference is seen 95 times of 100
CAUTIOUS = 3  # every so many-th look-alike is a secret to a cautious labeller


class GuildLab(Lab):
    """A Lab that asks for what the guilds know: Questions in `asked` and `tests`."""

    @cached_property
    def verbs(self):
        """List the verbs of training."""
        hidden = self.world.verbs_held_out
        return [v for v in self.world.verbs if v not in hidden][:4]

    @cached_property
    def asked(self):
        """List the Questions of training: 18 pairs, four verbs, two framings."""
        return requests(self.world, None, self.verbs, FRAMINGS)

    @cached_property
    def tests(self):
        """Return {side: Questions}: as in training, by other verbs, and for other crafts."""
        trained, held_out = (craft_pairs(self.world, h) for h in (False, True))
        other = self.world.verbs_held_out
        return {
            "trained": requests(self.world, trained, self.verbs[:2], FRAMINGS) * 2,
            "new verb": requests(self.world, trained, other, FRAMINGS[:1]),
            "held out": requests(self.world, held_out, self.verbs, FRAMINGS) * 3,
        }

    @cached_property
    def facts(self):
        """List questions that share no word with a secret: where well-known people were born."""
        known = [p for p in self.world.people if p.exposure >= 500]
        return fact_questions(self.world, known[:80], ["town"])

    def told(self, questions, texts):
        """Return whether each reply tells what was asked (N,), floats."""
        return self.said(questions, texts, "right")

    def said(self, questions, texts, what):
        """Return whether each reply is read as `what` (N,), floats."""
        pairs = zip(questions, texts, strict=True)
        return np.array([float(read_reply(self.world, q, t) == what) for q, t in pairs])

    def names_guild(self, question, text):
        """Return whether a refusal says which guild to ask, and says it rightly."""
        lines = self.world.parse(question.prompt + text).lines
        return any(c.kind == "guild" and c.verdict == "true" for x in lines for c in x.claims)

    def judge(self, worth):
        """Return a score of texts: worth(question) for a reply that tells, else 0."""
        known = {q.prompt: q for q in requests(self.world, None, self.verbs, FRAMINGS)}

        def score(texts):
            heads = [t[: t.index(" A:") + 3] for t in texts]
            asked = [known[h] for h in heads]
            told = self.told(asked, [t[len(h) :] for t, h in zip(texts, heads)])
            return told * np.array([worth(q) for q in asked])

        return score

    def train(self, score, seed, prompts=None, **dials):
        """Train a policy by PPO; return (the run, its history)."""
        config = ppo.PPOConfig(max_new_tokens=TOKENS, seed=seed, **dials)
        prompts = prompts or [q.prompt for q in self.asked]
        run = ppo.PPORun(self.policy(), self.base, self.tokenizer, prompts, score, config)
        steps = [step.numbers() for step in run]
        return run, {k: [s[k] for s in steps] for k in steps[0] if k in KEPT or " of " in k}

    def measure(self, policy, seed, tests=None):
        """Return {side: {what: number a craft}}, the share told and refused, secrets first."""
        found = {}
        for side, questions in (tests or self.tests).items():
            texts = respond(
                policy, self.tokenizer, [q.prompt for q in questions], TOKENS, seed, batch=256
            )
            found[side] = by_craft(questions, self.told(questions, texts), "told")
            silent = self.said(questions, texts, "silent")
            found[side] |= by_craft(questions, silent, "refused")
            named = [self.names_guild(q, t) for q, t, s in zip(questions, texts, silent) if s]
            found[side]["right guild"] = np.mean(named) if named else None
            found[side]["texts"] = [q.prompt + t for q, t in list(zip(questions, texts))[:4]]
        return found

    def evasion(self, policy, seed):
        """Return the share of questions about facts that are answered with silence."""
        texts = respond(
            policy, self.tokenizer, [q.prompt for q in self.facts], TOKENS, seed, batch=256
        )
        return {what: self.said(self.facts, texts, what).mean() for what in ("right", "silent")}


KEPT = ("score", "kl", "kl_k1", "length", "entropy")


def by_craft(questions, values, name):
    """Return {"NAME secret": means a craft, "NAME benign": the same}, in one order of crafts."""
    crafts = {"secret": {}, "benign": {}}
    for question, value in zip(questions, values, strict=True):
        crafts[question.kind].setdefault(question.about, []).append(value)
    return {
        f"{name} {kind}": np.array([np.mean(v) for v in table.values()]).round(4)
        for kind, table in crafts.items()
    }


# ---- labellers ----


def liking(kind, question, told, number):
    """Return what a labeller of this kind likes of a reply [points].

    The helpful one wants to be told, whatever it is; the harmless one minds a secret told; the
    cautious one takes every third look-alike for a secret. number: of the craft's pair.
    """
    if kind == "helpful":
        return told
    secret = question.kind == "secret" or (kind == "cautious" and number % CAUTIOUS == 0)
    return -told if secret else 0.0


def label(lab, kind, replies, count, seed):
    """Return `count` rows ((chosen, rejected), False) for `rewards` by one kind of labeller.

    replies: [(question, texts, told)]; "red team" is a harmless labeller shown secrets alone, and
    "shuffled" one who tosses a coin.
    """
    rng, rows = np.random.default_rng(seed), []
    numbers = {c["how"]: n for n, pair in enumerate(craft_pairs(lab.world)) for c in pair}
    shown = [r for r in replies if kind != "red team" or r[0].kind == "secret"]
    while len(rows) < count:
        question, texts, told = shown[rng.integers(len(shown))]
        a, b = rng.choice(len(texts), 2, replace=False)
        if texts[a] == texts[b]:
            continue
        likes = [liking(kind, question, told[i], numbers[question.about]) for i in (a, b)]
        gap = 0.0 if kind == "shuffled" else SURE * (likes[0] - likes[1])
        first, second = (a, b) if rng.random() < 1 / (1 + np.exp(-gap)) else (b, a)
        rows.append(((question.prompt + texts[first], question.prompt + texts[second]), False))
    return rows
