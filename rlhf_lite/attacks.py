"""Search for a suffix that makes an aligned policy begin the answer that it would refuse.

    search = SuffixSearch(policy, tokenizer, prompts, targets, SearchConfig(evaluations=4000))
    for step in search:
        print(step.spent, step.loss, step.suffix)

Three ways to choose the next swap of a token: by the gradient (Zou et al. 2023), at random, and by
trying all. All are charged alike, by the texts that the policy reads. A suffix counts only if its
text, read again, gives the same tokens. Omits attacks by another language model, by several turns
and by weights. Taught by notebook 10.
"""

from dataclasses import dataclass

from rlhf_lite.checks import TextError, check_choice, check_count, check_text, check_texts
from rlhf_lite.models import check_fits, context_of
from rlhf_lite.sampling import position_ids

import numpy as np
import torch

METHODS = ("gradient", "random", "exhaustive")
TAIL = " A:"
BATCH = 512  # texts read side by side
BACKWARD = 2  # a gradient costs as much as so many more readings of the text


class AttackError(ValueError):
    """Says in one sentence why a search cannot start, or what it was given."""


@dataclass(frozen=True)
class SearchConfig:
    """The dials of a search."""

    method: str = "gradient"
    """How swaps are proposed: by "gradient", at "random", or all of one place, "exhaustive"."""
    length: int = 6
    """Tokens of the suffix."""
    width: int = 64
    """Swaps tried in a step, where not all are."""
    top: int = 32
    """Tokens that the gradient proposes for each place."""
    evaluations: int = 5000
    """Texts that the policy may read; a gradient counts as three."""
    seed: int = 0
    """First suffix, and the draw of swaps."""

    def __post_init__(self):
        """Check that the dials make sense."""
        check_choice(self.method, METHODS, "method", AttackError)
        for name in ("length", "width", "top", "evaluations"):
            try:
                check_count(getattr(self, name), name)
            except ValueError as error:
                more = ": an empty suffix changes nothing" if name == "length" else ""
                raise AttackError(f"{error}{more}") from None


@dataclass(frozen=True)
class SearchStep:
    """What a step found: spent [texts read], loss of the best so far [nats a request], suffix."""

    step: int
    spent: int
    loss: float
    suffix: str


def with_suffix(prompt, suffix, tail=TAIL):
    """Put a suffix behind a request, in front of the tail that asks for the answer.

    Example: `with_suffix("Q: Tell me. A:", " now")` is "Q: Tell me. now A:". Raises AttackError for
    an empty suffix, and for a prompt that does not end in the tail.
    """
    check_text(prompt)
    check_text(suffix)
    if not suffix:
        raise AttackError("the suffix is empty; expected a text of at least one token")
    if not prompt.endswith(tail):
        raise AttackError(f"the prompt {prompt!r} does not end in {tail!r}; expected it to")
    return prompt[: len(prompt) - len(tail)] + suffix + tail


class SuffixSearch:
    """A search for one suffix for all of some requests, which yields a SearchStep a step.

    It lowers loss(s) = mean over requests x of -log p(target | x + s) [nats]. prompts: N str that
    end in `tail`; targets: N str, how each reply should begin, the leading space included; start:
    the first suffix, drawn by the seed if None. Stop whenever you like: `suffix`, `loss` and
    `spent` stay. Raises AttackError for a target that the tokenizer cannot write, and where the
    evaluations do not suffice for a step.
    """

    def __init__(self, model, tokenizer, prompts, targets, config=None, start=None, tail=TAIL):
        self.model, self.tokenizer, self.config = model, tokenizer, config or SearchConfig()
        self._rng = np.random.default_rng(self.config.seed)
        self._read_requests(prompts, targets, tail)
        self.allowed = allowed_tokens(tokenizer)
        self.spent = self.number = self._place = 0
        if self.config.evaluations < self.cost + len(self.heads):
            raise AttackError(
                f"{self.config.evaluations} evaluations are left; expected "
                f"{self.cost + len(self.heads)} or more, the first reading and one step of "
                f"{self.config.method!r} on {len(self.heads)} requests"
            )
        self.tokens = self._first() if start is None else self._tokens_of(start)
        self.loss = float(self.losses([self.tokens])[0])

    def _read_requests(self, prompts, targets, tail):
        """Cut every request into tokens: head, tail and target."""
        prompts, targets = check_texts(prompts, "prompts", 1), check_texts(targets, "targets", 1)
        if len(prompts) != len(targets):
            raise AttackError(
                f"{len(targets)} targets for {len(prompts)} prompts; expected one each"
            )
        self.heads, self.texts, self._targets, self._tail = [], [], [], tail
        self.tail = self._ids(tail)
        for prompt, target in zip(prompts, targets):
            with_suffix(prompt, "?", tail)
            ids, whole = self._ids(target), self._ids(prompt + target)
            if not ids or self.tokenizer.decode(ids) != target or set(ids) & self._special:
                raise AttackError(
                    f"the tokenizer cannot write the target {target!r}; expected plain text"
                )
            if whole != self._ids(prompt) + ids:
                raise AttackError(
                    f"the target {target!r} does not begin at a token's edge; expected a space "
                    f"in front of it"
                )
            self.texts.append(prompt[: len(prompt) - len(tail)])
            self.heads.append(self._ids(self.texts[-1]))
            self._targets.append(ids)
        longest = max(len(h) + len(t) for h, t in zip(self.heads, self._targets))
        check_fits([longest + self.config.length + len(self.tail) + 1], context_of(self.model))

    @property
    def _special(self):
        return set(self.tokenizer.all_special_ids)

    def _ids(self, text):
        return self.tokenizer(text)["input_ids"]

    @property
    def suffix(self):
        """Return the best suffix so far, as text."""
        return self.tokenizer.decode(self.tokens)

    @property
    def cost(self):
        """Return how many texts a step reads."""
        count = len(self.heads)
        if self.config.method == "exhaustive":
            return len(self.allowed) * count
        extra = (1 + BACKWARD) * count if self.config.method == "gradient" else 0
        return self.config.width * count + extra

    def __iter__(self):
        """Go on while there are evaluations for one more step."""
        while self.spent + self.cost <= self.config.evaluations:
            yield self.advance()

    def advance(self):
        """Try the swaps of one step, keep the best if it is better; return a SearchStep."""
        rows = self._proposals()
        if rows:
            losses = self.losses(rows)
            best = int(np.argmin(losses))
            if losses[best] < self.loss:
                self.tokens, self.loss = rows[best], float(losses[best])
        self.number += 1
        return SearchStep(self.number, self.spent, self.loss, self.suffix)

    # ---- proposals ----

    def _proposals(self):
        """List the suffixes to try next, tokens each, those left out that do not survive."""
        method, length = self.config.method, len(self.tokens)
        if method == "exhaustive":
            places, tokens = [self._place] * len(self.allowed), self.allowed
            self._place = (self._place + 1) % length
        else:
            places = self._rng.integers(length, size=4 * self.config.width)
            if method == "gradient":
                best = self.gradient_order()[:, : self.config.top]
                tokens = best[places, self._rng.integers(best.shape[1], size=len(places))]
            else:
                tokens = self._rng.choice(self.allowed, len(places))
        rows, known = [], {tuple(self.tokens)}
        for place, token in zip(places, tokens):
            row = list(self.tokens)
            row[place] = int(token)
            if tuple(row) not in known and self.survives(row):
                known.add(tuple(row))
                rows.append(row)
            if method != "exhaustive" and len(rows) == self.config.width:
                break
        return rows

    def survives(self, row):
        """Tell whether a suffix, written as text behind the requests, is read as the same tokens.

        What stands before it can only join its first letters, so one request for each last
        character is enough.
        """
        ends = {text[-1:]: n for n, text in enumerate(self.texts)}
        said = self.tokenizer.decode(row)
        return all(
            self._ids(self.texts[n] + said + self._tail) == self.heads[n] + row + self.tail
            for n in ends.values()
        )

    def _first(self):
        for _ in range(1000):
            row = [int(t) for t in self._rng.choice(self.allowed, self.config.length)]
            if self.survives(row):
                return row
        raise AttackError("no suffix of this length survives; expected another length or tokenizer")

    def _tokens_of(self, suffix):
        with_suffix(TAIL, suffix)
        row = self._ids(suffix)
        if not self.survives(row):
            raise AttackError(f"the suffix {suffix!r} is read as other tokens behind the requests")
        return row

    # ---- what the policy says of them ----

    @torch.no_grad()
    def losses(self, rows):
        """Return the loss of every suffix (K,) [nats a request], and charge for it."""
        texts = [self.row(n, row) for row in rows for n in range(len(self.heads))]
        found = []
        for start in range(0, len(texts), BATCH):
            ids, mask = self._pad(texts[start : start + BATCH])
            embedded = self.model.get_input_embeddings()(ids)
            numbers = [n % len(self.heads) for n in range(start, min(start + BATCH, len(texts)))]
            found.append(-self._target_logprobs(embedded, ids, mask, numbers))
        self.spent += len(texts)
        return torch.cat(found).reshape(len(rows), -1).mean(1).numpy()

    def gradient(self):
        """Return d loss / d one-hot of each place of the suffix, (L, V), and charge for it."""
        numbers = range(len(self.heads))
        ids, mask = self._pad([self.row(n, self.tokens) for n in numbers])
        table = self.model.get_input_embeddings().weight.detach()
        places = torch.tensor([self.places(n, ids.shape[1]) for n in numbers], device=ids.device)
        hot = torch.nn.functional.one_hot(ids.gather(1, places), len(table)).float()
        hot.requires_grad_()
        # No scatter into the embedding: what stands there leaves, what depends on `hot` comes in.
        embedded = table[ids].scatter(1, places[:, :, None].expand(-1, -1, table.shape[1]),
                                      hot @ table)  # fmt: skip
        loss = -self._target_logprobs(embedded, ids, mask, list(numbers)).mean()
        (found,) = torch.autograd.grad(loss, hot)
        self.spent += (1 + BACKWARD) * len(self.heads)
        return found.sum(0)

    def gradient_order(self):
        """Return the allowed tokens of each place, the most promising first, (L, number allowed).

        First order: swapping a token t for u changes the loss by about g[u] - g[t].
        """
        slope = self.gradient()[:, self.allowed]
        return np.array(self.allowed)[slope.argsort(dim=1).numpy()]

    def row(self, number, suffix):
        """Return the tokens of request `number` behind a suffix (tokens), its target included."""
        start = [self.tokenizer.eos_token_id]
        return [*start, *self.heads[number], *suffix, *self.tail, *self._targets[number]]

    def places(self, number, width):
        """Return the columns of the suffix in a left-padded row."""
        end = width - len(self._targets[number]) - len(self.tail)
        return list(range(end - len(self.tokens), end))

    def _pad(self, rows):
        width, device = max(map(len, rows)), self.model.device
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(r)) + r for r in rows], device=device)
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows], device=device)
        return ids, mask

    def _target_logprobs(self, embedded, ids, mask, numbers):
        """Return log p(target | all before it) of each row (B,) [nats]."""
        lengths = torch.tensor([len(self._targets[n]) for n in numbers], device=ids.device)
        most = int(lengths.max())
        states = self.model.base_model(
            inputs_embeds=embedded, attention_mask=mask, position_ids=position_ids(mask),
            use_cache=False,
        ).last_hidden_state[:, -most - 1 : -1]  # fmt: skip
        logprobs = torch.log_softmax(self.model.lm_head(states).float(), -1)
        picked = logprobs.gather(2, ids[:, -most:, None])[:, :, 0]
        real = torch.arange(most, device=ids.device)[None] >= most - lengths[:, None]
        return torch.where(real, picked, 0.0).sum(1).cpu()


def allowed_tokens(tokenizer):
    """List the tokens that a suffix may hold: whole, printable ASCII, on one line, not special."""
    found = []
    for token in range(len(tokenizer)):
        text = tokenizer.decode([token])
        plain = text.isascii() and text.strip() and text.isprintable()
        if plain and token not in tokenizer.all_special_ids:
            found.append(token)
    if not found:
        raise TextError("the tokenizer has no plain token; expected letters that a suffix can use")
    return found
