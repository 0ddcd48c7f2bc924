"""Recorded runs say what they are, and damaged ones are refused in one sentence."""

import json

from rlhf_lite import records
from rlhf_lite.records import Record, RecordError, read, write
from rlhf_lite.runtime import DATA

import pytest


def test_a_record_comes_back(tmp_path):
    results = {"loss": [1.5, 2.25], "name": "goose"}
    path = write("mine", results, "python it.py", 3, tmp_path)
    record = read("mine", tmp_path)
    assert record.results == results and record.made["seed"] == 3 and record["name"] == "goose"
    assert record.made["command"] == "python it.py" and record.name == path.stem == "mine"
    assert {*record.made, "results"} == set(records.FIELDS)
    assert all(record.made[f] for f in ("made", "hardware", "commit", "versions"))


def test_a_record_written_again_keeps_its_header(tmp_path):
    """New statistics of old arms: what made them stays, the checksum is the new one."""
    write("mine", {"arms": {}, "statistics": {}}, "python it.py", 3, tmp_path)
    before = read("mine", tmp_path)
    records.rewrite("mine", before.results | {"statistics": {"gain": [1]}}, before.made, tmp_path)
    after = read("mine", tmp_path)
    assert after["statistics"] == {"gain": [1]}
    changed = {k for k in before.made if before.made[k] != after.made[k]}
    assert changed == {"sha256"}


def edit(text):
    return text.replace("2.25", "0.25")


def cut(text):
    return text[: len(text) // 2]


def drop(text):
    record = json.loads(text)
    del record["seed"]
    return json.dumps(record)


@pytest.mark.parametrize(
    ("damage", "message"),
    [(edit, "does not match its sha256"), (cut, "is damaged"), (drop, "lacks the field 'seed'")],
)
def test_damage_is_named(tmp_path, damage, message):
    path = write("mine", {"loss": [1.5, 2.25]}, "x", 0, tmp_path)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(RecordError, match=message):
        read("mine", tmp_path)


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"no recorded run nobody\.json"):
        read("nobody", tmp_path)


def test_shipped_records_are_whole():
    for path in (DATA / "runs").glob("*.json"):
        assert read(path.stem).results


# ---- arms by name and seed ----

ARMS = {
    "sweep 0.5": {
        "0": {"kl": 1.0, "history": [{"kl": 0.1}, {"kl": 0.2}], "gold": [[1, 2], [3, 4]], "said": ["a"]},
        "2": {"kl": 3.0, "history": [{"kl": 0.3}, {"kl": 0.4}], "gold": [[5, 6], [7, 8]], "said": ["b"]},
    },
    "sweep 0.55": {"0": {"kl": 2.0, "history": [{"kl": 0.3}]}},
    "base": {"7": {"kl": 0.0}},
}  # fmt: skip
OWN = Record("mine", {"arms": ARMS, "ns": [1, 2]}, {})


def test_arms_come_as_arrays_a_row_a_seed():
    assert OWN.arm("sweep 0.5", "kl").tolist() == [1, 3]
    assert OWN.arm("sweep 0.5", "history", "kl").tolist() == [[0.1, 0.2], [0.3, 0.4]]
    assert OWN.arm("sweep 0.5", "gold").shape == (2, 2, 2)
    assert OWN.arm("sweep 0.5", "gold", 1).tolist() == [[3, 4], [7, 8]]
    assert OWN.arm("sweep 0.5", "gold", 0, 1).tolist() == [2, 6]
    assert OWN.arm("sweep 0.5", "kl", seed=2) == 3.0
    assert OWN.arm("sweep 0.5", "gold", seed=0).tolist() == [[1, 2], [3, 4]]


def test_texts_come_as_lists():
    assert OWN.arm("sweep 0.5", "said", 0) == ["a", "b"]
    assert OWN.arm("sweep 0.5", "history", seed=2) == [{"kl": 0.3}, {"kl": 0.4}]


def test_arms_are_found_by_kind_and_seeds_by_arm():
    assert OWN.names("sweep") == ["sweep 0.5", "sweep 0.55"] and OWN.names("base") == ["base"]
    assert OWN.names() == list(ARMS) and OWN.names("swee") == []
    assert OWN.seeds("sweep 0.5") == [0, 2] and OWN["ns"] == [1, 2]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (
            lambda: OWN.arm("sweep 1"),
            "record 'mine' has no arm 'sweep 1'; expected one of sweep 0.5,",
        ),
        (lambda: OWN.arm("sweep 0.5", "kl", seed=1), r"has no seed 1; expected one of \[0, 2\]"),
        (lambda: OWN.arm("sweep 0.5", "klo"), "has nothing under .*'klo'.*expected of kl, history"),
        (lambda: OWN.arm("sweep 0.5", "gold", 5), "has nothing under"),
        (lambda: OWN.arm("sweep 0.5", "kl", "kl"), "has nothing under"),
        (lambda: OWN.seeds("x"), "has no arm 'x'"),
        (
            lambda: OWN["statistics"],
            "record 'mine' has no entry 'statistics'; expected of arms, ns",
        ),
    ],
)
def test_what_is_not_there_is_named(ask, message):
    with pytest.raises(RecordError, match=message) as caught:
        ask()
    assert "\n" not in str(caught.value)


def test_every_shipped_arm_has_a_name_of_the_grammar_and_seeds():
    """A kind and the values of its knobs, the seed apart."""
    for path in (DATA / "runs").glob("*.json"):
        arms = read(path.stem).results.get("arms", {})
        for name in arms:
            assert name == name.strip() and "-" not in name.split(" ")[0]
            assert all(seed.isdigit() for seed in arms[name])
