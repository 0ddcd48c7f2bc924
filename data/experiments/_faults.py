"""Plant faults in PPO, and check its gradient against one that is written out from the tokens."""

import copy
from itertools import islice
from unittest.mock import patch

from rlhf_lite import ppo, sampling
from rlhf_lite.policies import PolicyError

import torch

KEYS = (
    "step", "score", "objective", "kl", "kl_k1", "kl_k3", "entropy", "ended", "ratio_gap",
    "first_clip_fraction",
)  # fmt: skip


class Checked(ppo.PPORun):
    """A run that compares the first gradient of each step with `honest_gradient`.

    price: what a nat of KL costs, whatever the run believes; truth: the base model; extra: what no
    PolicyStep has, a dict a step: the cosine of the two gradients, and the surprise, the mean of
    -log pi(y) while sampling [nats].
    """

    price = 0.54

    def __init__(self, policy, reference, tokenizer, prompts, score, config):
        super().__init__(policy, reference, tokenizer, prompts, score, config)
        self.truth, self.judge, self.honest, self.extra = reference, score, None, []

    def plan(self, rollout):
        """Say what the batch teaches, and what it should teach first."""
        plan = super().plan(rollout)
        self.honest = honest_gradient(self, rollout, rollout.parts[0])
        self.surprise = float(-(rollout.drawn_logprobs * rollout.real).sum(1).mean())
        return plan

    def _descend(self, loss, info):
        """Take a gradient step, and compare if it is the first of a batch."""
        found = super()._descend(loss, info)
        if self.honest is not None:
            ours = torch.cat([p.grad.flatten() for p in self.policy.parameters()]).double()
            cosine = float(torch.cosine_similarity(-ours, self.honest.double(), 0))
            self.extra.append({"cosine": cosine, "surprise": self.surprise})
            self.honest = None
        return found


def honest_gradient(run, rollout, rows):
    """Return the gradient of J at some rows by REINFORCE, read anew from their tokens, (N,).

    A_t = s(x, y) - beta (log pi - log pi0)(y) - V_t, where V_t is what the run's critic expects:
    any number may stand there, so of all that the run says only V_t is believed. Text, score and
    log-probabilities are made again, in float32 and with the base model.
    """
    tokens, mask = rollout.tokens[rows], rollout.mask[rows]
    response = mask.clone()
    response[:, : rollout.query] = 0
    ended = ((tokens == run.tokenizer.eos_token_id) & response.bool()).any(1).tolist()
    said = sampling.decode_responses(run.tokenizer, tokens, mask, response)
    texts = [
        rollout.prompts[row] + sampling.whole_sentences(text, end)
        for row, text, end in zip(rows, said, ended)
    ]
    with torch.no_grad():
        scores = torch.as_tensor(run.judge(texts)).float()
        theirs = sampling.token_logprobs(run.truth, tokens, mask) * response
    ours = sampling.token_logprobs(run.policy, tokens, mask) * response
    earned = scores - run.price * (ours.detach() - theirs).sum(1)
    better = earned[:, None] - rollout.values[rows]
    gain = (better * ours[:, rollout.query :]).sum() / len(rows)
    slopes = torch.autograd.grad(gain, list(run.policy.parameters()))
    return torch.cat([slope.flatten() for slope in slopes])


def watch(run, most=None):
    """Take the steps of a Checked run; return why it stopped, and what the checks look at.

    most: stop after so many steps, with the learning rate of all of them.
    """
    stopped = ""
    try:
        for _ in islice(run, most):
            pass
    except PolicyError as error:
        stopped = str(error)
    rows = [{k: getattr(step, k) for k in KEYS} for step in run.history]
    return {"stopped": stopped,
            "history": [row | more for row, more in zip(rows, run.extra)]}  # fmt: skip


# ---- the faults ----


class Padded(Checked):
    """A run whose score falls on the padding, where no advantage hears of it."""

    def heard(self, scores):
        """Return what the advantages hear of the scores."""
        return torch.zeros_like(scores)

    def plan(self, rollout):
        """Teach the batch by what is heard of its scores."""
        scores, rollout.scores = rollout.scores, self.heard(rollout.scores)
        plan = super().plan(rollout)
        rollout.scores = scores
        return plan


class Whitened(Padded):
    """A run that brings the scores of each batch to mean 0 and sd 1, and its beta with them."""

    def heard(self, scores):
        """Return whitened scores."""
        return (scores - scores.mean()) / scores.std()


class Shifted(Checked):
    """A run whose reference is read one token late."""

    def read(self, rollout):
        """Read the batch, and shift what the reference said."""
        rollout = super().read(rollout)
        rollout.ref_logprobs = rollout.ref_logprobs.roll(1, 1) * rollout.real
        return rollout


class Filtered(Checked):
    """A run that draws from the four likeliest tokens and writes down log pi all the same."""

    def odds(self, probs):
        """Return what is drawn in proportion to, (B, V)."""
        return probs.where(probs >= probs.topk(4).values[:, -1:], 0)

    def collect(self, model, step):
        """Draw the batch by odds that no formula knows of."""
        plain = sampling._draw
        with patch.object(sampling, "_draw", lambda p, luck: plain(self.odds(p), luck)):
            return super().collect(model, step)


class Cooled(Filtered):
    """A run that draws at temperature 0.7 and writes down log pi all the same."""

    def odds(self, probs):
        """Return the odds at temperature 0.7, (B, V)."""
        return probs ** (1 / 0.7)


class Misplaced(Checked):
    """A run that counts positions from the padding while it reads, but not while it writes."""

    def _astray(self):
        def counted(mask):
            return torch.arange(mask.shape[1], device=mask.device).expand_as(mask)

        return patch.object(sampling, "position_ids", counted)

    def read(self, rollout):
        """Read the batch at wrong positions."""
        with self._astray():
            return super().read(rollout)

    def loss(self, rollout, part, lesson):
        """Read it again, as wrongly."""
        with self._astray():
            return super().loss(rollout, part, lesson)


class Late(Checked):
    """A run whose advantages reach the token after the one that earned them."""

    def turned(self, advantages):
        """Return what becomes of the advantages, (B, R)."""
        return advantages.roll(1, 1)

    def plan(self, rollout):
        """Teach the batch by what became of its advantages."""
        parts, (advantages, returns), info = super().plan(rollout)
        return parts, (self.turned(advantages) * rollout.real, returns), info


class Reversed(Late):
    """A run that climbs down, because the sign of its advantages is lost."""

    def turned(self, advantages):
        """Return the advantages with the other sign."""
        return -advantages


class Moving(Checked):
    """A run whose reference is the policy of a step ago."""

    def __init__(self, policy, reference, *rest):
        super().__init__(policy, reference, *rest)
        self.reference = copy.deepcopy(reference)

    def update(self, rollout):
        """Learn, and take the reference along."""
        told = super().update(rollout)
        self.reference.load_state_dict(self.policy.state_dict())
        return told


class Dropped(Checked):
    """A run whose policy drops a tenth of its units while it learns, but not while it is read."""

    def loss(self, rollout, part, lesson):
        """Return the loss of some rows with dropout on."""
        rollout.fresh = None  # it was read without
        for module in self.policy.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.1
        self.policy.train()
        try:
            return super().loss(rollout, part, lesson)
        finally:
            self.policy.eval()
