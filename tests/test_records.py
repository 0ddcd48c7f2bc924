"""Recorded runs say what they are, and damaged ones are refused in one sentence."""

import json

from rlhf_lite import records
from rlhf_lite.records import RecordError, read_record, write_record
from rlhf_lite.runtime import DATA

import pytest


def test_a_record_comes_back(tmp_path):
    results = {"loss": [1.5, 2.25], "name": "goose"}
    path = write_record("mine", results, "python it.py", 3, tmp_path)
    record = read_record("mine", tmp_path)
    assert record["results"] == results and record["seed"] == 3
    assert record["command"] == "python it.py" and set(records.FIELDS) <= set(record)
    assert all(record[f] for f in ("made", "hardware", "commit", "versions")) and path.exists()


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
    path = write_record("mine", {"loss": [1.5, 2.25]}, "x", 0, tmp_path)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(RecordError, match=message):
        read_record("mine", tmp_path)


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"no recorded run nobody\.json"):
        read_record("nobody", tmp_path)


def test_shipped_records_are_whole():
    for path in (DATA / "runs").glob("*.json"):
        assert read_record(path.stem)["results"]
