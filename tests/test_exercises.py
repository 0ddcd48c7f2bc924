"""Every exercise checks itself: its solution is right; its stub and plausible wrong answers are not.

Lesson and solution share the check cell, so the solutions' namespace, which trains next to nothing,
runs both. What a notebook itself prints is read from its stored outputs.
"""

import ast
import json
import linecache
import re

from rlhf_lite import exercises, runtime
from rlhf_lite.exercises import exercise, progress
from rlhf_lite.runtime import DATA, ROOT

import numpy as np
import pytest
import torch
from wrong_answers import WRONG

NAMES = sorted(p.stem for p in ROOT.glob("notebooks/[0-9]*.ipynb"))
RECORDS = {"04b_price": "faults"}  # what a solution reads, and may not be recorded yet


def cells_of(name, folder="notebooks"):
    return json.loads((ROOT / folder / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def by_number(cells, mark):
    """{number: code cells under the heading of that number}; 0 is what stands above the first."""
    found, number = {0: []}, 0
    for cell in cells:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            found.setdefault(number, []).append(cell)
        for kind, n in re.findall(rf"^({mark} |## )(?:(\d+)\. )?", text, re.MULTILINE):
            number = int(n) if n and kind.strip() == mark else 0
    return found


def split(number, text):
    """(what answers the exercise, its check): cut where the function that it asks for ends."""
    named = re.search(rf"^with exercise\({number}, (\w+), ", text, re.MULTILINE)[1]
    asked = next(x for x in ast.parse(text).body if getattr(x, "name", "") == named)
    lines = text.split("\n")
    return "\n".join(lines[: asked.end_lineno]), "\n".join(lines[asked.end_lineno :]).strip("\n")


def lesson_parts(name):
    """{number: (stub, check)} of a lesson."""
    cells = cells_of(name)
    start = next(n for n, c in enumerate(cells) if "".join(c["source"]).startswith("## Exercises"))
    found = by_number(cells[start:], "###")
    sources = {n: "\n".join("".join(c["source"]) for c in cells) for n, cells in found.items() if n}
    return {n: split(n, text) for n, text in sources.items()}


def solved_parts(name):
    """(set-up, {number: (solution, check)}) of a solutions notebook."""
    found = by_number(cells_of(name, "notebooks/solutions"), "##")
    sources = {n: ["".join(c["source"]) for c in cells] for n, cells in found.items()}
    setup, parts = sources.pop(0), {}
    for number, texts in sources.items():
        at = next(n for n, t in enumerate(texts) if f"with exercise({number}, " in t)
        parts[number] = split(number, "\n".join(texts[: at + 1]))
    return setup, parts


def run(source, names):
    """Run a cell as a notebook would: its functions have a source."""
    file = f"<cell {abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), names)


def outcome(definition, check, names, capsys):
    """(whether it is right, what the check prints) for one answer."""
    run(definition, names)
    capsys.readouterr()
    run(check, names)
    return names["yours"].right, capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_solutions_have_the_checks_of_the_lesson(name):
    lesson, (_, solved) = lesson_parts(name), solved_parts(name)
    assert list(lesson) == list(solved) == list(range(1, len(lesson) + 1)) and len(lesson) >= 4
    assert {n: check for n, (_, check) in lesson.items()} == {n: c for n, (_, c) in solved.items()}
    assert all("your code here" in stub for stub, _ in lesson.values())
    assert f'progress("{name}"' in lesson[len(lesson)][1]


@pytest.mark.parametrize("name", NAMES)
def test_solutions_pass_and_stubs_and_wrong_answers_fail(name, capsys, monkeypatch):
    if name in RECORDS and not (DATA / "runs" / f"{RECORDS[name]}.json").exists():
        pytest.skip(f"{RECORDS[name]} is not recorded yet")
    monkeypatch.setattr(runtime, "FAST", True)
    monkeypatch.setattr(exercises, "_STATES", {})
    (setup, solved), lesson, names = solved_parts(name), lesson_parts(name), {}
    run("\n".join(setup), names)
    for number, (solution, check) in solved.items():
        right, said = outcome(solution, check, names, capsys)
        assert right and f"Exercise {number}: right." in said, said
        wrongs = WRONG[name][number]
        assert wrongs
        for answer in wrongs:
            right, said = outcome(answer, check, names, capsys)
            assert not right and f"Exercise {number}: not yet. Hint: " in said, answer + said
            hint = re.search(r"# met: (.*)", answer)
            assert not hint or hint[1] in said, answer + said
        right, said = outcome(lesson[number][0], check, names, capsys)
        assert not right and f"Exercise {number}: not yet; its stub waits" in said, said
        assert "stopped in its line" not in said and "cannot be used" not in said, said
    assert set(exercises._STATES.values()) == {"not tried"}


def printed(cells):
    return "\n".join("".join(o.get("text", "")) for c in cells for o in c.get("outputs", []))


@pytest.mark.parametrize("name", NAMES)
def test_stored_outputs_say_not_yet_in_lessons_and_right_in_solutions(name):
    count, lesson = len(lesson_parts(name)), printed(cells_of(name))
    solved = printed(cells_of(name, "notebooks/solutions"))
    assert re.findall(r"^Exercise (\d+): not yet; its stub waits", lesson, re.MULTILINE) == [
        str(n) for n in range(1, count + 1)
    ]
    assert f"{count} exercises: {count} not tried" in lesson
    assert f"{count} exercises: {count} right" in solved and "not yet" not in solved


def double(x):
    return x  # your code here


def broken(x):
    rows = [1]
    return rows[x]


class TestOneExercise:
    def said(self, capsys, function, *cases):
        with exercise(1, function, "Twice?") as yours:
            for case in cases:
                yours.equal(*case)
        return capsys.readouterr().out

    def test_right(self, capsys):
        said = self.said(capsys, lambda x: 2 * x, (4, 4.001, "twice 2"), ((1, 2.0), [1, 2]))
        assert said.startswith("twice 2: yours 4, expected 4.001: right\n")
        assert said.endswith("Exercise 1: right.\n")

    def test_a_stub_waits_with_its_hint(self, capsys):
        said = self.said(capsys, double, (double(2), 4))
        assert said == (
            "yours 2, expected 4: not yet\nExercise 1: not yet; its stub waits for you. Hint: Twice?\n"
        )

    def test_a_known_mistake_has_its_own_hint(self, capsys):
        said = self.said(capsys, broken, (8, 4, "twice 2", {"Four times!": 8, "Once!": 2}))
        assert said.endswith("Exercise 1: not yet. Hint: Four times!\n")

    def test_a_mistake_must_explain_every_wrong_answer(self, capsys):
        cases = (
            (8, 4, "", {"Four times!": 8, "Plus 4!": 8}),
            (5, 2, "", {"Four times!": 4, "Plus 4!": 5}),
        )
        assert self.said(capsys, broken, *cases).endswith("Hint: Plus 4!\n")
        assert "Hint: Twice?" in self.said(capsys, broken, *cases, (9, 6, "", {"Plus 4!": 10}))

    def test_one_wrong_case_is_enough(self, capsys):
        assert "not yet. Hint" in self.said(capsys, broken, (1, 1), (3, 2), (1, 1))

    @pytest.mark.parametrize(
        ("yours", "expected", "fault"),
        [
            (None, 1.0, "is a return missing?"),
            (float("nan"), 1.0, "a logarithm of 0, or a division by it?"),
            ([1.0, float("inf")], [1, 2], "a logarithm of 0"),
            (torch.ones(3), np.ones(2), r"its shape is \(3,\), and not \(2,\)"),
            ([1.0], 1.0, r"its shape is \(1,\), where one number is expected"),
            ("one", 1.0, "expected a number"),
            (broken, [1.0], "expected numbers"),
            ([[1], [1, 2]], np.ones((2, 2)), "expected numbers"),
            ({"a": 1}, 1, "expected a number"),
        ],
    )
    def test_what_no_number_can_be_compared_with(self, capsys, yours, expected, fault):
        assert re.search(rf"not yet \(.*{fault}", self.said(capsys, broken, (yours, expected)))

    @pytest.mark.parametrize(
        ("yours", "expected"),
        [
            (torch.tensor([1.0, 2.0], requires_grad=True), [1, 2]),
            (torch.ones(2, dtype=torch.bfloat16), np.ones(2)),
            (np.array(True), True),
            ("a", "a"),
            (["a", "b"], ["a", "b"]),
        ],
    )
    def test_what_is_right_in_another_type(self, capsys, yours, expected):
        assert "Exercise 1: right." in self.said(capsys, broken, (yours, expected))

    def test_texts_and_lists_that_differ(self, capsys):
        said = self.said(capsys, broken, ("a", "b"), (["a"], ["a", "b"]), (1, "a"), (None, "a"))
        assert said.count(": not yet") == 5 and "right" not in said

    def test_within_is_absolute_and_a_thousandth_of_the_largest_by_default(self, capsys):
        assert "Hint" not in self.said(capsys, broken, ([0.09, 100], [0, 100]), (2, 1, "", {}, 1))
        assert "Hint" in self.said(capsys, broken, ([0.11, 100], [0, 100]))

    def test_an_exception_is_a_sentence_with_its_line(self, capsys):
        with exercise(1, broken, "Twice?") as yours:
            yours.equal(broken(0), 1)
            yours.equal(broken(5), 1)
        said = capsys.readouterr().out
        assert "broken stopped in its line 3, `return rows[x]`, with IndexError: list index" in said
        assert "Exercise 1: not yet. Hint: Twice?" in said and "Traceback" not in said
        assert not yours.right

    def test_an_exception_of_the_check_blames_what_was_returned(self, capsys):
        with exercise(1, broken, "Twice?"):
            torch.ones(2) @ torch.ones(3)
        assert "What broken returned cannot be used: RuntimeError" in capsys.readouterr().out

    def test_a_decorated_function_has_its_line(self, capsys):
        with exercise(1, torch.no_grad()(broken), "Twice?"):
            torch.no_grad()(broken)(7)
        assert "its line 3" in capsys.readouterr().out

    def test_an_interrupt_goes_through(self):
        with pytest.raises(KeyboardInterrupt), exercise(1, broken, "Twice?"):
            raise KeyboardInterrupt

    def test_what_has_no_source(self, capsys):
        with exercise(1, 3, "Twice?"):
            raise ValueError("two\nlines")
        said = capsys.readouterr().out
        assert said.startswith("What the answer returned cannot be used: ValueError: two lines\n")

    def test_long_answers_are_cut(self, capsys):
        said = self.said(
            capsys, broken, (np.arange(50.0), np.arange(50.0), "", {}), ("x" * 500, "x")
        )
        assert max(map(len, said.split("\n"))) < 250 and "9, ...]" in said


class TestProgress:
    @pytest.fixture
    def states(self, monkeypatch):
        monkeypatch.setattr(exercises, "_STATES", {})
        return exercises._STATES

    def test_names_every_exercise_and_its_state(self, states, capsys):
        states |= {1: "right", 3: "not yet"}
        progress("01_base_model_sampling", in_words=[2, 4])
        lines = capsys.readouterr().out.strip().split("\n")
        assert lines[0] == "4 exercises: 1 right, 1 not yet, 2 not tried"
        assert re.match(
            r"  1\. right      How many voices, effectively\? \(difficulty 1, ", lines[1]
        )
        assert lines[2].startswith("  2. not tried  The probability of a sentence (difficulty 2")
        assert lines[3].startswith("  3. not yet    Be Bayes")
        assert lines[5].endswith("stands in 2, 4: see the solutions.")

    def test_an_exercise_without_a_check(self, states, tmp_path, monkeypatch, capsys):
        title = "### 1. Why? (difficulty 1, 5 minutes)"
        book = {"cells": [{"cell_type": "markdown", "source": [title]}]}
        (tmp_path / "notebooks").mkdir()
        (tmp_path / "notebooks" / "x.ipynb").write_text(json.dumps(book), encoding="utf-8")
        monkeypatch.setattr(exercises, "ROOT", tmp_path)
        progress("x")
        said = capsys.readouterr().out
        assert "1 exercises: 1 no check" in said and "  1. no check   Why?" in said

    def test_an_unknown_notebook(self):
        with pytest.raises(
            ValueError, match=r"no notebook '99_x' in .*; expected one such as 04_ppo"
        ):
            progress("99_x")
