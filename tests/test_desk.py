"""The desk without a screen keeps order, time and place; its skin shows them and loses nothing."""

import random
import re

from rlhf_lite.checks import TextError
from rlhf_lite.feedback import SCHEMA, FeedbackError, LabelStore, check, read
from rlhf_lite.show.desk import (
    PAGES,
    Area,
    Desk,
    continued,
    labelling_desk,
    new_letters,
    pair_html,
    remarks_for,
    response_html,
)
from rlhf_lite.show.figures_feedback import KIND_LOOKS

import ipywidgets
import pytest

WORLD = "0123456789ab"
ITEMS = [{"prompt": f"Who is {n}?", "responses": [f" good {n}", f" bad {n}"]} for n in range(6)]


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def store(tmp_path):
    return LabelStore(tmp_path / "ada.jsonl", "ada", WORLD)


def desk_with_clock(store, items=ITEMS):
    clock = Clock()
    return Desk(items, store, clock=clock), clock


# ---- the desk without a screen ----


def test_a_label_is_on_disk_before_the_next_pair(store):
    desk, clock = desk_with_clock(store)
    prompt, (a, b) = desk.current()
    clock.now = 7.0
    desk.label("b")
    (record,) = store.records().records
    assert (record["prompt"], record["chosen"], record["rejected"]) == (prompt, b, a)
    assert record["first"] == "rejected" and record["seconds"] == 7.0 and not record["tie"]
    assert desk.current()[0] != prompt


def test_choosing_a_and_a_tie(store):
    desk, _ = desk_with_clock(store)
    a = desk.current()[1][0]
    first, tie = desk.label("a"), desk.label("t")
    assert first["chosen"] == a and first["first"] == "chosen" and tie["tie"]


def test_half_of_the_pairs_are_swapped(store):
    desk, _ = desk_with_clock(store)
    shown = [responses[0] for _, responses in desk.tasks["preference"].values()]
    assert sum("bad" in r for r in shown) == 3


def test_every_kind_of_answer_is_a_good_record(store):
    desk, _ = desk_with_clock(store)
    answers = {"preference": "a", "rating": 5, "correction": " better", "critique": ["false: town"],
               "demonstration": " so"}  # fmt: skip
    for kind, answer in answers.items():
        desk.show(kind)
        assert check(desk.label(answer))["kind"] == kind
    assert len(store.records().records) == 5


def test_the_space_that_nobody_types_is_put_in(store):
    items = [{"prompt": "Ivo Vane", "responses": [" sings.", " rows."]}]
    desk, _ = desk_with_clock(store, items)
    desk.show("correction")
    with pytest.raises(FeedbackError, match="the same text"):
        desk.label("sings.")
    assert desk.label("sang.")["corrected"] == " sang."
    desk.show("demonstration")
    assert desk.label("sang.")["response"] == " sang."
    assert [continued("Ivo Vane", t) for t in (", a cook", "\nHe", " x")] == [
        ", a cook",
        "\nHe",
        " x",
    ]
    assert continued('He said "', "no") == "no" and continued("Is it so?", "No") == " No"


@pytest.mark.parametrize(
    ("kind", "answer", "message"),
    [
        ("preference", "x", "chooses nothing"),
        ("rating", 8, "from 1 to 7"),
        ("correction", " good 0", "the same text"),
        ("correction", "", "not empty"),
        ("critique", ["ugly"], "ASPECT: DETAIL"),
        ("demonstration", " \n", "nothing is written"),
    ],
)
def test_a_senseless_answer_is_refused_and_the_task_stays(store, kind, answer, message):
    desk, _ = desk_with_clock(store)
    desk.show(kind)
    task = desk.current()
    with pytest.raises(FeedbackError, match=message):
        desk.label(answer)
    assert desk.current() == task and not store.records().records


def test_pauses_and_long_absences_do_not_count(store):
    desk, clock = desk_with_clock(store)
    clock.now = 5.0
    desk.pause()
    clock.now = 1000.0
    with pytest.raises(FeedbackError, match="paused"):
        desk.label("a")
    desk.show("rating")
    assert desk.paused
    desk.show("preference")
    desk.resume()
    clock.now = 1004.0
    assert desk.label("a")["seconds"] == 4.0
    clock.now = 5000.0
    assert desk.label("a")["seconds"] == 120.0
    clock.now = 5003.0
    desk.pause()
    desk.pause()
    clock.now = 6000.0
    desk.resume()
    desk.resume()
    clock.now = 6002.0
    assert desk.label("b")["seconds"] == 5.0


def test_undo_brings_the_pair_back_also_tomorrow(store):
    desk, _ = desk_with_clock(store)
    first = desk.current()
    desk.label("a")
    second = desk.current()
    desk.label("b")
    desk.undo()
    assert desk.current() == second
    tomorrow, _ = desk_with_clock(store)
    assert tomorrow.current() == second
    tomorrow.undo()
    assert tomorrow.current() == first and not store.records().records
    with pytest.raises(FeedbackError, match="nothing to undo"):
        tomorrow.undo()


def test_a_label_that_two_desks_undo_is_undone_once(store):
    desk, _ = desk_with_clock(store)
    kept, second = desk.label("a"), desk.current()
    desk.label("b")
    other, _ = desk_with_clock(store)
    desk.undo()
    size = store.path.stat().st_size
    other.undo()
    assert other.current() == desk.current() == second and store.path.stat().st_size == size
    assert other.records == desk.records == read(store.path).records == [kept]
    other.label("t")
    desk.undo()
    assert desk.records == read(store.path).records == other.records[1:], "the last that it knew"


def test_the_desk_and_read_agree_about_a_file_that_holds_labels_twice(store):
    desk, clock = desk_with_clock(store)
    clock.now = 60.0
    kept = desk.label("a")
    desk.label("b")
    twice = store.path.read_bytes()
    desk.undo()
    store.path.write_bytes(store.path.read_bytes() + twice)
    again, _ = desk_with_clock(store)
    assert again.records == read(store.path).records == [kept]
    assert again.progress() == "1 of 6 pairs, 1.0 minutes so far, 60 s a pair"
    again.undo()
    assert again.records == read(store.path).records == []


def test_progress_speaks_of_items_minutes_and_pace(store):
    desk, clock = desk_with_clock(store)
    assert desk.progress() == "0 of 6 pairs, 0.0 minutes so far"
    for _ in range(3):
        clock.now += 20
        desk.label("a")
    assert desk.progress() == "3 of 6 pairs, 1.0 minutes so far, 20 s a pair"
    desk.show("rating")
    assert desk.progress() == "0 of 12 responses, 0.0 minutes so far"


def test_at_the_end_there_is_nothing_left(store):
    desk, _ = desk_with_clock(store)
    for _ in ITEMS:
        desk.label("t")
    assert desk.current() is None
    with pytest.raises(FeedbackError, match="every pair is labelled"):
        desk.label("a")


def test_no_items_are_refused(store):
    with pytest.raises(FeedbackError, match="nothing to label"):
        Desk([], store)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_item_that_no_file_could_hold_is_named(store, place):
    texts = ["Who?", " a", " b"]
    texts[place] = " half \ud83d"
    wrong = {"prompt": texts[0], "responses": texts[1:]}
    with pytest.raises(TextError, match=rf"items\[6\]: texts\[{place}\] holds half a character"):
        Desk([*ITEMS, wrong], store)


# ---- the skin ----


def test_letters_label_and_the_box_empties_itself(store):
    view = labelling_desk(ITEMS, store)
    for letter, count in (("a", 1), ("b", 2), ("t", 3), ("u", 2)):
        view.key.value = letter
        assert view.key.value == "" and len(store.records().records) == count
    view.key.value = "AB"
    assert "4 of 6 pairs" in view.progress.value
    view.key.value = "z"
    assert "does nothing here" in view.status.value


def test_the_buttons_do_the_same(store):
    view = labelling_desk(ITEMS, store)
    shown = view.cards["preference"].value
    view.choose["b"].click()
    assert view.cards["preference"].value != shown
    view.undo_button.click()
    assert view.cards["preference"].value == shown
    view.pause_button.click()
    assert view.pause_button.description == "Go on" and "Paused" in view.asks["preference"].value
    view.choose["a"].click()
    assert "paused" in view.status.value and not store.records().records
    view.key.value = "pa"
    assert len(store.records().records) == 1


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["a", "ab"], "ab"),  # the browser had not heard that the box was emptied
        (["a", "a"], "aa"),
        (["ab"], "ab"),
        (["a", "ab", "a"], "aba"),
        (["a", "aa"], "aa"),
    ],
)
def test_quick_typing_acts_once_on_each_letter(typed, expected):
    handled, done = "", ""
    for value in typed:
        done, handled = done + new_letters(value, handled), value
    assert done == expected


def test_the_other_tabs(store, world):
    text = ITEMS[0]["responses"][0]
    view = labelling_desk(ITEMS, store, world)
    view.tab.selected_index = 1
    view.key.value = "5"
    view.rate[7].click()
    view.tab.selected_index = 2
    assert view.corrected.value == text
    view.save_correction.click()
    assert "the same text" in view.status.value and view.corrected.value == text
    view.corrected.value = " mended"
    view.key.value = "pp"
    assert view.corrected.value == " mended", "a pause must not cost what was written"
    view.save_correction.click()
    view.tab.selected_index = 3
    view.tags.children[0].value = True
    view.save_critique.click()
    assert not view.marked(), "the next text starts without marks"
    view.save_critique.click()
    view.tab.selected_index = 4
    view.shown.value = " as it was"
    view.save_demonstration.click()
    records = store.records().records
    kinds = ["rating", "rating", "correction", "critique", "critique", "demonstration"]
    assert [r["kind"] for r in records] == kinds
    assert [r["rating"] for r in records[:2]] == [5, 7]
    assert [len(r["critique"]) for r in records[3:5]] == [1, 0]


def test_reopened_it_goes_on_and_at_the_end_says_so(store):
    view = labelling_desk(ITEMS, store)
    view.key.value = "aaa"
    left = view.cards["preference"].value
    again = labelling_desk(ITEMS, store)
    assert again.cards["preference"].value == left and "3 of 6 pairs" in again.progress.value
    again.key.value = "bbb"
    assert "Notebook 03" in again.asks["preference"].value
    assert again.cards["preference"].value == ""


def test_a_full_disk_is_said_and_the_pair_stays(store, monkeypatch):
    view = labelling_desk(ITEMS, store)
    shown = view.cards["preference"].value
    monkeypatch.setattr("os.write", lambda fd, line: 0)
    view.key.value = "a"
    monkeypatch.undo()
    assert "not saved" in view.status.value and view.cards["preference"].value == shown


@pytest.mark.parametrize(
    ("tab", "box", "save", "field"),
    [
        (2, "corrected", "save_correction", "corrected"),
        (4, "shown", "save_demonstration", "response"),
    ],
)
def test_half_a_character_is_refused_and_what_was_written_stays(store, tab, box, save, field):
    view = labelling_desk(ITEMS, store)
    view.tab.selected_index = tab
    task = view.desk.current()
    getattr(view, box).value = " half an emoji \ud83d"
    getattr(view, save).click()
    assert (
        f"field &#x27;{field}&#x27;" in view.status.value and "lone surrogate" in view.status.value
    )
    view.status.value.encode()
    assert getattr(view, box).value == " half an emoji \ud83d" and view.desk.current() == task
    assert not store.path.exists()
    getattr(view, box).value = " a whole one \U0001f600"
    getattr(view, save).click()
    assert store.records().records[0][field] == " a whole one \U0001f600"


def test_a_box_to_write_in_does_not_send_back_what_the_browser_says(store):
    """The message of an echo could not hold half of a character; a plain Textarea sends one."""
    view, sent = labelling_desk(ITEMS, store), {}
    plain = ipywidgets.Textarea()
    for box in (plain, view.corrected, view.shown):
        messages = sent[box] = []
        box._send = lambda message, buffers=None, messages=messages: messages.append(message)
        box.set_state({"value": " half \ud83d"})
        assert box.value == " half \ud83d"
    assert [m["method"] for m in sent[plain]] == ["echo_update"]
    assert sent[view.corrected] == sent[view.shown] == []
    assert isinstance(view.corrected, Area) and isinstance(view.shown, Area)


def test_damage_and_the_place_of_the_file_are_named(store):
    labelling_desk(ITEMS, store).key.value = "ab"
    store.path.write_bytes(store.path.read_bytes()[:-20])
    view = labelling_desk(ITEMS, store)
    assert "ada.jsonl, line 2" in view.status.value and str(store.path) in view.place.value
    assert "1 of 6 pairs" in view.progress.value


def test_text_is_escaped_and_lines_are_kept():
    shown = pair_html("<b>&", "<script>\nx", "y")
    assert "<script>" not in shown and "&lt;script&gt;<br>x" in shown and "&lt;b&gt;&amp;" in shown
    assert re.findall(r">([AB])</div>", shown) == ["A", "B"]
    assert ">A</div>" not in response_html("p", "r")


def test_remarks_follow_the_language_and_give_nothing_away(world):
    rng, row = random.Random(0), ""
    while not (re.match("The so-called", row) and " born in " in row):
        row = world.sample(rng, "tabloid", "person").text.split("\n")[0]
    prompt, text = row[:14], row[14:]
    remarks = remarks_for(world, prompt, text)
    assert "tone: the so-called" in remarks
    for kind in {c.kind for c in world.parse(row).claims}:
        assert {f"false: {kind}", f"unsupported: {kind}"} <= set(remarks)
    assert len(set(remarks)) == len(remarks)
    base = {"kind": "critique", "prompt": prompt, "response": text, "annotator": "ada",
            "world": WORLD, "seed": None, "seconds": None}  # fmt: skip
    check(base | {"critique": remarks})
    check(base | {"critique": remarks_for(None, prompt, text)})


def test_every_kind_has_a_page_and_a_look():
    assert set(PAGES) == set(KIND_LOOKS) == set(SCHEMA)
    assert next(iter(PAGES)) == "preference", "the desk opens on the first page"
