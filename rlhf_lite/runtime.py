"""Decide where and how things run: seeds, device, precision, paths, and the fast switch.

Omits anything distributed; notebook 14 hands that to Accelerate.
"""

import ctypes
import os
import random
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
FAST = os.environ.get("RLHF_LITE_FAST", "") == "1"


def keep_memory(most=2**30):
    """Ask glibc to keep freed blocks of up to `most` bytes for the next use; elsewhere do nothing.

    Handed back to the system, as they are by default, they return page by page: a sixth of the time
    of an update.
    """
    # M_MMAP_THRESHOLD; some versions take no more than 32 MB.
    if _glibc("mallopt", -3, most) or _glibc("mallopt", -3, 2**25):
        _glibc("mallopt", -1, most)  # M_TRIM_THRESHOLD


def tidy_memory(step=0):
    """Give back what `keep_memory` has kept, at every eighth step of a loop.

    The holes between blocks grow with the steps: to 7 GB in a thousand steps on texts.
    """
    if step % 8 == 0:
        _glibc("malloc_trim", 0)


def _glibc(name, *arguments):
    """Call a function of glibc where there is one, and return what it says, 0 for a failure."""
    function = getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
    return function(*arguments) if function else 0


keep_memory()


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
