"""Runs that only the experiments on the testbed ask for."""

import random

from rlhf_lite import direct


class Anew(direct.DPORun):
    """Offline DPO on pairs whose labels are drawn anew at each reading."""

    def pairs(self, rollout):
        """Return the rows of the chosen and of the rejected responses, two lists."""
        rng = random.Random(f"{self.config.seed}/{self.step}/labels anew")
        scores = rollout.scores.view(-1, 2)
        first = direct.label_pairs(scores, self.config.labels, rng).tolist()
        chosen = [2 * n + (not won) for n, won in enumerate(first)]
        return chosen, [row ^ 1 for row in chosen]
