"""Turn a score of whole responses into a better policy: PPO with a KL penalty, one record a step.

    run = PPORun(policy, reference, tokenizer, prompts, score, PPOConfig(kl_coef=0.2))
    for step in run:
        print(step.score, step.kl, step.objective)

Stop whenever you like, move `run.kl_coef` between two steps, save, load and go on: what PPO shares
with other methods is in `policies`, here is what is its own, the two critics and their advantages.
Omits discounting and whitening of rewards. Notebook 04 writes it out.
"""

import random
from dataclasses import dataclass

from rlhf_lite.checks import check_texts
from rlhf_lite.models import attention, backward_attention, checksum, context_of
from rlhf_lite.policies import (
    PolicyRun,
    explained_variance,
    kl_estimates,
    policy_loss,
)
from rlhf_lite.rollouts import Critic
from rlhf_lite.runtime import autocast
from rlhf_lite.scores import PolicyError
from rlhf_lite.steps import PolicyConfig
from rlhf_lite.training import digest, encode_rows, next_token_loss, pad_rows

import torch

CHARGES = ("token", "end")
WHITENINGS = ("none", "mean", "full")


@dataclass(frozen=True)
class PPOConfig(PolicyConfig):
    """The dials of PPO."""

    critic: str = "fit"
    """Where values come from: a "head" on the policy's trunk that learns by gradient, or a least
    squares "fit" to the last batches."""
    memory: float = 0.8
    """Weight that the fit gives to the batches before, multiplied in each step."""
    value_lr: float = 1e-3
    """Peak learning rate of the value head."""
    value_clip: float = 0.2
    """How far a value may move in one batch [score]."""
    value_coef: float = 0.1
    """Weight of the value loss in the shared trunk."""
    lam: float = 1.0
    """Lambda of generalised advantage estimation."""
    charge: str = "end"
    """Where the KL penalty is charged: at each "token", or in one sum at the "end"."""
    kl_loss: bool = False
    """Whether the gradient of the KL at each token is exact, over the whole vocabulary, instead of
    what the sampled tokens say of it."""
    whiten: str = "mean"
    """What whitening takes from the advantages: "none", their "mean", or "full": mean and scale."""
    ptx_coef: float = 0.0
    """Weight of the next-token loss on documents (PPO-ptx), a token."""
    ptx_batch: int = 16
    """Documents an update, for PPO-ptx."""

    def __post_init__(self):
        """Check that the dials make sense."""
        super().__post_init__()
        self._require_positive("value_clip")
        for name, known in (("charge", CHARGES), ("whiten", WHITENINGS), ("critic", CRITICS)):
            if getattr(self, name) not in known:
                expected = " or ".join(known)
                raise PolicyError(f"{name} is {getattr(self, name)!r}; expected {expected}")
        if not 0 <= self.lam <= 1:
            raise PolicyError(f"lam is {self.lam}; expected 0 to 1")


# ---- the formulas ----


def token_rewards(scores, penalties, mask, kl_coef, charge="token"):
    """Return rewards (B, R): minus kl_coef times the penalty, and the score at the last token.

    r_t = -beta (log pi - log ref)_t + [t is last] score (Ziegler et al. 2019, eq. 2). scores (B,);
    penalties (B, R) [nats]; mask (B, R). charge "end" adds up the same penalties at the last token.
    """
    penalties = kl_coef * penalties * mask
    last = mask.long().sum(1, keepdim=True) - 1
    if charge == "token":
        return (-penalties).scatter_add(1, last, scores[:, None].to(penalties))
    total = scores.to(penalties) - penalties.sum(1)
    return torch.zeros_like(penalties).scatter(1, last, total[:, None])


def gae(rewards, values, mask, lam=1.0, gamma=1.0):
    """Return (advantages, returns), both (B, R), by generalised advantage estimation.

    delta_t = r_t + gamma V_{t+1} - V_t and A_t = delta_t + gamma lam A_{t+1}, nothing after the
    last token (Schulman et al. 2016, eq. 16); returns are A + V, before any whitening.
    """
    values, rewards = values * mask, rewards * mask
    found, advantage = torch.zeros_like(values), torch.zeros_like(values[:, 0])
    following = torch.zeros_like(advantage)
    for t in range(values.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + gamma * following - values[:, t]
        advantage = (delta + gamma * lam * advantage) * mask[:, t]
        following, found[:, t] = values[:, t], advantage
    return found, (found + values) * mask


def whiten(values, mask, how="full"):
    """Return values (B, R) without the "mean" of the masked ones, or by "full" with sd 1 too."""
    if how == "none":
        return values
    picked = values[mask.bool()]
    centred = values - picked.mean()
    if how == "full":
        centred = centred / (picked.std(unbiased=False) + 1e-8)
    return centred * mask


def value_loss(values, old_values, returns, clip=0.2):
    """Return half the mean squared error of N values, kept near the old ones.

    mean max((V - R)^2, (V_old + clip(V - V_old) - R)^2) / 2, as in Ziegler et al.'s code.
    """
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum((values - returns) ** 2, (near - returns) ** 2).mean() / 2


# ---- the critics ----


class HeadCritic(Critic):
    """A linear head on the policy's trunk, at first zeros, that learns by gradient."""

    def __init__(self, policy, config, trunk=None):
        super().__init__()
        self.lr, self.value_clip = config.value_lr, config.value_clip
        self.head = torch.nn.Linear(policy.config.n_embd, 1, device=policy.device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def parameters(self):
        """Return {name: parameter} of the head."""
        return dict(self.head.named_parameters())

    def note(self, rollout, part, states):
        """Write down the values of some rows, as they are before the update."""
        rollout.fill("values", part, self.head(states)[:, 0])

    def values(self, rollout, penalties, kl_coef):
        """Return the values that were noted, (B, R) [score]."""
        return rollout.values

    def loss(self, states, old_values, returns):
        """Return `value_loss` of the head at N tokens."""
        return value_loss(self.head(states)[:, 0], old_values, returns, self.value_clip)


class FittedCritic(Critic):
    """Ridge regression of the returns on the state before each token, without a learning rate.

    Keeps X'X and X'y of the batches before, fading by `memory` a step. Each response is predicted
    from the others only: every fold of a batch without its own share of the sums. trunk: the model
    whose states are read, None for the policy.
    """

    def __init__(self, policy, config, trunk=None, folds=4, ridge=10.0):
        super().__init__()
        self.memory, self.charge, self.trunk = config.memory, config.charge, trunk
        self.folds, self.ridge = folds, ridge

    def note(self, rollout, part, states):
        """Write down what the regression reads of some rows: states, a constant, and a place."""
        if self.trunk is not None:
            states = rollout.states(self.trunk, part).float()
        rollout.fill("features", part, torch.cat([states, torch.ones_like(states[:, :2])], 1))

    def values(self, rollout, penalties, kl_coef):
        """Return what is expected from each token on, (B, R) [score]; penalties (B, R) [nats]."""
        real = rollout.real
        so_far = (penalties * real).cumsum(1) - penalties * real
        # At the optimum the log-ratio so far *is* the value, up to a constant of the prompt.
        rollout.features[:, :, -1] = so_far
        togo = (penalties * real).sum(1, keepdim=True) - so_far
        targets = torch.stack([rollout.scores[:, None].expand_as(real), togo], 2)
        score, cost = self.predict(rollout.features, targets, real).unbind(2)
        paid = so_far if self.charge == "end" else 0
        return (score - kl_coef * (cost + paid)) * real

    def predict(self, features, targets, real):
        """Return the predictions of each target, (B, R, K), and remember the batch.

        features (B, R, F); targets (B, R, K); real (B, R).
        """
        width, parts, found = features.shape[2], [], torch.zeros_like(targets)
        for fold in range(self.folds):
            keep = real[fold :: self.folds].bool()
            x, y = features[fold :: self.folds][keep], targets[fold :: self.folds][keep]
            parts.append((x.T @ x, x.T @ y))
        fresh = [torch.stack(sums).sum(0) for sums in zip(*parts)]
        total = [a + b for a, b in zip(fresh, self.state)] if self.state else fresh
        damp = self.ridge * torch.eye(width, device=features.device)
        for fold, (xx, xy) in enumerate(parts):
            solved = torch.linalg.solve(total[0] - xx + damp, total[1] - xy)
            found[fold :: self.folds] = features[fold :: self.folds] @ solved
        self.state = [self.memory * t for t in total]
        return found * real[:, :, None]


CRITICS = {"head": HeadCritic, "fit": FittedCritic}


# ---- the run ----


class PPORun(PolicyRun):
    """A run of PPO: clipped updates on advantages that a critic has cleaned of what it expected.

    Arguments as in PolicyRun, and documents: list of str for PPO-ptx; trunk: a frozen model of the
    same tokenizer, such as the reward model, whose states the fitted critic reads in place of the
    policy's.
    """

    def __init__(
        self, policy, reference, tokenizer, prompts, score, config=None, documents=None, trunk=None
    ):  # fmt: skip
        config = config or PPOConfig()
        self.trunk = trunk.eval().requires_grad_(False) if trunk is not None else None
        critic = CRITICS[config.critic](policy, config, self.trunk)
        super().__init__(policy, reference, tokenizer, prompts, score, config, critic)
        self.documents = check_texts(documents or [], "documents") if config.ptx_coef else []
        self.rows = self._ptx_rows()

    def _ptx_rows(self):
        """Encode the documents of PPO-ptx, or raise PolicyError where they are missing."""
        if not self.config.ptx_coef:
            return None
        if not self.documents:
            raise PolicyError("ptx_coef is above 0 without documents; expected a list of texts")
        return encode_rows(self.tokenizer, self.documents, context_of(self.policy))

    def identity(self):
        """Return what a PolicyRun names, and the documents of PPO-ptx and the critic's trunk."""
        trunk = checksum(self.trunk) if self.trunk is not None else None
        return super().identity() | {"documents": digest(self.documents), "trunk": trunk}

    def plan(self, rollout):
        """Give every token its advantage, and the critic its returns."""
        config, real = self.config, rollout.real
        penalties = kl_estimates(rollout.logprobs, rollout.ref_logprobs)[0]
        if config.kl_loss:
            penalties = rollout.kl
        rewards = token_rewards(rollout.scores, penalties, real, self.kl_coef, config.charge)
        rollout.values = self.critic.values(rollout, penalties, self.kl_coef)
        advantages, returns = gae(rewards, rollout.values, real, config.lam)
        foreseen = explained_variance(rollout.values[real.bool()], returns[real.bool()])
        lesson = whiten(advantages, real, config.whiten), returns
        return rollout.parts, lesson, {"explained_variance": foreseen}

    def loss(self, rollout, part, lesson):
        """Return the clipped loss of some rows, with the value and KL losses if asked for."""
        config, keep = self.config, rollout.real[part].bool()
        advantages, returns = (table[part][keep] for table in lesson)
        table, states, chosen = rollout.forward(self.policy, part)
        logprobs, old = table.gather(1, chosen)[:, 0], rollout.logprobs[part][keep]
        clipped, info = policy_loss(logprobs, old, advantages, config.cliprange)
        wrong = self.critic.loss(states, rollout.values[part][keep], returns)
        total = clipped + config.value_coef * wrong
        if config.kl_loss:
            theirs = rollout.forward(self.reference, part)[0]
            drift = (table.exp() * (table - theirs)).sum(-1).mean()
            total = total + self.kl_coef * drift
        return total, info | {"policy_loss": clipped, "value_loss": wrong}

    def aside(self, part):
        """Return (loss, info): what the next-token loss of some documents weighs, and is."""
        ptx = self._ptx(part) if self.rows else torch.zeros(())
        return self.config.ptx_coef * ptx, {"ptx_loss": ptx}

    def _ptx(self, part):
        """Return the next-token loss of some documents of the corpus [nats a token]."""
        pick = random.Random(f"{self.config.seed}/{self.step}/{part[0]}/documents")
        count = min(self.config.ptx_batch, len(self.rows))
        rows = [self.rows[i] for i in pick.sample(range(len(self.rows)), count)]
        tokens = pad_rows(rows, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id)
        kind = backward_attention(self.policy)
        with autocast(self.policy.device, self.config.bfloat16), attention(self.policy, kind):
            nats, count = next_token_loss(
                self.policy, tokens.to(self.policy.device), self.tokenizer.pad_token_id
            )
        return nats / count
