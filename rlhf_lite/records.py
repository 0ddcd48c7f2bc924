"""Write and read recorded runs: what was measured, by which command, with which seeds, on what.

A record is one JSON file in data/runs with a checksum, so that a damaged or hand-edited number is
noticed. Its arms stand by name and seed, a name being the kind of the arm and the values of its
knobs: "sweep 0.54", "whole 300". Omits a database; a folder that git can diff is enough. First used
by notebook 01.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from rlhf_lite.runtime import DATA, ROOT

import numpy as np
import torch

FIELDS = ("command", "seed", "made", "hardware", "commit", "versions", "sha256", "results")


class RecordError(ValueError):
    """Says in one sentence what is wrong with a recorded run."""


@dataclass(frozen=True)
class Record:
    """One recorded experiment: `read("ppo").arm("sweep 0.54", "kl")` is an array, a row a seed.

    name: of the file; results: {"arms": {name: {seed: numbers}}, "statistics": ..., and what else
    was found}, as JSON gives them back; made: {"command", "commit", "hardware", ...}, by what.
    """

    name: str
    results: dict
    made: dict

    def __getitem__(self, key):
        """Return one entry of the results."""
        if key not in self.results:
            raise RecordError(
                f"record {self.name!r} has no entry {key!r}; expected of {', '.join(self.results)}"
            )
        return self.results[key]

    def names(self, kind=""):
        """List the arms of a kind, such as "sweep", or all of them."""
        return [n for n in self["arms"] if not kind or n == kind or n.startswith(f"{kind} ")]

    def seeds(self, name):
        """List the seeds of an arm."""
        if name not in self["arms"]:
            raise RecordError(
                f"record {self.name!r} has no arm {name!r}; expected one of "
                f"{', '.join(self['arms'])}"
            )
        return [int(seed) for seed in self["arms"][name]]

    def arm(self, name, *keys, seed=None):
        """Return what stands under keys in an arm: an array (seeds, ...), or of one seed (...).

        Keys of text open dicts, numbers open lists, and a text before a list of dicts opens each of
        them: `arm("sweep 0.54", "history", "kl")` is (seeds, steps). What is no table of numbers,
        such as texts, comes as a list. Raises RecordError for an arm, a seed or a key that is not
        there.
        """
        known = self.seeds(name)
        if seed is not None and seed not in known:
            raise RecordError(
                f"arm {name!r} of {self.name!r} has no seed {seed!r}; expected one of {known}"
            )
        runs = [self["arms"][name][str(s)] for s in known if seed in (None, s)]
        try:
            found = [_open(run, keys) for run in runs]
        except (KeyError, IndexError, TypeError):
            raise RecordError(
                f"arm {name!r} of {self.name!r} has nothing under {keys}; expected of "
                f"{', '.join(map(str, runs[0]))}"
            ) from None
        return _table(found if seed is None else found[0])


def _open(value, keys):
    """Return what stands under keys, opening each dict of a list by a key of text."""
    for number, key in enumerate(keys):
        if isinstance(value, list) and isinstance(key, str):
            return [_open(part, keys[number:]) for part in value]
        value = value[key]
    return value


def _table(value):
    """Return nested lists of numbers as an array of floats, anything else as it is."""
    try:
        array = np.array(value)
    except ValueError:
        return value
    return array.astype(float) if array.dtype.kind in "biuf" else value


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
        paths = ["rlhf_lite", "data/world", "data/models", "data/experiments", "data/*.py"]
        changed = subprocess.run([*git, "status", "--porcelain", *paths], **run).stdout
        return name + ("+" if changed.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return "?"


def write(name, results, command, seed, folder=DATA / "runs"):
    """Write data/runs/NAME.json with all that a reader needs to make it again; return its path.

    results: dicts with str as keys, lists, numbers and texts; tuples come back as lists.
    """
    made = {
        "command": command,
        "seed": seed,
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "hardware": hardware(),
        "commit": commit(),
        "versions": {p: version(p) for p in ("torch", "transformers", "numpy")},
    }
    return rewrite(name, results, made, folder)


def rewrite(name, results, made, folder=DATA / "runs"):
    """Write results under the header that they were made with; return the path."""
    try:
        # What is read back later has str as keys, and another order and checksum where others were.
        results = json.loads(json.dumps(results))
    except (TypeError, ValueError) as error:
        raise RecordError(
            f"the results of {name} cannot be written ({error}); expected numbers, texts, lists "
            f"and dicts alone"
        ) from None
    record = {**made, "sha256": checksum(results), "results": results}
    path = Path(folder) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")  # a record is written whole or not at all
    half.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8", newline="\n")
    os.replace(half, path)
    return path


def read(name, folder=DATA / "runs"):
    """Return the Record NAME.

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
        raise RecordError(
            f"{path.name} holds a {type(record).__name__}; expected {', '.join(FIELDS)}"
        )
    missing = [f for f in FIELDS if f not in record]
    if missing:
        raise RecordError(
            f"{path.name} lacks the field {missing[0]!r}; expected {', '.join(FIELDS)}"
        )
    if checksum(record["results"]) != record["sha256"]:
        raise RecordError(
            f"{path.name}: field 'results' does not match its sha256; expected it unedited"
        )
    return Record(name, record.pop("results"), record)
