"""What is learned when, and what blanks teach: the statistics on made-up arms, and small runs."""

from rlhf_lite import experiments, knowledge
from rlhf_lite.experiments import Lab
from rlhf_lite.records import Record

import numpy as np
import pytest

STEPS = [10, 100, 1000]


def learned(**curves):
    """A Record of one arm, "learn", with a curve over STEPS in each of two seeds."""
    arm = {str(s): {"steps": STEPS} | {k: v[s] for k, v in curves.items()} for s in (0, 1)}
    return Record("made", {"arms": {"learn": arm}}, {})


@pytest.fixture(scope="module")
def when():
    return experiments.load("when")


# ---- when ----


def test_a_crossing_lies_between_two_looks_and_never_is_twice_the_last(when):
    record = learned(lines=[[0.0, 1.0, 1.0], [0.6, 0.2, 0.9]], words=[[0.0, 0.8, 0.89], [1, 1, 1]])
    assert when.crossing(record, "lines") == pytest.approx([10**1.5, 10])
    assert when.crossing(record, "words") == pytest.approx([2000, 10])


def test_later_counts_doublings_after_the_last_of_the_others(when):
    record = learned(
        words=[[1, 1, 1]] * 2, lines=[[0, 0.5, 1]] * 2, voice=[[0, 0, 1], [1, 1, 1]],
        **{"told 100 or more": [[0, 0, 0], [0, 0.5, 1]]},
    )  # fmt: skip
    table = {k: np.asarray(f(record)) for k, f in list(when.STATISTICS.items())[:3]}
    assert table["lines after words"] == pytest.approx([np.log2(10)] * 2)
    assert table["voice after lines"] == pytest.approx([np.log2(10), -np.log2(10)])
    assert table["facts after all"] == pytest.approx([1, 0])


def test_repetition_is_read_at_the_end(when):
    record = learned(**{"told 10 to 99": [[9, 9, 0.5]] * 2, "told 1 to 9": [[9, 9, 0.2]] * 2})
    assert when.STATISTICS["told 10 to 99 - 1 to 9"](record) == pytest.approx([0.3, 0.3])


@pytest.fixture(scope="module")
def few(world, base, tmp_path_factory):
    """A ReadingLab of 600 documents, four turns and five facts a group."""
    reading = experiments.load("_reading")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"DOCUMENTS": 600, "PAIRS": 4, "EACH": 5}.items():
            patch.setattr(reading, name, value)
        patch.setattr(reading, "TOLD", {"1 to 9": (1, 10), "100 or more": (1, 10)})
        lab = reading.ReadingLab(tmp_path_factory.mktemp("lab"))
        lab.world, lab._loaded = world, base
        yield lab if lab.facts and lab.turns and lab.words else None


def test_a_turn_sets_a_voice_of_its_own_against_another(few):
    for said, own, other in few.turns:
        voices = [few.world.parse_line(line)[0].place.split("/")[1] for line in (said, own, other)]
        voices = [v.partition(".toml")[0] for v in voices]
        assert voices[0] == voices[1] != voices[2]


def test_the_shipped_base_knows_and_a_newborn_does_not(when, few, monkeypatch):
    monkeypatch.setattr(when, "WRITTEN", 8)
    known = when.look(few, few.base, 0)
    found = when.measure(few, 0, documents=64, steps=(1, 2))
    assert known["words"] > 0.9 and known["lines"] > 0.7 and known["voice"] > 2
    assert (
        set(found) == {*known, "loss", "steps"} and len(found["loss"]) == len(found["words"]) == 2
    )
    assert max(found["lines"]) < 0.2 and max(found["told 1 to 9"]) < 0.01


# ---- blanks ----


def test_what_blanks_say_is_read_by_prompt_with_its_sign():
    blanks = experiments.load("blanks")
    arms = {a: {"0": {"rank": [0.1, 0.2], "accuracy": [0.5, 0.6], "ceiling": [0.8, 0.8]}}
            for a in blanks.ARMS}  # fmt: skip
    arms["twins"]["0"] |= {"known": 0.5, "strangers": 0.4, "voice": 0.9}
    arms["labels"] = {"0": {"accuracy": [0.7, 0.9]}}
    arms["critique"] = {"0": {"rank": [0.4, 0.1]}}
    table = experiments.statistics(blanks, Record("made", {"arms": arms}, {}))
    assert np.allclose(table["ceiling gap"], [[0.3, 0.2]])
    assert np.allclose(table["labels - coins"], [[0.2, 0.3]])
    assert np.allclose(table["critique - preference"], [[0.3, -0.1]])
    assert np.allclose(table["critique - nobody"], [[0.3, -0.1]])
    assert table["true beats false"] == [0.5] and table["encyclopedia beats tabloid"] == [0.9]


def test_an_arm_of_blanks_measures_every_prompt(world, base, monkeypatch):
    blanks, lab = experiments.load("blanks"), Lab(None)
    lab.world, lab._loaded = world, base
    said = experiments.base_responses(world, held_out=True)
    lab.held_out = lab.responses = {p: said[p][:20] for p in list(said)[:4]}
    monkeypatch.setattr(blanks, "PAIRS", 5)
    found = blanks.measure(lab, 0, count=10, asked=True)
    assert {len(found[k]) for k in ("accuracy", "ceiling", "rank")} == {4}
    assert all(0 <= found[k] <= 1 for k in ("known", "strangers", "voice"))
    assert np.all(found["accuracy"] < found["ceiling"])


def test_the_voice_pairs_tell_one_fact_twice(world):
    person = next(p for p in world.people if p.facts["town"])
    one, two = (
        knowledge.probe_text(world, t, "town", person, person.facts["town"])[1]
        for t in experiments.load("blanks").TABLES
    )
    assert one != two and all(person.facts["town"] in text for text in (one, two))
