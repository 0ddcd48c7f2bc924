"""Sample from a model and score what it wrote.

Batched, left-padded, with the masks and positions right. Every text starts with the end-of-text
token, as in training, so a document can also start from nothing. Omits beam search, repetition
penalties and top-k: each changes the distribution that the course measures. Taught by notebook 01;
notebook 04 builds on the log-probabilities.
"""

from dataclasses import dataclass
from numbers import Integral

from rlhf_lite.checks import TextError, check_texts
from rlhf_lite.models import check_fits, context_of

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Cache, DynamicLayer

RESPONSE_TOKENS = 48


class SamplingError(ValueError):
    """Says in one sentence what was wrong with a request to sample."""


@dataclass(frozen=True)
class Samples:
    """Sampled responses with their tokens.

    prompts, responses: lists of B str; tokens (B, T): left-padded, start token first; mask (B, T):
    1 on real tokens; response (B, T): 1 on response tokens, the end-of-text token included;
    logprobs (B, T): log-probability of each response token under the model at temperature 1 [nats],
    0 elsewhere.
    """

    prompts: list
    responses: list
    tokens: torch.Tensor
    mask: torch.Tensor
    response: torch.Tensor
    logprobs: torch.Tensor

    @property
    def texts(self):
        """Prompts and responses together, list of B str."""
        return [prompt + said for prompt, said in zip(self.prompts, self.responses)]


def position_ids(mask):
    """Return positions (B, T) that count real tokens only; padding on the left shifts nothing."""
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def encode(tokenizer, texts, device="cpu"):
    """Encode texts behind the start token, padded on the left: tokens (B, T) and mask (B, T).

    Raises TextError where `texts` is no list of texts, or an empty one.
    """
    texts = check_texts(texts, least=1)
    rows = [torch.tensor([tokenizer.eos_token_id, *tokenizer(t)["input_ids"]]) for t in texts]
    tokens = pad_sequence(rows, True, tokenizer.pad_token_id, "left")
    mask = pad_sequence([torch.ones_like(row) for row in rows], True, 0, "left")
    return tokens.to(device), mask.to(device)


def filter_logits(logits, temperature=1.0, top_p=1.0):
    """Return log-probabilities (B, V) at a temperature, cut to the nucleus.

    The nucleus is the smallest set that holds top_p of the probability (Holtzman et al. 2020). The
    most likely token always stays.
    """
    logprobs = torch.log_softmax(logits.float() / temperature, dim=-1)
    if top_p >= 1:
        return logprobs
    ordered, order = logprobs.sort(dim=-1, descending=True)
    before = ordered.exp().cumsum(dim=-1) - ordered.exp()
    ordered = ordered.masked_fill(before >= top_p, -torch.inf)
    cut = torch.empty_like(logprobs).scatter(-1, order, ordered)
    return torch.log_softmax(cut, dim=-1)


def check_request(tokenizer, prompts, temperature, top_p, longest):
    """Raise SamplingError unless the prompts, the temperature and top_p make sense.

    longest: the tokens, start token included, that a prompt must stay below. Returns the prompts as
    a list.
    """
    try:
        prompts = check_texts(prompts, "prompts", least=1)
    except TextError as error:
        raise SamplingError(str(error)) from None
    for number, prompt in enumerate(prompts):
        if not prompt.strip():
            raise SamplingError(
                f"prompts[{number}] is empty; expected text, or a number of documents from nothing"
            )
        length = len(tokenizer(prompt)["input_ids"]) + 1
        if length >= longest:
            raise SamplingError(
                f"prompts[{number}] has {length} tokens with the start token; expected fewer than "
                f"the {longest} that the context leaves for it"
            )
    if not temperature > 0:
        raise SamplingError(f"temperature is {temperature}; expected more than 0, such as 0.7")
    if not 0 < top_p <= 1:
        raise SamplingError(f"top_p is {top_p}; expected more than 0 and at most 1")
    return prompts


@torch.no_grad()
def sample(
    model, tokenizer, prompts, max_new_tokens=None, temperature=1.0, top_p=1.0, seed=0, batch=64
):
    """Sample one continuation of each prompt, e.g. `sample(model, tokenizer, ["The hero"] * 12)`.

    prompts: list of str, or a number of documents to start from nothing; max_new_tokens: None for
    160, or what the context holds. The same seed gives the same samples on the same machine. Never
    draws a pad, or a row beyond the tokenizer's last token. Returns Samples. Raises SamplingError
    for what cannot be asked.
    """
    context, device = context_of(model), model.device
    if max_new_tokens is None:
        max_new_tokens = min(160, context - 1)
    if not 0 < max_new_tokens < context:
        raise SamplingError(
            f"max_new_tokens is {max_new_tokens}; expected 1 to {context - 1}, below the context"
        )
    nothing = isinstance(prompts, Integral)
    asked = ["."] if nothing else prompts
    asked = check_request(tokenizer, asked, temperature, top_p, context)
    prompts = [""] * prompts if nothing else asked
    if not prompts:
        raise SamplingError("0 documents from nothing; expected at least one")
    generator = torch.Generator(device).manual_seed(seed)
    parts = []
    for start in range(0, len(prompts), batch):
        tokens, mask = encode(tokenizer, prompts[start : start + batch], device)
        steps = min(max_new_tokens, context - int(mask.sum(1).max()))
        parts.append(_grow(model, tokenizer, tokens, mask, steps, temperature, top_p, generator))
    tokens, mask, response, logprobs = _join(parts, tokenizer.pad_token_id)
    responses = decode_responses(tokenizer, tokens, mask, response)
    return Samples(prompts, responses, tokens, mask, response, logprobs)


def decode_responses(tokenizer, tokens, mask, response):
    """Return what the response tokens of each row add to the text of its prompt, list of B str.

    tokens, mask, response (B, T), as in Samples. A special token of the prompt, which no decoding
    shows, shifts nothing.
    """
    found = []
    for row, real, ours in zip(tokens, mask.bool(), response.bool()):
        whole, head, said = (
            tokenizer.decode(row[keep], skip_special_tokens=True)
            for keep in (real, real & ~ours, ours)
        )
        # Some tokenizers put a space between two words, or take one away, as they decode both.
        found.append(whole[len(head) :] if whole.startswith(head) else said)
    return found


def respond(model, tokenizer, prompts, max_new_tokens=RESPONSE_TOKENS, seed=0, batch=64):
    """Sample a response to each prompt at temperature 1, cut back to its last whole sentence.

    Returns a list of str, the responses without their prompts. Ziegler et al. 2019 cut at a
    sentence too: a labeller should not have to judge half of one.
    """
    drawn = sample(model, tokenizer, prompts, max_new_tokens, seed=seed, batch=batch)
    texts, _ = responses_cut(drawn, tokenizer)
    return [text[len(prompt) :] for text, prompt in zip(texts, drawn.prompts)]


def responses_cut(drawn, tokenizer):
    """Return (texts, ended) of Samples.

    texts: B str, each prompt and its response cut back to the last whole sentence; ended (B,) bool:
    whether the response ended by itself, and so stays whole.
    """
    ended = ((drawn.tokens == tokenizer.eos_token_id) & drawn.response.bool()).any(1)
    said = map(whole_sentences, drawn.responses, ended.tolist())
    return [prompt + cut for prompt, cut in zip(drawn.prompts, said)], ended


def whole_sentences(text, ended=False):
    """Cut a text that did not end by itself back to its last whole line, if it has one."""
    head = text.rpartition("\n")[0]
    return text if ended or not head else head


class _RoomyLayer(DynamicLayer):
    """Keys and values of one layer in a buffer of full length.

    Growing by concatenation copies everything at every token, which is most of the time of sampling
    on a CPU.
    """

    def __init__(self, length):
        super().__init__()
        self.length = length

    def update(self, key_states, value_states, *args, **kwargs):
        """Write the new states behind the old ones and return all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            shape = (*key_states.shape[:2], self.length, key_states.shape[3])
            self.rooms = key_states.new_empty(shape), value_states.new_empty(shape)
        start = self.get_seq_length()
        end = start + key_states.shape[2]
        for room, states in zip(self.rooms, (key_states, value_states)):
            room[:, :, start:end] = states
        self.keys, self.values = (room[:, :, :end] for room in self.rooms)
        return self.keys, self.values


def _probs(logprobs, tokenizer, temperature, top_p):
    """Return the probabilities (B, V) to draw from, 0 for what is no token of a text."""
    allowed = logprobs.clone()
    allowed[:, tokenizer.pad_token_id] = -torch.inf
    allowed[:, len(tokenizer) :] = -torch.inf
    if temperature != 1 or top_p < 1:
        allowed = filter_logits(allowed, temperature, top_p)
    return allowed.exp()


def _draw(probs, generator):
    """Draw one token a row, (B, 1), by inverting the cumulated probabilities (B, V).

    One random number a row instead of one a token of the vocabulary.
    """
    cumulated = probs.double().cumsum(-1)
    chance = torch.rand(len(probs), 1, generator=generator, device=probs.device, dtype=torch.double)
    drawn = torch.searchsorted(cumulated, chance * cumulated[:, -1:], right=True)
    return drawn.clamp(max=probs.shape[1] - 1)


def _grow(model, tokenizer, tokens, mask, steps, temperature, top_p, generator):
    """Append up to `steps` sampled tokens to a left-padded batch.

    Returns tokens, mask, response, logprobs.
    """
    query, layers = tokens.shape[1], model.config.num_hidden_layers
    cache = Cache(layers=[_RoomyLayer(query + steps) for _ in range(layers)])
    running = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
    feed, positions, found = tokens, position_ids(mask), []
    for _ in range(steps):
        out = model.base_model(
            input_ids=feed, attention_mask=mask, position_ids=positions,
            past_key_values=cache, use_cache=True,
        )  # fmt: skip
        state = out.last_hidden_state[:, -1]
        logprobs = torch.log_softmax(model.lm_head(state).float(), -1)
        drawn = _draw(_probs(logprobs, tokenizer, temperature, top_p), generator)
        drawn = torch.where(running[:, None], drawn, tokenizer.pad_token_id)
        found.append(torch.where(running[:, None], logprobs.gather(1, drawn), 0.0))
        tokens = torch.cat([tokens, drawn], 1)
        mask = torch.cat([mask, running[:, None].long()], 1)
        running = running & (drawn[:, 0] != tokenizer.eos_token_id)
        if not running.any():
            break
        feed, positions = drawn, mask.sum(1, keepdim=True) - 1
    response = mask.clone()
    response[:, :query] = 0
    logprobs = torch.zeros_like(tokens, dtype=torch.float)
    logprobs[:, query:] = torch.cat(found, 1)
    return tokens, mask, response, logprobs


def response_states(model, tokens, mask, query):
    """Return what the head reads to draw each response token, (B, R, width).

    Responses start at column `query`. The state at t - 1 speaks of token t, and the last token's
    own is not needed.
    """
    return model.base_model(
        input_ids=tokens[:, :-1], attention_mask=mask[:, :-1],
        position_ids=position_ids(mask)[:, :-1], use_cache=False,
    ).last_hidden_state[:, query - 1 :]  # fmt: skip


def _join(parts, pad):
    """Join batches of different lengths into one, padding on the left."""
    width = max(p[0].shape[1] for p in parts)
    joined = []
    for number, value in enumerate((pad, 0, 0, 0.0)):
        rows = [
            torch.nn.functional.pad(p[number], (width - p[number].shape[1], 0), value=value)
            for p in parts
        ]
        joined.append(torch.cat(rows))
    return joined


def token_logprobs(model, tokens, mask):
    """Return log p(token | what stands before it), shape (B, T) [nats].

    0 on padding and the first token.
    """
    logits = model(input_ids=tokens, attention_mask=mask, position_ids=position_ids(mask)).logits
    logprobs = torch.log_softmax(logits[:, :-1].float(), dim=-1)
    picked = logprobs.gather(2, tokens[:, 1:, None])[:, :, 0]
    real = mask[:, 1:].bool() & mask[:, :-1].bool()
    return torch.nn.functional.pad(torch.where(real, picked, 0.0), (1, 0))


@torch.no_grad()
def next_token_probs(model, tokenizer, prompt, top=None):
    """Return the model's next tokens after `prompt` as [(text, probability)], most likely first."""
    check_request(tokenizer, [prompt], 1.0, 1.0, context_of(model))
    tokens, mask = encode(tokenizer, [prompt], model.device)
    logits = model(input_ids=tokens, attention_mask=mask).logits[0, -1].float()
    probs, order = torch.softmax(logits, -1).sort(descending=True)
    return [(tokenizer.decode([i]), float(p)) for i, p in zip(order[:top].tolist(), probs[:top])]


@torch.no_grad()
def text_logprobs(model, tokenizer, texts, prompts=None, batch=64):
    """Return log p(rest of text | prompt) for each text [nats].

    Without prompts, that of the whole document. A whole document includes its end-of-text token.
    With prompts, each text must start with its prompt, and the end is not counted. Raises
    SamplingError where a text has another prompt or none, TextError where it exceeds the context.
    """
    texts, scores = check_texts(texts), []
    if prompts is not None and len(check_texts(prompts, "prompts")) != len(texts):
        raise SamplingError(f"{len(prompts)} prompts for {len(texts)} texts; expected one each")
    for start in range(0, len(texts), batch):
        chunk = texts[start : start + batch]
        tokens, mask = encode(tokenizer, chunk, model.device)
        if prompts is None:
            end = torch.full((len(chunk), 1), tokenizer.eos_token_id, device=tokens.device)
            tokens, mask = torch.cat([tokens, end], 1), torch.cat([mask, torch.ones_like(end)], 1)
        check_fits(mask.sum(1).tolist(), context_of(model), start)
        logprobs = token_logprobs(model, tokens, mask)
        if prompts is not None:
            for row, text, prompt in zip(logprobs, chunk, prompts[start : start + batch]):
                scores.append(float(row[-_rest_length(tokenizer, text, prompt) :].sum()))
        else:
            scores += logprobs.sum(1).tolist()
    return scores


def _rest_length(tokenizer, text, prompt):
    """Return how many tokens of `text` stand behind `prompt`."""
    whole, head = tokenizer(text)["input_ids"], tokenizer(prompt)["input_ids"]
    if whole[: len(head)] != head or len(whole) == len(head):
        raise SamplingError(f"{text!r} does not go on from {prompt!r} at a token's edge")
    return len(whole) - len(head)
