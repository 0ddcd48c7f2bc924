"""Improve a policy batch by batch: what PPO and all methods beside it share.

A PolicyRun draws responses, scores and reads them (see `rollouts`), takes a few gradient steps and
yields one record. A subclass says what a batch teaches, by `plan` and `loss`. Omits discounting,
which would move the optimum that the course compares with. Notebook 04 writes such a run out.
"""

import copy
import math
import random
import time
from dataclasses import asdict
from numbers import Real

from rlhf_lite.models import checksum
from rlhf_lite.rollouts import Critic, check_parts, collect, read, step_prompts
from rlhf_lite.runtime import tidy_memory
from rlhf_lite.scores import PolicyError, Score
from rlhf_lite.steps import PolicyStep
from rlhf_lite.training import (
    TrainingError,
    cosine,
    descend,
    digest,
    load_checkpoint,
    save_checkpoint,
)

import torch

# ---- the formulas ----


def kl_estimates(logprobs, ref_logprobs):
    """Return Schulman's k1, k2, k3 of KL(policy || reference) at tokens drawn from the policy.

    With d = log pi - log ref: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d (Schulman 2020, whose r
    is exp(-d)). Any shape; float [nats].
    """
    gap = logprobs - ref_logprobs
    return gap, gap**2 / 2, torch.expm1(-gap) + gap


def adapted(kl_coef, kl, target, samples, horizon):
    """Return the next coefficient of the adaptive controller.

    beta (1 + e n / horizon), e = clip(KL / target - 1, -0.2, 0.2) (Ziegler et al. 2019, sec. 2.2).
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    # A batch beyond the horizon would make the factor negative; ten times less is the most.
    return kl_coef * max(1 + error * samples / horizon, 0.1)


def explained_variance(values, returns):
    """Return 1 - Var(returns - values) / Var(returns); 0 where the returns do not vary."""
    total = returns.var(unbiased=False)
    return float(1 - (returns - values).var(unbiased=False) / total) if total > 0 else 0.0


def policy_loss(logprobs, old_logprobs, advantages, cliprange=0.2):
    """Return (loss, info) of the clipped objective over N tokens, all of them real.

    -mean min(rho A, clip(rho, 1 - eps, 1 + eps) A), rho = pi / pi_old (Schulman et al. 2017, eq.
    7). info: clip_fraction, the share of tokens whose clip binds; kl_old, k3 of KL(old || new)
    [nats a token].
    """
    gap = logprobs - old_logprobs
    ratio = gap.exp()
    free, held = ratio * advantages, ratio.clamp(1 - cliprange, 1 + cliprange) * advantages
    info = {
        "clip_fraction": (held < free).float().mean().detach(),
        "kl_old": (torch.expm1(gap) - gap).mean().detach(),
    }
    return -torch.minimum(free, held).mean(), info


# ---- the run ----


class PolicyRun:
    """A run that can be stopped, steered, saved, loaded and gone on with.

    policy: a causal language model, trained in place; reference: a frozen one of the same
    tokenizer, or None for a copy of the policy as it is now; prompts: list of str; score: any
    function from B texts (prompt and response, cut back to the last whole sentence) to B numbers,
    or a Mixture or Lagrangian of such functions (see `scores`), of which `run.score` is a copy of
    its own. Iterating yields PolicySteps until `config.steps`; `run.kl_coef` may be changed between
    two of them. Raises PolicyError for what cannot work.
    """

    group = 1  # responses to each prompt of a batch

    def __init__(self, policy, reference, tokenizer, prompts, score, config, critic=None):
        self.config, self.score, self.critic = config, score, critic or Critic()
        self.kl_coef, self.step, self.history = config.kl_coef, 0, []
        self.policy, self.tokenizer = policy, tokenizer
        self.reference = copy.deepcopy(policy) if reference is None else reference
        self.prompts = check_parts(policy, self.reference, tokenizer, prompts, self.room(config))
        self.reference.eval().requires_grad_(False)
        policy.requires_grad_(True)  # a copy of a frozen reference comes frozen
        groups = [
            {"params": list(policy.parameters()), "peak": config.lr},
            {"params": list(self.critic.parameters().values()), "peak": self.critic.lr},
        ]
        self.optimizer = torch.optim.Adam(
            groups, lr=config.lr, betas=(0.9, 0.98), eps=1e-5, fused=True
        )
        self._good = self._snapshot()

    # -- what a method says --

    def room(self, config):
        """Return how many tokens must fit into the context behind each prompt."""
        return config.max_new_tokens

    def plan(self, rollout):
        """Return (minibatches as lists of rows, what `loss` needs of the whole batch, info)."""
        raise NotImplementedError

    def loss(self, rollout, part, lesson):
        """Return (loss, info) of some rows, a mean over tokens; info holds fields of PolicyStep."""
        raise NotImplementedError

    def weight(self, rollout, part, parts):
        """Return what the loss of some rows weighs, so that all responses weigh alike."""
        return rollout.weight(part, parts)

    def aside(self, part):
        """Return (loss, info) of what is learned beside the responses of a minibatch."""
        return 0.0, {}

    @property
    def score(self):
        """Return the Score that judges responses; set it to any function of texts."""
        return self._score

    @score.setter
    def score(self, value):
        self._score = copy.copy(value) if isinstance(value, Score) else Score(value)
        if hasattr(self, "_good"):  # the policy to go back to is judged by the new one
            self._good = *self._good[:3], list(self._score.state)

    @property
    def kl_coef(self):
        """Return what a nat of KL costs now (beta) [score]; set it between two steps."""
        return self._kl_coef

    @kl_coef.setter
    def kl_coef(self, value):
        if not isinstance(value, Real) or not math.isfinite(value):
            raise PolicyError(f"kl_coef is {value!r}; expected a finite number")
        self._kl_coef = float(value)

    def __iter__(self):
        """Yield a PolicyStep for each step that is left."""
        while self.step < self.config.steps:
            yield self.advance()

    def advance(self):
        """Take one step: draw, check, remember, learn, record; return its PolicyStep.

        A step is done or not done: what stops it half-way leaves the run as it was before.
        """
        start, config = time.perf_counter(), self.config
        tidy_memory(self.step)
        self.policy.eval()  # no dropout, neither while sampling nor while learning
        rollout = self.rollout()
        self._check_rollout(rollout)
        self._good = self._snapshot()
        try:
            info = self.update(rollout)
            self._check_weights()
            done = self._record(rollout, info, time.perf_counter() - start)
            self.score.learn(rollout.said)
        except BaseException:  # also a stop by hand
            self._restore(self._good)
            raise
        self.step += 1
        self.history.append(done)
        if config.target_kl is not None:
            self.kl_coef = adapted(
                self.kl_coef, done.kl, config.target_kl, config.samples, config.horizon
            )
        return done

    def rollout(self):
        """Draw and score a batch with the policy as it is, and read it; return a Rollout."""
        return self.read(self.collect(self.policy, self.step))

    def collect(self, model, step):
        """Draw the batch of a step from a model and score it; return a Rollout, not yet read."""
        config = self.config
        prompts = step_prompts(self.prompts, config.samples, step, config.seed, self.group)
        return collect(model, self.tokenizer, prompts, self.score, config, step)

    def read(self, rollout):
        """Fill in what policy, reference and critic say of a batch; return it."""
        return read(rollout, self.policy, self.reference, self.critic)

    def _check_rollout(self, rollout):
        """Go back to the last good policy and raise PolicyError where this one has run away."""
        kl = float(rollout.kl.sum(1).mean())
        if math.isfinite(kl) and kl <= self.config.kl_limit:
            return
        self._restore(self._good)
        what = "is not a number" if not math.isfinite(kl) else f"has reached {kl:.0f} nats"
        raise PolicyError(
            f"KL to the reference {what} at step {self.step}: the learning rate {self.config.lr:g} "
            f"is too high, or kl_coef {self.kl_coef:g} too low; the last good policy is back in "
            f"place"
        )

    def _check_weights(self):
        """Raise PolicyError where an update has left weights that are no numbers, or beyond use."""
        if not all((p.abs() < 1e6).all() for p in self._named().values()):
            raise PolicyError(
                f"the update of step {self.step} left weights beyond all use: the learning "
                f"rate {self.config.lr:g} is too high; the policy before it is back in place"
            )

    # -- the update --

    def update(self, rollout):
        """Make the passes over one batch; return what happened, as a dict of numbers."""
        config, infos = self.config, []
        parts, lesson, shared = self.plan(rollout)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * cosine(self.step, config.steps, config.warmup)
        rng = random.Random(f"{config.seed}/{self.step}/minibatches")
        for turn in range(config.epochs):
            for part in rng.sample(parts, len(parts)) if turn else parts:
                loss, info = self.loss(rollout, part, lesson)
                aside, more = self.aside(part)
                loss = self.weight(rollout, part, parts) * loss + aside
                infos.append(self._descend(loss, info | more))
        keep, gap = rollout.real.bool(), (rollout.logprobs - rollout.drawn_logprobs).abs()
        mean = {k: sum(i[k] for i in infos) / len(infos) for k in infos[0]}
        return mean | shared | {
            "first_clip_fraction": infos[0].get("clip_fraction", 0.0),
            "ratio_gap": float(gap[keep].mean()), "lr": self.optimizer.param_groups[0]["lr"],
        }  # fmt: skip

    def _descend(self, loss, info):
        """Take one gradient step; return the info as numbers."""
        try:
            norm = descend(
                loss, self.optimizer, self._named().values(), self.config.clip, self.step
            )
        except TrainingError as error:
            raise PolicyError(f"{error}; the policy before it is back in place") from None
        found = {"policy_loss": loss} | info | {"grad_norm": norm}
        return {k: float(torch.as_tensor(v).detach()) for k, v in found.items()}

    def _named(self):
        """Return {name: parameter} of all that is trained."""
        ours = {f"policy.{n}": p for n, p in self.policy.named_parameters()}
        return ours | {f"critic.{n}": p for n, p in self.critic.parameters().items()}

    def _snapshot(self):
        """Copy the weights, the state of the optimiser, and what else the run remembers."""
        weights = {n: p.detach().clone() for n, p in self._named().items()}
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        return weights, optimizer, list(self.critic.state), list(self.score.state)

    @torch.no_grad()
    def _restore(self, snapshot):
        """Put a snapshot back in place."""
        for name, param in self._named().items():
            param.copy_(snapshot[0][name])
        self.optimizer.load_state_dict(snapshot[1])
        self.critic.state, self.score.state = map(list, snapshot[2:])

    def _record(self, rollout, info, seconds):
        """Make the PolicyStep of a batch and its update."""
        k1, _, k3 = kl_estimates(rollout.logprobs, rollout.ref_logprobs)
        score, k1 = float(rollout.scores.mean()), float((k1 * rollout.real).sum(1).mean())
        return PolicyStep(
            step=self.step + 1, of=self.config.steps, kl_coef=self.kl_coef, score=score,
            kl=float(rollout.kl.sum(1).mean()), kl_k1=k1,
            kl_k3=float((k3 * rollout.real).sum(1).mean()), objective=score - self.kl_coef * k1,
            entropy=float(rollout.entropy.sum(1).mean()),
            length=float(rollout.real.sum(1).mean()),
            ended=float(rollout.ended.float().mean()), seconds=seconds,
            parts=rollout.said, prompts=tuple(rollout.prompts), texts=tuple(rollout.texts),
            scores=tuple(rollout.scores.tolist()), **info,
        )  # fmt: skip

    # -- to disk and back --

    def identity(self):
        """Return {name: value} of what makes this run this run: method, dials, prompts, reference.

        A score is a function and has no name of its own, only its parts have; a run that goes on
        must be given the same.
        """
        return {
            "method": type(self).__name__, **asdict(self.config),
            "prompts": digest(self.prompts), "reference": checksum(self.reference),
            "score": self.score.describe(),
        }  # fmt: skip

    def save(self, folder):
        """Save weights, optimiser and history, so that `load` in a fresh run goes on from here."""
        meta = {"step": self.step, "kl_coef": self.kl_coef}
        meta["history"] = [asdict(s) for s in self.history]
        meta["critic"] = [t.tolist() for t in self.critic.state]
        meta["score"] = self.score.state
        save_checkpoint(folder, self._named(), self.optimizer, self.identity(), meta)

    def load(self, folder):
        """Go on from a folder that `save` wrote, equal to the bit on one machine.

        Raises TrainingError where it is damaged, or of another method, model, reference, other
        prompts or other dials.
        """
        meta = load_checkpoint(folder, self._named(), self.optimizer, self.identity())
        self.step, self.kl_coef = meta["step"], meta["kl_coef"]
        self.critic.state = [torch.tensor(t, device=self.policy.device) for t in meta["critic"]]
        self.score.state = meta["score"]
        self.history = [
            PolicyStep(**s | {name: tuple(s[name]) for name in ("prompts", "texts", "scores")})
            for s in meta["history"]
        ]
        self._good = self._snapshot()
