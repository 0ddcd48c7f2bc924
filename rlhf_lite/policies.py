"""Improve a policy batch by batch: what PPO and all methods beside it share.

A PolicyRun draws responses, scores them, reads them with policy and reference, takes a few gradient
steps and yields one record. A subclass says what a batch teaches, by `plan` and `loss`. Omits
temperature, discounting and filters on sampling: each would move the optimum that the course
compares with. Notebook 04 writes such a run out.
"""

import copy
import math
import random
import time
from dataclasses import asdict, dataclass, fields
from numbers import Real

from rlhf_lite.models import checksum, context_of
from rlhf_lite.runtime import autocast
from rlhf_lite.sampling import (
    RESPONSE_TOKENS,
    check_request,
    response_states,
    responses_cut,
    sample,
    token_logprobs,
)
from rlhf_lite.training import (
    TrainingError,
    cosine,
    descend,
    digest,
    load_checkpoint,
    save_checkpoint,
    settle_dials,
)

import torch


class PolicyError(RuntimeError):
    """Say in one sentence why a run cannot start or go on, and which dial to turn."""


@dataclass(frozen=True)
class PolicyConfig:
    """Hold the dials that every method has."""

    kl_coef: float = 0.2
    """What a nat of KL costs, in units of the score (beta)."""
    steps: int = 40
    """Steps: batches of responses."""
    samples: int = 252
    """Responses a step."""
    epochs: int = 1
    """Passes over each batch of responses."""
    minibatches: int = 4
    """Updates a pass."""
    lr: float = 1e-4
    """Peak learning rate; up in a line, down along a cosine."""
    warmup: int = 2
    """Steps until the peak."""
    cliprange: float = 0.2
    """How far a token's probability ratio may move in one batch before its gradient stops."""
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
        settle_dials(self, PolicyError)
        self._require_positive(
            "steps", "samples", "epochs", "minibatches", "lr", "cliprange", "clip", "horizon",
            "max_new_tokens", "kl_limit",
        )  # fmt: skip
        if self.samples % self.minibatches:
            raise PolicyError(
                f"{self.samples} samples do not divide into {self.minibatches} minibatches; "
                f"expected a multiple"
            )
        if self.target_kl is not None and not (self.target_kl > 0 and self.kl_coef > 0):
            raise PolicyError(
                "an adaptive coefficient multiplies; expected target_kl and kl_coef above 0"
            )

    def _require_positive(self, *names):
        """Raise PolicyError for the first dial that is 0 or below."""
        for name in names:
            if not getattr(self, name) > 0:
                raise PolicyError(f"{name} is {getattr(self, name):g}; expected more than 0")


@dataclass(frozen=True)
class PolicyStep:
    """Report one step; all but the losses and norms describe the policy before the update.

    score: mean of the batch; kl: to the reference, exact over the vocabulary at each token and
    summed over the response [nats]; kl_k1, kl_k3: two estimates of the same; objective: score -
    kl_coef * kl_k1, whose noise vanishes at the optimum; entropy, length: of the response [nats,
    tokens]; ended: share that stopped by themselves; kl_old: from the sampling policy to the
    updated one [nats a token]; ratio_gap: mean |log-probability while sampling - before the
    update| [nats a token]; explained_variance: share of the returns' variance that the critic, or
    the baseline, foresees; texts, scores: the batch. What a method does not have is 0.
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
    ratio_gap: float
    policy_loss: float
    grad_norm: float
    lr: float
    seconds: float
    clip_fraction: float = 0.0
    first_clip_fraction: float = 0.0
    kl_old: float = 0.0
    value_loss: float = 0.0
    ptx_loss: float = 0.0
    explained_variance: float = 0.0
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


def settle_scores(scores, texts, step=None):
    """Return what a score function said of texts as float32 (N,), detached.

    step: for the message. Raises PolicyError unless that is one finite number a text.
    """
    try:
        scores = torch.as_tensor(scores).detach().float().flatten()
    except (TypeError, ValueError, RuntimeError):
        raise PolicyError(
            f"the score function returned a {type(scores).__name__} that holds no numbers; "
            f"expected one number for each of {len(texts)} texts"
        ) from None
    if len(scores) != len(texts):
        raise PolicyError(
            f"the score function returned {len(scores)} numbers for {len(texts)} texts; "
            f"expected one each"
        )
    bad = (~torch.isfinite(scores)).nonzero()
    if len(bad):
        number = int(bad[0])
        when = "" if step is None else f" at step {step}"
        raise PolicyError(
            f"the score of response {number}{when} is {float(scores[number])}; expected a finite "
            f"number for {texts[number]!r}"
        )
    return scores


# ---- fresh samples of a policy ----


@dataclass(frozen=True)
class Draws:
    """Hold K fresh responses to each of P prompts, from which everything about a policy follows.

    texts: P lists of K str, prompt and response cut back to the last whole sentence; scores,
    logprobs, ref_logprobs (P, K) float: the score, and the log-probability of all sampled tokens
    under the policy and the reference [nats].
    """

    texts: list
    scores: torch.Tensor
    logprobs: torch.Tensor
    ref_logprobs: torch.Tensor

    def kl(self):
        """Return KL(policy || reference) [nats a response], the mean of k1."""
        return float((self.logprobs - self.ref_logprobs).mean())

    def objective(self, kl_coef):
        """Return (J, its standard error): mean of score - kl_coef (log pi - log ref).

        The closer to the optimum, the smaller the error: at pi* the sum is log Z(x) for every
        response. Prompts are taken as given.
        """
        values = self.scores - kl_coef * (self.logprobs - self.ref_logprobs)
        spread = values.var(1, unbiased=True).mean() / values.numel()
        return float(values.mean()), float(spread.sqrt())


@torch.no_grad()
def draw(policy, reference, tokenizer, prompts, score, count=12, seed=0, batch=504, rows=126):
    """Sample `count` responses to each prompt: `draw(policy, base, tokenizer, prompts, score)`.

    In float32 and at temperature 1. score: as in PolicyRun. Returns Draws. Raises SamplingError for
    prompts that cannot be used, PolicyError for a count below 1 and for scores that are no numbers.
    """
    prompts = check_request(tokenizer, prompts, 1.0, 1.0, context_of(policy) - RESPONSE_TOKENS + 1)
    if count < 1:
        raise PolicyError(f"count is {count}; expected at least one response to each prompt")
    asked = [p for p in prompts for _ in range(count)]
    texts, logprobs, theirs = [], [], []
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        drawn = sample(
            policy, tokenizer, part, RESPONSE_TOKENS, seed=seed + start // batch, batch=batch
        )
        texts += responses_cut(drawn, tokenizer)[0]
        logprobs.append(drawn.logprobs.sum(1))
        for at in range(0, len(part), rows):
            tokens, mask = drawn.tokens[at : at + rows], drawn.mask[at : at + rows]
            table = token_logprobs(reference, tokens, mask) * drawn.response[at : at + rows]
            theirs.append(table.sum(1))
    shape = len(prompts), count
    found = settle_scores(score(texts), texts).reshape(shape)
    rowed = [texts[i : i + count] for i in range(0, len(texts), count)]
    both = (torch.cat(t).cpu().reshape(shape) for t in (logprobs, theirs))
    return Draws(rowed, found.cpu(), *both)


# ---- the run ----


def fill(table, part, keep, values):
    """Write values (N, ...) to the kept places of some rows of a table, in place."""
    rows = table[part]
    rows[keep] = values.to(rows.dtype)
    table[part] = rows


@dataclass
class Rollout:
    """Hold a batch of responses and what is known of them before the update.

    tokens, mask (B, T): left-padded, the responses all start at column `query`; real (B, R): 1 on
    response tokens; drawn_logprobs, logprobs, ref_logprobs (B, R): of the policy while sampling, of
    the policy and the reference in the precision of the update [nats]; kl, entropy (B, R) [nats];
    scores (B,); ended (B,) bool; parts: lists of row numbers, the minibatches; values (B, R)
    [score], features (B, R, F): what a critic expects and reads, or None.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    query: int
    real: torch.Tensor
    drawn_logprobs: torch.Tensor
    scores: torch.Tensor
    ended: torch.Tensor
    texts: list
    parts: list
    logprobs: torch.Tensor = None
    ref_logprobs: torch.Tensor = None
    kl: torch.Tensor = None
    entropy: torch.Tensor = None
    values: torch.Tensor = None
    features: torch.Tensor = None


class PolicyRun:
    """Be a run that can be stopped, steered, saved, loaded and gone on with.

    policy: a causal language model, trained in place; reference: a frozen one of the same
    tokenizer, or None for a copy of the policy as it is now; prompts: list of str; score: a
    function from B texts (prompt and response, cut back to the last whole sentence) to B numbers.
    Iterating yields PolicySteps until `config.steps`; `run.kl_coef` may be changed between two of
    them. Raises PolicyError for what cannot work.
    """

    def __init__(self, policy, reference, tokenizer, prompts, score, config):
        self.config, self.score = config, score
        self.kl_coef, self.step, self.history = config.kl_coef, 0, []
        self.policy, self.tokenizer = policy, tokenizer
        self.reference = copy.deepcopy(policy) if reference is None else reference
        self.prompts = self._check(prompts)
        self.reference.eval().requires_grad_(False)
        policy.requires_grad_(True)  # a copy of a frozen reference comes frozen
        if policy.device.type == "cpu":
            policy.set_attn_implementation("eager")
            self.reference.set_attn_implementation("eager")
        self.optimizer = torch.optim.Adam(self._groups(), lr=config.lr, betas=(0.9, 0.98), eps=1e-5)
        self._good = self._snapshot()

    # -- what a method says --

    def plan(self, rollout):
        """Return (minibatches as lists of rows, what `loss` needs of the whole batch, info)."""
        raise NotImplementedError

    def loss(self, rollout, part, lesson):
        """Return (loss, info) of some rows; info holds fields of PolicyStep."""
        raise NotImplementedError

    def _groups(self):
        """List what is trained, as groups of the optimiser with the peak of each learning rate."""
        return [{"params": list(self.policy.parameters()), "peak": self.config.lr}]

    def _named(self):
        """Return {name: parameter} of all that is trained."""
        return {f"policy.{n}": p for n, p in self.policy.named_parameters()}

    def _note(self, rollout, part, keep, states):
        """Write down more of some rows, whose policy's states (N, width) are at hand."""

    def _memory(self):
        """List the tensors that a run remembers beside its weights."""
        return []

    def _remember(self, memory):
        """Take back what `_memory` listed."""

    def _check(self, prompts):
        """Return the prompts as a list; raise PolicyError where the parts do not fit together."""
        context, longest = context_of(self.policy), self.config.max_new_tokens
        if longest > context - 2:
            raise PolicyError(
                f"max_new_tokens is {longest}; expected at most {context - 2}, so that the context "
                f"of {context} holds a start, a prompt and the response"
            )
        try:
            prompts = check_request(self.tokenizer, prompts, 1.0, 1.0, context - longest + 1)
        except ValueError as error:
            raise PolicyError(f"the prompts cannot be used: {error}") from None
        if self.reference is self.policy or any(
            a is b for a, b in zip(self.policy.parameters(), self.reference.parameters())
        ):
            raise PolicyError(
                "policy and reference share their weights, so their KL would stay 0; "
                "expected two models, or reference=None for a frozen copy"
            )
        sizes = [m.get_input_embeddings().num_embeddings for m in (self.policy, self.reference)]
        if sizes[0] != sizes[1]:
            raise PolicyError(
                f"the policy has {sizes[0]} tokens and the reference {sizes[1]}; "
                f"expected two models of one tokenizer"
            )
        return prompts

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
        """Take one step: sample, score, update; return its PolicyStep.

        A step is done or not done: what stops it half-way leaves the run as it was before.
        """
        start = time.perf_counter()
        self.policy.eval()
        rollout = self.rollout()
        self._check_rollout(rollout)
        self._good = self._snapshot()
        try:
            info = self.update(rollout)
            self._check_weights()
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
        """List this step's prompts, one a response."""
        return self._next_prompts(self.config.samples)

    def _next_prompts(self, count):
        """List `count` prompts: none comes twice before all have come once, in a new order."""
        start, total, found = self.step * count, len(self.prompts), []
        while len(found) < count:
            turn, place = divmod(start + len(found), total)
            order = random.Random(f"{self.config.seed}/{turn}").sample(range(total), total)
            found += [self.prompts[i] for i in order[place:]][: count - len(found)]
        return found

    @torch.no_grad()
    def rollout(self):
        """Draw and score a batch of responses with the policy as it is; return a Rollout."""
        config = self.config
        drawn = sample(
            self.policy, self.tokenizer, self.batch_prompts(), config.max_new_tokens,
            seed=config.seed * 1_000_003 + self.step, batch=config.samples,
        )  # fmt: skip
        query = int(drawn.response.argmax(1)[0])
        real = drawn.response[:, query:].float()
        texts, ended = responses_cut(drawn, self.tokenizer)
        scores = self._score(texts).to(real.device) - config.unended_penalty * (~ended).float()
        # Rows of like length together, so that little padding is processed.
        order, size = (
            real.sum(1).argsort(stable=True).tolist(),
            config.samples // config.minibatches,
        )
        parts = [order[i : i + size] for i in range(0, len(order), size)]
        rollout = Rollout(
            drawn.tokens, drawn.mask, query, real, drawn.logprobs[:, query:], scores, ended, texts,
            parts,
        )  # fmt: skip
        self._read(rollout)
        return rollout

    def _read(self, rollout):
        """Fill in what policy and reference say of each response token.

        In the precision and the minibatches of the update, so that its first ratio is exactly 1.
        """
        names = ("logprobs", "ref_logprobs", "kl", "entropy")
        tables = [torch.zeros_like(rollout.real) for _ in names]
        for part in rollout.parts:
            ours, states, chosen = self._forward(self.policy, rollout, part)
            theirs = self._forward(self.reference, rollout, part)[0]
            probs, keep = ours.exp(), rollout.real[part].bool()
            values = (
                ours.gather(1, chosen)[:, 0], theirs.gather(1, chosen)[:, 0],
                (probs * (ours - theirs)).sum(-1), -(probs * ours).sum(-1),
            )  # fmt: skip
            for table, value in zip(tables, values):
                fill(table, part, keep, value)
            self._note(rollout, part, keep, states)
        for name, table in zip(names, tables):
            setattr(rollout, name, table)

    def _forward(self, model, rollout, part):
        """Return what a model says of the N real response tokens of some rows.

        Log-probabilities (N, V) [nats], states (N, width), and the tokens themselves (N, 1).
        """
        keep = rollout.real[part].bool()
        states = self._states(model, rollout, part)
        with autocast(model.device, self.config.bfloat16):
            logits = model.lm_head(states)
        chosen = rollout.tokens[part, rollout.query :][keep]
        return torch.log_softmax(logits.float(), -1), states.float(), chosen[:, None]

    def _states(self, model, rollout, part):
        """Return what a head reads at the N real response tokens of some rows, (N, width)."""
        keep = rollout.real[part].bool()
        end = rollout.query + int(keep.sum(1).max())
        with autocast(model.device, self.config.bfloat16):
            states = response_states(
                model, rollout.tokens[part, :end], rollout.mask[part, :end], rollout.query
            )
        return states[keep[:, : end - rollout.query]]

    def _score(self, texts):
        """Score texts with the caller's function, checked."""
        return settle_scores(self.score(texts), texts, self.step)

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
        if not all((p.abs() < 1e6).all() for p in self._parameters()):
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
        for _ in range(config.epochs):
            for part in rng.sample(parts, len(parts)):
                infos.append(self._descend(*self.loss(rollout, part, lesson)))
        keep, gap = rollout.real.bool(), (rollout.logprobs - rollout.drawn_logprobs).abs()
        mean = {k: sum(i[k] for i in infos) / len(infos) for k in infos[0]}
        return mean | shared | {
            "first_clip_fraction": infos[0].get("clip_fraction", 0.0),
            "ratio_gap": float(gap[keep].mean()),
            "lr": self.optimizer.param_groups[0]["lr"],
        }  # fmt: skip

    def _descend(self, loss, info):
        """Take one gradient step; return the info as numbers."""
        try:
            norm = descend(loss, self.optimizer, self._parameters(), self.config.clip, self.step)
        except TrainingError as error:
            raise PolicyError(f"{error}; the policy before it is back in place") from None
        found = {"policy_loss": loss} | info | {"grad_norm": norm}
        return {k: float(torch.as_tensor(v).detach()) for k, v in found.items()}

    def _parameters(self):
        """List everything that is trained."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _snapshot(self):
        """Copy the weights, the state of the optimiser, and what else the run remembers."""
        weights = {n: p.detach().clone() for n, p in self._named().items()}
        return weights, copy.deepcopy(self.optimizer.state_dict()), list(self._memory())

    @torch.no_grad()
    def _restore(self, snapshot):
        """Put a snapshot back in place."""
        for name, param in self._named().items():
            param.copy_(snapshot[0][name])
        self.optimizer.load_state_dict(snapshot[1])
        self._remember(snapshot[2])

    def _record(self, rollout, info, seconds):
        """Make the PolicyStep of a batch and its update."""
        k1, _, k3 = kl_estimates(rollout.logprobs, rollout.ref_logprobs)
        score, k1 = float(rollout.scores.mean()), float((k1 * rollout.real).sum(1).mean())
        return PolicyStep(
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

    def identity(self):
        """Return {name: value} of what makes this run this run: method, dials, prompts, reference.

        The score is a function and cannot be named; a run that goes on must be given the same.
        """
        return {
            "method": type(self).__name__,
            **asdict(self.config),
            "prompts": digest(self.prompts),
            "reference": checksum(self.reference),
        }

    def save(self, folder):
        """Save weights, optimiser and history, so that `load` in a fresh run goes on from here."""
        meta = {"step": self.step, "kl_coef": self.kl_coef}
        meta["history"] = [asdict(s) for s in self.history]
        meta["memory"] = [t.tolist() for t in self._memory()]
        save_checkpoint(folder, self._named(), self.optimizer, self.identity(), meta)

    def load(self, folder):
        """Go on from a folder that `save` wrote, equal to the bit on one machine.

        Raises TrainingError where it is damaged, or of another method, model, reference, other
        prompts or other dials.
        """
        meta = load_checkpoint(folder, self._named(), self.optimizer, self.identity())
        self.step, self.kl_coef = meta["step"], meta["kl_coef"]
        self._remember([torch.tensor(t, device=self.policy.device) for t in meta["memory"]])
        self.history = [
            PolicyStep(**s | {"texts": tuple(s["texts"]), "scores": tuple(s["scores"])})
            for s in meta["history"]
        ]
        self._good = self._snapshot()


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
