"""Files for Codespaces and Binder: they parse, name files that are there, and pin the same torch."""

import json
import os
import re
import subprocess
import sys
import tomllib

from rlhf_lite.runtime import ROOT

import pytest

CONTAINER = ROOT / ".devcontainer" / "devcontainer.json"
BINDER = ROOT / "binder"


def text_of(path):
    return path.read_text(encoding="utf-8")


def pinned(path):
    """{package: version} of a requirements file."""
    return dict(re.findall(r"^([\w-]+)==([\w.]+)", text_of(path), flags=re.MULTILINE))


def named(command):
    """The files that a command of pip installs from."""
    return re.findall(r"-r (\S+)", command)


def test_the_container_installs_what_is_there():
    container = json.loads(text_of(CONTAINER))
    files = named(container["postCreateCommand"])
    assert files == ["binder/requirements.txt", "requirements.txt"]  # CPU torch first
    assert all((ROOT / file).is_file() for file in files)


def test_binder_installs_what_is_there():
    script = text_of(BINDER / "postBuild")
    assert script.startswith("#!/usr/bin/env bash\n") and named(script) == ["requirements.txt"]
    assert {p.name for p in BINDER.iterdir()} == {"requirements.txt", "runtime.txt", "postBuild"}


@pytest.mark.skipif(sys.platform == "win32", reason="no executable bit and no bash")
def test_binder_can_run_its_script():
    assert os.access(BINDER / "postBuild", os.X_OK)
    subprocess.run(["bash", "-n", BINDER / "postBuild"], check=True)


def test_torch_is_the_same_everywhere():
    binder, own = pinned(BINDER / "requirements.txt"), pinned(ROOT / "requirements.txt")
    assert binder == {"torch": own["torch"]}
    assert "--index-url https://download.pytorch.org/whl/cpu\n" in text_of(
        BINDER / "requirements.txt"
    )


def test_python_is_one_that_the_project_takes():
    needs = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["requires-python"]
    least = tuple(map(int, needs.removeprefix(">=").split(".")))
    image = json.loads(text_of(CONTAINER))["image"]
    found = [
        re.search(r"(\d+)\.(\d+)", t).groups() for t in (text_of(BINDER / "runtime.txt"), image)
    ]
    assert all(tuple(map(int, f)) >= least for f in found) and len(set(found)) == 1
