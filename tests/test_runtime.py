"""The package settles how torch's threads wait, in one place and before torch is loaded; texts pass one door."""

import os
import subprocess
import sys

from rlhf_lite.runtime import ROOT

import pytest


def spin_count(**environment):
    """What a fresh Python's environment says after importing the package, and whether torch came with it."""
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    source = (
        "import os, sys, rlhf_lite; print(os.environ.get('GOMP_SPINCOUNT'), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        env=kept | environment,
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    return done.stdout.split()


def test_threads_wait_briefly():
    assert spin_count() == ["5000", "False"]


@pytest.mark.parametrize(
    ("environment", "count"),
    [({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_what_the_user_has_set_stays(environment, count):
    assert spin_count(**environment) == [count, "False"]


def test_torch_reads_it():
    """libgomp prints the count that it took, in the kernel of a notebook as in a script."""
    source = "from rlhf_lite.runtime import ROOT; import torch; torch.ones(9).sum()"
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", source], env=kept | {"OMP_DISPLAY_ENV": "VERBOSE"}, cwd=ROOT, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("another OpenMP than libgomp")
    assert "GOMP_SPINCOUNT = '5000'" in done.stderr


def test_memory_is_kept_and_given_back():
    """Where 64 MB were free before, 16 MB come back without page faults, until it is tidied away; elsewhere than
    with glibc both calls do nothing.
    """
    pytest.importorskip("resource")
    source = (
        "import ctypes, resource, torch\n"
        "from rlhf_lite import runtime\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    torch.ones(2**22)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "torch.ones(2**24)\n"
        "print(hasattr(ctypes.CDLL(None), 'mallopt'), faults(), runtime.tidy_memory(), faults())"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, encoding="utf-8", check=True, cwd=ROOT
    )
    glibc, kept, _, tidied = done.stdout.split()
    assert glibc == "False" or int(kept) < 100 < 1000 < int(tidied)
