"""Gather the labels of a class in one folder, and say what the class likes.

Each desk writes to its own laptop first and then, in the background, to a file of its own in the
folder, so no two desks ever write to one file. The folder is a network share, or one that a program
keeps alike on all laptops; what is assumed of it: a file that is added to keeps its beginning, and
a new file is seen by all in the end. Omits accounts and passwords: who can open the folder can read
it. Used by the notebook of the class, 02b.
"""

import hashlib
import os
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rlhf_lite import feedback, judging
from rlhf_lite.checks import check_count
from rlhf_lite.feedback import FeedbackError, Labels, LabelStore
from rlhf_lite.proxies import LinearReward
from rlhf_lite.rewards import examples
from rlhf_lite.runtime import DATA

import numpy as np

CLASS = "RLHF_LITE_CLASS"  # the environment variable that names the class's folder
HOME = DATA / "feedback" / "my-labels"
NAME = re.compile(r"\w[\w-]{0,19}")


# ---- a desk ----


def deal(items, name):
    """Return items in the order in which a student should see them, drawn by the student's name.

    items: dicts with "prompt" and "responses". Nobody coordinates: of n students with m labels
    each, m of N items, every item is seen by n m / N on average, and two students share m^2 / N.
    """

    def rank(item):
        key = feedback.item_key("preference", item["prompt"], item["responses"])
        return hashlib.sha256(f"{name} {key}".encode()).digest()

    return sorted(items, key=rank)


def open_store(name, folder=None, home=HOME, world=None):
    """Return the store for a student's labels: a ClassStore where there is a class's folder.

    folder: the class's, the environment variable RLHF_LITE_CLASS if None; where neither is given, a
    LabelStore of this laptop alone. name: a pseudonym, letters and digits.
    """
    folder, world = folder or os.environ.get(CLASS), world or feedback.fingerprint()
    if not isinstance(name, str) or not NAME.fullmatch(name):
        expected = "expected a pseudonym of 1 to 20 letters, digits, - or _, such as 'heron'"
        raise FeedbackError(f"the name is {name!r}; {expected}")
    if folder:
        return ClassStore(name, folder, home, world)
    return LabelStore(Path(home) / f"{name}.jsonl", name, world)


class ClassStore(LabelStore):
    """A label store on this laptop whose lines also go to the class's folder, once each.

    name: a pseudonym; the annotator is the pseudonym and this laptop's number, so two students of
    one name stay two. patience: how long to wait before a folder that is away is tried again [s].
    What waits when the kernel ends is sent when the store is opened again.
    """

    def __init__(self, name, folder, home, world, patience=5.0):
        annotator = f"{name.lower()}-{_laptop(Path(home))}"
        super().__init__(Path(home) / f"{annotator}.jsonl", annotator, world)
        self.shared, self.patience = Path(folder) / self.path.name, patience
        self.waiting, self._due, self._busy = 0, False, False
        self._guard = threading.Lock()
        if self.path.exists():
            self._hurry()

    def _save(self, record):
        record = super()._save(record)
        self.waiting += 1
        self._hurry()
        return record

    def place(self):
        """Say where the labels go, and how many have not come there yet."""
        # One is nearly always on its way when the next pair is shown.
        kept = f"Labels of {self.annotator} are kept in {self.path}"
        late = f" {self.waiting} not there yet; trying on." if self.waiting > 1 else ""
        return f"{kept} and sent to {self.shared.parent}.{late}"

    def send(self):
        """Add to the class's file the lines of this laptop's that it lacks, each once.

        Raises OSError where the folder is away; what is there is never changed.
        """
        with _alone(self.path.with_name(f".{self.path.name}.sending")):
            mine = self.path.read_bytes() if self.path.exists() else b""
            mine = mine[: mine.rfind(b"\n") + 1].split(b"\n")[:-1]
            theirs = self.shared.read_bytes() if self.shared.exists() else b""
            theirs = set(theirs.split(b"\n"))
            lacking = [line for line in mine if line and line not in theirs]
            self.waiting = len(lacking)
            if lacking:
                feedback.add_lines(self.shared, b"".join(line + b"\n" for line in lacking))
                self.waiting = 0

    def wait(self, seconds):
        """Wait until all is sent, at most so long; tell whether it is."""
        end = time.monotonic() + seconds
        while self._busy and time.monotonic() < end:
            time.sleep(0.01)
        return not self._busy

    def _hurry(self):
        """Have a thread send what is due, so that a slow folder never holds up the desk."""
        with self._guard:
            self._due = True
            if not self._busy:
                self._busy = True
                threading.Thread(target=self._carry, daemon=True).start()

    def _carry(self):
        while True:
            with self._guard:
                if not self._due:
                    self._busy = False
                    return
                self._due = False
            try:
                self.send()
            except OSError:
                self._due = True
                time.sleep(self.patience)


def _laptop(home):
    """Return 8 hex digits that are this laptop's own, drawn once and kept in a hidden file."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / ".laptop"
    with _alone(home / ".laptop.lock"):
        if not path.exists():
            path.write_text(os.urandom(4).hex(), encoding="utf-8")
    return path.read_text(encoding="utf-8")


@contextmanager
def _alone(path):
    """Hold a lock file of this laptop, so that two kernels of one student take turns."""
    with path.open("ab") as held:
        feedback.lock(held.fileno())
        yield


# ---- what has come in ----


def gather(folder, world=None):
    """Return the Labels of all desks in a class's folder, each once, in however many copies.

    A file that cannot be read, a line that is torn and labels of another world are named in
    `damage` and left out. Raises FeedbackError where the folder is away. world: a `fingerprint`,
    of this world if None.
    """
    world, files, damage = world or feedback.fingerprint(), [], []
    try:
        os.listdir(folder)
    except OSError as error:
        raise FeedbackError(f"the class's folder {folder} is away ({error.strerror})") from None
    for path in feedback.label_files(folder):
        try:
            feedback.read(path)
            files.append(path)
        except FeedbackError as error:
            damage.append(str(error))
    labels = feedback.read(files)
    records = [r for r in labels.records if r["world"] == world]
    for name in sorted({r["annotator"] for r in labels.records if r["world"] != world}):
        damage.append(f"{name} labels another world: the same data/world is needed on all laptops")
    return Labels(records, damage + labels.damage)


def nicknames(annotators):
    """Return {annotator: pseudonym}; where two share one, with the first digits of the laptop."""
    short = {a: a.rpartition("-")[0] or a for a in annotators}
    twice = {n for n in short.values() if list(short.values()).count(n) > 1}
    return {a: a[: len(n) + 5] if n in twice else n for a, n in short.items()}


# ---- what the class likes ----


@dataclass(frozen=True)
class Wishes:
    """What a class has said so far; what cannot be known yet is None.

    counts: {annotator: pairs labelled}; items: different pairs; agreement: `judging.panel`; voices:
    {voice: (share chosen over another voice, low, high, number)}; accuracy, shuffled: (share of
    held-out choices that the class's reward model gets right, low, high), and of labels whose sides
    were shuffled.
    """

    counts: dict
    items: int
    agreement: object
    voices: dict
    accuracy: tuple | None
    shuffled: tuple | None


def wishes(records, read, features, least=40):
    """Return the Wishes of a class's preferences.

    read: a Reader; features: `proxies.Features`; least: choices below which no reward model is
    fitted.
    """
    records = [r for r in records if r["kind"] == "preference"]
    raters = by_annotator(records)
    choices = {name: judging.choices(rows) for name, rows in raters.items()}
    forced = [r for r in records if not r["tie"]]
    enough = len(forced) >= least and len({r["prompt"] for r in forced}) >= 5
    return Wishes(
        {name: len(table) for name, table in choices.items()},
        len({key for table in choices.values() for key in table}),
        judging.panel(choices),
        chosen_voices(forced, read),
        held_out(records, features) if enough else None,
        held_out(shuffled(records), features) if enough else None,
    )


def by_annotator(records):
    """Return {annotator: records}, in order of the names."""
    found = {}
    for record in records:
        found.setdefault(record["annotator"], []).append(record)
    return dict(sorted(found.items()))


def chosen_voices(records, read):
    """Return {voice: (share, low, high, number)}: how often it was chosen over another voice.

    A text has the voice that it is most like. Intervals of 95% take students as drawn
    (`judging.win_rate`).
    """
    table = {voice: ([], []) for voice in read.world.voices}
    for record in records:
        texts = (record["prompt"] + record[side] for side in ("chosen", "rejected"))
        voices = [read.world.voices[int(read(text).voices.argmax())] for text in texts]
        if voices[0] != voices[1]:
            for voice, won in zip(voices, (1.0, 0.0)):
                table[voice][0].append(won)
                table[voice][1].append(record["annotator"])
    return {v: (*judging.win_rate(w, who), len(w)) for v, (w, who) in table.items() if w}


def shuffled(records, seed=0):
    """Return preferences whose sides were dealt out anew by a coin: nothing is left to learn."""
    rng, found = np.random.default_rng(seed), []
    for record in records:
        sides = record["chosen"], record["rejected"]
        chosen, rejected = sides if rng.random() < 0.5 else sides[::-1]
        found.append(record | {"chosen": chosen, "rejected": rejected})
    return found


def held_out(records, features, folds=5):
    """Return (accuracy, low, high) of linear reward models on prompts that they were not told of.

    Prompts are dealt into folds; ties are learned from and not asked about. The interval takes
    prompts as drawn (`judging.win_rate`).
    """
    prompts = sorted({r["prompt"] for r in records})
    check_count(len(prompts), "the number of prompts", folds)
    fold = {prompt: number % folds for number, prompt in enumerate(prompts)}
    right, where = [], []
    for k in range(folds):
        told = [r for r in records if fold[r["prompt"]] != k]
        asked = [r for r in records if fold[r["prompt"]] == k and not r["tie"]]
        score = LinearReward(features, examples("preference", told))
        for r in asked:
            gap = np.subtract(*score([r["prompt"] + r["chosen"], r["prompt"] + r["rejected"]]))
            right.append(1.0 if gap > 0 else 0.0 if gap < 0 else 0.5)
            where.append(r["prompt"])
    return judging.win_rate(right, where)
