"""Runs that only the experiments on the testbed ask for."""

import random

from rlhf_lite import direct

import torch


class Anew(direct.DPORun):
    """Offline DPO on pairs whose labels are drawn anew at each reading."""

    def pairs(self, rollout):
        """Return the rows of the chosen and of the rejected responses, two lists."""
        rng = random.Random(f"{self.config.seed}/{self.step}/labels anew")
        scores = rollout.scores.view(-1, 2)
        first = direct.label_pairs(scores, self.config.labels, rng).tolist()
        chosen = [2 * n + (not won) for n, won in enumerate(first)]
        return chosen, [row ^ 1 for row in chosen]


def seal(policy):
    """Keep the unit that silences the special tokens as it is, so that no answer ends early."""
    final, head = policy.transformer.ln_f, policy.lm_head
    for weight, at in ((final.weight, 0), (final.bias, 0), (head.weight, (slice(None), 0))):
        trained = torch.ones_like(weight)
        trained[at] = 0
        weight.register_hook(lambda grad, trained=trained: grad * trained)
