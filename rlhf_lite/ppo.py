"""Turn a score of whole responses into a better policy: PPO with a KL penalty, one record a step.

    run = PPORun(policy, reference, tokenizer, prompts, score, PPOConfig(kl_coef=0.2))
    for step in run:
        print(step.score, step.kl, step.objective)

Stop whenever you like, move `run.kl_coef` between two steps, save, load and go on. Omits
temperature, discounting, filters on sampling and whitening of rewards: each would move the optimum
that notebook 04 compares with. Notebook 04 writes it out.
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
    response_states,
    sample,
    token_logprobs,
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
CRITICS = ("head", "fit")


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
    critic: str = "fit"
    """Where values come from: a "head" on the policy's trunk that learns by gradient, or a least
    squares "fit" to the last batches."""
    memory: float = 0.8
    """Weight that the fit gives to the batches before, multiplied in each step."""
    value_lr: float = 1e-3
    """Peak learning rate of the value head."""
    warmup: int = 2
    """Steps until the peak."""
    lam: float = 1.0
    """Lambda of generalised advantage estimation."""
    charge: str = "end"
    """Where the KL penalty is charged: at each "token", or in one sum at the "end"."""
    kl_loss: bool = False
    """Whether the gradient of the KL at each token is exact, over the whole vocabulary, instead of
    what the sampled tokens say of it."""
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
        for name, known in (("charge", CHARGES), ("whiten", WHITENINGS), ("critic", CRITICS)):
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
    # A batch beyond the horizon would make the factor negative; ten times less is the most.
    return kl_coef * max(1 + error * samples / horizon, 0.1)


def _put(table, part, keep, values):
    """Write values (N, ...) to the kept places of some rows of a table, in place."""
    rows = table[part]
    rows[keep] = values.to(rows.dtype)
    table[part] = rows


def explained_variance(values, returns):
    """Return 1 - Var(returns - values) / Var(returns); 0 where the returns do not vary."""
    total = returns.var(unbiased=False)
    return float(1 - (returns - values).var(unbiased=False) / total) if total > 0 else 0.0


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

    In float32 and at temperature 1. score: as in PPORun. Returns Draws.
    """
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
    found = torch.as_tensor(score(texts)).float().reshape(shape)
    rowed = [texts[i : i + count] for i in range(0, len(texts), count)]
    both = (torch.cat(t).cpu().reshape(shape) for t in (logprobs, theirs))
    return Draws(rowed, found.cpu(), *both)


def responses_cut(drawn, tokenizer):
    """Return (texts cut back to their last whole sentence, whether each ended by itself (B,))."""
    ended = ((drawn.tokens == tokenizer.eos_token_id) & drawn.response.bool()).any(1)
    texts = [
        prompt + whole_sentences(text[len(prompt) :], bool(end))
        for text, prompt, end in zip(drawn.texts, drawn.prompts, ended)
    ]
    return texts, ended


# ---- the run ----


@dataclass
class Rollout:
    """Hold a batch of responses and what is known of them before the update.

    tokens, mask (B, T): left-padded, the responses all start at column `query`; real (B, R): 1 on
    response tokens; drawn_logprobs, logprobs, ref_logprobs (B, R): of the policy while sampling, of
    the policy and the reference in the precision of the update [nats]; kl, entropy, values (B, R);
    scores (B,); ended (B,) bool; parts: lists of row numbers, the minibatches; features (B, R, F):
    what the critic's fit reads, or None.
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


class FittedCritic:
    """Predict returns by ridge regression on the state before each token, without a learning rate.

    Keeps X'X and X'y of the batches before, fading by `memory` a step. Each response is predicted
    from the others only: every fold of a batch without its own share of the sums.
    """

    def __init__(self, memory, folds=4, ridge=10.0):
        self.memory, self.folds, self.ridge, self.sums = memory, folds, ridge, None

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
        total = [a + b for a, b in zip(fresh, self.sums)] if self.sums else fresh
        damp = self.ridge * torch.eye(width, device=features.device)
        for fold, (xx, xy) in enumerate(parts):
            solved = torch.linalg.solve(total[0] - xx + damp, total[1] - xy)
            found[fold :: self.folds] = features[fold :: self.folds] @ solved
        self.sums = [self.memory * t for t in total]
        return found * real[:, :, None]


class PPORun:
    """Be a run of PPO that can be stopped, steered, saved, loaded and gone on with.

    policy: a causal language model, trained in place; reference: a frozen one of the same
    tokenizer, or None for a copy of the policy as it is now; prompts: list of str; score: a
    function from B texts (prompt and response, cut back to the last whole sentence) to B numbers;
    documents: list of str for PPO-ptx; trunk: a frozen model of the same tokenizer, such as the
    reward model, whose states the fitted critic reads in place of the policy's. Iterating yields
    PPOSteps until `config.steps`; `run.kl_coef` may be changed between two of them. Raises PPOError
    for what cannot work.
    """

    def __init__(
        self, policy, reference, tokenizer, prompts, score, config=None, documents=None, trunk=None
    ):  # fmt: skip
        self.config = config or PPOConfig()
        self.kl_coef, self.step, self.history = self.config.kl_coef, 0, []
        self.policy, self.tokenizer, self.prompts = policy, tokenizer, list(prompts)
        self.reference = copy.deepcopy(policy) if reference is None else reference
        self.score, self.trunk = score, trunk
        self.critic = FittedCritic(self.config.memory) if self.config.critic == "fit" else None
        self._check()
        for frozen in (self.reference, trunk):
            if frozen is not None:
                frozen.eval().requires_grad_(False)
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
        """Fill in what policy, reference and value head say of each response token.

        In the precision and the minibatches of the update, so that its first ratio is exactly 1.
        """
        names = ("logprobs", "ref_logprobs", "kl", "entropy", "values")
        tables = [torch.zeros_like(rollout.real) for _ in names]
        for part in rollout.parts:
            ours, hidden, chosen = self._forward(self.policy, rollout, part)
            theirs = self._forward(self.reference, rollout, part)[0]
            odds, keep = ours.exp(), rollout.real[part].bool()
            values = (
                ours.gather(1, chosen)[:, 0], theirs.gather(1, chosen)[:, 0],
                (odds * (ours - theirs)).sum(-1), -(odds * ours).sum(-1),
                self.value_head(hidden)[:, 0],
            )  # fmt: skip
            for table, value in zip(tables, values):
                _put(table, part, keep, value)
            if self.critic:
                self._keep_features(rollout, part, keep, hidden)
        for name, table in zip(names, tables):
            setattr(rollout, name, table)

    def _keep_features(self, rollout, part, keep, hidden):
        """Write down what the critic reads of some rows: states and a constant."""
        if self.trunk is not None:
            hidden = self._states(self.trunk, rollout, part).float()
        if rollout.features is None:
            rollout.features = rollout.real.new_ones((*rollout.real.shape, hidden.shape[1] + 2))
        ones = torch.ones_like(hidden[:, :2])
        _put(rollout.features, part, keep, torch.cat([hidden, ones], 1))

    def _values(self, rollout, penalties):
        """Return what the critic expects from each token on, (B, R) [score]."""
        if not self.critic:
            return rollout.values
        real = rollout.real
        so_far = (penalties * real).cumsum(1) - penalties * real
        # At the optimum the log-ratio so far *is* the value, up to a constant of the prompt.
        rollout.features[:, :, -1] = so_far
        togo = (penalties * real).sum(1, keepdim=True) - so_far
        targets = torch.stack([rollout.scores[:, None].expand_as(real), togo], 2)
        score, cost = self.critic.predict(rollout.features, targets, real).unbind(2)
        paid = so_far if self.config.charge == "end" else 0
        return (score - self.kl_coef * (cost + paid)) * real

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

    def _check_weights(self):
        """Raise PPOError where an update has left a weight that is no number, or beyond all use."""
        if not all((p.abs() < 1e6).all() for p in self._parameters()):
            raise PPOError(
                f"the update of step {self.step} left weights beyond all use: the learning "
                f"rate {self.config.lr:g} is too high; the policy before it is back in place"
            )

    # -- the update --

    def update(self, rollout):
        """Make the passes over one batch; return what happened, as a dict of numbers."""
        config, real = self.config, rollout.real
        penalties = kl_estimates(rollout.logprobs, rollout.ref_logprobs)[0]
        if config.kl_loss:
            penalties = rollout.kl
        rewards = token_rewards(rollout.scores, penalties, real, self.kl_coef, config.charge)
        rollout.values = self._values(rollout, penalties)
        advantages, returns = gae(rewards, rollout.values, real, config.lam)
        advantages = whiten(advantages, real, config.whiten)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * cosine(self.step, config.steps, config.warmup)
        infos = []
        rng = random.Random(f"{config.seed}/{self.step}/minibatches")
        for _ in range(config.epochs):
            for part in rng.sample(rollout.parts, len(rollout.parts)):
                infos.append(self._minibatch(rollout, part, advantages, returns))
        mean = {k: float(torch.stack([i[k] for i in infos]).mean()) for k in infos[0]}
        keep, gap = real.bool(), (rollout.logprobs - rollout.drawn_logprobs).abs()
        return mean | {
            "first_clip_fraction": float(infos[0]["clip_fraction"]),
            "ratio_gap": float((gap * real).sum() / real.sum()),
            "explained_variance": explained_variance(rollout.values[keep], returns[keep]),
            "lr": self.optimizer.param_groups[0]["lr"],
        }

    def _forward(self, model, rollout, part):
        """Return (log-probabilities (N, V), states (N, width), tokens (N, 1)) of the N real
        response tokens of some rows.
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

    def _minibatch(self, rollout, part, advantages, returns):
        """Take one gradient step on some rows of a batch; return its info, detached."""
        config, keep = self.config, rollout.real[part].bool()
        table, hidden, chosen = self._forward(self.policy, rollout, part)
        logprobs, old = table.gather(1, chosen)[:, 0], rollout.logprobs[part][keep]
        values = self.value_head(hidden)[:, 0]
        loss, info = policy_loss(logprobs, old, advantages[part][keep], config.cliprange)
        wrong = value_loss(
            values, rollout.values[part][keep], returns[part][keep], config.value_clip
        )
        total = loss if self.critic else loss + config.value_coef * wrong
        if config.kl_loss:
            theirs = self._reference_table(rollout, part)
            total = total + self.kl_coef * (table.exp() * (table - theirs)).sum(-1).mean()
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

    @torch.no_grad()
    def _reference_table(self, rollout, part):
        """Return the reference's log-probabilities (N, V) at the real tokens of some rows."""
        return self._forward(self.reference, rollout, part)[0]

    def _ptx(self, part):
        """Return the next-token loss of some documents of the corpus [nats a token]."""
        pick = random.Random(f"{self.config.seed}/{self.step}/{part[0]}/documents")
        count = min(self.config.ptx_batch, len(self.rows))
        rows = [self.rows[i] for i in pick.sample(range(len(self.rows)), count)]
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
        sums = copy.deepcopy(self.critic.sums) if self.critic else None
        return weights, copy.deepcopy(self.optimizer.state_dict()), sums

    @torch.no_grad()
    def _restore(self, snapshot):
        """Put a snapshot back in place."""
        for name, param in self._named().items():
            param.copy_(snapshot[0][name])
        self.optimizer.load_state_dict(snapshot[1])
        if self.critic:
            self.critic.sums = snapshot[2]

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
        if self.critic and self.critic.sums:
            meta["critic"] = [t.tolist() for t in self.critic.sums]
        save_checkpoint(folder, self._named(), self.optimizer, meta)

    def load(self, folder):
        """Go on from a folder that `save` wrote, equal to the bit on one machine.

        Raises TrainingError where it does not belong to this run.
        """
        meta = load_checkpoint(folder, self._named(), self.optimizer)
        self.step, self.kl_coef = meta["step"], meta["kl_coef"]
        if self.critic and "critic" in meta:
            device = self.policy.device
            self.critic.sums = [torch.tensor(t, device=device) for t in meta["critic"]]
        self.history = [
            PPOStep(**s | {"texts": tuple(s["texts"]), "scores": tuple(s["scores"])})
            for s in meta["history"]
        ]
        self._good = self._snapshot()
