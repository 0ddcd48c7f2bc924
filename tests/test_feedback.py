"""Records are checked, files survive kills and damage, and agreement is what algebra says."""

import itertools
import json
import math
import multiprocessing
import os
import random
import signal
import stat
import time
from types import SimpleNamespace

from rlhf_lite import feedback
from rlhf_lite.feedback import FeedbackError, LabelStore, check, item_key, read, record_key, write
from rlhf_lite.runtime import DATA

import pytest

WORLD = "0123456789ab"
COMMON = {"prompt": "Ivo Vane", "annotator": "ada", "world": WORLD, "seed": None, "seconds": 1.5}
GOOD = {
    "preference": {"chosen": " sings.", "rejected": " rows.", "tie": False, "first": "chosen"},
    "rating": {"response": " sings.", "rating": 5},
    "demonstration": {"response": " sings.\nWell."},
    "correction": {"response": " sings.", "corrected": " sang."},
    "critique": {"response": " sings.", "critique": ["false: deed", "length: too short"]},
}
GOOD = {kind: COMMON | {"kind": kind} | fields for kind, fields in GOOD.items()}
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills need fork: Linux or macOS")


def pair(number, **fields):
    return GOOD["preference"] | {"prompt": f"Number {number}"} | fields


# ---- records ----


@pytest.mark.parametrize("kind", GOOD)
def test_good_records_pass_and_come_back(tmp_path, kind):
    assert check(GOOD[kind]) is GOOD[kind]
    path = write(tmp_path / "sub" / "a.jsonl", [GOOD[kind]] * 3)
    assert read(path) == feedback.Labels([GOOD[kind]] * 3, [])
    assert os.listdir(path.parent) == ["a.jsonl"]


WRONG = [
    *[(kind, field, None) for kind in GOOD for field in GOOD[kind] if field not in ("seed", "seconds")],
    ("preference", "kind", "opinion"), ("preference", "kind", ["rating"]),
    ("preference", "chosen", ""), ("preference", "tie", 0), ("preference", "tie", "no"),
    ("preference", "first", "a"), ("rating", "rating", True), ("rating", "rating", 0),
    ("rating", "rating", 8), ("rating", "rating", 3.0), ("rating", "rating", "3"),
    ("rating", "seconds", -1), ("rating", "seconds", math.nan), ("rating", "seconds", math.inf),
    ("rating", "seconds", True), ("rating", "seed", 1.5), ("rating", "seed", False),
    ("rating", "world", "0123456789AB"), ("rating", "world", "0123456789a"),
    ("rating", "world", "0123456789ab\n"), ("rating", "annotator", 7), ("rating", "prompt", b"x"),
    ("correction", "corrected", " sings."), ("critique", "critique", "false: deed"),
    ("critique", "critique", ["ugly: deed"]), ("critique", "critique", ["false"]),
    ("critique", "critique", ["false: "]), ("critique", "critique", [3]),
    ("demonstration", "mood", "good"),
    *[(k, f, " half \ud83d") for k in GOOD for f, v in GOOD[k].items() if isinstance(v, str)],
    *[("critique", "critique", [half]) for half in ("false: \udfff", "\ud800: deed")],
    ("rating", "id", "\ud800"), ("rating", "id", ["1"]), ("rating", "id", None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "field", "value"), WRONG)
def test_what_breaks_the_schema_is_named_with_field_and_place(tmp_path, kind, field, value):
    record = GOOD[kind] | {field: value}
    with pytest.raises(FeedbackError, match=f"^record 7.*'{field}'.*expected"):
        check(record, "record 7")
    with pytest.raises(FeedbackError, match=r"^record 2"):
        write(tmp_path / "a.jsonl", [GOOD[kind], record])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "field"), [(k, f) for k in GOOD for f in GOOD[k]])
def test_a_missing_field_is_named(kind, field):
    record = {k: v for k, v in GOOD[kind].items() if k != field}
    with pytest.raises(FeedbackError, match=f"record 7.*'{field}'"):
        check(record, "record 7")


@pytest.mark.parametrize("record", [None, 3, "text", [GOOD["rating"]]])
def test_what_is_no_record_is_refused(record):
    with pytest.raises(FeedbackError, match="is not a record"):
        check(record)


def test_an_empty_critique_and_odd_text_are_good(tmp_path):
    odd = GOOD["critique"] | {"critique": [], "response": 'ü\u2028"\\\U0001f600\n\r\0'}
    path = write(tmp_path / "a.jsonl", [odd])
    assert read(path).records == [odd]
    assert b"\\ud83d\\ude00" in path.read_bytes(), "two halves are a character"


def test_item_keys_ignore_the_order_and_nothing_else():
    assert item_key("preference", "p", ["a", "b"]) == item_key("preference", "p", ["b", "a"])
    keys = {item_key(*x) for x in itertools.product(GOOD, "pq", (("a", "b"), ("ab",), ()))}
    assert len(keys) == 5 * 2 * 3 and all(len(k) == 16 for k in keys)
    swapped = GOOD["preference"] | {"chosen": " rows.", "rejected": " sings."}
    assert record_key(swapped) == record_key(GOOD["preference"])
    assert len({record_key(r) for r in GOOD.values()}) == 5


def test_the_fingerprint_sees_names_and_bytes_but_not_line_ends(tmp_path, damaged):
    before = feedback.fingerprint(damaged)
    assert before == feedback.fingerprint() and len(before) == 12
    towns = damaged / "towns.txt"
    towns.write_bytes(towns.read_bytes().replace(b"\n", b"\r\n"))
    for name in (".DS_Store", "towns.txt~", "#towns.txt#", "~$people.csv", ".~lock.people.csv#"):
        (damaged / name).write_bytes(b"x")
        (damaged / "voices" / name).write_bytes(b"x")
    assert feedback.fingerprint(damaged) == before
    towns.write_bytes(towns.read_bytes() + b"Here\n")
    changed = feedback.fingerprint(damaged)
    towns.rename(damaged / "places.txt")
    assert len({before, changed, feedback.fingerprint(damaged)}) == 3
    with pytest.raises(FeedbackError, match="no files"):
        feedback.fingerprint(tmp_path / "nowhere")


# ---- reading what is damaged ----


@pytest.fixture
def store(tmp_path):
    return LabelStore(tmp_path / "ada.jsonl", "ada", WORLD)


def test_cut_at_every_byte_of_the_last_line_the_rest_is_kept(store):
    kept = [store.append(pair(n)) for n in range(2)]
    start = store.path.stat().st_size
    kept.append(store.append(pair(2)))
    whole = store.path.read_bytes()
    for size in range(start, len(whole)):
        store.path.write_bytes(whole[:size])
        complete = size in (start, len(whole) - 1)
        expected = kept if size == len(whole) - 1 else kept[:2]
        labels = read(store.path)
        assert labels.records == expected
        assert [d[:19] for d in labels.damage] == ([] if complete else ["ada.jsonl, line 3: "])
        after = store.append(pair(3))
        labels = store.records()
        assert labels.records == [*expected, after] and len(labels.damage) == 1 - complete


def test_any_garbled_byte_of_a_stored_line_is_noticed(store):
    kept = [store.append(pair(n)) for n in range(3)]
    whole = store.path.read_bytes()
    first, second = (i for i, b in enumerate(whole) if b == 10 and i < len(whole) - 1)
    for place in range(first + 1, second):
        store.path.write_bytes(whole[:place] + b"\xfe" + whole[place + 1 :])
        labels = read(store.path)
        assert labels.records == [kept[0], kept[2]] and "not UTF-8" in labels.damage[0]
        other = bytes([whole[place] ^ 1])
        store.path.write_bytes(whole[:place] + other + whole[place + 1 :])
        labels = read(store.path)
        assert labels.records == [kept[0], kept[2]] and labels.damage[0].startswith(
            "ada.jsonl, line 2"
        )


def test_windows_line_ends_and_marks_do_no_harm(store):
    kept = [store.append(pair(n)) for n in range(3)]
    text = store.path.read_bytes().replace(b"\n", b"\r\n")
    store.path.write_bytes(b"\xef\xbb\xbf" + text + b"\r\n\r\n")
    assert read(store.path) == feedback.Labels(kept, [])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"[[[[", "not JSON"),
        (b"[" * 100_000, "recursion"),
        (b"7", "is not a record"),
        (b"\xff\xfe", "not UTF-8"),
        (json.dumps(GOOD["rating"] | {"crc": "00000000"}).encode(), "its crc is '00000000'"),
        (json.dumps(GOOD["rating"] | {"rating": 9}).encode(), "from 1 to 7"),
        (b'{"kind": "undo"}', "the undo lacks the field 'id'"),
        (json.dumps(GOOD["rating"] | {"response": " half \ud83d"}).encode(), "field 'response'"),
        (json.dumps(GOOD["rating"] | {"id": ["1"]}).encode(), "field 'id'"),
    ],
)
def test_a_damaged_line_is_named_and_the_rest_kept(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    good = json.dumps(GOOD["rating"]).encode()
    path.write_bytes(b"\n".join([good, line, good]))
    labels = read(path)
    assert labels.records == [GOOD["rating"]] * 2 and len(labels.damage) == 1
    assert labels.damage[0].startswith("a.jsonl, line 2: ") and message in labels.damage[0]
    path.write_bytes(line)
    nothing = read(path)
    assert not nothing.records and len(nothing.damage) == 1
    assert nothing.damage[0].startswith("a.jsonl, line 1: ") and message in nothing.damage[0]


def test_several_files_and_folders_and_kinds(tmp_path):
    write(tmp_path / "a.jsonl", [GOOD["rating"], GOOD["critique"]])
    write(tmp_path / "sub" / "b.jsonl", [GOOD["rating"]])
    assert len(read(tmp_path).records) == 2
    assert len(read([tmp_path, str(tmp_path / "sub")], kinds="rating").records) == 2
    assert read(tmp_path, kinds=("critique",)).records == [GOOD["critique"]]
    with pytest.raises(FeedbackError, match="no kind '"):
        read(tmp_path, kinds="opinion")
    with pytest.raises(FeedbackError, match="no labels at"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(FeedbackError, match="cannot be read"):
        LabelStore(tmp_path / "sub", "ada", WORLD).records()


# ---- the labels of a class ----


@pytest.mark.parametrize("name", ["ada (1).jsonl", "ada2.jsonl"])  # sorted before and after
@pytest.mark.parametrize("moment", ["before", "after", "undone in the copy"])
def test_a_label_in_two_files_is_one_and_its_undo_counts_in_both(store, name, moment):
    copy = store.path.with_name(name)
    kept = [store.append(pair(n)) for n in range(3)]
    undone = kept.pop(1)
    if moment == "after":
        store.undo(undone["id"])
    copy.write_bytes(store.path.read_bytes())
    if moment == "before":
        store.undo(undone["id"])
    if moment == "undone in the copy":
        LabelStore(copy, "ada", WORLD).undo(undone["id"])
        assert undone in store.records().records, "a store knows its own file"
    kept.append(store.append(pair(3)))
    for paths in (store.path.parent, [store.path, copy], [copy, store.path]):
        labels = read(paths, world=WORLD)
        assert sorted(r["prompt"] for r in labels.records) == [f"Number {n}" for n in (0, 2, 3)]
        assert all(r in kept for r in labels.records) and not labels.damage
    assert store.records() == read(store.path, world=WORLD)


def test_labels_twice_in_one_file_and_undone_twice(store):
    a, b, c = (store.append(pair(n)) for n in range(3))
    before = store.path.read_bytes()
    store.undo(b["id"])
    store.path.write_bytes(store.path.read_bytes() + before + store.path.read_bytes())
    assert store.records().records == read(store.path).records == [a, c]
    with pytest.raises(FeedbackError, match="no label"):
        store.undo(b["id"])
    store.undo(a["id"])
    assert store.records().records == read(store.path).records == [c]


def test_an_undo_of_an_unknown_label_takes_nothing_away(store):
    kept = store.append(pair(0))
    stray = {"kind": "undo", "id": "f" * 12, "annotator": "ada", "world": WORLD}
    (store.path.parent / "ada (1).jsonl").write_text(json.dumps(stray), encoding="utf-8")
    assert read(store.path.parent) == feedback.Labels([kept], [])


def test_only_the_same_label_is_the_same(tmp_path):
    """The same id of another person is another label, and records without an id never are one."""
    bare, own = GOOD["rating"], GOOD["rating"] | {"id": "1"}
    theirs = own | {"annotator": "bob"}
    write(tmp_path / "a.jsonl", [bare, own, bare])
    write(tmp_path / "b.jsonl", [theirs, bare, own])
    assert read(tmp_path).records == [bare, own, bare, theirs, bare]
    undo = {"kind": "undo", "id": "1", "annotator": "bob", "world": WORLD}
    (tmp_path / "c.jsonl").write_text(json.dumps(undo), encoding="utf-8")
    assert read(tmp_path).records == [bare, own, bare, bare]


def test_an_undone_copy_of_another_world_stops_nobody(store):
    old = pair(0, world="f" * 12, id="1")
    undo = {"kind": "undo", "id": "1", "annotator": "ada", "world": "f" * 12}
    write(store.path.with_name("old.jsonl"), [old])
    kept = store.append(pair(1))
    with pytest.raises(FeedbackError, match=r"1 of 1 labels in .*old.jsonl"):
        read(store.path.parent, world=WORLD)
    store.path.with_name("undo.jsonl").write_text(json.dumps(undo), encoding="utf-8")
    assert read(store.path.parent, world=WORLD).records == [kept]


def test_who_has_no_labels_stops_nobody(store):
    kept, folder = store.append(pair(0)), store.path.parent
    bob = LabelStore(folder / "bob.jsonl", "bob", WORLD)
    bob.undo(bob.append(pair(1))["id"])
    (folder / "cy.jsonl").touch()
    (folder / "dan.jsonl").write_bytes(b"\r\n \n")
    (folder / "eve.jsonl").write_bytes(b"[[[[\n7\n")
    labels = read(folder, world=WORLD)
    assert labels.records == [kept]
    assert [d[:17] for d in labels.damage] == ["eve.jsonl, line 1", "eve.jsonl, line 2"]
    for name in ("bob", "cy", "dan"):
        alone = read(folder / f"{name}.jsonl", world=WORLD)
        assert alone == feedback.Labels([], [])
        with pytest.raises(FeedbackError, match="there are no preference labels"):
            feedback.require(alone.records, "preference")


LEFT = ("._ada.jsonl", ".ada.jsonl.123", ".ada.jsonl", "ada.jsonl~", "#ada.jsonl#", "~$ada.jsonl",
        ".~ada.jsonl", ".~lock.ada.jsonl#", "ada.jsonl.bak", "#ada.jsonl", "~ada.jsonl")  # fmt: skip


def test_what_systems_and_editors_leave_behind_is_no_label_file(store):
    folder = store.path.parent
    assert feedback.label_files(folder) == feedback.label_files(folder / "none") == []
    for number, name in enumerate(LEFT):
        write(folder / name, [pair(number, id=str(number))])
    (folder / "folder.jsonl").mkdir()
    assert feedback.label_files(folder) == []
    with pytest.raises(FeedbackError, match="no labels at"):
        read(folder)
    kept = store.append(pair("kept"))
    copy = folder / "ada (1).jsonl"
    copy.write_bytes(store.path.read_bytes())
    assert feedback.label_files(str(folder)) == [copy, store.path]
    assert read(folder, world=WORLD) == feedback.Labels([kept], [])


@pytest.mark.parametrize("path", feedback.label_files(DATA / "feedback"), ids=lambda p: p.stem)
def test_the_shipped_labels_are_read_line_by_line(path):
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert read(path, world=feedback.fingerprint()) == feedback.Labels(records, [])
    assert len(records) >= 290


def test_labels_of_a_world_that_has_changed_are_refused(tmp_path):
    old = GOOD["rating"] | {"world": "f" * 12}
    path = write(tmp_path / "a.jsonl", [GOOD["rating"], old, old])
    assert len(read(path).records) == 3
    with pytest.raises(
        FeedbackError, match=f"2 of 3 labels in .*a.jsonl.*{'f' * 12}.*{WORLD}.*restore"
    ):
        read(path, world=WORLD)
    with pytest.raises(FeedbackError, match="2 of 3"):
        LabelStore(path, "ada", WORLD).records()


# ---- the store ----


def test_append_fills_in_and_undo_takes_back(store):
    assert store.records() == feedback.Labels([], [])
    bare = {k: v for k, v in GOOD["rating"].items() if k not in ("annotator", "world", "seed")}
    first, second = store.append(bare | {"seconds": 30}), store.append(pair(1, seconds=60))
    assert first["annotator"] == "ada" and first["world"] == WORLD and first["seed"] is None
    assert store.records().records == [first, second] and first["id"] != second["id"]
    store.undo(second["id"])
    assert store.records().records == [first] == read(store.path).records
    for label in (second["id"], "nonsense"):
        with pytest.raises(FeedbackError, match="no label"):
            store.undo(label)
    store.undo(first["id"])
    assert store.records() == feedback.Labels([], [])


def test_a_wrong_label_is_not_written(store):
    with pytest.raises(FeedbackError, match="the label, field 'rating'"):
        store.append(GOOD["rating"] | {"rating": 9})
    assert not store.path.exists()


def test_a_store_is_of_one_person(store):
    store.append(pair(1))
    with pytest.raises(FeedbackError, match="labels of 'ada', expected 'bob' alone"):
        LabelStore(store.path, "bob", WORLD).records()


@pytest.mark.parametrize("name", ["", "\ud800", None])
def test_a_store_of_nobody_is_refused_before_the_first_label(tmp_path, name):
    with pytest.raises(FeedbackError, match=r"the label store, field 'annotator'.*expected"):
        LabelStore(tmp_path / "a.jsonl", name, WORLD)


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot force a folder to disk")
def test_a_label_is_forced_to_disk_before_append_returns(store, monkeypatch):
    """A power cut right after append: the file and, for a new one, its name must be on disk."""
    real, forced = os.fsync, []

    def fsync(fd):
        real(fd)
        found = os.fstat(fd)
        if stat.S_ISDIR(found.st_mode):
            assert store.path.exists() and os.path.samestat(found, store.path.parent.stat())
            forced.append("folder")
        else:
            assert os.path.samestat(found, store.path.stat())
            forced.append(store.path.read_bytes())

    monkeypatch.setattr("os.fsync", fsync)
    first = store.append(pair(0))
    whole = store.path.read_bytes()
    assert sorted(forced, key=str) == sorted(["folder", whole], key=str)
    assert first["id"].encode() in whole
    store.append(pair(1))
    assert forced[2:] == [store.path.read_bytes()] and len(forced[2]) > len(whole)
    store.undo(first["id"])
    assert forced[3:] == [store.path.read_bytes()] and forced[3].count(b'"undo"') == 1


def test_a_full_disk_is_said_and_the_next_label_is_whole(store, monkeypatch):
    kept, real = [store.append(pair(0))], os.write
    monkeypatch.setattr("os.write", lambda fd, line: real(fd, line[:20]))
    with pytest.raises(FeedbackError, match="not saved"):
        store.append(pair(1))
    monkeypatch.undo()
    kept.append(store.append(pair(2)))
    labels = store.records()
    assert labels.records == kept and len(labels.damage) == 1


# ---- kills ----


class Buffered(LabelStore):
    """A store that is wrong on purpose: it keeps a thousand labels in memory before it writes."""

    def _write(self, line):
        self.held = [*getattr(self, "held", []), line]
        if len(self.held) == 1000:
            super()._write(b"".join(self.held))
            self.held = []


def keep_appending(store, pipe):
    """Append labels for ever, and tell each id once append has returned."""
    os.write(pipe, b"ready\n")
    for number in itertools.count():
        os.write(pipe, store.append(pair(number))["id"].encode() + b"\n")


def kill_writers(store, kills, seed=0):
    """Kill that many writers at random moments; return (ids told, writers killed in mid-run).

    Three of four have told an id by then, however busy the machine is; the others may just begin.
    """
    rng, told, running = random.Random(seed), [], 0
    for _ in range(kills):
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                keep_appending(store, into)
            finally:
                os._exit(1)
        os.close(into)
        with os.fdopen(out, "rb") as pipe:
            assert pipe.readline() == b"ready\n"
            begun = pipe.readline() if rng.random() < 0.75 else b""
            time.sleep(rng.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            lines = (begun + pipe.read()).split(b"\n")[:-1]
        running += os.WIFSIGNALED(status) and bool(lines)
        told += [line.decode() for line in lines]
    return told, running


@forks
def test_200_kills_lose_no_label_that_was_acknowledged(store):
    told, running = kill_writers(store, 200)
    labels = store.records()
    lost = set(told) - {r["id"] for r in labels.records}
    print(
        f"200 kills, {running} of a writer in mid-run, {len(told)} acknowledged, {len(lost)} lost"
    )
    assert not lost and running >= 100 and len(told) == len(set(told))
    last = store.append(pair("after"))
    assert store.records().records[-1] == last


@forks
def test_a_store_that_buffers_loses_labels_under_the_same_kills(tmp_path):
    store = Buffered(tmp_path / "ada.jsonl", "ada", WORLD)
    told, _ = kill_writers(store, 20)
    assert set(told) - {r["id"] for r in store.records().records}


def write_many(path, number):
    store = LabelStore(path, "ada", WORLD)
    for n in range(number):
        store.append(pair(f"{os.getpid()}-{n}"))


def test_two_kernels_writing_at_once_lose_nothing(store):
    context = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    writers = [context.Process(target=write_many, args=(store.path, 300)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    labels = store.records()
    assert not labels.damage and len({r["prompt"] for r in labels.records}) == 600


@pytest.mark.skipif(feedback.fcntl is None, reason="the lock of Linux and macOS")
def test_a_writer_waits_for_the_lock(store):
    store.append(pair(0))
    context = multiprocessing.get_context("fork")
    with store.path.open("rb") as held:
        feedback.fcntl.flock(held, feedback.fcntl.LOCK_EX)
        writer = context.Process(target=write_many, args=(store.path, 1))
        writer.start()
        writer.join(0.3)
        assert writer.is_alive() and len(store.records().records) == 1
        feedback.fcntl.flock(held, feedback.fcntl.LOCK_UN)  # the child has a copy of `held`
    writer.join(10)
    assert len(store.records().records) == 2


# ---- labels to train on ----


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        ([], {}, "there are no labels"),
        ([GOOD["rating"]], {"kind": "preference"}, "there are no preference labels"),
        ([pair(1, tie=True)] * 3, {"kind": "preference"}, "all 3 preference labels are ties"),
        ([pair(1)] * 2, {"annotators": 2}, "of 1 annotator .ada.; expected at least 2"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(records, options, message):
    with pytest.raises(FeedbackError, match=message):
        feedback.require(records, **options)


def test_what_can_be_trained_on_is_returned():
    records = [pair(1), pair(2, tie=True, annotator="bob"), GOOD["rating"]]
    assert feedback.require(records, "preference", annotators=2) == records[:2]
    assert feedback.require(records) == records


# ---- other people's tools ----


@pytest.fixture
def preference_file(tmp_path):
    shipped = DATA / "feedback" / "preferences.jsonl"
    return shipped if shipped.exists() else write(tmp_path / "p.jsonl", [pair(n) for n in range(9)])


def load_dataset(path, cache):
    datasets = pytest.importorskip("datasets")
    return datasets.load_dataset("json", data_files=str(path), cache_dir=str(cache), split="train")


def test_preferences_load_with_datasets(preference_file, tmp_path):
    rows = load_dataset(preference_file, tmp_path / "cache")
    records = read(preference_file).records
    assert rows["chosen"][:] == [r["chosen"] for r in records]
    assert {"prompt", "chosen", "rejected"} <= set(rows.column_names)


def test_preferences_pass_through_the_preprocessing_of_trl(preference_file, tmp_path, base):
    """TRL joins prompt and response, adds the end token, tokenises: as text = prompt + response."""
    trl = pytest.importorskip("trl")
    rows = load_dataset(preference_file, tmp_path / "cache").select(range(9))
    assert not trl.is_conversational(rows[0])
    tokenizer = base[1]
    rewards = trl.RewardConfig(str(tmp_path), report_to="none", use_cpu=True, bf16=False)
    ready = trl.RewardTrainer._prepare_dataset(None, rows, tokenizer, rewards, "train")
    direct = trl.DPOConfig(str(tmp_path), report_to="none", use_cpu=True, bf16=False)
    trainer = SimpleNamespace(_tokenizer=tokenizer, _is_vlm=False)
    split = trl.DPOTrainer._prepare_dataset(trainer, rows, tokenizer, direct, "train")
    for told, row, parts in zip(rows, ready, split):
        for side in ("chosen", "rejected"):
            text = told["prompt"] + told[side] + tokenizer.eos_token
            assert row[f"{side}_ids"] == tokenizer(text)["input_ids"]
            assert parts["prompt_ids"] + parts[f"{side}_ids"] == row[f"{side}_ids"]
        assert tokenizer.decode(parts["prompt_ids"]) == told["prompt"]
    print(f"TRL {trl.__version__}: {ready} and {split}")


def test_a_store_makes_the_folders_that_it_needs(tmp_path):
    store = LabelStore(tmp_path / "class" / "monday" / "ada.jsonl", "ada", WORLD)
    store.append({"kind": "demonstration", "prompt": "Ivo Vane", "response": " sang."})
    store.append({"kind": "demonstration", "prompt": "Edda Moss", "response": " sang."})
    assert len(store.records().records) == 2
