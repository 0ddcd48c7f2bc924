"""Every notebook and solution runs from a clean kernel, without a network, in fast mode (fewer steps and samples)."""

import os
import re
import sys
from pathlib import Path

from rlhf_lite.runtime import ROOT

import nbformat
import pytest
from nbclient import NotebookClient

BOOKS = sorted(ROOT.glob("notebooks/**/*.ipynb"))
STATE = "application/vnd.jupyter.widget-state+json"


@pytest.fixture
def offline_kernel(monkeypatch):
    offline = str(Path(__file__).parent / "offline")
    monkeypatch.setenv("PYTHONPATH", offline + os.pathsep + os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("RLHF_LITE_FAST", "1")


def execute(book, folder):
    client = NotebookClient(
        book, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    return client.execute()


def widget_errors(book):
    """Errors that a widget's Output swallowed: the cell passes, and the reader sees a traceback."""
    state = book.metadata.get("widgets", {}).get(STATE, {}).get("state", {})
    outputs = [o for m in state.values() for o in m.get("state", {}).get("outputs", [])]
    return [o for o in outputs if o.get("output_type") == "error"]


@pytest.mark.parametrize("path", BOOKS, ids=lambda p: str(p.relative_to(ROOT / "notebooks")))
def test_notebook_runs(path, offline_kernel):
    book = execute(nbformat.read(path, as_version=4), path.parent)
    assert not widget_errors(book)
    code = [c for c in book.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in code if c.source.strip())
    noise = [o.text for c in code for o in c.outputs if o.get("name") == "stderr"]
    assert not noise
    said = "".join(o.text for c in code for o in c.outputs if o.get("name") == "stdout")
    solved = path.parent.name == "solutions"
    verdicts = re.findall(r"^Exercise \d+: (right|not yet)", said, re.MULTILINE)
    assert len(verdicts) >= 4 and set(verdicts) == {"right" if solved else "not yet"}
    assert " stopped in its line " not in said and " cannot be used: " not in said


def run_source(source, folder):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    return execute(book, folder)


def test_a_kernel_of_the_tests_has_no_network(offline_kernel, tmp_path):
    """Negative control: the block works, and fast mode is on."""
    source = (
        "import socket\n"
        "from rlhf_lite.runtime import FAST\n"
        "assert FAST\n"
        "try:\n"
        "    socket.create_connection(('192.0.2.1', 80), timeout=5)\n"
        "except OSError as error:\n"
        "    print(error)"
    )
    assert "allow no network" in run_source(source, tmp_path).cells[0].outputs[0].text


def test_a_failing_cell_fails_the_test(offline_kernel, tmp_path):
    """Negative control: an assertion inside a notebook reaches the test."""
    with pytest.raises(Exception, match="AssertionError"):
        run_source("assert False", tmp_path)


def test_a_swallowed_widget_error_is_seen(offline_kernel, tmp_path):
    """Negative control: an exception inside a widget's Output does not pass unseen."""
    source = (
        "import ipywidgets\n"
        "def draw(x):\n"
        "    raise ValueError('lost')\n"
        "ipywidgets.interactive_output(draw, {'x': ipywidgets.IntSlider()})"
    )
    assert widget_errors(run_source(source, tmp_path))


def test_the_kernel_is_the_one_of_the_tests(offline_kernel, tmp_path):
    book = run_source("import sys; print(sys.prefix)", tmp_path)
    assert book.cells[0].outputs[0].text.strip() == sys.prefix
