"""Turn a score of whole responses into a better policy: PPO with a KL penalty, one record a step.

    run = PPORun(policy, reference, tokenizer, prompts, score, PPOConfig(kl_coef=0.2))
    for step in run:
        print(step.score, step.kl, step.objective)

Stop whenever you like, move `run.kl_coef` between two steps, save, load and go on. Policy and value
function share one trunk; gamma is 1 and the temperature is 1, because the optimum that notebook 04
compares with is the optimum at 1. Omits temperature, filters on sampling and reward whitening, which
would move that optimum. Taught by notebook 04, which writes it out.
"""

import copy
import math
import random
import time
from dataclasses import asdict, dataclass, fields

import torch

from rlhf_lite.models import context_of
from rlhf_lite.runtime import autocast
from rlhf_lite.sampling import (
    RESPONSE_TOKENS,
    check_request,
    response_logits,
    sample,
    whole_sentences,
)
from rlhf_lite.training import (
    cosine,
    encode_rows,
    load_checkpoint,
    next_token_loss,
    pad_rows,
    save_checkpoint,
)

CHARGES = ("token", "end")
WHITENINGS = ("none", "mean", "full")


class PPOError(RuntimeError):
    """Say in one sentence why a run cannot start or go on, and which dial to turn."""


@dataclass(frozen=True)
class PPOConfig:
    """Hold the dials of PPO."""

    kl_coef: float = 0.2
    """What a nat of KL costs, in units of the score (beta)."""
    steps: int = 40
    """Steps: batches of fresh responses."""
    samples: int = 252
    """Responses a step."""
    epochs: int = 1
    """Passes over each batch of responses."""
    minibatches: int = 4
    """Updates a pass."""
    lr: float = 1e-4
    """Peak learning rate; up in a line, down along a cosine."""
    value_lr: float = 1e-3
    """Peak learning rate of the value head."""
    warmup: int = 2
    """Steps until the peak."""
    lam: float = 1.0
    """Lambda of generalised advantage estimation."""
    charge: str = "end"
    """Where the KL penalty is charged: at each "token", or in one sum at the "end"."""
    whiten: str = "mean"
    """What whitening takes from the advantages: "none", their "mean", or "full": mean and scale."""
    cliprange: float = 0.2
    """How far a token's probability ratio may move in one batch before its gradient stops."""
    value_clip: float = 0.2
    """How far a value may move in one batch [score]."""
    value_coef: float = 0.1
    """Weight of the value loss in the shared trunk."""
    ptx_coef: float = 0.0
    """Weight of the next-token loss on documents (PPO-ptx), a token."""
    ptx_batch: int = 16
    """Documents an update, for PPO-ptx."""
    target_kl: float | None = None
    """KL to steer to by moving kl_coef [nats a response]; None keeps kl_coef as it is set."""
    horizon: int = 5000
    """Responses over which the adaptive coefficient answers; smaller is quicker."""
    unended_penalty: float = 0.0
    """Taken from the score of a response that ran into the length limit [score]."""
    max_new_tokens: int = RESPONSE_TOKENS
    """Longest response [tokens]."""
    clip: float = 1.0
    """Largest gradient norm."""
    kl_limit: float = 60.0
    """KL at which the run stops and goes back to the last good policy [nats a response]."""
    seed: int = 0
    """Order of the prompts, sampling, minibatches."""
    bfloat16: bool = True
    """Whether updates multiply in bfloat16 where the hardware has it; sampling never does."""

    def __post_init__(self):
        """Check that the dials make sense."""
        for name in (
            "steps", "samples", "epochs", "minibatches", "lr", "cliprange", "value_clip", "clip",
            "horizon", "max_new_tokens", "kl_limit",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise PPOError(f"{name} is {getattr(self, name)}; expected more than 0")
        for name, known in (("charge", CHARGES), ("whiten", WHITENINGS)):
            if getattr(self, name) not in known:
                raise PPOError(f"{name} is {getattr(self, name)!r}; expected {' or '.join(known)}")
        if not 0 <= self.lam <= 1:
            raise PPOError(f"lam is {self.lam}; expected 0 to 1")
        if self.samples % self.minibatches:
            raise PPOError(
                f"{self.samples} samples do not divide into {self.minibatches} minibatches; "
                f"expected a multiple"
            )
        if self.target_kl is not None and not (self.target_kl > 0 and self.kl_coef > 0):
            raise PPOError(
                "an adaptive coefficient multiplies; expected target_kl and kl_coef above 0"
            )


@dataclass(frozen=True)
class PPOStep:
    """Report one step. All but the losses and norms describe the policy that drew the samples.

    score: mean of the batch; kl: to the reference, exact over the vocabulary at each token and
    summed over the response [nats]; kl_k1, kl_k3: two estimates of the same; objective: score -
    kl_coef * kl_k1, whose noise vanishes at the optimum; entropy, length: of the response [nats,
    tokens]; ended: share that stopped by themselves; kl_old: from the sampling policy to the
    updated one [nats a token]; ratio_gap: mean |log-probability while sampling - before the
    update| [nats a token]; texts, scores: the batch.
    """

    step: int
    of: int
    kl_coef: float
    score: float
    kl: float
    kl_k1: float
    kl_k3: float
    objective: float
    entropy: float
    length: float
    ended: float
    clip_fraction: float
    first_clip_fraction: float
    kl_old: float
    ratio_gap: float
    policy_loss: float
    value_loss: float
    ptx_loss: float
    explained_variance: float
    grad_norm: float
    lr: float
    seconds: float
    texts: tuple = ()
    scores: tuple = ()

    def numbers(self):
        """Return the record without texts and scores, as a dict."""
        return {f.name: getattr(self, f.name) for f in fields(self)[:-2]}


# ---- the formulas ----


def kl_estimates(logprobs, ref_logprobs):
    """Return Schulman's k1, k2, k3 of KL(policy || reference) at tokens drawn from the policy.

    With d = log pi - log ref: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d (Schulman 2020, whose r
    is exp(-d)). Any shape; float [nats].
    """
    gap = logprobs - ref_logprobs
    return gap, gap**2 / 2, torch.expm1(-gap) + gap


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


def value_loss(values, old_values, returns, clip=0.2):
    """Return half the mean squared error of N values, kept near the old ones.

    mean max((V - R)^2, (V_old + clip(V - V_old) - R)^2) / 2, as in Ziegler et al.'s code.
    """
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum((values - returns) ** 2, (near - returns) ** 2).mean() / 2


def adapted(kl_coef, kl, target, samples, horizon):
    """Return the next coefficient of the adaptive controller.

    beta (1 + e n / horizon), e = clip(KL / target - 1, -0.2, 0.2) (Ziegler et al. 2019, sec. 2.2).
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return kl_coef * (1 + error * samples / horizon)


def explained_variance(values, returns):
    """Return 1 - Var(returns - values) / Var(returns); 0 where the returns do not vary."""
    total = returns.var(unbiased=False)
    return float(1 - (returns - values).var(unbiased=False) / total) if total > 0 else 0.0


# ---- the run ----


@dataclass
class Rollout:
    """Hold a batch of responses and what is known of them before the update.

    tokens, mask (B, T): left-padded, the responses all start at column `query`; real (B, R): 1 on
    response tokens; logprobs, ref_logprobs, kl, entropy, values (B, R) float32; scores (B,).
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    query: int
    real: torch.Tensor
    logprobs: torch.Tensor
    ref_logprobs: torch.Tensor
    kl: torch.Tensor
    entropy: torch.Tensor
    values: torch.Tensor
    scores: torch.Tensor
    ended: torch.Tensor
    texts: list


class PPORun:
    """Be a run of PPO that can be stopped, steered, saved, loaded and gone on with.

    policy: a causal language model, trained in place; reference: a frozen one of the same
    tokenizer, or None for a copy of the policy as it is now; prompts: list of str; score: a
    function from B texts (prompt and response, cut back to the last whole sentence) to B numbers;
    documents: list of str for PPO-ptx. Iterating yields PPOSteps until `config.steps`;
    `run.kl_coef` may be changed between two of them. Raises PPOError for what cannot work.
    """

    def __init__(
        self, policy, reference, tokenizer, prompts, score, config=None, documents=None
    ):  # fmt: skip
        self.config = config or PPOConfig()
        self.kl_coef, self.step, self.history = self.config.kl_coef, 0, []
        self.policy, self.tokenizer, self.prompts = policy, tokenizer, list(prompts)
        self.reference = copy.deepcopy(policy) if reference is None else reference
        self.score = score
        self._check()
        self.reference.eval().requires_grad_(False)
        policy.requires_grad_(True)  # a copy of a frozen reference comes frozen
        width = policy.config.n_embd
        self.value_head = torch.nn.Linear(width, 1, device=policy.device)
        torch.nn.init.zeros_(self.value_head.weight)
        torch.nn.init.zeros_(self.value_head.bias)
        if policy.device.type == "cpu":
            policy.set_attn_implementation("eager")
            self.reference.set_attn_implementation("eager")
        self.optimizer = torch.optim.Adam(
            [
                {"params": list(policy.parameters()), "peak": self.config.lr},
                {"params": list(self.value_head.parameters()), "peak": self.config.value_lr},
            ],
            lr=self.config.lr, betas=(0.9, 0.98), eps=1e-5,
        )  # fmt: skip
        self.rows = self._ptx_rows(documents)
        self._good = self._snapshot()

    def _check(self):
        """Raise PPOError where the parts do not fit together."""
        try:
            longest = context_of(self.policy) - self.config.max_new_tokens
            check_request(self.tokenizer, self.prompts, 1.0, 1.0, longest)
        except ValueError as error:
            raise PPOError(f"the prompts cannot be used: {error}") from None
        if self.reference is self.policy or any(
            a is b for a, b in zip(self.policy.parameters(), self.reference.parameters())
        ):
            raise PPOError(
                "policy and reference share their weights, so their KL would stay 0; "
                "expected two models, or reference=None for a frozen copy"
            )
        sizes = [m.get_input_embeddings().num_embeddings for m in (self.policy, self.reference)]
        if sizes[0] != sizes[1]:
            raise PPOError(
                f"the policy has {sizes[0]} tokens and the reference {sizes[1]}; "
                f"expected two models of one tokenizer"
            )

    def _ptx_rows(self, documents):
        """Encode the documents of PPO-ptx, or raise PPOError where they are missing."""
        if not self.config.ptx_coef:
            return None
        if not documents:
            raise PPOError("ptx_coef is above 0 without documents; expected a list of texts")
        return encode_rows(self.tokenizer, documents, context_of(self.policy))

    def __iter__(self):
        """Yield a PPOStep for each step that is left."""
        while self.step < self.config.steps:
            yield self.advance()

    def advance(self):
        """Take one step: sample, score, update; return its PPOStep.

        A step is done or not done: what stops it half-way leaves the run as it was before.
        """
        start = time.perf_counter()
        self.policy.eval()
        rollout = self.rollout()
        self._check_rollout(rollout)
        self._good = self._snapshot()
        try:
            info = self.update(rollout)
        except BaseException:
            self._restore(self._good)
            raise
        record = self._record(rollout, info, time.perf_counter() - start)
        self.step += 1
        self.history.append(record)
        if self.config.target_kl is not None:
            self.kl_coef = adapted(
                self.kl_coef, record.kl, self.config.target_kl, self.config.samples,
                self.config.horizon,
            )  # fmt: skip
        return record

    # -- a batch of responses --

    def batch_prompts(self):
        """List this step's prompts: the whole list in a new order, again and again, so that no
        prompt comes twice before all have come once.
        """
        count, total, found = self.config.samples, len(self.prompts), []
        at = self.step * count
        while len(found) < count:
            order = random.Random(f"{self.config.seed}/{at // total}").sample(range(total), total)
            found += [self.prompts[i] for i in order[at % total :]][: count - len(found)]
            at = self.step * count + len(found)
        return found

    @torch.no_grad()
    def rollout(self):
        """Draw and score a batch of responses with the policy as it is."""
        config, pad = self.config, self.tokenizer.pad_token_id
        seed = config.seed * 1_000_003 + self.step
        drawn = sample(
            self.policy, self.tokenizer, self.batch_prompts(), config.max_new_tokens, seed=seed,
            batch=config.samples, hidden=True,
        )  # fmt: skip
        query = drawn.tokens.shape[1] - drawn.hidden.shape[1]
        real = drawn.response[:, query:].float()
        ref_logprobs, kl, entropy = self._compare(drawn, query, real)
        values = self.value_head(drawn.hidden)[:, :, 0] * real
        ended = (drawn.tokens[:, query:] == self.tokenizer.eos_token_id).any(1)
        texts = [whole_sentences(t, bool(e)) for t, e in zip(drawn.texts, ended)]
        scores = self._score(texts).to(values) - config.unended_penalty * (~ended).to(values)
        tokens = drawn.tokens.masked_fill(drawn.mask == 0, pad)
        return Rollout(
            tokens, drawn.mask, query, real, drawn.logprobs[:, query:], ref_logprobs, kl, entropy,
            values, scores, ended, texts,
        )  # fmt: skip

    def _compare(self, drawn, query, real, rows=64):
        """Return ref_logprobs, exact KL to the reference, and entropy, each (B, R) [nats]."""
        found = [torch.zeros_like(real) for _ in range(3)]
        for start in range(0, len(real), rows):
            part = slice(start, start + rows)
            keep = real[part].bool()
            logits = response_logits(self.reference, drawn.tokens[part], drawn.mask[part], query)
            theirs = torch.log_softmax(logits[keep].float(), -1)
            ours = torch.log_softmax(self.policy.lm_head(drawn.hidden[part][keep]).float(), -1)
            chosen = drawn.tokens[part, query:][keep]
            odds = ours.exp()
            for table, values in zip(found, (
                theirs.gather(1, chosen[:, None])[:, 0],
                (odds * (ours - theirs)).sum(-1),
                -(odds * ours).sum(-1),
            )):  # fmt: skip
                table[part][keep] = values
        return found

    def _score(self, texts):
        """Score texts with the caller's function, checked."""
        scores = torch.as_tensor(self.score(texts)).detach().float().flatten()
        if len(scores) != len(texts):
            raise PPOError(
                f"the score function returned {len(scores)} numbers for {len(texts)} texts; "
                f"expected one each"
            )
        bad = (~torch.isfinite(scores)).nonzero()
        if len(bad):
            raise PPOError(
                f"the score of response {int(bad[0])} at step {self.step} is "
                f"{float(scores[bad[0]])}; expected a finite number for {texts[int(bad[0])]!r}"
            )
        return scores

    def _check_rollout(self, rollout):
        """Go back to the last good policy and raise PPOError where this one has run away."""
        kl = float(rollout.kl.sum(1).mean())
        if math.isfinite(kl) and kl <= self.config.kl_limit:
            return
        self._restore(self._good)
        what = "is not a number" if not math.isfinite(kl) else f"has reached {kl:.0f} nats"
        raise PPOError(
            f"KL to the reference {what} at step {self.step}: the learning rate {self.config.lr:g} "
            f"is too high, or kl_coef {self.kl_coef:g} too low; the last good policy is back in "
            f"place"
        )

    # -- the update --

    def update(self, rollout):
        """Make the passes over one batch; return what happened, as a dict of numbers."""
        config, real = self.config, rollout.real
        penalties = kl_estimates(rollout.logprobs, rollout.ref_logprobs)[0]
        rewards = token_rewards(rollout.scores, penalties, real, self.kl_coef, config.charge)
        advantages, returns = gae(rewards, rollout.values, real, config.lam)
        advantages = whiten(advantages, real, config.whiten)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * cosine(self.step, config.steps, config.warmup)
        size, infos = config.samples // config.minibatches, []
        # Rows of like length together, so that little padding is processed.
        order = real.sum(1).argsort(stable=True).tolist()
        parts = [order[i : i + size] for i in range(0, len(order), size)]
        old = [self._old(rollout, part) for part in parts]
        gap = torch.cat([o - rollout.logprobs[p][real[p].bool()] for o, p in zip(old, parts)])
        rng = random.Random(f"{config.seed}/{self.step}/minibatches")
        for _ in range(config.epochs):
            for number in rng.sample(range(len(parts)), len(parts)):
                batch = rollout, parts[number], old[number], advantages, returns
                infos.append(self._minibatch(*batch))
        mean = {k: float(torch.stack([i[k] for i in infos]).mean()) for k in infos[0]}
        keep = real.bool()
        return mean | {
            "first_clip_fraction": float(infos[0]["clip_fraction"]),
            "ratio_gap": float(gap.abs().mean()),
            "explained_variance": explained_variance(rollout.values[keep], returns[keep]),
            "lr": self.optimizer.param_groups[0]["lr"],
        }

    def _forward(self, rollout, part):
        """Return (logits (N, V), hidden (N, width)) at the N real response tokens of some rows."""
        keep = rollout.real[part].bool()
        width = int(rollout.real[part].sum(1).max())
        upto = rollout.query + width
        hidden = response_logits(
            self.policy, rollout.tokens[part, :upto], rollout.mask[part, :upto], rollout.query,
            head=False,
        )[keep[:, :width]]  # fmt: skip
        return self.policy.lm_head(hidden), hidden, rollout.tokens[part, rollout.query :][keep]

    @torch.no_grad()
    def _old(self, rollout, part):
        """Return the log-probabilities before the update (N,), in the precision of the update, so
        that the first ratio is exactly 1.
        """
        with autocast(self.policy.device, self.config.bfloat16):
            logits, _, chosen = self._forward(rollout, part)
        return torch.log_softmax(logits.float(), -1).gather(1, chosen[:, None])[:, 0]

    def _minibatch(self, rollout, part, old, advantages, returns):
        """Take one gradient step on some rows of a batch; return its info, detached."""
        config, keep = self.config, rollout.real[part].bool()
        with autocast(self.policy.device, config.bfloat16):
            logits, hidden, chosen = self._forward(rollout, part)
        logprobs = torch.log_softmax(logits.float(), -1).gather(1, chosen[:, None])[:, 0]
        values = self.value_head(hidden.float())[:, 0]
        loss, info = policy_loss(logprobs, old, advantages[part][keep], config.cliprange)
        wrong = value_loss(
            values, rollout.values[part][keep], returns[part][keep], config.value_clip
        )
        total = loss + config.value_coef * wrong
        ptx = self._ptx(part) if self.rows else torch.zeros(())
        total = total + config.ptx_coef * ptx
        if not torch.isfinite(total):
            raise PPOError(
                f"the loss is {total.item()} at step {self.step}: the learning rate {config.lr:g} "
                f"is the usual cause; the policy before this step is back in place"
            )
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters(), config.clip)
        self.optimizer.step()
        losses = {"policy_loss": loss, "value_loss": wrong, "ptx_loss": ptx, "grad_norm": norm}
        return info | {k: v.detach().float().cpu() for k, v in losses.items()}

    def _ptx(self, part):
        """Return the next-token loss of some documents of the corpus [nats a token]."""
        pick = random.Random(f"{self.config.seed}/{self.step}/{part[0]}/documents")
        rows = [self.rows[i] for i in pick.sample(range(len(self.rows)), self.config.ptx_batch)]
        tokens = pad_rows(rows, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id)
        with autocast(self.policy.device, self.config.bfloat16):
            nats, count = next_token_loss(
                self.policy, tokens.to(self.policy.device), self.tokenizer.pad_token_id
            )
        return nats / count

    def _parameters(self):
        """List everything that is trained."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _named(self):
        """Return {name: parameter} of the policy and of the value head."""
        named = {f"policy.{n}": p for n, p in self.policy.named_parameters()}
        return named | {f"value.{n}": p for n, p in self.value_head.named_parameters()}

    def _snapshot(self):
        """Copy the weights and the state of the optimiser."""
        weights = {n: p.detach().clone() for n, p in self._named().items()}
        return weights, copy.deepcopy(self.optimizer.state_dict())

    @torch.no_grad()
    def _restore(self, snapshot):
        """Put a snapshot back in place."""
        for name, param in self._named().items():
            param.copy_(snapshot[0][name])
        self.optimizer.load_state_dict(snapshot[1])

    def _record(self, rollout, info, seconds):
        """Make the PPOStep of a batch and its update."""
        k1, _, k3 = kl_estimates(rollout.logprobs, rollout.ref_logprobs)
        score, k1 = float(rollout.scores.mean()), float((k1 * rollout.real).sum(1).mean())
        return PPOStep(
            step=self.step + 1,
            of=self.config.steps,
            kl_coef=self.kl_coef,
            score=score,
            kl=float(rollout.kl.sum(1).mean()),
            kl_k1=k1,
            kl_k3=float((k3 * rollout.real).sum(1).mean()),
            objective=score - self.kl_coef * k1,
            entropy=float(rollout.entropy.sum(1).mean()),
            length=float(rollout.real.sum(1).mean()),
            ended=float(rollout.ended.float().mean()),
            seconds=seconds,
            texts=tuple(rollout.texts),
            scores=tuple(rollout.scores.tolist()),
            **info,
        )

    # -- to disk and back --

    def save(self, folder):
        """Save weights, optimiser and history, so that `load` in a fresh run goes on from here."""
        meta = {"step": self.step, "kl_coef": self.kl_coef, "config": asdict(self.config)}
        meta["history"] = [asdict(s) for s in self.history]
        save_checkpoint(folder, self._named(), self.optimizer, meta)

    def load(self, folder):
        """Go on from a folder that `save` wrote, equal to the bit on one machine.

        Raises TrainingError where it does not belong to this run.
        """
        meta = load_checkpoint(folder, self._named(), self.optimizer)
        self.step, self.kl_coef = meta["step"], meta["kl_coef"]
        self.history = [
            PPOStep(**s | {"texts": tuple(s["texts"]), "scores": tuple(s["scores"])})
            for s in meta["history"]
        ]
        self._good = self._snapshot()
