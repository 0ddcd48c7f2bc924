"""Write and read recorded runs: what was measured, by which command, with which seed, on what.

A record is one JSON file in data/runs with a checksum, so that a damaged or hand-edited number is
noticed. Omits a database; a folder that git can diff is enough. First used by notebook 01.
"""

import hashlib
import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rlhf_lite.runtime import DATA, ROOT

import torch

FIELDS = ("command", "seed", "made", "hardware", "commit", "versions", "sha256", "results")


class RecordError(ValueError):
    """Say in one sentence what is wrong with a recorded run."""


def plain_output():
    """Print "?" for what the console cannot show, instead of failing; scripts call it first."""
    sys.stdout.reconfigure(errors="replace")


def checksum(results):
    """Return the sha256 of results, as hex, independent of the order of keys."""
    text = json.dumps(results, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def hardware():
    """Describe the machine in words: processor, cores used, GPU."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text(encoding="utf-8", errors="replace")
        lines = [x for x in text.split("\n") if x.startswith("model name")]
        name = lines[0].split(":", 1)[1].strip() if lines else name
    text = f"{name}, {torch.get_num_threads()} threads"
    return f"{text}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else text


def commit():
    """Return the commit that the code stands at.

    With + where it was changed since; "?" outside git.
    """
    try:
        git = ["git", "-C", str(ROOT)]
        run = {"capture_output": True, "encoding": "utf-8", "errors": "replace", "check": True}
        name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], **run).stdout.strip()
        paths = ["rlhf_lite", "data/world", "data/models", "data/*.py"]
        changed = subprocess.run([*git, "status", "--porcelain", *paths], **run).stdout
        return name + ("+" if changed.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "?"


def write_record(name, results, command, seed, folder=DATA / "runs"):
    """Write data/runs/NAME.json with all that a reader needs to make it again; return its path.

    results: dicts with str as keys, lists, numbers and texts; tuples come back as lists.
    """
    try:
        # What is read back later has str as keys, and another order and checksum where others were.
        results = json.loads(json.dumps(results))
    except (TypeError, ValueError) as error:
        raise RecordError(
            f"the results of {name} cannot be written ({error}); expected numbers, texts, lists "
            f"and dicts alone"
        ) from None
    record = {
        "command": command,
        "seed": seed,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "hardware": hardware(),
        "commit": commit(),
        "versions": {p: version(p) for p in ("torch", "transformers", "numpy")},
        "sha256": checksum(results),
        "results": results,
    }
    path = Path(folder) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8", newline="\n")
    return path


def read_record(name, folder=DATA / "runs"):
    """Return the record NAME as a dict.

    Raises RecordError where it is missing, damaged or edited by hand.
    """
    path = Path(folder) / f"{name}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise RecordError(f"no recorded run {path.name} in {path.parent}; expected one") from None
    except (OSError, ValueError) as error:
        raise RecordError(f"{path.name} is damaged ({error}); expected JSON in UTF-8") from None
    if not isinstance(record, dict):
        raise RecordError(f"{path.name} holds a {type(record).__name__}; expected {', '.join(FIELDS)}")
    missing = [f for f in FIELDS if f not in record]
    if missing:
        raise RecordError(f"{path.name} lacks the field {missing[0]!r}; expected {', '.join(FIELDS)}")
    if checksum(record["results"]) != record["sha256"]:
        raise RecordError(
            f"{path.name}: field 'results' does not match its sha256; expected it unedited"
        )
    return record
