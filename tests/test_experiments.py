"""The harness measures what is missing, keeps what is done, and writes one record."""

import json
import re
import subprocess
import sys

from rlhf_lite import experiments, records
from rlhf_lite.experiments import Experiment, ExperimentError, Lab, arms_of, overview, rounded
from rlhf_lite.predictions import load_predictions
from rlhf_lite.runtime import DATA, ROOT

import numpy as np
import pytest
import torch

TOY = '''"""Does a number grow with its knob?

One arm costs nothing.
"""

import json
from functools import partial

SEEDS = (0, 1, 2)
ARMS = [
    {"knob 1": {"knob": 1}, "knob 3": {"knob": 3}},
    {"late": {"knob": 0, "late": True, "seeds": (7,)}},
]


def measure(lab, seed, knob, late=False):
    with open(lab.folder.parent / "log", "a") as log:
        log.write(f"{knob} {seed}\\n")
    if late:
        return {"x": lab.arm("knob 1", 0)["x"] + 100}
    if (lab.folder.parent / "broken").exists() and (knob, seed) == (3, 1):
        raise ZeroDivisionError
    return {"x": knob + seed / 7}


def summary(lab, record):
    return {"largest": record.arm("knob 3", "x").max()}


def gain(record, low, high):
    return record.arm(f"knob {high}", "x") - record.arm(f"knob {low}", "x")


STATISTICS = {"gain": partial(gain, low=1, high=3)}
'''


@pytest.fixture
def toy(tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "toy.py").write_text(TOY, encoding="utf-8")
    return Experiment("toy", tmp_path / "experiments", tmp_path / "runs")


def log(toy):
    return (toy.runs / "log").read_text(encoding="utf-8").split("\n")[:-1]


def test_every_arm_is_measured_once_and_recorded(toy):
    record = records.read(toy.measure(workers=1).stem, toy.runs)
    assert record.names() == ["knob 1", "knob 3", "late"] and record.seeds("late") == [7]
    assert record.arm("knob 3", "x") == pytest.approx([3, 3 + 1 / 7, 3 + 2 / 7], abs=1e-5)
    assert record["statistics"] == {"gain": [2.0, 2.0, 2.0]} and record["largest"] == 3.28571
    assert record.made["command"] == "python data/measure.py toy"
    assert sorted(log(toy)) == ["0 7", "1 0", "1 1", "1 2", "3 0", "3 1", "3 2"]


def test_how_long_it_takes_is_said_before(toy):
    """From the record where there is one, else from the experiment; kept arms are done."""
    assert "7 arms left, 2 at a time, for how long nobody knows yet" in toy.forecast(workers=2)
    experiments.load("toy", toy.folder).MINUTES = 6
    assert ", 21 minutes" in toy.forecast(workers=2)
    assert "3 arms left, 1 at a time, 18 minutes" in toy.forecast(1, workers=1)
    record = records.read(toy.measure(workers=1).stem, toy.runs)
    for runs in record["arms"].values():
        for number, run in enumerate(runs.values()):
            run["seconds"] = 60.0 * number
    records.rewrite("toy", record.results, record.made, toy.runs)
    # Arms of 0, 1 and 2 minutes twice, and one of 0.
    assert "7 arms left, 1 at a time, 6 minutes" in toy.forecast(workers=1)
    toy.finish("knob 1", 0)
    assert "6 arms left, 1 at a time, 5 minutes" in toy.forecast(workers=1)


def test_a_later_stage_reads_an_earlier_one(toy):
    toy.measure(workers=1)
    assert records.read("toy", toy.runs).arm("late", "x").tolist() == [101.0]
    assert log(toy)[-1] == "0 7"


def test_what_is_done_is_kept_when_an_arm_fails(toy):
    toy.runs.mkdir()
    (toy.runs / "broken").touch()
    with pytest.raises(ZeroDivisionError):
        toy.measure(workers=1)
    (toy.runs / "broken").unlink()
    before = len(log(toy))
    toy.measure(workers=1)
    assert log(toy)[before:] == ["3 1", "3 2", "0 7"]


def test_workers_write_the_same_record(toy, tmp_path):
    alone = records.read(toy.measure(workers=1).stem, toy.runs)
    both = Experiment("toy", toy.folder, tmp_path / "other")
    record = records.read(both.measure(workers=2).stem, both.runs)
    for name in ("late", "knob 1", "knob 3"):
        assert record.arm(name, "x").tolist() == alone.arm(name, "x").tolist()


def test_one_arm_is_measured_again_and_not_kept(toy):
    found = toy.measure_arm("knob 3", seeds=2)
    assert [v["x"] for v in found.values()] == [3.0, 3.14286] and list(found) == ["0", "1"]
    assert found["0"].keys() == {"seconds", "x"} and not list(toy.runs.glob("my-toy/*"))


def test_fewer_seeds(toy):
    """Into a record of their own, so that the whole one stays; the arms count for both."""
    record = records.read(toy.measure(seeds=1, workers=1).stem, toy.runs)
    assert record.seeds("knob 1") == [0] and record.seeds("late") == [7]
    assert record.name == "my-toy" and not (toy.runs / "toy.json").exists()
    assert record.made["command"].endswith("toy --seeds 1") and record["statistics"] == {}
    before = len(log(toy))
    assert records.read(toy.measure(workers=1).stem, toy.runs).seeds("knob 1") == [0, 1, 2]
    assert len(log(toy)) == before + 4
    for seeds in (0, -1):
        with pytest.raises(ExperimentError, match="expected a number of seeds, 1 or more"):
            toy.measure(seeds=seeds)
    assert records.read("toy", toy.runs).seeds("knob 1") == [0, 1, 2]


def test_measuring_again_measures_again(toy):
    """What was kept until all was done would else come back under today's commit."""
    toy.measure(workers=1)
    before = len(log(toy))
    toy.measure(workers=1)
    assert len(log(toy)) == 2 * before


def test_a_failing_worker_stops_the_others(toy):
    toy.runs.mkdir()
    (toy.runs / "broken").touch()
    with pytest.raises(ZeroDivisionError):
        toy.measure(workers=2)
    assert not (toy.runs / "toy.json").exists()


def test_statistics_are_computed_again_from_the_recorded_arms(toy):
    toy.measure(workers=1)
    record = records.read("toy", toy.runs)
    records.rewrite("toy", record.results | {"statistics": {}}, record.made, toy.runs)
    toy.judge_again()
    again = records.read("toy", toy.runs)
    assert again["statistics"] == {"gain": [2.0, 2.0, 2.0]} and again.made == record.made


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda toy: Experiment("tov", toy.folder).measure(), "no experiment 'tov'.*one of toy"),
        (lambda toy: toy.measure_arm("knob 2"), "no arm 'knob 2'; expected one of knob 1, knob 3"),
    ],
)
def test_what_is_not_there_is_named(toy, ask, message):
    with pytest.raises(ExperimentError, match=message) as caught:
        ask(toy)
    assert "\n" not in str(caught.value)


def test_the_overview_tells_question_and_minutes(toy):
    [before] = overview(toy.folder, toy.runs)
    toy.measure(workers=1)
    [after] = overview(toy.folder, toy.runs)
    assert "not yet" in before and " 0 min" in after
    assert all("Does a number grow with its knob?" in row for row in (before, after))


def test_numbers_are_rounded_wherever_they_stand():
    found = {
        "a": [np.float32(1 / 3), torch.tensor([2 / 3, 1e-9])],
        "b": {"c": (1, "x", True, None)},
    }
    expected = {"a": [0.333333, [0.666667, 1e-9]], "b": {"c": [1, "x", True, None]}}
    assert rounded(found) == expected
    assert json.dumps(rounded(np.array([1, 2]))) == "[1, 2]"


# ---- the shipped experiments ----

NAMES = sorted(p.stem for p in experiments.FOLDER.glob("[a-z]*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_experiment_is_short_and_matches_its_record(name):
    """Or it has bets on it and is not yet run."""
    assert re.search(
        r"arms left, 2 at a time, (\d+ minutes|for how)", Experiment(name).forecast(None, 2)
    )
    module = experiments.load(name)
    text = (experiments.FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.split("\n")) <= 151
    assert module.__doc__.split("\n")[0].endswith("?")
    if not (DATA / "runs" / f"{name}.json").exists():
        assert any(p.record == name for p in load_predictions())
        return
    record = records.read(name)
    assert list(arms_of(module)) == list(record["arms"])
    jobs = [job for stage in Experiment(name).jobs() for job in stage]
    assert jobs == [(arm, seed) for arm in record.names() for seed in record.seeds(arm)]
    assert experiments.statistics(module, record) == record["statistics"]


def test_every_prediction_has_its_statistic_in_an_experiment():
    for p in load_predictions():
        table = experiments.load(p.record).STATISTICS
        assert p.statistic in table and (not p.control or p.control in table)


def test_the_command_lists_what_there_is():
    done = subprocess.run(
        [sys.executable, str(DATA / "measure.py")],
        capture_output=True, encoding="utf-8", check=True, cwd=ROOT,
    )  # fmt: skip
    assert all(f"{name} " in done.stdout for name in NAMES)


def test_the_lab_starts_from_what_is_shipped(tmp_path):
    lab = Lab(tmp_path)
    assert len(lab.prompts) == len(set(lab.prompts)) == 84
    policy = lab.policy()
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), lab.base.parameters()))
    assert not {id(p) for p in policy.parameters()} & {id(p) for p in lab.base.parameters()}
    assert lab.reward(["Ivo Vane was born in Oxbow."]).shape == (1,)


def test_the_readme_shows_the_smallest_experiment_as_it_is():
    texts = {n: (experiments.FOLDER / f"{n}.py").read_text(encoding="utf-8") for n in NAMES}
    smallest = min(texts, key=lambda name: texts[name].count("\n"))
    shown = (DATA / "README.md").read_text(encoding="utf-8")
    assert f"```python\n{texts[smallest]}```" in shown
