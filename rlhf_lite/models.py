"""Make, load and save causal language models and their tokenizers, as plain Hugging Face folders.

safetensors only: no pickle, no code from a hub. Any GPT-2 works, by hub name or by folder. Omits
everything that changes a model's architecture. Taught by notebook 01.
"""

import copy
import hashlib
import json
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path

from rlhf_lite.checks import TextError

import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

END, PAD = "<|endoftext|>", "<|pad|>"
IMPOSSIBLE = -1e9  # a logit that no softmax in float32 or bfloat16 turns into more than 0


class ModelError(ValueError):
    """Says in one sentence why a model cannot be had."""


def new_tokenizer(texts, vocab_size=2048):
    """Train a byte-level BPE tokenizer (Sennrich et al. 2016, as in GPT-2) on `texts`.

    texts: iterable of str. Returns a tokenizer whose pad token differs from its end-of-text token.
    """
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        texts, vocab_size=vocab_size, special_tokens=[END, PAD], show_progress=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token=END, eos_token=END, pad_token=PAD
    )


def new_model(tokenizer, layers=4, width=192, heads=3, context=320):
    """Make an untrained GPT-2 (Radford et al. 2019) that fits `tokenizer`, without dropout."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=context,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        activation_function="gelu_pytorch_tanh",  # GPT-2's own, in one fused operation
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return GPT2LMHeadModel(config)


def load(name, device="cpu"):
    """Load (model, tokenizer) from a folder or, by name such as "gpt2", from the hub.

    float32, no dropout, independent of the files it came from. A tokenizer without a pad token,
    such as GPT-2's, gets one of its own: see `fit`. Raises ModelError where there is no such model,
    no model in the folder, or a tokenizer that does not fit.
    """
    name, folder = str(name), Path(name)
    if folder.exists() and not (folder / "config.json").exists():
        raise ModelError(f"no model in the folder {name!r}: expected config.json and safetensors")
    if not folder.exists() and (name.count("/") > 1 or name.startswith((".", "/", "~"))):
        raise ModelError(
            f"no folder {name!r}; expected a model's folder, or a hub name like 'gpt2'"
        )
    model, tokenizer = open_folder(AutoModelForCausalLM, name)
    return fit(model, tokenizer, name).to(device).eval(), tokenizer


def open_folder(kind, name):
    """Open a folder, or a hub name, as (model in float32, tokenizer); kind: a transformers class.

    Raises ModelError, in one sentence, for whatever is missing or damaged in it.
    """
    logging.disable_progress_bar()
    # A truncated file raises whatever the code deep inside stumbles over.
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model, report = kind.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:
        where = (
            "the folder is damaged"
            if Path(name).exists()
            else "no such folder, and no hub in reach"
        )
        raise ModelError(
            f"cannot load the model {str(name)!r} ({where}); expected a folder with config.json, "
            f"model.safetensors and tokenizer files, or a hub name like 'gpt2'"
        ) from error
    if report["missing_keys"]:
        raise ModelError(
            f"the model {str(name)!r} lacks the weights {min(report['missing_keys'])!r}; expected "
            f"all that a {type(model).__name__} has"
        )
    # from_pretrained maps the file: another model copied over it would change this one.
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()
    return model, tokenizer


def fit(model, tokenizer, name="this model"):
    """Check that a tokenizer and a model belong together; add a pad token where there is none.

    The added token has a row of zeros that is only ever read behind an attention mask, and no share
    of the probability: log p of every text stays what plain transformers say. `save` leaves it out.
    """
    rows = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer of {name!r} has {len(tokenizer)} tokens but the model only "
            f"{rows} rows; expected a tokenizer that was saved with the model"
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {name!r} has no end-of-text token; expected one")
    if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer.add_special_tokens({"pad_token": PAD})
        if len(tokenizer) > rows:
            model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
            for table in (model.get_input_embeddings(), model.lm_head):
                table.weight.data[rows:] = 0
            model.lm_head.register_forward_hook(_without_last)
    model.config.pad_token_id = tokenizer.pad_token_id
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return model


def _without_last(head, inputs, logits):
    """Take the last token, an added pad, out of the softmax; finite, so that 0 times it is 0."""
    logits[..., -1] = IMPOSSIBLE
    return logits


def save(model, tokenizer, folder):
    """Save a model and its tokenizer to a folder that `load` and `from_pretrained` open.

    Without a pad token that `load` had to add, so that other programs read the same probabilities.
    """
    logging.disable_progress_bar()
    head = model.get_output_embeddings()
    if head is not None and _without_last in head._forward_hooks.values():
        model = copy.deepcopy(model)
        model.resize_token_embeddings(tokenizer.pad_token_id)
        model.config.pad_token_id = None
        tokenizer = _without_pad(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _without_pad(tokenizer):
    """Return a copy of a tokenizer without its pad token."""
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    spec["added_tokens"] = [t for t in spec["added_tokens"] if t["id"] != tokenizer.pad_token_id]
    names = {k: v for k, v in tokenizer.special_tokens_map.items() if k != "pad_token"}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(spec)), **names)


@contextmanager
def attention(model, kind):
    """Use one of transformers' kernels of attention, such as "eager", inside a with block."""
    usual = model.config._attn_implementation
    model.set_attn_implementation(kind)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def backward_attention(model):
    """Name the kernel of attention to learn with: on a CPU the fused one is slow backward."""
    return "eager" if model.device.type == "cpu" else model.config._attn_implementation


def count_parameters(model):
    """Count the parameters of a model, shared ones once."""
    return sum(p.numel() for p in model.parameters())


def checksum(model):
    """Return 12 hex digits that name the weights of a model, wherever it lies."""
    found = hashlib.sha256()
    for name, weight in model.state_dict().items():
        found.update(name.encode() + weight.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


def context_of(model):
    """Return how many tokens fit into a model's context, the start token included."""
    return model.config.n_positions


def check_fits(lengths, context, first=0):
    """Raise TextError for the first text that has more tokens than the context.

    lengths: tokens of each text with its start, and its end where that is read; first: the number
    of the first one, for the message.
    """
    for number, length in enumerate(lengths, first):
        if length > context:
            raise TextError(
                f"texts[{number}] takes {length} places with its start token; expected at most the "
                f"context of {context}"
            )


def first_layers(base, layers):
    """Return a copy of a base model with its first `layers` blocks only.

    Example: `first_layers(base, 1)`.
    """
    if not isinstance(layers, Integral) or not 1 <= layers <= base.config.n_layer:
        raise ModelError(f"layers is {layers}; expected 1 to {base.config.n_layer}")
    config = type(base.config)(**base.config.to_dict() | {"n_layer": layers})
    model = GPT2LMHeadModel(config)
    model.load_state_dict(base.state_dict(), strict=False)
    return model.to(base.device).eval()
