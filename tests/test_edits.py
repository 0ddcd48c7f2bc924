"""One stroke of a pencil changes what it says and nothing else, and the change is found again."""

import random

from rlhf_lite.edits import changed_span, edits

import numpy as np
import pytest

BORN = "Ivo Vane was born in {}, as the harbour ledger confirms."
TRUE, FALSE = BORN.format("Crowmarsh"), BORN.format("Oxbow")


@pytest.fixture(scope="module")
def drafts(world):
    """(prompt, response) from documents that start with a name and carry no note."""
    rng, found = random.Random(1), []
    while len(found) < 40:
        document = world.sample(rng, topic="person")
        name = document.subject.name
        if document.text.startswith(name) and not document.note:
            found.append((name, document.text[len(name) :]))
    return found


def test_every_edit_is_one_stroke_behind_the_prompt(world, drafts):
    rng = np.random.default_rng(0)
    kinds = set()
    for prompt, response in drafts:
        before = (prompt + response).split("\n")
        found = edits(world, prompt, response, rng)
        assert len({text for text, _ in found}) == len(found)
        for text, what in found:
            after = (prompt + text).split("\n")
            assert text not in ("", response)
            if what == "delete a line":
                assert any(after == before[:i] + before[i + 1 :] for i in range(len(before)))
            else:
                assert len(after) == len(before)
                assert sum(a != b for a, b in zip(after, before)) == 1
            kinds.add(what.split(":")[0])
    assert kinds == {"delete a line", "put right", "epithet", "voice"}


def test_every_line_can_be_deleted_but_the_one_with_the_prompt(world, drafts):
    for prompt, response in drafts[:20]:
        lines = (prompt + response).split("\n")
        left = ["\n".join(lines[:i] + lines[i + 1 :]) for i in range(len(lines))]
        expected = {t[len(prompt) :] for t in left if t.startswith(prompt)}
        found = {t for t, _ in edits(world, prompt, response, np.random.default_rng(0))}
        assert expected - {""} <= found
        assert len(expected) >= len(lines) - 1


def test_a_false_fact_put_right_is_true(world, reader):
    response = FALSE[len("Ivo Vane") :]
    found = edits(world, "Ivo Vane", response, np.random.default_rng(0))
    assert [t for t, what in found if what == "put right: town"] == [TRUE[len("Ivo Vane") :]]
    assert all(what != "delete a line" for _, what in found)
    true = edits(world, "Ivo Vane", TRUE[len("Ivo Vane") :], np.random.default_rng(0))
    assert not [what for _, what in true if what.startswith("put right")]


def test_edits_change_what_they_say_and_nothing_else(world, reader, drafts):
    for prompt, response in drafts:
        before = reader(prompt + response)
        for text, what in edits(world, prompt, response, np.random.default_rng(1)):
            after = reader(prompt + text)
            claims = (after.true, after.false, after.unsupported)
            if what.startswith("put right"):
                assert claims == (before.true + 1, before.false - 1, before.unsupported)
            elif what != "delete a line":
                assert claims == (before.true, before.false, before.unsupported)
            if what.startswith("voice: "):
                voice = what.removeprefix("voice: ")
                changed = set((prompt + text).split("\n")) - set((prompt + response).split("\n"))
                frame, _ = world.parse_line(changed.pop())
                assert frame.index in world.weights[voice]["person"]


@pytest.mark.parametrize("response", [" zzz", "", "\n"])
def test_what_cannot_be_edited_has_no_edits(world, response):
    assert edits(world, "Ivo Vane", response, np.random.default_rng(0)) == []


def test_edits_keep_the_note_below_a_document(world):
    rng = random.Random(3)
    document = next(
        d for d in iter(lambda: world.sample(rng, topic="person"), None)
        if d.note and d.text.startswith(d.subject.name)
    )  # fmt: skip
    name = document.subject.name
    found = edits(world, name, document.text[len(name) :], np.random.default_rng(0))
    assert sum(document.note in text for text, _ in found) >= len(found) - 1 > 0


def brute_span(before, after):
    """The longest common head, then the longest common tail of what is left, by trial."""
    most = min(len(before), len(after))
    head = max(n for n in range(most + 1) if before[:n] == after[:n])
    tail = max(
        n for n in range(most - head + 1)
        if before[len(before) - n :] == after[len(after) - n :]
    )  # fmt: skip
    return head, len(before) - tail, len(after) - tail


def test_changed_span_equals_brute_force():
    rng = random.Random(0)
    for _ in range(2000):
        a, b = ("".join(rng.choices("ab\n", k=rng.randrange(9))) for _ in range(2))
        assert changed_span(a, b) == brute_span(a, b)
    assert changed_span("same", "same") == (4, 4, 4)
    assert changed_span("", "new") == (0, 0, 3)
