"""What labour and rlaif share: careful people, what they write and prefer, and who learns from it.

Gold is the auditor's utility; rationality is such that two of them agree on 72.6% of pairs. They
choose among base responses about the people of training; policies are measured on others.
"""

from dataclasses import replace
from functools import cached_property

from rlhf_lite import direct, ppo, rewards, rollouts, supervised
from rlhf_lite.annotators import auditor, calibrate
from rlhf_lite.experiments import Lab, load

import numpy as np
import torch

OFFERED, AMONG, BEST_OF, FRESH = 64, 40, 16, 16  # base responses; to write from; to pick; to test
PPO = {"steps": 10, "samples": 126, "kl_coef": 0.1, "lr": 2e-4, "minibatches": 3}
DPO = {"group": 2, "samples": 64, "minibatches": 1, "kl_coef": 0.3, "lr": 1e-4}


class LessLab(Lab):
    """A Lab with people at work on `texts`, {prompt: base responses}, whose gold is known."""

    @cached_property
    def texts(self):
        """Return {prompt: OFFERED base responses}, about the people of training."""
        return {p: said[:OFFERED] for p, said in self.responses.items()}

    @cached_property
    def worth(self):
        """Return the gold of `texts`, one array a prompt [points]."""
        judge = auditor(self.world)
        return [np.array(u) for u in self.kept("worth", lambda: self.utilities(judge, self.texts))]

    @cached_property
    def person(self):
        """Return the auditor, as sure of base responses as real people are."""
        agreement = self.read.settings["agreement"]
        return calibrate(auditor(self.world), [u[:40] for u in self.worth], agreement)

    def utility(self, texts):
        """Return the gold of texts, a tensor [points]."""
        return torch.tensor([self.person.utility(self.read(t)) for t in texts])

    # -- labels --

    def written(self, count, seed, sure=1.0):
        """Return `count` demonstrations (prompt, response) of people `sure` times as rational."""
        person, rng = self.surer(sure), np.random.default_rng(30_000 + seed)
        prompts, found = list(self.texts), []
        for _ in range(count):
            row = rng.integers(len(prompts))
            among = rng.choice(len(self.worth[row]), AMONG, replace=False)
            pick = rng.choice(among, p=person.choice_probs(self.worth[row][among]))
            found.append((prompts[row], self.texts[prompts[row]][pick]))
        return found

    def preferred(self, count, seed, sure=1.0, judge=None):
        """Return `count` rows of a reward model's training: what people prefer, or a judge.

        judge: what it scores `texts`, one array a prompt; it is never in doubt.
        """
        person, rng = self.surer(sure), np.random.default_rng(40_000 + seed)
        prompts, found = list(self.texts), []
        while len(found) < count:
            row = rng.integers(len(prompts))
            a, b = rng.choice(len(self.worth[row]), 2, replace=False)
            first, second = (self.texts[prompts[row]][i] for i in (a, b))
            if first == second:
                continue
            pick = int(judge[row][a] < judge[row][b]) if judge is not None else rng.choice(
                3, p=person.preference_probs(*self.worth[row][[a, b]])
            )  # fmt: skip
            both = (second, first) if pick == 1 else (first, second)
            found.append((tuple(prompts[row] + t for t in both), bool(pick == 2)))
        return found

    def surer(self, times):
        """Return `person` with so many times the rationality."""
        return replace(self.person, rationality=times * self.person.rationality)

    # -- who learns from them --

    def learned(self, rows, seed):
        """Return a reward model of preferences, normalised on base responses."""
        config = rewards.RewardConfig(passes=2, seed=seed)
        run = rewards.RewardRun(self.base, self.tokenizer, "preference", rows, config)
        for _ in run:
            pass
        model = run.reward_model()
        some = [p + t for p, said in self.texts.items() for t in said[:8]]
        rewards.normalise(model, self.tokenizer, some)
        return rewards.Reward(model, self.tokenizer, 64, autocast=True)

    def imitate(self, policy, pairs, seed, lr=3e-4, most=30):
        """Teach a policy demonstrations, at most so many steps of 32, and return it."""
        size, steps = min(32, len(pairs)), int(np.clip(6 * len(pairs) / 32, 10, most))
        config = supervised.SFTConfig(
            steps=steps, samples=size, minibatches=1, lr=lr, seed=seed, kl_limit=1e6
        )
        for _ in supervised.SFTRun(policy, None, self.tokenizer, pairs, None, config):
            pass
        return policy

    def picks(self, score, seed):
        """Return (prompt, best of BEST_OF base responses by a score), two a prompt."""
        found = []
        for n, (prompt, said) in enumerate(self.texts.items()):
            some = np.random.default_rng([50_000 + seed, n]).permutation(said)[: 2 * BEST_OF]
            scores = np.asarray(score([prompt + t for t in some])).reshape(2, -1)
            best = scores.argmax(1) + BEST_OF * np.arange(2)
            found += [(prompt, str(some[i])) for i in best]
        return found

    def push(self, policy, score, seed, prompts=None):
        """Improve a policy by PPO, its own start being the reference; return it."""
        config = ppo.PPOConfig(seed=seed, **PPO)
        run = ppo.PPORun(policy, None, self.tokenizer, prompts or self.prompts, score, config)
        for _ in run:
            pass
        return policy

    def directly(self, count, seed, sure=1.0, lr=DPO["lr"]):
        """Return a policy by DPO on `count` pairs of base responses, labelled once by people."""
        batches, scale = max(1, 2 * count // DPO["samples"]), self.surer(sure).rationality
        config = direct.DirectConfig(
            seed=seed, offline=batches, steps=max(24, min(3 * batches, 32)), **DPO | {"lr": lr}
        )
        run = direct.DPORun(
            self.policy(), None, self.tokenizer, self.prompts,
            lambda texts: scale * self.utility(texts), config,
        )  # fmt: skip
        for _ in run:
            pass
        return run.policy

    def tested(self, policy, seed, prompts=None, each=FRESH):
        """Return gold (prompts, each) of fresh responses about others, KL and what they hold."""
        drawn = rollouts.draw(
            policy, self.base, self.tokenizer, prompts or list(self.held_out), self.utility, each,
            seed,
        )  # fmt: skip
        read = [self.read(t) for row in drawn.texts for t in row]
        parts = ("true", "false", "unsupported", "garbled")
        return {
            "gold": drawn.scores.numpy().round(2), "kl": drawn.kl(), "text": drawn.texts[3][0],
            "words": np.reshape([r.words for r in read], drawn.scores.shape),
            **{k: np.mean([getattr(r, k) for r in read]) for k in parts},
        }  # fmt: skip


def chances(gaps, ties=0.5):
    """Return how likely the better of two is preferred, for gaps of gold [points], at one nat each.

    ties: what a tie counts, 1 for "equivalent or preferred".
    """
    judge = load("_raters").taste()
    values, places = np.unique(np.round(gaps, 2), return_inverse=True)
    probs = np.array([judge.preference_probs(v, 0.0) for v in values]) @ [1, 0, ties]
    return probs[places].reshape(np.shape(gaps))
