"""A launch runs as many processes as were asked for, or says in one sentence why it did not."""

import os
import subprocess
import sys
import time

from rlhf_lite import launching
from rlhf_lite.launching import LaunchError, launch
from rlhf_lite.runtime import ROOT

import pytest

# A script that needs no library: torchrun tells each process its rank and how many there are.
STAND_IN = """
import json, os, signal, sys, time
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
def say(**event):
    if rank == 0:
        print("::" + json.dumps(event), flush=True)
"""
HEALTHY = 'say(processes=world)\nfor n in (1, 2):\n    say(step=n)\nif rank == 0: print("done")'


@pytest.fixture
def script(tmp_path):
    def written(body):
        path = tmp_path / "script.py"
        path.write_text(STAND_IN + body, encoding="utf-8")
        return path

    return written


def run(path, processes=2, *words):
    return list(launch(path, words, processes, python=sys.executable, threads=1))


def refused(path, processes=2):
    with pytest.raises(LaunchError) as caught:
        run(path, processes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fake(monkeypatch, **found):
    """Say what is installed, instead of looking."""
    monkeypatch.setattr(launching, "installed", lambda python=sys.executable: found)


THERE = {name: wanted or "9.9" for name, wanted in launching.pins().items()}


# ---- the extra ----


def test_the_extra_is_pinned_where_it_matters():
    assert {n for n, wanted in launching.pins().items() if wanted} == {
        "trl",
        "accelerate",
        "datasets",
    }
    assert "requests" in launching.pins()  # which TRL imports and does not declare


def test_nothing_is_missing_where_all_is_there(monkeypatch):
    fake(monkeypatch, **THERE)
    assert launching.lack() == "" and launching.scale_python() == sys.executable


def test_trl_missing(monkeypatch):
    monkeypatch.delenv(launching.ELSEWHERE, raising=False)
    fake(monkeypatch, **{n: v for n, v in THERE.items() if n != "trl"})
    with pytest.raises(LaunchError, match=r"^trl is not installed; expected [\d.]+: python -m pip"):
        launching.scale_python()


def test_trl_of_another_version(monkeypatch):
    monkeypatch.delenv(launching.ELSEWHERE, raising=False)
    fake(monkeypatch, **THERE | {"trl": "0.11.3"})
    with pytest.raises(LaunchError, match=r"^trl is 0\.11\.3; expected .* brings it$"):
        launching.scale_python()


def test_another_environment_may_have_it(monkeypatch):
    monkeypatch.setenv(launching.ELSEWHERE, "/other/python")
    monkeypatch.setattr(
        launching, "installed", lambda python=sys.executable: THERE if "other" in python else {}
    )
    assert launching.scale_python() == "/other/python"
    monkeypatch.setattr(launching, "installed", lambda python=sys.executable: {})
    with pytest.raises(LaunchError, match=r"^in RLHF_SCALE_PYTHON, trl is not installed"):
        launching.scale_python()


def test_what_is_installed_is_asked_of_the_interpreter(tmp_path):
    assert launching.installed(sys.executable)["pytest"] == pytest.__version__
    with pytest.raises(LaunchError, match="expected a Python that runs"):
        launching.installed(str(tmp_path / "python"))


def test_the_core_does_without():
    """No module of the package imports what the extra brings."""
    code = "import sys\nimport rlhf_lite.launching, rlhf_lite.show\nprint(sorted(sys.modules))"
    said = subprocess.check_output([sys.executable, "-c", code], encoding="utf-8", cwd=ROOT)
    assert not {"'trl'", "'accelerate'", "'datasets'"} & set(said.strip("[]\n").split(", "))


# ---- the launch ----


def test_lines_and_events_come_in_order(script):
    said = run(script(HEALTHY))
    assert [line for line in said if isinstance(line, dict)] == [
        {"processes": 2}, {"step": 1}, {"step": 2},
    ]  # fmt: skip
    assert "done" in said


def test_words_reach_the_script(script):
    path = script("say(processes=world)\nsay(words=sys.argv[1:])")
    assert {"words": ["grpo", "--steps", "2"]} in run(path, 1, "grpo", "--steps", 2)


def test_each_process_gets_its_threads_and_the_cpu(script):
    names = "OMP_NUM_THREADS", "ACCELERATE_USE_CPU"
    path = script(f"say(processes=world)\nsay(found=[os.environ[n] for n in {names}])")
    assert {"found": ["1", "true"]} in run(path, 1)


def test_fewer_processes_than_asked(script):
    """As `accelerate launch --cpu` does it: the script runs, alone."""
    message = refused(script("say(processes=1)\ntime.sleep(60)"))
    assert message.startswith("1 of 2 processes run; expected all of them: torchrun")


def test_a_script_that_never_says_how_many(script):
    assert refused(script("say(step=1)")).startswith("nobody knows how many of 2 processes run")


def test_a_killed_worker(script):
    body = 'say(processes=world)\nsay(checkpoint="out/checkpoint-4")\ntime.sleep(1)\n'
    body += "if rank == 1: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(60)"
    message = refused(script(body))
    assert message == (
        "a worker was killed (SIGKILL) and the others were stopped; --resume out/checkpoint-4 "
        "goes on from its last checkpoint"
    )


def test_a_worker_that_fails(script):
    message = refused(
        script('say(processes=world)\nif rank == 1: raise ValueError("no such dial")')
    )
    assert "a worker failed (" in message and "ValueError: no such dial" in message
    assert message.endswith("it left no checkpoint, so start it again")


def alive(pid):
    """Say whether there is a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_stopping_early_leaves_no_process_behind(script):
    lines = launch(
        script("say(processes=world)\nsay(pid=os.getpid())\ntime.sleep(60)"), (), 2, sys.executable
    )
    pid = next(line["pid"] for line in lines if isinstance(line, dict) and "pid" in line)
    lines.close()
    for _ in range(100):
        if not alive(pid):
            break
        time.sleep(0.1)
    assert not alive(pid)


@pytest.mark.parametrize("processes", [0, -1, 1.5, True])
def test_a_number_of_processes(script, processes):
    with pytest.raises(ValueError, match="expected a whole number of at least 1"):
        run(script(HEALTHY), processes)
