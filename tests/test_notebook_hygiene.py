"""The notebook files are committed as house style asks: executed once in order, light, and without residue."""

import json
import re
import statistics
import subprocess
import sys

from rlhf_lite.predictions import load_predictions
from rlhf_lite.runtime import DATA, ROOT

import pytest

LESSONS = sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))
BOOKS = LESSONS + sorted(ROOT.glob("notebooks/solutions/*.ipynb"))
ENDINGS = ("## Take-aways", "## What we left out", "## Exercises", "## References")
VERDICTS = ">verdict</th>"  # the head of a table that has them


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def sources(book, kind):
    return ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == kind]


@pytest.mark.parametrize(
    "path", BOOKS, ids=lambda p: p.stem + ("-solution" if "solutions" in str(p) else "")
)
class TestEveryNotebook:
    def test_name(self, path):
        assert re.fullmatch(r"\d\db?_[a-z0-9_]+\.ipynb", path.name)

    def test_outputs_of_one_clean_run(self, path):
        code = [c for c in read(path)["cells"] if c["cell_type"] == "code"]
        assert [c["execution_count"] for c in code] == list(range(1, len(code) + 1))
        outputs = [o for c in code for o in c["outputs"]]
        assert all(o["output_type"] != "error" for o in outputs)
        assert all(o.get("name") != "stderr" for o in outputs)

    def test_no_residue_in_the_metadata(self, path):
        book = read(path)
        assert set(book["metadata"]) == {"kernelspec", "language_info"}
        assert book["metadata"]["kernelspec"]["name"] == "python3"
        assert all(set(c["metadata"]) <= {"tags", "slideshow"} for c in book["cells"])
        shown = [c["metadata"]["slideshow"] for c in book["cells"] if "slideshow" in c["metadata"]]
        assert all(set(s) == {"slide_type"} for s in shown)
        assert len(shown) == (0 if path not in LESSONS else len(book["cells"]))
        assert len({c["id"] for c in book["cells"]}) == len(book["cells"])

    def test_light(self, path):
        assert path.stat().st_size < 400_000

    def test_cells_are_short(self, path):
        lines = [len(s.strip().split("\n")) for s in sources(read(path), "code")]
        assert max(lines) <= 30
        assert all(s.strip() for s in sources(read(path), "code"))

    def test_no_plumbing(self, path):
        code = "\n".join(sources(read(path), "code"))
        assert not re.search(r"sys\.path|pip install|warnings\.|^[!%]|plt\.show", code, re.M)

    def test_links_lead_somewhere(self, path):
        text = "\n".join(sources(read(path), "markdown"))
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
class TestEveryLesson:
    def test_starts_with_title_card_setup_and_notation(self, path):
        cells = read(path)["cells"]
        first, setup, notation = ("".join(c["source"]) for c in cells[:3])
        assert first.startswith("# ") and "You will be able to" in first and "Time" in first
        assert cells[1]["cell_type"] == "code" and "rlhf_lite" in setup
        assert len([x for x in setup.split("\n") if x.strip()]) <= 13
        assert "Notation" in notation

    def test_more_prose_than_code(self, path):
        book = read(path)
        assert len(sources(book, "markdown")) >= 1.1 * len(sources(book, "code"))

    def test_never_three_code_cells_in_a_row(self, path):
        kinds = "".join(c["cell_type"][0] for c in read(path)["cells"])
        assert "ccc" not in kinds

    def test_median_cell_is_small(self, path):
        lines = [len(s.strip().split("\n")) for s in sources(read(path), "code")]
        assert statistics.median(lines) <= 8

    def test_asks_before_it_tells(self, path):
        prose = "\n".join(sources(read(path), "markdown"))
        assert prose.count("Predict first") >= 3
        assert prose.count("<details>") == prose.count("</details>") >= 3

    def test_ends_as_all_do(self, path):
        prose = "\n".join(sources(read(path), "markdown"))
        places = [prose.find(e) for e in ENDINGS]
        assert -1 not in places and places == sorted(places) and "**Next:**" in prose

    def test_has_exercises_with_solutions(self, path):
        prose = "\n".join(sources(read(path), "markdown"))
        count = len(re.findall(r"^### \d+\. .*\(difficulty [123], \d+ minutes\)", prose, re.M))
        solutions = ROOT / "notebooks" / "solutions" / path.name
        assert count >= 4 and solutions.exists()
        solved = "\n".join(sources(read(solutions), "markdown"))
        assert len(re.findall(r"^## \d+\. ", solved, re.M)) == count

    def test_checks_what_it_teaches(self, path):
        code = "\n".join(sources(read(path), "code"))
        assert re.search(r"assert_(all)?close", code)

    def test_the_readme_lists_it(self, path):
        assert path.name in (ROOT / "README.md").read_text(encoding="utf-8")


def shown(cell):
    """What the outputs of a cell say, as one text."""
    texts = [o.get("text", o.get("data", {}).get("text/html", "")) for o in cell.get("outputs", [])]
    return "".join("".join(text) for text in texts)


def first_shown(cells, ids):
    """The first cell whose output lists all predictions, without a verdict."""
    listed = [n for n, cell in enumerate(cells) if all(f">{i}<" in shown(cell) for i in ids)]
    assert listed and VERDICTS not in shown(cells[listed[0]])
    return listed[0]


def first_told(cells):
    """The first cell that reads an arm of a record, or asks for a verdict."""
    looks = re.compile(r"\.arm\(|\[.statistics.\]|verdict_on|explore_runs|explore_push")
    return next(n for n, cell in enumerate(cells)
                if cell["cell_type"] == "code" and looks.search("".join(cell["source"])))  # fmt: skip


# Predictions may be registered before their notebook is written.
PREDICTED = sorted({p.notebook for p in load_predictions()} & {path.stem for path in LESSONS})


@pytest.mark.parametrize("name", PREDICTED)
def test_predictions_stand_above_the_run_that_judges_them(name):
    cells = read(ROOT / "notebooks" / f"{name}.ipynb")["cells"]
    ids = [p.id for p in load_predictions(notebook=name)]
    assert first_shown(cells, ids) < first_told(cells)
    judged = [p.id for p in load_predictions(notebook=name)
              if (DATA / "runs" / f"{p.record}.json").exists()]  # fmt: skip
    assert all(f">{i}<" in shown(cells[-1 - next(
        n for n, cell in enumerate(cells[::-1]) if VERDICTS in shown(cell)
    )]) for i in judged)  # fmt: skip


def test_a_prediction_below_its_run_is_seen():
    """Negative control: the cell that lists the predictions moved to the end."""
    cells = read(ROOT / "notebooks" / f"{PREDICTED[0]}.ipynb")["cells"]
    ids = [p.id for p in load_predictions(notebook=PREDICTED[0])]
    listed = cells.pop(first_shown(cells, ids))
    verdicts = [n for n, cell in enumerate(cells) if VERDICTS in shown(cell)]
    moved = [cell for n, cell in enumerate(cells) if n not in verdicts] + [listed]
    assert first_shown(moved, ids) > first_told(moved)


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_is_content(command):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout[-3000:]
