"""The package is one piece: modules import downward only, functions are short, importing does no work."""

import ast
import re
import subprocess
import sys

import rlhf_lite
from rlhf_lite.runtime import ROOT

import pytest

FILES = sorted((ROOT / "rlhf_lite").glob("[a-z]*.py"))
ORDER = re.sub(r".*in the order", "", " ".join(rlhf_lite.__doc__.split())).rstrip(".").split(", ")
ORDER = [name.strip() for name in ORDER]


def imported(tree):
    """The modules of the package that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "rlhf_lite":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rlhf_lite."):
            yield node.module.partition(".")[2]


def test_the_order_lists_every_module():
    assert sorted(ORDER) == [path.stem for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_modules_import_downward_only(path):
    above = set(ORDER[: ORDER.index(path.stem)])
    assert set(imported(ast.parse(path.read_text(encoding="utf-8")))) <= above


def test_an_import_of_a_later_module_is_seen():
    """Negative control."""
    tree = ast.parse("from rlhf_lite.desk import Desk\nfrom rlhf_lite import plots, world")
    assert set(imported(tree)) == {"desk", "plots", "world"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_functions_fit_on_a_screen(path):
    found = [
        (node.name, node.end_lineno - node.lineno + 1)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    assert [f for f in found if f[1] > 40] == []


def test_importing_reads_no_file_and_starts_no_browser():
    """Every module at once, from elsewhere: no data is read and no figure library shows a window."""
    code = (
        "import builtins, sys\n"
        "opened, plain = [], builtins.open\n"
        "builtins.open = lambda file, *a, **k: opened.append(str(file)) or plain(file, *a, **k)\n"
        f"import {', '.join('rlhf_lite.' + name for name in ORDER)}\n"
        f"print([x for x in opened if x.startswith({str(ROOT / 'data')!r})])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"
