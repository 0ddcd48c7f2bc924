"""Thirty students label at once into one folder: nothing is lost, nothing doubled, and the board says what they like."""

import asyncio
import itertools
import math
import multiprocessing
import os
import shutil
import signal
import time

from rlhf_lite import classroom, experiments, feedback, judging, optimum
from rlhf_lite.classroom import ClassStore, deal, gather, nicknames, open_store
from rlhf_lite.feedback import FeedbackError, LabelStore
from rlhf_lite.proxies import Features, LinearReward
from rlhf_lite.show.classboard import Board, BoardView, plot_class
from rlhf_lite.show.desk import Desk, labelling_desk

import matplotlib.pyplot as plt
import numpy as np
import pytest

whole_lines = feedback.add_lines
WORLD, EACH = "0123456789ab", 20
ITEMS = [
    {"prompt": f"Person {n % 15}", "responses": [" sings." + " La." * (n % 4), f" rows {n}."]}
    for n in range(30)
]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills need fork: Linux or macOS")


def counted(texts):
    """Features without a model: length, and three letters."""
    return np.array([[len(t), t.count("a"), t.count("n"), t.count("s")] for t in texts], float)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "class").mkdir()
    return tmp_path / "class"


def laptop(tmp_path, number, name, folder):
    return ClassStore(name, folder, tmp_path / f"laptop {number}", WORLD, patience=0.02)


def label(store, count):
    """Sit at a desk and prefer the longer text, the first of two that are as long."""
    desk = Desk(deal(ITEMS, store.annotator), store)
    for _ in range(count):
        a, b = desk.current()[1]
        desk.label("a" if len(a) >= len(b) else "b")


# ---- thirty at once ----


def student(tmp_path, number, name, folder):
    """One student's process; number 3 dies in the middle of sending, 4 loses the folder for a while."""
    store = laptop(tmp_path, number, name, folder)
    if number == 3:
        label(store, 7)
        assert store.wait(20)
        classroom.feedback.add_lines = tear
    if number == 4:
        label(store, 5)
        folder.unlink()
        label(store, 10)
        assert not store.wait(0.05) and store.waiting > 0 and "not there yet" in store.place()
        folder.symlink_to(folder.parent / "class")
        label(store, EACH - 15)
    else:
        label(store, EACH)
    assert store.wait(20)


def tear(path, lines):
    """Write all but the end of what is due to the class's file, as a kill in the middle does."""
    if path.parent.name != "class":
        return whole_lines(path, lines)
    with path.open("ab") as file:
        file.write(lines[:-50])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


NAMES = [f"s{n:02d}" for n in range(28)] + ["heron", "heron"]


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """A folder into which thirty processes have written at once, and the laptops beside it."""
    tmp_path = tmp_path_factory.mktemp("lesson")
    (tmp_path / "class").mkdir()
    (tmp_path / "mount").symlink_to(tmp_path / "class")
    context = multiprocessing.get_context("fork")
    seats = [(tmp_path, n, name, tmp_path / ("mount" if n == 4 else "class"))
             for n, name in enumerate(NAMES)]  # fmt: skip
    desks = [context.Process(target=student, args=seat) for seat in seats]
    for desk in desks:
        desk.start()
    for desk in desks:
        desk.join(60)
    codes = [desk.exitcode for desk in desks]
    assert codes == [-signal.SIGKILL if n == 3 else 0 for n in range(30)]
    return tmp_path


def on_laptops(tmp_path):
    """What all laptops hold: {id} of acknowledged labels."""
    files = sorted(tmp_path.glob("laptop */*.jsonl"))
    assert len(files) == 30
    return [r["id"] for f in files for r in feedback.read(f).records]


@forks
def test_thirty_at_once_lose_nothing_and_double_nothing(lesson):
    before = gather(lesson / "class", WORLD)
    assert len(before.damage) == 1 and "s03-" in before.damage[0]
    assert laptop(lesson, 3, "s03", lesson / "class").wait(20)
    labels = gather(lesson / "class", WORLD)
    ids = [r["id"] for r in labels.records]
    assert len(ids) == len(set(ids)) and set(ids) == set(on_laptops(lesson))
    assert len(ids) > len(before.records) >= 29 * EACH
    assert len({r["annotator"] for r in labels.records}) == 30
    assert len(list((lesson / "class").iterdir())) == 30
    lines = [x for f in (lesson / "class").glob("*.jsonl") for x in f.read_bytes().split(b"\n")]
    assert len([x for x in lines if x]) == len(ids) + 1, "a line was sent twice"


@forks
def test_a_desk_that_writes_into_the_folder_itself_loses_labels(tmp_path, folder):
    """Negative control: two students of one name, one file, no local copy, the folder away."""
    store = LabelStore(folder / "sub" / "heron.jsonl", "heron", WORLD)
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        shutil.rmtree(folder)
        folder.write_text("not a folder", encoding="utf-8")
    with pytest.raises(FeedbackError, match="not saved"):
        label(store, 1)
    assert laptop_keeps(tmp_path, folder) == 1


def laptop_keeps(tmp_path, folder):
    store = laptop(tmp_path, 1, "heron", folder)
    label(store, 1)
    return len(store.records().records)


@forks
def test_copies_of_a_sync_program_count_once(lesson):
    folder = lesson / "class"
    one = sorted(folder.glob("s05-*.jsonl"))[0]
    before = gather(folder, WORLD).records
    copy = folder / f"{one.stem} (s06's conflicted copy 2026-11-30).jsonl"
    lines = one.read_bytes().split(b"\n")
    copy.write_bytes(b"\n".join(lines[:9]) + b"\n" + lines[9][:40])
    one.write_bytes(b"\n".join([*lines[:3], *lines[12:]]))
    labels = gather(folder, WORLD)
    assert sorted(r["id"] for r in labels.records) == sorted(
        r["id"] for r in before if r["id"].encode() not in b"".join(lines[9:12])
    )
    assert laptop(lesson, 5, "s05", folder).wait(20)
    assert len(gather(folder, WORLD).records) == len(before)
    copy.unlink()
    assert len(gather(folder, WORLD).records) == len(before)


@forks
def test_the_board_over_all_of_them(lesson, reader):
    laptop(lesson, 3, "s03", lesson / "class").wait(20)
    now = [0.0]
    board = Board(lesson / "class", reader, counted, WORLD, clock=lambda: now[0])
    total = sum(board.wishes.counts.values())
    assert total == len(on_laptops(lesson)) and len(board.wishes.counts) == 30
    text = str(board)
    assert f"{total} labels by 30 students on 30 pairs" in text and "s03" in text
    assert "heron-" in text and "alpha 1.00" in text
    assert board.wishes.accuracy[0] > 0.95 and board.wishes.shuffled[1] < 0.55
    assert any("s03" in line for line in board.news)
    assert not board.refresh() and board.news == [], "a torn line is named once"
    now[0] = 400
    assert len(board.silent()) == 30
    figure = plt.figure()
    axes = plot_class(board, figure=figure)
    assert len(axes[0].patches) == 30
    plt.close(figure)


# ---- one desk and its folder ----


def test_an_undo_goes_to_the_folder_too(tmp_path, folder):
    store = laptop(tmp_path, 0, "wren", folder)
    desk = Desk(ITEMS, store)
    for answer in "ab":
        desk.label(answer)
    desk.undo()
    assert store.wait(20) and len(gather(folder, WORLD).records) == 1


def test_what_waits_when_a_kernel_ends_is_sent_at_the_next_opening(tmp_path, folder):
    away = tmp_path / "away"
    store = laptop(tmp_path, 0, "wren", away)
    label(store, 3)
    assert not store.wait(0.1) and len(store.records().records) == 3
    deadline = time.monotonic() + 20
    while store.waiting < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "3 not there yet" in labelling_desk(ITEMS, store).place.value
    folder.rename(away)
    assert laptop(tmp_path, 0, "wren", away).wait(20)
    assert len(gather(away, WORLD).records) == 3


def test_a_student_who_lost_the_laptop_file_keeps_the_class_file(tmp_path, folder):
    store = laptop(tmp_path, 0, "wren", folder)
    label(store, 3)
    assert store.wait(20)
    store.path.unlink()
    label(laptop(tmp_path, 0, "wren", folder), 2)
    assert laptop(tmp_path, 0, "wren", folder).wait(20)
    assert len(gather(folder, WORLD).records) == 5


def test_two_kernels_of_one_student_send_each_line_once(tmp_path, folder):
    stores = [laptop(tmp_path, 0, "wren", folder) for _ in range(2)]
    for n in range(20):
        stores[n % 2].append(label_of(n))
    assert all(s.wait(20) for s in stores)
    lines = stores[0].shared.read_bytes().split(b"\n")
    assert len(lines) == 21 and len(set(lines)) == 21


def label_of(number):
    return {"kind": "preference", "prompt": f"Number {number}", "chosen": " sings.",
            "rejected": " rows.", "tie": False, "first": "chosen"}  # fmt: skip


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", "x" * 21, 7])
def test_a_name_that_is_no_pseudonym_is_refused(tmp_path, folder, name):
    with pytest.raises(FeedbackError, match="expected a pseudonym"):
        open_store(name, folder, tmp_path, WORLD)


def test_the_folder_comes_from_the_environment(tmp_path, folder, monkeypatch):
    monkeypatch.delenv(classroom.CLASS, raising=False)
    assert type(open_store("wren", None, tmp_path, WORLD)) is LabelStore
    monkeypatch.setenv(classroom.CLASS, str(folder))
    assert open_store("wren", None, tmp_path, WORLD).shared.parent == folder


def test_labels_of_another_world_are_named_and_left_out(tmp_path, folder):
    label(laptop(tmp_path, 0, "wren", folder), 2)
    other = ClassStore("crow", folder, tmp_path / "1", "ffffffffffff", 0.02)
    other.append(label_of(1))
    assert other.wait(20) and laptop(tmp_path, 0, "wren", folder).wait(20)
    labels = gather(folder, WORLD)
    assert len(labels.records) == 2 and "crow-" in labels.damage[0]


def test_a_folder_that_is_away_leaves_the_board_as_it_was(tmp_path, folder, reader):
    store = laptop(tmp_path, 0, "wren", folder)
    label(store, 2)
    assert store.wait(20)
    board = Board(folder, reader, counted, WORLD)
    folder.rename(tmp_path / "elsewhere")
    assert not board.refresh() and "is away" in board.news[0]
    folder.mkdir()
    assert not board.refresh() and "nothing is left" in board.news[0]
    assert "2 labels by 1 students" in str(board)


def test_an_empty_board_waits(folder, reader, tmp_path):
    for where in (folder, tmp_path / "nowhere"):
        assert str(Board(where, reader, counted, WORLD)).startswith("0 labels by 0 students")


def test_the_board_watches_while_others_write(tmp_path, folder, reader):
    view = BoardView(Board(folder, reader, counted, WORLD), seconds=0.01)

    async def watch():
        view.watch_button.click()
        assert view.watching and view.watch_button.description == "Hold"
        store = laptop(tmp_path, 0, "wren", folder)
        label(store, 3)
        for _ in range(500):
            if "3 labels by 1" in view.said.value:
                break
            await asyncio.sleep(0.01)
        view.watch_button.click()
        assert not view.watching

    asyncio.run(watch())
    assert "3 labels by 1 students" in view.said.value and view.picture.value


# ---- who sees what, and how far they agree ----


def test_dealing_is_the_students_own_and_overlaps_as_said():
    assert deal(ITEMS, "wren") == deal(ITEMS[::-1], "wren") != deal(ITEMS, "crow")
    many, each, students = [dict(ITEMS[0], prompt=f"p{n}") for n in range(150)], 20, 100
    hands = [{i["prompt"] for i in deal(many, f"s{n}")[:each]} for n in range(students)]
    shared = np.mean([len(a & b) for a, b in itertools.combinations(hands, 2)])
    # m^2 / N = 2.67; over 4,950 pairs of hands the mean strays by 0.02, five of which are 0.1.
    assert shared == pytest.approx(each**2 / len(many), abs=0.1)


def test_two_of_one_name_are_told_apart():
    names = nicknames(["heron-12345678", "heron-9abcdef0", "wren-12345678", "me"])
    assert list(names.values()) == ["heron-1234", "heron-9abc", "wren", "me"]


def naive(raters):
    """Krippendorff's alpha by its own words: pairs of answers, one after another."""
    units = {}
    for table in raters.values():
        for key, side in table.items():
            units.setdefault(key, []).append(side)
    units = [u for u in units.values() if len(u) > 1]
    flat = [side for u in units for side in u]
    same = sum(
        (a == b) / (len(u) - 1)
        for u in units
        for i, a in enumerate(u)
        for j, b in enumerate(u)
        if i != j
    ) / len(flat)
    pairs = [a == b for i, a in enumerate(flat) for j, b in enumerate(flat) if i != j]
    return same, np.mean(pairs), 1 - (1 - same) / (1 - np.mean(pairs))


def answers(rng, students, items, each, noise):
    truth = rng.choice([-1, 0, 1], items, p=[0.45, 0.1, 0.45])
    return {
        n: {int(k): int(rng.choice([-1, 0, 1]) if rng.random() < noise else truth[k])
            for k in rng.permutation(items)[:each]}
        for n in range(students)
    }  # fmt: skip


def test_alpha_is_that_of_the_definition():
    found = answers(np.random.default_rng(0), 6, 25, 9, 0.4)
    ours = judging.panel(found)
    assert (ours["share"], ours["chance"], ours["alpha"]) == pytest.approx(naive(found))
    keys = [set(t) for t in found.values()]
    twice = [k for k in set.union(*keys) if sum(k in t for t in keys) > 1]
    assert ours["items"] == len(twice)
    left = [judging.panel({n: {k: s for k, s in t.items() if k != gone} for n, t in found.items()})
            for gone in twice]  # fmt: skip
    values = np.array([p["alpha"] for p in left])
    error = math.sqrt((len(values) - 1) / len(values) * ((values - values.mean()) ** 2).sum())
    assert ours["high"] - ours["alpha"] == pytest.approx(2.0 * error, rel=0.08)


def test_the_interval_of_alpha_holds_what_it_should():
    """Over 100 classes whose alpha is known from many students: 88 of their intervals or more hold it.

    With a true coverage of 95% that fails by luck twice in a thousand times.
    """
    rng = np.random.default_rng(1)
    truth = judging.panel(answers(rng, 400, 400, 100, 0.4))["alpha"]
    found = [judging.panel(answers(rng, 30, 150, 20, 0.4)) for _ in range(100)]
    assert np.mean([p["low"] <= truth <= p["high"] for p in found]) >= 0.88


def test_what_noise_implies_is_what_students_do():
    """The experiment's own formula, against 4,000 classes of three on one item (sd of the mean 0.005)."""
    module, rng = experiments.load("class"), np.random.default_rng(3)
    probs = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.1, 0.4]])
    said = module.expected([{"item": row} for row in probs] + [{"alone": probs[0]}])
    sides = np.array([rng.choice(3, 4000, p=row) for row in probs])
    alike = np.mean([sides[i] == sides[j] for i, j in ((0, 1), (0, 2), (1, 2))])
    assert said == pytest.approx(alike, abs=0.02)


def test_a_tilt_is_as_far_as_asked_and_goes_where_the_scores_go():
    scores = np.random.default_rng(4).normal(size=(5, 60))
    weights = optimum.tilt_to(scores, 0.8)
    kl = (weights * np.log(weights * 60)).sum(1).mean()
    assert kl == pytest.approx(0.8) and weights.sum(1) == pytest.approx(1)
    one = np.log(weights[0]) - np.log(weights[0, 0])
    assert np.corrcoef(one, scores[0])[0, 1] == pytest.approx(1)
    with pytest.raises(optimum.OptimumError, match="carry no 5 nats"):
        optimum.tilt_to(scores, 5)


def test_who_clicks_at_random_agrees_by_chance_alone():
    clicks = judging.panel(answers(np.random.default_rng(2), 30, 150, 20, 1.0))
    assert clicks["low"] < 0 < clicks["high"] and clicks["share"] == pytest.approx(1 / 3, abs=0.05)
    assert math.isnan(judging.panel({})["alpha"]) and judging.panel({"a": {1: 1}})["items"] == 0


def test_features_do_not_see_the_padding(tiny):
    model, tokenizer = tiny
    together = Features(model, tokenizer)(["Ivo Vane.", "Ivo Vane was born in Oxbow. He sang."])
    alone = Features(model, tokenizer)(["Ivo Vane."])
    np.testing.assert_allclose(together[0], alone[0], atol=1e-5)


def test_a_linear_reward_learns_which_text_is_preferred():
    rows = [(("aaa b", "b"), False), (("aa", "b b"), False), (("b", "b"), True)]
    score = LinearReward(counted, rows)
    assert score(["aaaa"])[0] > score(["b"])[0]
    with pytest.raises(FeedbackError, match="no preferences"):
        LinearReward(counted, [])
