"""Hand a training script to several processes of the libraries that labs use, and watch them.

    for line in launch("data/scale/train.py", ["grpo", "--steps", "2", "--out", folder]):
        print(line)

TRL, Accelerate and their kin are an extra, `scale` in pyproject.toml, and are never imported here:
they may live in an environment of their own. Omits several machines. Notebook 14 teaches it.
"""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections import deque
from functools import cache

from rlhf_lite.checks import check_count
from rlhf_lite.runtime import ROOT

INSTALL = "python -m pip install -e .[scale]"
ELSEWHERE = "RLHF_SCALE_PYTHON"  # names the Python of an environment that has the extra
MARK = "::"  # begins a line that a script wrote for a program: JSON follows


class LaunchError(RuntimeError):
    """Says in one sentence why a script cannot be launched, or how its processes ended."""


# ---- is the extra there? ----


def pins(path=ROOT / "pyproject.toml"):
    """Return {package: version} of the extra `scale`; "" where any version will do."""
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return {row.partition("==")[0]: row.partition("==")[2] for row in rows["scale"]}


@cache
def installed(python=sys.executable):
    """Return {package: version} of an interpreter; raise LaunchError where it cannot be run."""
    code = "from importlib.metadata import distributions as all_of\n"
    code += "print({d.name.lower(): d.version for d in all_of()})"
    try:
        return ast.literal_eval(subprocess.check_output([python, "-c", code], encoding="utf-8"))
    except (OSError, subprocess.CalledProcessError):
        raise LaunchError(f"{ELSEWHERE} is {python!r}; expected a Python that runs") from None


def lack(python=sys.executable):
    """Say in one sentence what of the extra a Python lacks, and how to get it; "" for nothing."""
    found = installed(python)
    for name, wanted in pins().items():
        there = found.get(name, "not installed")
        if there == "not installed" or wanted not in ("", there):
            return f"{name} is {there}; expected {wanted or 'any version'}: {INSTALL} brings it"
    return ""


def scale_python():
    """Return the Python that has the extra: this one, or the one that RLHF_SCALE_PYTHON names.

    Raises LaunchError where neither has.
    """
    other = os.environ.get(ELSEWHERE) or sys.executable
    for python in dict.fromkeys((sys.executable, other)):
        missing = lack(python)
        if not missing:
            return python
    raise LaunchError(missing if other == sys.executable else f"in {ELSEWHERE}, {missing}")


# ---- one launch ----


def launch(script, arguments=(), processes=2, python=None, threads=None):
    """Run a script on so many CPU processes; yield its lines as they come, an event as a dict.

    An event is a line of MARK and JSON, written by the script's first process. It has to write
    {"processes": N}, as Accelerate counts them; {"checkpoint": folder} says from where a run can go
    on. python: the interpreter, `scale_python()` if None; threads: of each process, a fair share of
    the cores if None. Raises LaunchError where fewer run than asked, or one fails or is killed.
    """
    check_count(processes, "processes")
    command = [python or scale_python(), "-m", "torch.distributed.run", "--standalone"]
    command += ["--local_addr", "127.0.0.1", "--nproc_per_node", str(processes), str(script)]
    threads = threads or max(1, (os.cpu_count() or 1) // processes)
    run = subprocess.Popen(
        [*command, *map(str, arguments)], env=_environment(threads), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", start_new_session=True,
    )  # fmt: skip
    said, seen = deque(maxlen=60), {}
    try:
        for line in map(str.rstrip, run.stdout):
            event = _event(line)
            seen |= event
            said.append(line)
            if event.get("processes", processes) != processes:
                raise LaunchError(_fewer(event["processes"], processes))
            yield event or line
        if run.wait():
            raise LaunchError(_ending(run.returncode, said, seen.get("checkpoint")))
        if "processes" not in seen:
            raise LaunchError(_fewer("nobody knows how many", processes))
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGTERM)
        run.stdout.close()
        run.wait()


def _environment(threads):
    """Return the environment of a launch: CPU, few threads, this package, no telemetry."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return os.environ | {
        "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path,
        "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def _event(line):
    """Return the dict that a marked line holds, {} for any other line."""
    try:
        found = json.loads(line.removeprefix(MARK)) if line.startswith(MARK) else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _fewer(count, asked):
    return (
        f"{count} of {asked} processes run; expected all of them: torchrun with "
        f"ACCELERATE_USE_CPU=true starts them, `accelerate launch --cpu` may fall back to one"
    )


def _ending(code, said, checkpoint):
    """Say how the first process to fail ended, as torchrun reports it, and the way on."""
    found = re.findall(r"exitcode\s*: (-?\d+)", "\n".join(said)) or [code]
    errors = [line for line in said if re.match(r"(\[rank\d\]: )?([\w.]+Error|train): ", line)]
    how = f"failed ({errors[-1] if errors else f'exit code {found[-1]}'})"
    if int(found[-1]) < 0 and not errors:
        how = f"was killed ({signal.Signals(-int(found[-1])).name})"
    way_on = f"--resume {checkpoint} goes on from its last checkpoint"
    way_on = way_on if checkpoint else "it left no checkpoint, so start it again"
    return f"a worker {how} and the others were stopped; {way_on}"
