"""Draw responses, score them, read them with policy, reference and critic: what methods learn from.

A Rollout is one batch before its update, Draws are fresh samples that measure a policy. Omits
temperature and filters on sampling: each would move the optimum that the course compares with.
Notebook 04 writes it out.
"""

import random
from dataclasses import dataclass, field

from rlhf_lite.models import attention, backward_attention, context_of
from rlhf_lite.runtime import autocast, tidy_memory
from rlhf_lite.sampling import (
    RESPONSE_TOKENS,
    check_request,
    response_states,
    responses_cut,
    sample,
    token_logprobs,
)
from rlhf_lite.scores import PolicyError, settle_scores

import torch


def check_parts(policy, reference, tokenizer, prompts, longest):
    """Return prompts as a list; raise PolicyError where the parts of a run do not fit together.

    longest: most tokens of a response.
    """
    context = context_of(policy)
    if longest > context - 2:
        raise PolicyError(
            f"max_new_tokens is {longest}; expected at most {context - 2}, so that the context "
            f"of {context} holds a start, a prompt and the response"
        )
    try:
        prompts = check_request(tokenizer, prompts, 1.0, 1.0, context - longest + 1)
    except ValueError as error:
        raise PolicyError(f"the prompts cannot be used: {error}") from None
    pairs = zip(policy.parameters(), reference.parameters())
    if reference is policy or any(ours is theirs for ours, theirs in pairs):
        raise PolicyError(
            "policy and reference share their weights, so their KL would stay 0; "
            "expected two models, or reference=None for a frozen copy"
        )
    sizes = [m.get_input_embeddings().num_embeddings for m in (policy, reference)]
    if sizes[0] != sizes[1]:
        raise PolicyError(
            f"the policy has {sizes[0]} tokens and the reference {sizes[1]}; "
            f"expected two models of one tokenizer"
        )
    return prompts


# ---- a batch ----


@dataclass
class Rollout:
    """A batch of responses and what is known of them before the update.

    prompts, texts: lists of B str, a text being prompt and response cut back to the last whole
    sentence; tokens, mask (B, T): left-padded, the responses all start at column `query`; real (B,
    R): 1 on response tokens; drawn_logprobs, logprobs, ref_logprobs (B, R): of the policy while
    sampling, of policy and reference while reading [nats]; scores (B,); ended (B,) bool; parts:
    lists of row numbers, the minibatches of the first pass in their order; bfloat16: whether models
    read it in bfloat16; kl, entropy (B, R) [nats]; values (B, R) [score], features (B, R, F): what
    a critic expects and reads; fresh: what the policy said of the first part, ready to be learned
    from; said: what the parts of a mixed score said, see `Score`. What nobody has filled in yet is
    None.
    """

    prompts: list
    texts: list
    tokens: torch.Tensor
    mask: torch.Tensor
    query: int
    real: torch.Tensor
    drawn_logprobs: torch.Tensor
    scores: torch.Tensor
    ended: torch.Tensor
    parts: list
    bfloat16: bool = False
    logprobs: torch.Tensor = None
    ref_logprobs: torch.Tensor = None
    kl: torch.Tensor = None
    entropy: torch.Tensor = None
    values: torch.Tensor = None
    features: torch.Tensor = None
    fresh: tuple = None
    said: dict = field(default_factory=dict)

    def states(self, model, part):
        """Return what a head reads at the N real response tokens of some rows, (N, width)."""
        keep = self.real[part].bool()
        end = self.query + int(keep.sum(1).max())
        kind = backward_attention(model)
        with autocast(model.device, self.bfloat16), attention(model, kind):
            states = response_states(
                model, self.tokens[part, :end], self.mask[part, :end], self.query
            )
        return states[keep[:, : end - self.query]]

    def forward(self, model, part):
        """Return what a model says of the N real response tokens of some rows.

        Log-probabilities (N, V) [nats], states (N, width), and the tokens themselves (N, 1). What
        was read before the first update, and kept with its graph, is not read again.
        """
        fresh, self.fresh = self.fresh, None
        if fresh and fresh[0] is model and fresh[1] == part:
            return fresh[2]
        states = self.states(model, part)
        with autocast(model.device, self.bfloat16):
            logits = model.lm_head(states)
        chosen = self.tokens[part, self.query :][self.real[part].bool()]
        return torch.log_softmax(logits.float(), -1), states.float(), chosen[:, None]

    def weight(self, part, parts):
        """Return how many tokens some rows hold, 1 being the mean of all minibatches `parts`.

        Weight times mean over tokens, averaged over parts, is the sum over all tokens by their
        number: every response weighs alike, however long its neighbours are.
        """
        tokens = self.real.sum(1)
        return float(tokens[part].sum() / sum(tokens[p].sum() for p in parts) * len(parts))

    def fill(self, name, part, values):
        """Write values (N, ...) to the N real tokens of some rows of a table, made if need be."""
        if getattr(self, name) is None:
            setattr(self, name, self.real.new_zeros(*self.real.shape, *values.shape[1:]))
        table = getattr(self, name)
        rows = table[part]
        rows[self.real[part].bool()] = values.to(rows.dtype)
        table[part] = rows


class Critic:
    """What a run expects of its responses before they are finished; this one expects nothing.

    lr: peak learning rate of its parameters; state: the tensors that it remembers beside them.
    """

    lr = 0.0

    def __init__(self):
        self.state = []

    def parameters(self):
        """Return {name: parameter} of what learns by gradient."""
        return {}

    def note(self, rollout, part, states):
        """Write down what it will need of some rows, whose policy's states (N, width) are given."""

    def values(self, rollout, penalties, kl_coef):
        """Return what it expects from each token on, (B, R) [score]; penalties (B, R) [nats]."""
        return torch.zeros_like(rollout.real)

    def loss(self, states, old_values, returns):
        """Return the loss of its parameters at N tokens: states (N, width), the others (N,)."""
        return torch.zeros(())


def step_prompts(prompts, count, step, seed=0, group=1):
    """List the `count` prompts of a step, each `group` times in a row.

    None comes up twice before all have come up once, in a new order.
    """
    count //= group
    start, total, found = step * count, len(prompts), []
    while len(found) < count:
        turn, place = divmod(start + len(found), total)
        order = random.Random(f"{seed}/{turn}").sample(range(total), total)
        found += [prompts[i] for i in order[place:]][: count - len(found)]
    return [prompt for prompt in found for _ in range(group)]


@torch.no_grad()
def collect(model, tokenizer, prompts, score, config, step):
    """Draw a model's responses to a step's prompts and score them; return a Rollout, not yet read.

    score: a Score; config: a PolicyConfig. Raises PolicyError for scores that are no numbers.
    """
    with autocast(model.device, config.bfloat16):
        drawn = sample(
            model, tokenizer, prompts, config.max_new_tokens,
            seed=config.seed * 1_000_003 + step, batch=len(prompts),
        )  # fmt: skip
    texts, ended = responses_cut(drawn, tokenizer)
    scores, said = score.judge(texts, step, config.bfloat16)
    query = int(drawn.response.argmax(1)[0])
    real = drawn.response[:, query:].float()
    scores = scores.to(model.device) - config.unended_penalty * (~ended).float()
    # Rows of like length together, so that little padding is processed.
    order, size = real.sum(1).argsort(stable=True).tolist(), len(prompts) // config.minibatches
    parts = [order[i : i + size] for i in range(0, len(order), size)]
    random.Random(f"{config.seed}/{step}/minibatches").shuffle(parts)
    return Rollout(
        drawn.prompts, texts, drawn.tokens, drawn.mask, query, real, drawn.logprobs[:, query:],
        scores, ended, parts, config.bfloat16, said=said,
    )  # fmt: skip


@torch.no_grad()
def read(rollout, policy, reference, critic):
    """Fill in what policy, reference and critic say of each response token; return the Rollout.

    In the precision and the minibatches of the update, so that its first ratio is exactly 1; the
    first update learns from this very reading.
    """
    for part in reversed(rollout.parts):
        theirs = rollout.forward(reference, part)[0]
        with torch.set_grad_enabled(part is rollout.parts[0]):
            found = rollout.forward(policy, part)
        ours, states, chosen = (t.detach() for t in found)
        rollout.fill("logprobs", part, ours.gather(1, chosen)[:, 0])
        rollout.fill("ref_logprobs", part, theirs.gather(1, chosen)[:, 0])
        for name, values in zip(("kl", "entropy"), kl_and_entropy(ours, theirs)):
            rollout.fill(name, part, values)
        critic.note(rollout, part, states)
    rollout.fresh = policy, rollout.parts[0], found
    return rollout


def kl_and_entropy(ours, theirs, rows=32):
    """Return KL(policy || reference) and the policy's entropy at N tokens, both (N,) [nats].

    ours, theirs (N, V): log-probabilities; rows: tokens at a time, so few that they stay in a
    core's cache.
    """
    kl, entropy = [], []
    for log_p, log_q in zip(ours.split(rows), theirs.split(rows)):
        probs = log_p.exp()
        kl.append((probs * (log_p - log_q)).sum(-1))
        entropy.append(-(probs * log_p).sum(-1))
    return torch.cat(kl), torch.cat(entropy)


# ---- fresh samples of a policy ----


@dataclass(frozen=True)
class Draws:
    """K fresh responses to each of P prompts, from which everything about a policy follows.

    prompts: P str; texts: P lists of K str, prompt and response cut back to the last whole
    sentence; scores, logprobs, ref_logprobs (P, K) float: the score, and the log-probability of all
    sampled tokens under the policy and the reference [nats].
    """

    prompts: list
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
    tidy_memory()
    shape = len(prompts), count
    found = settle_scores(score(texts), texts).reshape(shape)
    rowed = [texts[i : i + count] for i in range(0, len(texts), count)]
    both = (torch.cat(t).cpu().reshape(shape) for t in (logprobs, theirs))
    return Draws(prompts, rowed, found.cpu(), *both)
