"""The package is one piece: modules import downward only, functions are short, importing does no work."""

import ast
import re
import subprocess
import sys

import rlhf_lite
from rlhf_lite.runtime import ROOT

import pytest

PACKAGE = ROOT / "rlhf_lite"
WINGS = ("world", "show")
FILES = sorted(p for p in PACKAGE.rglob("[a-z]*.py"))


def order_of(text):
    """The modules that a docstring lists "in the order ..."."""
    found = re.sub(r".*(in the order|import downward:)", "", " ".join(text.split()))
    return [name.strip() for name in found.partition(".")[0].split(",")]


ORDER = order_of(rlhf_lite.__doc__)


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported(tree):
    """The modules of the package that a module imports, e.g. "world.reading" or "optimum"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "rlhf_lite":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rlhf_lite."):
            yield node.module.partition(".")[2]


def test_the_order_lists_every_module_and_wing():
    assert sorted(ORDER) == sorted({name_of(p).partition(".")[0] for p in FILES})


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_modules_import_downward_only(path):
    """And enter another wing by its face."""
    wing, _, part = name_of(path).partition(".")
    found = set(imported(parsed(path)))
    inner = {f for f in found if f.startswith(f"{wing}.")} if part else set()
    assert found - inner <= set(ORDER[: ORDER.index(wing)])
    if inner:
        parts = order_of(parsed(PACKAGE / wing / "__init__.py").body[0].value.value)
        assert {f.partition(".")[2] for f in inner} <= set(parts[: parts.index(part)])


@pytest.mark.parametrize("wing", WINGS)
def test_a_face_lists_every_part(wing):
    parts = order_of(parsed(PACKAGE / wing / "__init__.py").body[0].value.value)
    assert sorted(parts) == sorted(p.stem for p in (PACKAGE / wing).glob("[a-z]*.py"))


def test_an_import_of_a_later_module_is_seen():
    """Negative control."""
    tree = ast.parse("from rlhf_lite.show.desk import Desk\nfrom rlhf_lite import show, world")
    assert set(imported(tree)) == {"show.desk", "show", "world"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_modules_and_functions_are_short(path):
    assert len(path.read_text(encoding="utf-8").split("\n")) <= 401
    found = [
        (node.name, node.end_lineno - node.lineno + 1)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef)
    ]
    assert [f for f in found if f[1] > 40] == []


def test_importing_reads_no_file_and_starts_no_browser():
    """Every module at once, from elsewhere: no data is read and no figure library shows a window."""
    code = (
        "import builtins, sys\n"
        "opened, plain = [], builtins.open\n"
        "builtins.open = lambda file, *a, **k: opened.append(str(file)) or plain(file, *a, **k)\n"
        f"import {', '.join('rlhf_lite.' + name_of(path) for path in FILES)}\n"
        f"print([x for x in opened if x.startswith({str(ROOT / 'data')!r})])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"
