"""Turn feedback into a scalar score of a text: one loss a kind, one model, one training loop.

A reward model is the base model with a linear head in place of the vocabulary, read at the last
token. All five losses are likelihoods of the choices in `rlhf_lite.annotators`, so each one
recovers lambda u(text) up to a constant, as far as its data allow. Omits smaller models and several
at once (see `proxies`). Taught by notebook 03.
"""

import copy
import time
from dataclasses import dataclass
from pathlib import Path

from rlhf_lite.annotators import LADDER
from rlhf_lite.checks import check_choice, check_texts
from rlhf_lite.edits import changed_span
from rlhf_lite.feedback import ASPECTS, FeedbackError, require
from rlhf_lite.models import ModelError, check_fits, context_of, open_folder
from rlhf_lite.runtime import autocast, tidy_memory
from rlhf_lite.training import TrainingConfig, adamw, batches_by_length, cosine, descend, set_lr

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid, softplus
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForSequenceClassification,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerBase,
)

KINDS = ("preference", "rating", "demonstration", "correction", "critique")


# ---- the model ----


def new_reward_model(base, heads=1, seed=0):
    """Put `heads` linear heads on a copy of a base model.

    Their weights are drawn with sd 1 / sqrt(width + 1) (Stiennon et al. 2020).
    """
    config = copy.deepcopy(base.config)
    config.num_labels = heads
    model = GPT2ForSequenceClassification(config)
    model.transformer.load_state_dict(base.transformer.state_dict())
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(model.score.weight.shape, generator=generator)
    with torch.no_grad():
        model.score.weight.copy_(drawn / (config.n_embd + 1) ** 0.5)
    return model.to(base.device).eval()


@dataclass(frozen=True)
class Reward:
    """A reward model as a function of texts, e.g. `rewards.load(folder)(["Ivo Vane sang."])`.

    batch: texts at a time; autocast: whether in bfloat16 where that is fast (see `runtime`), which
    leaves three digits.
    """

    model: GPT2ForSequenceClassification
    tokenizer: PreTrainedTokenizerBase
    batch: int = 128
    autocast: bool = False

    def __call__(self, texts):
        """Return the score of each text, as `score` does: float32 (N,) on the CPU."""
        with autocast(self.model.device, self.autocast):
            return score(self.model, self.tokenizer, texts, self.batch)


def load(folder, device="cpu"):
    """Load the Reward of a folder; raise ModelError where there is none."""
    if not (Path(folder) / "config.json").exists():
        raise ModelError(f"no reward model in {str(folder)!r}; expected a folder with config.json")
    model, tokenizer = open_folder(AutoModelForSequenceClassification, folder)
    if model.config.num_labels != 1:
        raise ModelError(f"{str(folder)!r} has {model.config.num_labels} heads; expected one score")
    return Reward(model.to(device).eval(), tokenizer)


def encode_right(tokenizer, texts, context, cut=False):
    """Encode texts behind the start token, padded on the right: tokens (B, T), lengths (B,).

    A text longer than the context is cut at its end, as training does, or raises TextError: the
    score of a part is not that of the text.
    """
    encoded = tokenizer(check_texts(texts, least=1))["input_ids"]
    if not cut:
        check_fits((len(ids) + 1 for ids in encoded), context)
    rows = [torch.tensor([tokenizer.eos_token_id, *ids][:context]) for ids in encoded]
    # What stands right of the last token is never looked at; the end token there raises no warning.
    return pad_sequence(rows, True, tokenizer.eos_token_id), torch.tensor([len(r) for r in rows])


def read_heads(model, tokens, lengths):
    """Return the heads at the last real token of each row, (B, heads), padding on the right.

    Causal attention never looks to the right, so the padding needs no mask.
    """
    hidden = model.transformer(input_ids=tokens.to(model.device)).last_hidden_state
    return model.score(hidden[torch.arange(len(tokens)), lengths.to(model.device) - 1])


@torch.no_grad()
def score(model, tokenizer, texts, batch=128):
    """Return the score of each text, prompt and response together, float32 (N,) on the CPU.

    In units of standard deviations on base samples, once `normalise` has been called.
    """
    texts = check_texts(texts)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = torch.zeros(len(texts))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        tokens, lengths = encode_right(tokenizer, [texts[i] for i in part], context_of(model))
        found[part] = read_heads(model, tokens, lengths)[:, 0].float().cpu()
    return found


@torch.no_grad()
def trace(model, tokenizer, text):
    """Return [(token text, score if the text ended here)] for each token of a text."""
    tokens, _ = encode_right(tokenizer, [text], context_of(model))
    hidden = model.transformer(input_ids=tokens.to(model.device)).last_hidden_state
    scores = model.score(hidden)[0, :, 0].tolist()
    return [(tokenizer.decode([i]), s) for i, s in zip(tokens[0, 1:].tolist(), scores[1:])]


@torch.no_grad()
def normalise(model, tokenizer, texts):
    """Shift and scale a one-head model in place to mean 0 and sd 1 on `texts`; return (mean, sd).

    The scale goes into the head, the shift into the bias of the last layer norm, so that any
    program that opens the folder reads the normalised score. The numbers are kept in its
    configuration.
    """
    if len(texts) < 2:
        raise ModelError(f"{len(texts)} text to normalise on; expected at least two")
    raw = score(model, tokenizer, texts)
    mean, sd = float(raw.mean()), float(raw.std())
    if not sd > 0:
        raise ModelError(f"all {len(texts)} texts have the same score; expected some that differ")
    head = model.score.weight[0]
    model.transformer.ln_f.bias -= mean * head / (head @ head)
    model.score.weight /= sd
    model.config.reward_mean, model.config.reward_sd = mean, sd
    model.config.reward_texts = len(texts)
    return mean, sd


@torch.no_grad()
def one_head(model):
    """Return a model with one head whose score is minus the sum of the aspect heads of `model`.

    Each aspect head is trained as logit P(remark) = lambda loss_k - silence, and u = constant - sum
    of losses, so minus the sum of the logits is lambda u up to a constant.
    """
    config = copy.deepcopy(model.config)
    config.num_labels = 1
    single = GPT2ForSequenceClassification(config)
    single.transformer.load_state_dict(model.transformer.state_dict())
    single.score.weight.copy_(-model.score.weight.sum(0, keepdim=True))
    return single.to(model.device).eval()


# ---- the losses ----


def preference_loss(chosen, rejected, ties=None, log_tie=None):
    """Return the mean negative log-likelihood of preferences [nats a label]; scores (B,).

    Without ties -log sigmoid(s_chosen - s_rejected) (Bradley and Terry 1952; InstructGPT eq. 1).
    With ties (B,) bool and log_tie, P(tie) is proportional to exp(log_tie + (s_a + s_b) / 2) beside
    exp(s_a) and exp(s_b) (Davidson 1970).
    """
    if log_tie is None:
        return -logsigmoid(chosen - rejected).mean()
    middle = (chosen + rejected) / 2 + log_tie
    total = torch.logsumexp(torch.stack([chosen, rejected, middle]), 0)
    return (total - torch.where(ties, middle, chosen)).mean()


def rating_loss(scores, ratings, thresholds):
    """Return the mean negative log-likelihood of ratings 1..7 [nats a label].

    P(rating > k) = sigmoid(s - threshold_k), thresholds (6,) ascending (McCullagh 1980).
    """
    edge = thresholds.new_tensor([float("inf")])
    ladder = torch.cat([-edge, thresholds, edge])
    upper, lower = ladder[ratings] - scores, ladder[ratings - 1] - scores
    # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)) keeps its digits.
    between = torch.log1p(-torch.exp((lower - upper).clamp(max=-1e-6)))
    return -(logsigmoid(upper) + logsigmoid(-lower) + between).mean()


def demonstration_loss(expert, base):
    """Return the mean logistic loss of telling demonstrations from base samples [nats a text].

    At its minimum the logit is log pi_expert(y|x) - log pi_0(y|x), which for an expert who chooses
    with rationality lambda is lambda u(x, y) - log Z(x).
    """
    return -(logsigmoid(expert).mean() + logsigmoid(-base).mean()) / 2


def critique_loss(heads, flags):
    """Return the mean binary cross-entropy of remarks, heads and flags (B, 8) [nats a remark]."""
    return binary_cross_entropy_with_logits(heads, flags)


# ---- from records to batches ----


def examples(kind, records, base=None, located=True):
    """Turn records of one kind into [(texts, target)].

    preference: (chosen, rejected), whether a tie. rating: (text,), the rating. demonstration:
    (demonstration, base sample), where `base` lists one response of the base model to each record's
    prompt. correction: (corrected, original), both cut right behind the change if `located`, so
    that the difference is credited to the tokens that make it. critique: (text,), 8 flags.
    """
    check_choice(kind, KINDS, "kind", FeedbackError)
    records = require(records, kind)
    if kind == "preference":
        return [(_texts(r, "chosen", "rejected"), r["tie"]) for r in records]
    if kind == "rating":
        return [(_texts(r, "response"), r["rating"]) for r in records]
    if kind == "demonstration":
        if base is None or len(base) != len(records):
            found = f"{len(base or [])} base samples for {len(records)} demonstrations"
            raise FeedbackError(f"{found}; expected one each")
        return [((*_texts(r, "response"), r["prompt"] + b), 0) for r, b in zip(records, base)]
    if kind == "correction":
        cut = _located if located else lambda record: _texts(record, "corrected", "response")
        return [(cut(r), 0) for r in records]
    said = [{remark.split(":")[0] for remark in r["critique"]} for r in records]
    flags = [[float(aspect in s) for aspect in ASPECTS] for s in said]
    return [(_texts(r, "response"), f) for r, f in zip(records, flags)]


def _texts(record, *fields):
    """Return the prompt of a record with each of these fields behind it."""
    return tuple(record["prompt"] + record[field] for field in fields)


def _located(record):
    """Return (corrected, original), each cut behind the line in which the change ends."""
    corrected, original = _texts(record, "corrected", "response")
    _, old, new = changed_span(original, corrected)
    return _to_line_end(corrected, new), _to_line_end(original, old)


def _to_line_end(text, at):
    """Cut a text at the end of the line that holds position `at`."""
    end = text.find("\n", at)
    return (text if end < 0 else text[:end]).strip("\n") or text


# ---- training ----


def passes_for(count):
    """Return how often to read `count` labels: about 3,000 in all, 1 to 6 times."""
    return min(6, max(1, round(3000 / count)))


@dataclass(frozen=True)
class RewardConfig(TrainingConfig):
    """The dials of reward-model training."""

    batch: int = 32
    """Labels a step."""
    lr: float = 5e-4
    """Peak learning rate."""
    warmup: int = 10
    """Steps until the peak."""
    passes: int = 2
    """Passes over the labels."""
    seed: int = 0
    """Order of the labels, and the first weights of the head."""


@dataclass(frozen=True)
class RewardStep:
    """One step: loss [nats a label], learning rate, gradient norm, seconds."""

    step: int
    of: int
    loss: float
    lr: float
    grad_norm: float
    seconds: float


class RewardRun:
    """A run of reward-model training on one kind of feedback; iterate to train.

    Example: `run = RewardRun(base, tokenizer, "preference", examples("preference", records))`, then
    `for step in run: ...`, then `run.reward_model()`.
    """

    def __init__(self, base, tokenizer, kind, rows, config=None):
        self.kind = check_choice(kind, KINDS, "kind", FeedbackError)
        self.rows, self.config = rows, config or RewardConfig()
        heads = len(ASPECTS) if kind == "critique" else 1
        self.model, self.tokenizer = new_reward_model(base, heads, self.config.seed), tokenizer
        if self.model.device.type == "cpu":
            self.model.set_attn_implementation("eager")
        self.extra = torch.nn.ParameterDict({
            "log_tie": torch.nn.Parameter(torch.tensor(-1.0)),
            "steps": torch.nn.Parameter(torch.zeros(LADDER - 1)),
        }).to(self.model.device)  # fmt: skip
        parameters = [*self.model.parameters(), *self.extra.parameters()]
        self.optimizer = adamw(parameters, self.config.lr, self.config.weight_decay)
        lengths, self.order = [sum(map(len, texts)) for texts, _ in rows], []
        for epoch in range(self.config.passes):
            seed = self.config.seed * 1000 + epoch
            self.order += batches_by_length(lengths, self.config.batch, seed)
        self.steps, self.history = len(self.order), []

    def thresholds(self):
        """Return the six thresholds between the ratings, ascending [score]."""
        steps = self.extra["steps"]
        return torch.cat([steps[:1] - 2, softplus(steps[1:])]).cumsum(0)

    def loss(self, batch):
        """Return the loss of a batch, a list of (texts, target)."""
        texts = [t for group, _ in batch for t in group]
        tokens, lengths = encode_right(self.tokenizer, texts, context_of(self.model), cut=True)
        heads = read_heads(self.model, tokens, lengths).float()
        target = torch.tensor([t for _, t in batch], device=heads.device)
        if self.kind == "critique":
            return critique_loss(heads, target)
        if self.kind == "rating":
            return rating_loss(heads[:, 0], target, self.thresholds())
        first, second = heads[0::2, 0], heads[1::2, 0]
        if self.kind == "preference":
            return preference_loss(first, second, target, self.extra["log_tie"])
        if self.kind == "correction":
            return preference_loss(first, second)
        return demonstration_loss(first, second)

    def __iter__(self):
        """Yield a RewardStep for each step that is left."""
        while len(self.history) < self.steps:
            yield self._update([self.rows[i] for i in self.order[len(self.history)]])

    def _update(self, batch):
        """Take one step on one batch."""
        start, step = time.perf_counter(), len(self.history)
        tidy_memory(step)
        lr = self.config.lr * cosine(step, self.steps, min(self.config.warmup, self.steps // 5 + 1))
        self.model.train()
        with autocast(self.model.device, self.config.bfloat16):
            loss = self.loss(batch)
        set_lr(self.optimizer, lr)
        norm = descend(loss, self.optimizer, self.model.parameters(), self.config.clip, step)
        self.model.eval()
        loss, seconds = float(loss.detach()), time.perf_counter() - start
        self.history.append(RewardStep(step + 1, self.steps, loss, lr, norm, seconds))
        return self.history[-1]

    def reward_model(self):
        """Return the model as a one-head reward model.

        For critiques, its score is minus the sum of the aspects.
        """
        return one_head(self.model) if self.kind == "critique" else self.model
