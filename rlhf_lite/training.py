"""Train a language model on texts, one frozen record a step; the caller owns the loop.

    for step in LanguageRun(model, tokenizer, texts, LanguageConfig()):
        print(step.loss)

Stop whenever you like: the model, the history and the optimiser stay usable, and the same run goes
on. Omits several machines at once (notebook 14). Notebook 01 writes the loop out and checks it
against this one.
"""

import hashlib
import json
import math
import random
import time
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import get_args, get_type_hints

from rlhf_lite.checks import check_texts
from rlhf_lite.models import check_fits, context_of
from rlhf_lite.runtime import autocast, tidy_memory

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch.nn.utils.rnn import pad_sequence

CHECKPOINT = "checkpoint.safetensors"


class TrainingError(RuntimeError):
    """Says in one sentence why a run cannot start or go on."""


# What a dial of each type takes, and in words: numpy's numbers too, but True is no number.
DIALS = {
    int: ("a whole number", lambda x: isinstance(x, Integral) and not isinstance(x, bool)),
    float: (
        "a finite number",
        lambda x: isinstance(x, Real) and not isinstance(x, bool) and math.isfinite(x),
    ),
    bool: ("True or False", lambda x: isinstance(x, bool | np.bool_)),
    str: ("a word", lambda x: isinstance(x, str)),
}


def settle_dials(config, error):
    """Turn every field of a frozen dataclass into plain Python of the type that it declares.

    So that a run with numpy's numbers as dials can be written down. Raises `error`, an exception
    class, for the first dial of another type.
    """
    for name, hint in get_type_hints(type(config)).items():
        value, kinds = getattr(config, name), get_args(hint) or (hint,)
        if value is None and NoneType in kinds:
            continue
        expected, fits = DIALS[kinds[0]]
        if not fits(value):
            raise error(f"{name} is {value!r}; expected {expected}")
        object.__setattr__(config, name, kinds[0](value))


@dataclass(frozen=True)
class TrainingConfig:
    """The dials that training on texts and training on labels share."""

    batch: int = 64
    """Documents a step."""
    lr: float = 2e-3
    """Peak learning rate."""
    warmup: int = 200
    """Steps until the peak."""
    passes: int = 1
    """Passes over the texts; the learning rate starts each one at half the last peak."""
    weight_decay: float = 0.1
    """Pull of AdamW on the weight matrices."""
    clip: float = 1.0
    """Largest gradient norm of the model's weights."""
    seed: int = 0
    """Order of the documents."""
    bfloat16: bool = True
    """Whether to multiply in bfloat16 where the hardware has it."""

    def __post_init__(self):
        """Check that the dials make sense."""
        settle_dials(self, TrainingError)
        for name in ("batch", "lr", "clip", "passes"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} is {getattr(self, name):g}; expected more than 0")


@dataclass(frozen=True)
class LanguageConfig(TrainingConfig):
    """The dials of next-token training."""

    steps: int | None = None
    """Steps of a pass; None means as many as see every text once."""


@dataclass(frozen=True)
class LanguageStep:
    """One step: losses [nats a document, its end included; nats a token], tokens, seconds."""

    step: int
    of: int
    loss: float
    loss_per_token: float
    lr: float
    grad_norm: float
    tokens: int
    seconds: float


class LanguageRun:
    """A run of next-token training that can be stopped, saved, loaded and gone on with.

    texts: list of str. Iterating yields LanguageSteps until `config.steps`. The loss is the mean
    over documents of -log p(document), so that it compares with the entropy of the grammar (a
    floor, in nats).
    """

    def __init__(self, model, tokenizer, texts, config=None):
        texts = check_texts(texts, "texts to train on", least=1)
        self.model, self.config = model, config or LanguageConfig()
        if model.device.type == "cpu":
            model.set_attn_implementation("eager")  # a fifth faster than sdpa at these lengths
        self.rows = encode_rows(tokenizer, texts, model.config.n_positions)
        self.end, self.pad = tokenizer.eos_token_id, tokenizer.pad_token_id
        self.pass_steps = self.config.steps or max(1, len(self.rows) // self.config.batch)
        self.steps = self.pass_steps * self.config.passes
        self.optimizer = adamw(model.parameters(), self.config.lr, self.config.weight_decay)
        self.step, self.history = 0, []
        self.identity = asdict(self.config) | {"texts": digest(texts)}

    def lr_at(self, step):
        """Return the learning rate of a step.

        Up in a line, down along a cosine to a hundredth, and in the next pass again from half the
        height (Loshchilov and Hutter 2017).
        """
        done, step = divmod(step, self.pass_steps)
        peak, warmup = self.config.lr / 2**done, min(self.config.warmup, self.pass_steps // 5 + 1)
        return peak * cosine(step, self.pass_steps, warmup)

    def batches(self, epoch):
        """List the batches of one pass, as row numbers.

        Rows of like length stand together, to waste no padding.
        """
        lengths = [len(row) for row in self.rows]
        return batches_by_length(lengths, self.config.batch, self.config.seed * 1000 + epoch)

    def __iter__(self):
        """Yield a LanguageStep for each step that is left."""
        batches, epoch = self.batches(0), 0
        while self.step < self.steps:
            due, place = divmod(self.step, len(batches))
            if due != epoch:
                batches, epoch = self.batches(due), due
            yield self._update(batches[place])

    def _update(self, numbers):
        """Take one step on one batch."""
        start, device = time.perf_counter(), self.model.device
        tidy_memory(self.step)
        tokens = pad_rows([self.rows[i] for i in numbers], self.end, self.pad).to(device)
        self.model.train()
        lr = self.lr_at(self.step)
        with autocast(device, self.config.bfloat16):
            nats, count = next_token_loss(self.model, tokens, self.pad)
        weights, clip = self.model.parameters(), self.config.clip
        set_lr(self.optimizer, lr)
        norm = descend(nats / count, self.optimizer, weights, clip, self.step)
        self.model.eval()
        self.step += 1
        nats, count, seconds = float(nats.detach()), int(count), time.perf_counter() - start
        record = LanguageStep(
            self.step, self.steps, nats / len(numbers), nats / count, lr, norm, count, seconds
        )
        self.history.append(record)
        return record

    def save(self, folder):
        """Save weights, optimiser and history, so that `load` in a fresh run goes on from here."""
        meta = {"step": self.step, "history": list(map(asdict, self.history))}
        save_checkpoint(
            folder, dict(self.model.named_parameters()), self.optimizer, self.identity, meta
        )

    def load(self, folder):
        """Go on from a folder that `save` wrote.

        Raises TrainingError where it is damaged, or of other texts, other dials or another model.
        """
        meta = load_checkpoint(
            folder, dict(self.model.named_parameters()), self.optimizer, self.identity
        )
        self.step = meta["step"]
        self.history = [LanguageStep(**s) for s in meta["history"]]


def digest(texts):
    """Return 12 hex digits that name a list of texts."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:12]


def save_checkpoint(folder, named, optimizer, identity, meta):
    """Write parameters, Adam's state and a JSON-able `meta` to one safetensors file in a folder.

    named: {name: parameter}, all that the optimiser trains; identity: {name: value}, what makes
    this run this run, which `load_checkpoint` compares.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = {p: n for n, p in named.items()}
    tensors = {f"model.{n}": p.detach().cpu().clone() for n, p in named.items()}
    for param, state in optimizer.state.items():
        for key, value in state.items():
            tensors[f"optimizer.{key}.{names[param]}"] = value.detach().cpu().clone()
    # As a tensor: the header of a safetensors file is limited, and a long history is not.
    text = json.dumps({"identity": identity, "meta": meta}).encode()
    tensors["run"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    save_file(tensors, folder / "checkpoint.new")
    # Put in place at once: a kill leaves the old checkpoint or the new one, never half of one.
    (folder / "checkpoint.new").replace(folder / CHECKPOINT)


def load_checkpoint(folder, named, optimizer, identity):
    """Read what `save_checkpoint` wrote into the same parameters and optimiser; return its `meta`.

    Nothing stays tied to the file. Raises TrainingError, before anything has changed, where the
    folder holds no checkpoint, a damaged one, or that of another model or another run.
    """
    tensors, run = _read_checkpoint(Path(folder) / CHECKPOINT)
    saved, here = run["identity"], json.loads(json.dumps(identity))
    for name in [*here, *saved]:
        if saved.get(name) != here.get(name):
            raise TrainingError(
                f"{folder} holds another run: its {name} is {saved.get(name)!r}; expected "
                f"{here.get(name)!r}, as in the run that goes on"
            )
    shapes = {n[6:]: t.shape for n, t in tensors.items() if n.startswith("model.")}
    if shapes != {n: p.shape for n, p in named.items()}:
        raise TrainingError(f"{folder} holds another model; expected one of the same shape")
    fused = optimizer.defaults.get("fused")  # such an optimiser counts its steps on the device
    for name, param in named.items():
        param.data.copy_(tensors[f"model.{name}"])
        state = {
            key: tensors[f"optimizer.{key}.{name}"]
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"optimizer.{key}.{name}" in tensors
        }
        optimizer.state[param] = {
            k: v if k == "step" and not fused else v.to(param.device) for k, v in state.items()
        }
    return run["meta"]


def _read_checkpoint(path):
    """Return (tensors, what JSON stands beside them) of a checkpoint, or raise TrainingError."""
    if not path.exists():
        raise TrainingError(f"no {CHECKPOINT} in {path.parent}; expected a folder that save wrote")
    try:
        # From bytes, not mapped: the file may be replaced while the run goes on.
        tensors = load(path.read_bytes())
        return tensors, json.loads(bytes(tensors.pop("run").numpy()))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise TrainingError(
            f"{path} is damaged ({type(error).__name__}); expected a file that save wrote"
        ) from error


def adamw(parameters, lr, weight_decay):
    """Make the optimiser of the course: AdamW (Loshchilov and Hutter 2019), no decay on vectors."""
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-8)


def descend(loss, optimizer, weights, clip, step):
    """Take one gradient step; return the norm of the gradient before clipping.

    weights: the parameters whose gradient is clipped to the norm `clip`; step: its number, for the
    message. Raises TrainingError where the loss is not a number, before anything has moved.
    """
    if not torch.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss.item()} at step {step}; "
            f"the learning rate {optimizer.param_groups[0]['lr']:g} is the usual cause"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(weights, clip)
    optimizer.step()
    return float(norm)


def set_lr(optimizer, lr):
    """Set the learning rate of everything that an optimiser trains."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def cosine(step, steps, warmup):
    """Return the share of the peak learning rate at a step.

    Up in a line, down along a cosine to 0.01.
    """
    if step < warmup:
        return (step + 1) / warmup
    along = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * along))


def batches_by_length(lengths, size, seed):
    """List the batches of one pass as lists of numbers, rows of like length together.

    Drops what does not fill a batch, unless nothing does.
    """
    rng, order, batches = random.Random(seed), list(range(len(lengths))), []
    rng.shuffle(order)
    for start in range(0, len(order), size * 50):
        stretch = sorted(order[start : start + size * 50], key=lambda i: lengths[i])
        part = [stretch[i : i + size] for i in range(0, len(stretch), size)]
        rng.shuffle(part)
        batches += part
    return [b for b in batches if len(b) == size] or batches


def next_token_loss(model, tokens, pad):
    """Return (sum of -log p over the real tokens [nats], their number).

    Cross-entropy of the next token: -sum_t log p(x_t | x_<t), the start token not counted. tokens
    (B, T): padded on the right.
    """
    targets = tokens[:, 1:]
    keep = targets != pad
    # Causal attention never looks at padding on the right, so any token but the pad will do there.
    inputs = tokens[:, :-1].masked_fill(tokens[:, :-1] == pad, tokens[0, 0])
    hidden = model.base_model(input_ids=inputs).last_hidden_state
    logits = model.lm_head(hidden[keep])
    nats = torch.nn.functional.cross_entropy(logits.float(), targets[keep], reduction="sum")
    return nats, keep.sum()


def encode_rows(tokenizer, texts, context=None):
    """Encode texts, each cut to what fits between start and end token into a context, if any."""
    texts, rows, most = check_texts(texts), [], context and context - 1
    for start in range(0, len(texts), 10_000):
        encoded = tokenizer(texts[start : start + 10_000])["input_ids"]
        rows += [torch.tensor(ids[:most], dtype=torch.int32) for ids in encoded]
    return rows


def pad_rows(rows, end, pad):
    """Put rows between start and end token and pad them on the right: (B, T)."""
    rows = [torch.nn.functional.pad(row.long(), (1, 1), value=end) for row in rows]
    return pad_sequence(rows, True, pad)


@torch.no_grad()
def evaluate_loss(model, tokenizer, texts, batch=64):
    """Return -log p of each text, its end included, as a float64 tensor (N,) [nats].

    Without bfloat16. Raises TextError where a text does not fit into the context.
    """
    rows = encode_rows(tokenizer, texts)
    check_fits((len(row) + 1 for row in rows), context_of(model))
    losses = torch.zeros(len(rows), dtype=torch.float64)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        tokens = pad_rows([rows[i] for i in part], tokenizer.eos_token_id, tokenizer.pad_token_id)
        tokens = tokens.to(model.device)
        keep = tokens[:, 1:] != tokenizer.pad_token_id
        inputs = tokens[:, :-1].masked_fill(~keep, tokenizer.eos_token_id)
        logprobs = torch.log_softmax(model(input_ids=inputs).logits.float(), -1)
        picked = logprobs.gather(2, tokens[:, 1:, None])[:, :, 0]
        losses[part] = -(picked * keep).sum(1).double().cpu()
    return losses


def smooth(values, width=50):
    """Return the running mean of a series over the last `width` values, shape unchanged.

    50 batches share one stretch of lengths in training, so 50 averages out how long they are.
    """
    total = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=float))])
    start = np.maximum(0, np.arange(1, len(total)) - width)
    return (total[1:] - total[start]) / (np.arange(1, len(total)) - start)
