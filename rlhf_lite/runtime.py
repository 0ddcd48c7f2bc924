"""Decide where and how things run: seeds, device, precision, paths, and the fast switch.

Omits anything distributed; notebook 14 hands that to Accelerate.
"""

import os
import random
from contextlib import nullcontext
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
FAST = os.environ.get("RLHF_LITE_FAST", "") == "1"


class TextError(ValueError):
    """Say in one sentence which text cannot be used, and why."""


def check_texts(texts, name="texts", least=0):
    """Return texts as a list of str, e.g. `check_texts(["A hero."])`.

    name: what they are called in a message; least: how many there must be. Raises TextError for a
    single string, which would be read letter by letter, for what is no text, and for half a
    character (a lone surrogate), which no tokenizer and no file takes.
    """
    if isinstance(texts, (str, bytes)):
        raise TextError(f"{name} is one string; expected a list of texts, such as [text]")
    if isinstance(texts, dict) or not hasattr(texts, "__iter__"):
        raise TextError(f"{name} is a {type(texts).__name__}; expected a list of texts")
    texts = list(texts)
    if len(texts) < least:
        raise TextError(f"no {name}; expected a list with at least one text")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TextError(f"{name}[{number}] is a {type(text).__name__}; expected text")
        if not is_whole(text):
            raise TextError(
                f"{name}[{number}] holds half a character (a lone surrogate); expected whole text"
            )
    return texts


def is_whole(text):
    """Tell whether a text is all whole characters, so that UTF-8 can write it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def seed_everything(seed):
    """Seed Python, NumPy and PyTorch with one number, e.g. `seed_everything(0)`."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def pick_device():
    """Return the device to compute on: a GPU where there is one, the CPU elsewhere."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16(device):
    """Tell whether bfloat16 is fast on `device`: a recent GPU, or a CPU with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() if hasattr(torch, "cpu") else False


def autocast(device, enabled=True):
    """Return a context in which matrix products run in bfloat16 where that is fast.

    Twice as fast as float32 in training the base model on two cores.
    """
    if enabled and has_bfloat16(device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def scaled(full, fast):
    """Return `full`, or `fast` when the switch RLHF_LITE_FAST=1 is on (the tests use it)."""
    return fast if FAST else full


def check_count(value, name, least=1):
    """Return a whole number of at least `least`, e.g. `check_count(8, "samples")`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}")
    return value


def check_numbers(values, name, ndim=1):
    """Return values as an array of finite numbers, e.g. `check_numbers([0.5, 1], "scores")`.

    ndim: how many axes they must have, none of them empty; name: what they are called in a message.
    """
    expected = f"expected finite numbers on {ndim} {'axis' if ndim == 1 else 'axes'}"
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} have rows of unequal length; {expected}") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} are not all numbers ({type(values).__name__}); {expected}")
    if array.ndim != ndim or not array.size:
        raise ValueError(f"{name} have the shape {array.shape}; {expected}, at least one")
    if not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ValueError(f"{name}{place} is {array[tuple(place)]}; {expected}")
    return array


def check_alike(named, ndim=1):
    """Return arrays of finite numbers that all have one shape; named: {name: values}."""
    arrays = [check_numbers(values, name, ndim) for name, values in named.items()]
    if len({array.shape for array in arrays}) > 1:
        shapes = " and ".join(f"{name} {a.shape}" for name, a in zip(named, arrays))
        raise ValueError(f"shapes of {shapes} differ; expected a number of each for each")
    return arrays
