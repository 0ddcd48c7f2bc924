"""Reach the same optimum without a critic: RLOO, GRPO, REINFORCE, rejection sampling and DPO.

    run = RLOORun(policy, reference, tokenizer, prompts, score, DirectConfig(group=4))
    for step in run:
        print(step.score, step.kl, step.objective)

Every run is a PolicyRun as PPO is: the same batches, records, brakes and checkpoints. What differs
is what a batch teaches. Omits length normalisation, several passes with a stale reference and every
variant of DPO (IPO, KTO, ...). Notebook 13 writes them out.
"""

import random
from dataclasses import dataclass

from rlhf_lite.policies import (
    PolicyRun,
    explained_variance,
    kl_estimates,
    policy_loss,
)
from rlhf_lite.scores import PolicyError
from rlhf_lite.steps import PolicyConfig

import numpy as np
import torch
from scipy.special import logsumexp
from torch.nn.functional import logsigmoid

LABELS = ("bradley-terry", "argmax")


@dataclass(frozen=True)
class DirectConfig(PolicyConfig):
    """The dials of a run without a critic."""

    memory: float = 0.8
    """Weight of the batches before in REINFORCE's baseline, multiplied in each step."""
    group: int = 4
    """Responses to each prompt of a batch (k)."""
    offline: int = 0
    """Batches drawn once, from the reference, and used in turn; 0 draws fresh ones each step."""
    divide: bool = True
    """Whether GRPO divides by the standard deviation of the group."""
    k3_loss: bool = True
    """Whether GRPO puts the KL into the loss, as k3, instead of into the reward."""
    labels: str = "bradley-terry"
    """How the scores of a pair become a label: by chance, or "argmax"."""

    def __post_init__(self):
        """Check that the dials make sense."""
        super().__post_init__()
        if self.labels not in LABELS:
            raise PolicyError(f"labels is {self.labels!r}; expected {' or '.join(LABELS)}")
        if self.offline < 0:
            raise PolicyError(f"offline is {self.offline}; expected a number of batches, or 0")
        if self.group < 1 or self.samples % self.group:
            raise PolicyError(
                f"{self.samples} samples do not divide into groups of {self.group}; "
                f"expected a multiple"
            )


# ---- the formulas ----


def rloo_advantages(returns):
    """Compare each return with the mean of the others in its group.

    A_i = R_i - (1 / (k - 1)) sum_{j != i} R_j (Kool et al. 2019; Ahmadian et al. 2024). Unbiased,
    since no response is in its own baseline. returns (P, K) [score]; same shape back. Raises
    PolicyError for a group of one.
    """
    count = _group_of(returns)
    return (returns - returns.mean(1, keepdim=True)) * count / (count - 1)


def grpo_advantages(returns, divide=True):
    """Compare each return with the mean of its group, in units of the group's own spread.

    A_i = (R_i - mean R) / sd R (Shao et al. 2024, sec. 4.1.1); without the division (k - 1) / k
    times RLOO's (Liu et al. 2025). The sd is that of the group itself, with 1e-4 against 0 / 0.
    returns (P, K) [score]; returns the same shape [sd of a group, or score]. Raises
    PolicyError for a group of one.
    """
    _group_of(returns)
    centred = returns - returns.mean(1, keepdim=True)
    return centred / (returns.std(1, keepdim=True, unbiased=False) + 1e-4) if divide else centred


def _group_of(returns):
    """Return the size of the groups, or raise PolicyError where there is nobody to compare with."""
    if returns.dim() != 2 or returns.shape[1] < 2:
        raise PolicyError(
            f"returns have shape {tuple(returns.shape)}; expected (prompts, k) with a k of 2 or "
            f"more: a group of one has nobody to compare with"
        )
    return returns.shape[1]


def k3_loss(logprobs, ref_logprobs):
    """Return the mean of k3 over N tokens, GRPO's penalty (Shao et al. 2024, eq. 4) [nats a token].

    mean(exp(-d) - 1 + d), d = log pi - log ref. Its value estimates KL(pi || ref); its gradient, at
    tokens drawn from pi, is that of KL(ref || pi).
    """
    return kl_estimates(logprobs, ref_logprobs)[2].mean()


def dpo_loss(chosen, rejected, ref_chosen, ref_rejected, kl_coef):
    """Return (loss, info) of direct preference optimisation over N pairs.

    -mean log sigma(beta [(log pi - log ref)(y_w) - (log pi - log ref)(y_l)]) (Rafailov et al. 2023,
    eq. 7). All four (N,): log-probabilities of whole responses [nats]; kl_coef: beta [score a nat].
    info: accuracy, the share of pairs that the policy orders as the label does. Raises PolicyError
    without pairs or for a beta of 0 or below.
    """
    if not kl_coef > 0:
        raise PolicyError(f"kl_coef is {kl_coef}; expected more than 0: DPO divides by it")
    if not len(chosen):
        raise PolicyError("no pairs; expected at least one chosen and one rejected response")
    margin = kl_coef * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return -logsigmoid(margin).mean(), {"accuracy": (margin > 0).float().mean().detach()}


def label_pairs(scores, labels="bradley-terry", rng=None):
    """Choose the better of two, (N,) bool: whether the first of each pair is preferred.

    P(first) = sigma(s_1 - s_2) (Bradley and Terry 1952), a unit of score being a unit of log-odds;
    "argmax" takes the larger, the first of equals. scores (N, 2); rng: a random.Random. Raises
    PolicyError without pairs.
    """
    if not len(scores):
        raise PolicyError("no pairs to label; expected scores of shape (N, 2)")
    if labels == "argmax":
        return scores[:, 0] >= scores[:, 1]
    rng = rng or random.Random(0)
    probs = torch.sigmoid(scores[:, 0] - scores[:, 1])
    return torch.tensor([rng.random() < p for p in probs.tolist()])


def best_rows(returns):
    """List the row number of the best response of each group; the first of equals.

    returns (P, K); rows are counted through groups, so group p holds rows p K to p K + K - 1.
    Raises PolicyError for a group of one.
    """
    count = _group_of(returns)
    return [p * count + int(k) for p, k in enumerate(returns.argmax(1))]


def fixed_point(base_logprobs, scores, kl_coef, divide=False, forward=0):
    """Find where GRPO comes to rest with large groups: (log pi (P, S) [nats], coefficient (P,)).

    Where only the score is divided by the group's sd, a prompt is trained at its own kl_coef
    sd_pi(score). Under an exact KL(pi || ref) the rest is ref exp(s / beta) / Z (Korbak et al.
    2022). Under k3 in the loss of answers of `forward` tokens, S = W^forward, each token comes to
    beta ref / (lambda - Q): Q is the score to expect after it, and lambda makes it sum to 1. Of
    several roots the one reached from the reference. base_logprobs, scores (P, S), of all answers.
    """
    base, scores = np.asarray(base_logprobs, float), np.asarray(scores, float)
    coefs = np.full(len(scores), float(kl_coef))
    found = _rest(base, scores, coefs, forward)
    for _ in range(80 if divide else 0):
        probs = np.exp(found)
        mean = (probs * scores).sum(1, keepdims=True)
        spread = np.sqrt((probs * (scores - mean) ** 2).sum(1))
        # Where the spread dies out the prompt ends on its best answer; 0 would leave no number.
        coefs = kl_coef * np.maximum(spread, 1e-3)
        found = _rest(base, scores, coefs, forward)
    return found, coefs


def _rest(base, scores, coefs, forward):
    """Return log pi (P, S) at rest, a coefficient for each prompt."""
    if not forward:
        tilted = base + scores / coefs[:, None]
        return tilted - logsumexp(tilted, axis=1, keepdims=True)
    width, total, left, value = round(scores.shape[1] ** (1 / forward)), 0.0, base, scores
    for _ in range(forward):
        left, value = (t.reshape(len(coefs), -1, width) for t in (left, value))
        mass = logsumexp(left, axis=2, keepdims=True)
        chosen = _forward_rest(left - mass, value, coefs[:, None, None])
        spread = scores.shape[1] // (chosen.shape[1] * width)
        total = total + np.repeat(chosen.reshape(len(coefs), -1), spread, axis=1)
        left, value = mass[..., 0], (np.exp(chosen) * value).sum(2)
    return total


def _forward_rest(base, values, coefs):
    """Return where E[value] - beta KL(ref || pi) is largest: log of beta ref / (lambda - value)."""
    gap = values.max(-1, keepdims=True) - values
    # With lambda at the top + beta the sum is 1 or less; at the top itself it has no bound.
    low, high = 0 * gap[..., :1], coefs + 0 * gap[..., :1]
    for _ in range(60):
        middle = (low + high) / 2
        over = coefs * (np.exp(base) / (middle + gap)).sum(-1, keepdims=True) > 1
        low, high = np.where(over, middle, low), np.where(over, high, middle)
    found = base + np.log(coefs) - np.log(high + gap)
    return found - logsumexp(found, axis=-1, keepdims=True)


# ---- the runs ----


class DirectRun(PolicyRun):
    """A run whose prompts come in groups, and whose batches may be old; a subclass teaches.

    Arguments as in PolicyRun. Where nothing is clipped, clip_fraction and kl_old are 0;
    explained_variance is what the baseline takes of the returns' variance. Offline the batch is an
    old one: score and texts are its own, KL is read along its responses.
    """

    least, multiple = 2, 1  # what a method asks of the size of a group
    takes_old = False  # whether it may learn from old batches

    def __init__(self, policy, reference, tokenizer, prompts, score, config=None):
        config = config or DirectConfig(group=max(2, self.least))
        if not isinstance(config, DirectConfig):
            raise PolicyError(f"config is a {type(config).__name__}; expected a DirectConfig")
        if config.group < self.least or config.group % self.multiple:
            raise PolicyError(
                f"group is {config.group}; {type(self).__name__} expects {self.least} or more"
                + (f", a multiple of {self.multiple}" if self.multiple > 1 else "")
            )
        if config.offline and not self.takes_old:
            raise PolicyError(f"{type(self).__name__} learns from its own fresh samples; expected "
                              f"offline to be 0")  # fmt: skip
        super().__init__(policy, reference, tokenizer, prompts, score, config)
        if config.offline and self.score.learns:
            raise PolicyError("a score that learns needs fresh responses; expected offline to be 0")
        self.group, self.old = config.group, {}

    def rollout(self):
        """Draw and score a batch, or take an old one; read it with the policy as it is."""
        if not self.config.offline:
            return super().rollout()
        turn = self.step % self.config.offline
        if turn not in self.old:
            self.old[turn] = self.collect(self.reference, turn)
        return self.read(self.old[turn])

    def returns(self, rollout):
        """Return score - kl_coef (log pi - log ref) of each response, (B,) [score]."""
        gap = (rollout.logprobs - rollout.ref_logprobs) * rollout.real
        return rollout.scores - self.kl_coef * gap.sum(1)

    def grouped(self, values):
        """Return values (B,) as (P, K), a row a prompt."""
        return values.view(-1, self.group)

    def _split(self, rows):
        """Deal rows out to the minibatches."""
        count = self.config.minibatches
        return [rows[i::count] for i in range(min(count, len(rows)))]

    def _token_logprobs(self, rollout, part):
        """Return (log pi of the N real tokens of some rows, which row each stands in)."""
        table, _, chosen = rollout.forward(self.policy, part)
        return table.gather(1, chosen)[:, 0], rollout.real[part].bool().nonzero()[:, 0]


class RLOORun(DirectRun):
    """A run of RLOO: REINFORCE whose baseline is the mean of the others (Ahmadian et al. 2024).

    The KL is charged in the reward. As in PPO, `cliprange` brakes several updates on one batch.
    """

    def advantages(self, rollout):
        """Return one advantage a response, (B,)."""
        return rloo_advantages(self.grouped(self.returns(rollout))).flatten()

    def plan(self, rollout):
        """Give every token of a response the response's advantage."""
        advantages, returns = self.advantages(rollout), self.returns(rollout)
        quiet = explained_variance(returns - advantages, returns)
        return rollout.parts, advantages, {"explained_variance": quiet}

    def loss(self, rollout, part, lesson):
        """Return PPO's clipped loss, its ratio 1 at the first update."""
        logprobs, rows = self._token_logprobs(rollout, part)
        keep = rollout.real[part].bool()
        old, theirs = rollout.logprobs[part][keep], rollout.ref_logprobs[part][keep]
        loss, info = policy_loss(logprobs, old, lesson[part][rows], self.config.cliprange)
        return loss + self.penalty(logprobs, theirs), info

    def penalty(self, logprobs, ref_logprobs):
        """Return what the loss charges beside the advantages: nothing, the KL is in the reward."""
        return 0.0


class ReinforceRun(RLOORun):
    """A run of REINFORCE with a moving mean of earlier batches as baseline (Williams 1992).

    b = sum_i memory^i mean_i / sum_i memory^i over the mean returns of the batches before; in the
    first batch, the mean of all other responses.
    """

    least = 1

    def advantages(self, rollout):
        """Return return minus baseline, (B,)."""
        returns = self.returns(rollout)
        if not self.history:
            return rloo_advantages(returns[None])[0]
        means = [s.score - self.kl_coef * s.kl_k1 for s in self.history]
        fading = [self.config.memory**age for age in range(len(means))][::-1]
        return returns - sum(w * m for w, m in zip(fading, means)) / sum(fading)


class GRPORun(RLOORun):
    """A run of GRPO: advantages divided by the group's spread, k3 in the loss.

    Shao et al. 2024. `divide=False` leaves the division out; `k3_loss=False` charges the KL in the
    reward.
    """

    def advantages(self, rollout):
        """Return one advantage a response, (B,)."""
        paid = rollout.scores if self.config.k3_loss else self.returns(rollout)
        return grpo_advantages(self.grouped(paid), self.config.divide).flatten()

    def penalty(self, logprobs, ref_logprobs):
        """Return kl_coef k3, where that is the dial."""
        return self.kl_coef * k3_loss(logprobs, ref_logprobs) if self.config.k3_loss else 0.0


class RejectionRun(DirectRun):
    """A run of rejection sampling: next-token loss on the best of each group.

    RAFT, Dong et al. 2023. Best by score minus the KL charge, so that pi*, where all are alike, is
    at rest. Offline it is best-of-n distillation: the best of n reference samples by score alone,
    whatever kl_coef is.
    """

    takes_old = True

    def plan(self, rollout):
        """Keep the best row of each group."""
        paid = rollout.scores if self.config.offline else self.returns(rollout)
        rows = best_rows(self.grouped(paid))
        return self._split(rows), None, {}

    def loss(self, rollout, part, lesson):
        """Return -mean log pi of the kept responses [nats a token]."""
        return -self._token_logprobs(rollout, part)[0].mean(), {}


class DPORun(DirectRun):
    """A run of DPO (Rafailov et al. 2023) on pairs of responses, two neighbours of a group.

    Online, fresh pairs at each step (Guo et al. 2024); offline, pairs of the reference,
    labelled once. With Bradley-Terry labels the optimum is that of J at the same kl_coef.
    """

    multiple, takes_old = 2, True

    def __init__(self, *parts, **named):
        super().__init__(*parts, **named)
        if not self.kl_coef > 0:
            raise PolicyError(f"kl_coef is {self.kl_coef}; expected more than 0: DPO divides by it")

    def pairs(self, rollout):
        """Return the rows of the chosen and of the rejected responses, two lists."""
        turn = self.step % self.config.offline if self.config.offline else self.step
        rng = random.Random(f"{self.config.seed}/{turn}/labels")
        first = label_pairs(rollout.scores.view(-1, 2), self.config.labels, rng).tolist()
        chosen = [2 * n + (not won) for n, won in enumerate(first)]
        return chosen, [row ^ 1 for row in chosen]

    def plan(self, rollout):
        """Keep the two of a pair in one minibatch."""
        chosen, rejected = map(self._split, self.pairs(rollout))
        parts = [c + r for c, r in zip(chosen, rejected)]
        return parts, None, {}

    def loss(self, rollout, part, lesson):
        """Return DPO's loss of the pairs, the chosen standing in the first half."""
        logprobs, rows = self._token_logprobs(rollout, part)
        ours = torch.zeros(len(part), device=logprobs.device).index_add(0, rows, logprobs)
        theirs = rollout.ref_logprobs[part].sum(1)
        half = len(part) // 2
        loss, _ = dpo_loss(ours[:half], ours[half:], theirs[:half], theirs[half:], self.kl_coef)
        return loss, {}

    def weight(self, rollout, part, parts):
        """Return how many pairs some rows hold, 1 being the mean: every pair weighs alike."""
        return len(part) * len(parts) / sum(map(len, parts))
