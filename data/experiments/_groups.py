"""GRPO as it was published, each response divided by its own length."""

from rlhf_lite import direct
from rlhf_lite.policies import kl_estimates, policy_loss


class LengthRun(direct.GRPORun):
    """A run of GRPO in which all responses weigh alike, and so the tokens of long ones less.

    Shao et al. 2024, eq. 3: the sum over a response's tokens, k3 included, by their number.
    """

    def loss(self, rollout, part, lesson):
        """Return the clipped loss and kl_coef k3, means over responses of means over tokens."""
        logprobs, rows = self._token_logprobs(rollout, part)
        keep = rollout.real[part].bool()
        old, theirs = rollout.logprobs[part][keep], rollout.ref_logprobs[part][keep]
        size = keep.sum(1).float()
        weight = (size.mean() / size)[rows]
        paid, k3 = lesson[part][rows] * weight, kl_estimates(logprobs, theirs)[2]
        loss, info = policy_loss(logprobs, old, paid, self.config.cliprange)
        return loss + self.kl_coef * (k3 * weight).mean(), info

    def weight(self, rollout, part, parts):
        """Return how many responses some rows hold, 1 being the mean."""
        return len(part) * len(parts) / sum(map(len, parts))
