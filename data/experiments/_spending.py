"""Methods that may spend samples better than PPO does.

Replay: regression of log-ratios on scores, and old batches read again (as in REBEL, Gao et al.
2024, with log Z in place of a partner). Target: cross-entropy to the group's own returns, a target
that stands still while the policy moves to it. Reweighted: next-token loss on base samples, each
weighing exp(s / beta).
"""

import random
from functools import cached_property

from rlhf_lite import direct

import numpy as np
import torch


class Response(direct.RLOORun):
    """A run whose loss speaks of whole responses in their groups."""

    takes_old = True

    def log_ratio(self, rollout, part, against):
        """Return the sum of log pi - `against` over the tokens of each row, as groups (P, K)."""
        logprobs, rows = self._token_logprobs(rollout, part)
        against = against[part][rollout.real[part].bool()]
        found = torch.zeros(len(part)).index_add(0, rows, logprobs - against)
        return found.view(-1, self.group)

    def plan(self, rollout):
        """Keep groups together."""
        rows = np.arange(len(rollout.prompts)).reshape(-1, self.group)
        parts = [[int(r) for r in part.flat] for part in np.array_split(rows, len(rollout.parts))]
        return parts, None, {}

    def weight(self, rollout, part, parts):
        """Weigh every group alike."""
        return len(part) * len(parts) / sum(map(len, parts))


class TargetRun(Response):
    """Cross-entropy, within a group, to a target in proportion to p_old exp(return)."""

    def plan(self, rollout):
        """Set the target before the first update."""
        target = torch.softmax(self.grouped(self.returns(rollout)), 1)
        return super().plan(rollout)[0], target, {}

    def loss(self, rollout, part, lesson):
        """Return the cross-entropy, by the tokens of an average response."""
        ratio = self.log_ratio(rollout, part, rollout.logprobs)
        target = lesson[[row // self.group for row in part[:: self.group]]]
        nats = -(target * torch.log_softmax(ratio, 1)).sum(1).mean()
        return nats * self.group / float(rollout.real.sum(1).mean()), {}


class ReplayRun(Response):
    """Regression of beta (log pi - log pi0 + log Z) on the score, on old batches too.

    log Z of a prompt is the mean of s / beta - log pi + log pi0 over its newest responses, which at
    the optimum is exact; `known` {prompt: log Z} replaces it. Within groups alone it would be free,
    and drift from batch to batch.
    """

    again, newest, known = 3, 12, None  # old batches read beside each new one; responses

    def update(self, rollout):
        """Learn from the new batch, and from some of the old ones again."""
        self.batches = [*getattr(self, "batches", []), rollout]
        self.seen = getattr(self, "seen", {})
        for prompt, value in zip(rollout.prompts, (self.returns(rollout) / self.kl_coef).tolist()):
            self.seen.setdefault(prompt, []).append(value)
        info, older = super().update(rollout), self.batches[:-1]
        pick = random.Random(f"{self.config.seed}/{self.step}/replay")
        for old in pick.sample(older, min(self.again, len(older))):
            parts, lesson, _ = self.plan(old)
            for part in parts:
                loss, found = self.loss(old, part, lesson)
                self._descend(self.weight(old, part, parts) * loss, found)
        return info

    def plan(self, rollout):
        """Give every row the log Z of its prompt."""
        level = self.known or {p: np.mean(v[-self.newest :]) for p, v in self.seen.items()}
        return super().plan(rollout)[0], torch.tensor([level[p] for p in rollout.prompts]), {}

    def loss(self, rollout, part, lesson):
        """Return half the squared error, by the tokens of an average response."""
        ratio = self.log_ratio(rollout, part, rollout.ref_logprobs).flatten() + lesson[part]
        wrong = self.kl_coef * ratio - rollout.scores[part]
        return wrong.pow(2).mean() / 2 / float(rollout.real.sum(1).mean()), {}


class ReweightedRun(direct.RejectionRun):
    """Next-token loss on base samples, each weighing what the optimum gives it."""

    @cached_property
    def log_z(self):
        """Return {prompt: log mean exp(s / beta)} over all base samples of the budget."""
        for turn in range(self.config.offline):
            if turn not in self.old:
                self.old[turn] = self.collect(self.reference, turn)
        paid = {}
        for batch in self.old.values():
            for prompt, score in zip(batch.prompts, batch.scores.tolist()):
                paid.setdefault(prompt, []).append(score / self.kl_coef)
        return {p: float(np.logaddexp.reduce(a) - np.log(len(a))) for p, a in paid.items()}

    def plan(self, rollout):
        """Weigh every response by pi* / pi0."""
        logs = torch.tensor([self.log_z[p] for p in rollout.prompts])
        return rollout.parts, (rollout.scores / self.kl_coef - logs).exp(), {}

    def loss(self, rollout, part, lesson):
        """Return the weighted mean of -log pi [nats a token]."""
        logprobs, rows = self._token_logprobs(rollout, part)
        return -(lesson[part][rows] * logprobs).mean(), {}
