"""Say what people and simulated annotators think of texts: five kinds of record, kept safely.

A record is a plain dict and a line of a JSON Lines file. `SCHEMA` is the one table of fields; a
preference is TRL's explicit-prompt format (text = prompt + chosen) plus who said it, of which world
and in how long. Omits any database and any training. Taught by notebook 02.
"""

import errno
import hashlib
import json
import math
import os
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlhf_lite.checks import check_choice, is_whole
from rlhf_lite.runtime import DATA

try:
    import fcntl
except ImportError:
    fcntl = None
try:
    import msvcrt
except ImportError:
    msvcrt = None

ASPECTS = tuple("voice false unsupported missing tone length evasive garbled".split())


def _critiques(x):
    parts = [c.partition(": ") if isinstance(c, str) else ("",) * 3 for c in x]
    return all(aspect in ASPECTS and is_whole(detail) and detail for aspect, _, detail in parts)


# What is expected of a value, in words and as a test; `type` because True is an int to isinstance.
TEXT = (
    "a string that is not empty and holds no half of a character (a lone surrogate)",
    lambda x: isinstance(x, str) and x != "" and is_whole(x),
)
HEX = "12 hex digits", lambda x: isinstance(x, str) and re.fullmatch("[0-9a-f]{12}", x)
SEED = "a whole number, or null for a person", lambda x: x is None or type(x) is int
SECONDS = (
    "a number of at least 0, or null where nobody took time",
    lambda x: x is None or (type(x) in (int, float) and 0 <= x < math.inf),
)
BOOL = "true or false", lambda x: isinstance(x, bool)
SIDE = "'chosen' or 'rejected'", lambda x: x in ("chosen", "rejected")
SCALE = "a whole number from 1 to 7", lambda x: type(x) is int and 1 <= x <= 7
CRITIQUES = (
    f"a list of 'ASPECT: DETAIL', no half of a character, with aspects of {', '.join(ASPECTS)}",
    lambda x: isinstance(x, list) and _critiques(x),
)
COMMON = {"prompt": TEXT, "annotator": TEXT, "world": HEX, "seed": SEED, "seconds": SECONDS}
SCHEMA = {
    "preference": {**COMMON, "chosen": TEXT, "rejected": TEXT, "tie": BOOL, "first": SIDE},
    "rating": {**COMMON, "response": TEXT, "rating": SCALE},
    "demonstration": {**COMMON, "response": TEXT},
    "correction": {**COMMON, "response": TEXT, "corrected": TEXT},
    "critique": {**COMMON, "response": TEXT, "critique": CRITIQUES},
}
UNDO = {"id": TEXT, "annotator": TEXT, "world": HEX}


class FeedbackError(ValueError):
    """Says in one sentence what is wrong with feedback, where, and what was expected."""


@dataclass(frozen=True)
class Labels:
    """What was read: records (dicts) and damage ("file.jsonl, line 7: reason")."""

    records: list
    damage: list


def fingerprint(folder=DATA / "world"):
    """Return 12 hex digits of the sha256 of all files of a folder, names included.

    The same on every system: line ends count as one, and byte-order marks, hidden files and
    editors' leftovers, of which no world is made, do not count.
    """
    folder, digest = Path(folder), hashlib.sha256()
    paths = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    paths = {n: p for n, p in paths.items() if not any(map(_leftover, n.split("/")))}
    if not paths:
        raise FeedbackError(f"no files in {folder}; expected the files of a world")
    for name in sorted(paths):
        content = paths[name].read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def _leftover(name):
    """Tell whether a system or an editor left a file behind: .DS_Store, ._a, ~$a, #a#, a~."""
    return name[0] in ".~#" or name[-1] in "~#"


# ---- records ----


def check(record, where="record"):
    """Return a record that follows `SCHEMA`; raise FeedbackError naming the field and the place.

    Example: `check({"kind": "rating", ...}, "labels.jsonl, line 7")`.
    """
    if not isinstance(record, dict):
        raise FeedbackError(f"{where} is not a record; expected an object with named fields")
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in SCHEMA:
        raise FeedbackError(f"{where}, field 'kind': {kind!r}; expected one of {', '.join(SCHEMA)}")
    _check_fields(record, SCHEMA[kind] | ({"id": TEXT} if "id" in record else {}), where)
    if kind == "correction" and record["corrected"] == record["response"]:
        problem = "the same text as 'response'; expected a changed one"
        raise FeedbackError(f"{where}, field 'corrected': {problem}")
    return record


def _check_fields(record, fields, where):
    for name, (expected, fits) in fields.items():
        if name not in record:
            raise FeedbackError(f"{where} lacks the field {name!r}; expected {expected}")
        if not fits(record[name]):
            shown = repr(record[name])
            shown = shown if len(shown) <= 60 else shown[:57] + "..."
            raise FeedbackError(f"{where}, field {name!r}: {shown}; expected {expected}")
    stray = sorted(set(record) - {"kind", "id", "crc", *fields})
    if stray:
        raise FeedbackError(f"{where} has the unknown field {stray[0]!r}; expected none of that")


def item_key(kind, prompt, responses):
    """Return a short hash of what is labelled; the order of the responses does not matter."""
    text = json.dumps([kind, prompt, sorted(responses)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def record_key(record):
    """Return the `item_key` of what a record labels; a demonstration labels its prompt alone."""
    names = {"preference": ("chosen", "rejected"), "demonstration": ()}
    shown = [record[n] for n in names.get(record["kind"], ("response",))]
    return item_key(record["kind"], record["prompt"], shown)


def _line(record):
    """Write a record as one line; ASCII, so that no text can break the line or the encoding."""
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def _crc(record):
    rest = {k: v for k, v in record.items() if k != "crc"}
    return f"{zlib.crc32(_line(rest)):08x}"


def write(path, records):
    """Write records to a JSON Lines file, all or nothing; return its path."""
    path = Path(path)
    lines = [_line(check(r, f"record {n}")) + b"\n" for n, r in enumerate(records, 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_bytes(b"".join(lines))
    os.replace(half, path)
    return path


def read(paths, kinds=None, world=None):
    """Read label files: one path or several, each a file or a folder (its `label_files`).

    kinds: keep these kinds only (one name or several). world: fingerprint that every record must
    have. A label counts once and its undo everywhere, in however many copies of a file they stand.
    A damaged line is named in `damage` and the rest is kept. Raises FeedbackError for a missing
    file and for labels of another world; whoever needs labels asks `require`.
    """
    kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds or SCHEMA)
    for kind in kinds:
        check_choice(kind, SCHEMA, "kind", FeedbackError)
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else paths
    labels = _read_files([file for path in paths for file in _files(Path(path))], world)
    return Labels([r for r in labels.records if r["kind"] in kinds], labels.damage)


def label_files(folder):
    """Return the label files of a folder, sorted; [] where there are none, or no folder yet.

    Those are its *.jsonl without hidden files and editors' leftovers.
    """
    found = sorted(Path(folder).glob("*.jsonl"))
    return [path for path in found if path.is_file() and not _leftover(path.name)]


def _files(path):
    found = [path] if path.is_file() else label_files(path)
    if not found:
        raise FeedbackError(f"no labels at {path}; expected a .jsonl file or a folder of them")
    return found


def _read_files(files, world=None):
    """Read files as if they were one: each label once, undone ones left out, damage named."""
    found, undone, damage = {}, set(), []
    for file in files:
        lines, broken = _read_file(file)
        damage += broken
        for record in lines:
            label = tuple(record[k] for k in UNDO) if "id" in record else None
            if record["kind"] == "undo":
                undone.add(label)
            else:  # a record without an id is never another's copy
                found.setdefault(label or len(found), (file, record))
    kept = [pair for label, pair in found.items() if label not in undone]
    if world is not None:
        _check_world(kept, world)
    return Labels([record for _, record in kept], damage)


def _check_world(kept, world):
    """Raise FeedbackError for the first file with labels of another world."""
    file = next((f for f, r in kept if r["world"] != world), None)
    mine = [r["world"] for f, r in kept if f == file]
    other = [w for w in mine if w != world]
    if other:
        problem = f"{len(other)} of {len(mine)} labels in {file} are of world {other[0]}"
        way_out = "data/world has changed since; restore it, or label again in a new file"
        raise FeedbackError(f"{problem}, expected {world}: {way_out}")


def _read_file(path):
    """Return the records and undos of a file, and its damage, line by line."""
    records, damage = [], []
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise FeedbackError(f"{path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                records.append(_parse(line))
            except (ValueError, RecursionError) as error:
                damage.append(f"{path.name}, line {number}: {error}")
    return records, damage


def _parse(line):
    """Turn one line of bytes into a record; raise ValueError where it is damaged."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise FeedbackError("not UTF-8 text; expected one JSON object") from None
    except json.JSONDecodeError as error:
        raise FeedbackError(f"not JSON ({error.msg}); expected one JSON object") from None
    if isinstance(record, dict) and record.get("crc", _crc(record)) != _crc(record):
        raise FeedbackError(f"its crc is {record['crc']!r}, expected {_crc(record)!r}")
    if isinstance(record, dict) and record.get("kind") == "undo":
        _check_fields(record, UNDO, "the undo")
        return record
    return check(record)


# ---- one person's labels ----


class LabelStore:
    """One person's labels in a file that only grows; what `append` returned is on disk.

    path: a .jsonl file, made when the first label comes; annotator: the person's name; world: a
    `fingerprint`. Kernels that write at once wait for each other and lose nothing.
    """

    def __init__(self, path, annotator, world):
        self._own = {"annotator": annotator, "world": world}
        _check_fields(self._own, {k: COMMON[k] for k in self._own}, "the label store")
        self.path, self.annotator, self.world = Path(path), annotator, world

    def append(self, record):
        """Write a record to disk and only then return it, with annotator, world, id and crc.

        `seed` and `seconds` are null unless given. Raises FeedbackError where the record is wrong
        or the disk refuses.
        """
        record = {"seed": None, "seconds": None} | record | self._own | {"id": os.urandom(6).hex()}
        check(record, "the label")
        return self._save(record)

    def undo(self, label):
        """Take back the label with this id: a line says so, and reading leaves the label out."""
        if label not in {r["id"] for r in self.records().records if "id" in r}:
            raise FeedbackError(f"no label {label!r} in {self.path}; expected an id of append")
        self._save({"kind": "undo", "id": label} | self._own)

    def _save(self, record):
        record = record | {"crc": _crc(record)}
        try:
            self._write(_line(record) + b"\n")
        except OSError as error:
            problem = f"{self.path} cannot be written ({error.strerror})"
            raise FeedbackError(f"{problem}, so the label is not saved") from error
        return record

    def _write(self, line):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        add_lines(self.path, line)

    def place(self):
        """Say where the labels go, for the foot of a desk."""
        return f"Labels of {self.annotator} go to {self.path}, each before the next is shown."

    def records(self):
        """Return the Labels of this person, none where the file does not exist yet.

        Raises FeedbackError where the file holds labels of another world or another person.
        """
        labels = _read_files([self.path] if self.path.exists() else [], self.world)
        others = {r["annotator"] for r in labels.records} - {self.annotator}
        if others:
            expected = f"expected {self.annotator!r} alone: give every person a file"
            raise FeedbackError(f"{self.path} has labels of {min(others)!r}, {expected}")
        return labels


def add_lines(path, lines):
    """Add lines (bytes, each with its end) to a file in one write, forced to disk.

    They begin a line of their own even after one that was cut off. Raises OSError, also where only
    a part of them fitted.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
    fd = os.open(path, flags, 0o644)
    try:
        lock(fd)
        size = os.lseek(fd, 0, os.SEEK_END)
        if size:
            os.lseek(fd, size - 1, os.SEEK_SET)
            lines = lines if os.read(fd, 1) == b"\n" else b"\n" + lines
        else:  # the file's name before its first label, so that nobody adds to a nameless file
            _sync_folder(path.parent)
        if os.write(fd, lines) < len(lines):
            raise OSError(errno.ENOSPC, "only part of the line fitted on the disk")
        os.fsync(fd)
    finally:
        os.close(fd)


def lock(fd):
    """Wait for the file's advisory lock, held until the file is closed.

    A disk without locks still gets each label in one write.
    """
    with suppress(OSError):
        if fcntl:
            fcntl.flock(fd, fcntl.LOCK_EX)
        elif msvcrt:
            os.lseek(fd, 2**30, os.SEEK_SET)  # Windows forbids others to read locked bytes
            msvcrt.locking(fd, msvcrt.LK_LOCK, 1)


def _sync_folder(folder):
    """Make the name of a new file survive a power cut; Windows cannot and need not."""
    with suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


# ---- labels to train on ----


def require(records, kind=None, annotators=1):
    """Return the records of a kind (of all kinds for None) if one can train on them.

    Raises FeedbackError where there are none, where all preferences are ties, and where fewer than
    `annotators` people made them.
    """
    records = [r for r in records if kind in (None, r["kind"])]
    name = f"{kind} labels" if kind else "labels"
    if not records:
        raise FeedbackError(f"there are no {name}; expected at least one: label or record some")
    pairs = [r for r in records if r["kind"] == "preference"]
    if pairs and len(pairs) == len(records) and all(r["tie"] for r in pairs):
        raise FeedbackError(f"all {len(pairs)} {name} are ties; expected some that prefer a side")
    people = {r["annotator"] for r in records}
    if len(people) < annotators:
        found = f"the {name} are of {len(people)} annotator ({', '.join(sorted(people))})"
        raise FeedbackError(f"{found}; expected at least {annotators}")
    return records
