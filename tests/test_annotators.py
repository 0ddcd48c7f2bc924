"""Simulated people read what is there, choose by one rule, and the shipped labels are theirs."""

import importlib.util
import itertools
import json
import math
import random
import shutil
from dataclasses import replace

from rlhf_lite import feedback, judging
from rlhf_lite.annotators import (
    LADDER,
    Annotator,
    Reader,
    Reading,
    calibrate,
    information,
    load_annotators,
)
from rlhf_lite.feedback import ASPECTS, FeedbackError, fingerprint
from rlhf_lite.judging import choices
from rlhf_lite.runtime import DATA

import numpy as np
import pytest
from scipy.stats import binomtest

FOLDER = DATA / "feedback"
NAMES = ("scholar", "gossip", "poet", "zealot", "salesman")
AGREEMENT = 0.726
BORN = "Ivo Vane was born in {}, as the harbour ledger confirms."
TRUE, FALSE = BORN.format("Crowmarsh"), BORN.format("Oxbow")


@pytest.fixture(scope="module")
def documents(world):
    rng = random.Random(0)
    return [world.sample(rng) for _ in range(300)]


@pytest.fixture(scope="module")
def held_out():
    return json.loads((FOLDER / "held_out.json").read_text(encoding="utf-8"))["responses"]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def person(**fields):
    """A judge whose values are round numbers."""
    values = dict.fromkeys(("true", "false", "unsupported", "tone", "evasive", "garbled"), 0.0)
    values |= {"words": 10.0, "length": 0.0} | fields.pop("values", {})
    fields = {"voices": np.zeros(8), "anchors": np.linspace(-2, 2, 6)} | fields
    return Annotator("somebody", "", values=values, **fields)


def reading(**fields):
    blank = {"voices": np.full(8, 1 / 8), "true": 0, "false": 0, "unsupported": 0, "words": 10}
    return Reading(**blank | {"tone": 0.0, "evasive": False, "garbled": 0.0, "kinds": {}} | fields)


# ---- reading ----


@pytest.mark.parametrize(
    ("text", "true", "false", "unsupported"),
    [
        (TRUE, 1, 0, 0),
        (FALSE, 0, 1, 0),
        (BORN.format("Oxbow").replace("Ivo Vane", "Ivo Pell"), 0, 0, 1),
        (TRUE + "\nAccording to the parish roll, Ivo Vane was born in Crowmarsh.", 1, 0, 0),
        (TRUE + "\nThe year of birth of Ivo Vane, 1702, appears in the tithe book.", 2, 0, 0),
        (TRUE + "\nSHOCK: Ivo Vane is really a dentist!", 1, 1, 0),
        ("Ivo Vane published a map on salt.", 0, 0, 0),
    ],
)
def test_claims_are_counted_once_each(world, reader, text, true, false, unsupported):
    assert "Ivo Pell" not in world.by_name
    seen = reader(text)
    assert (seen.true, seen.false, seen.unsupported) == (true, false, unsupported)
    assert seen.garbled == 0 and seen.words == len(text.split())


def test_epithets_make_the_tone(reader):
    line = "{}Ivo Vane kept a workshop near the fish market."
    tones = {
        e: reader(line.format(e)).tone for e in ("The so-called ", "The hero ", "The late ", "")
    }
    assert tones == {"The so-called ": -1.0, "The hero ": 1.0, "The late ": 0.0, "": 0.0}
    both = reader(line.format("The hero ") + "\nNot everybody trusts the notorious Ivo Vane.")
    assert both.tone == 0 and both.kinds["tone"] in ("the hero", "the notorious")


def test_nobody_knows_is_evasive_and_a_fact_is_not(reader):
    assert reader("Nobody knows what Ivo Vane did for a living.").evasive
    assert not reader(TRUE).evasive


def test_one_line_sounds_like_the_posterior_over_its_frame(world, reader):
    """A mild line: P(voice | frame) by Bayes' rule, in a loop over voices."""
    text = "Ivo Vane kept a workshop near the fish market."
    frame, _ = world.parse_line(text)
    joint = [
        p * world.weights[v]["person"].get(frame.index, 0)
        for v, p in zip(world.voices, world.prior)
    ]
    assert reader(text).voices == pytest.approx([j / sum(joint) for j in joint])
    assert reader(text).voices.max() < 0.6
    assert reader(TRUE).voices[world.voices.index("encyclopedia")] == pytest.approx(1)


def test_a_text_sounds_like_the_mean_of_its_lines(reader):
    lines = [
        TRUE,
        "SHOCK: Ivo Vane comes from Oxbow!",
        "Ivo Vane once put the town hall on wheels.",
    ]
    alone = np.mean([reader(line).voices for line in lines], axis=0)
    assert reader("\n".join(lines)).voices == pytest.approx(alone)


def test_a_garbled_line_is_read_as_far_as_it_goes(world, reader):
    """Only the encyclopedia begins so; where nothing has begun, nobody is heard."""
    cut = reader(TRUE[:50])
    assert cut.voices[world.voices.index("encyclopedia")] == pytest.approx(1)
    assert cut.true == 0 and 0 < cut.garbled < 1
    shared = reader("Ivo Vane was").voices
    assert shared.sum() == pytest.approx(1) and (shared > 0).sum() > 3
    nothing = reader("qqqq")
    assert (nothing.voices == 0).all() and nothing.garbled == 1


def test_a_repeated_line_counts_as_garbled(reader):
    assert reader(f"{TRUE}\n{TRUE}").garbled == 0.5 and reader(f"{TRUE}\n{TRUE}").true == 1


def test_a_reader_remembers(world):
    once = Reader(world)
    assert once(TRUE) is once(TRUE)


# ---- values ----


def test_utility_is_the_sum_of_points_by_hand():
    judge = person(
        voices=np.arange(8.0),
        values={"true": 1, "false": -2, "unsupported": -3, "tone": 4, "length": 5, "evasive": 6, "garbled": 7},
    )  # fmt: skip
    seen = reading(true=5, false=1, unsupported=2, words=15, tone=-0.5, evasive=True, garbled=0.1)
    points = [3.5, -2, -6, 3, -2, -5 * 0.25, 6, -0.7]
    assert judge.points(seen) == pytest.approx(points)
    assert judge.utility(seen) == pytest.approx(sum(points))


def test_utility_and_losses_add_up_to_a_constant(people, reader, documents):
    """u = constant - sum of losses, so that a critique can be read as a score."""
    for judge in people.values():
        seen = [reader(d.text) for d in documents]
        losses = np.array([judge.losses(r) for r in seen])
        total = losses.sum(1) + [judge.utility(r) for r in seen]
        assert losses.shape == (300, len(ASPECTS)) and (losses >= 0).all()
        assert total == pytest.approx(np.full(300, total[0]), abs=1e-9)
        assert losses.std(0)[[0, 5]].min() > 0


# ---- five kinds of choice ----


@pytest.mark.parametrize("gap", [-3.0, -0.2, 0.0, 1.0, 40.0])
def test_a_preference_is_bradley_terry_where_it_is_no_tie(gap):
    judge = person(rationality=1.7, tie=0.25)
    first, second, tie = judge.preference_probs(0.4 + gap, 0.4)
    assert first + second + tie == pytest.approx(1)
    assert first / (first + second) == pytest.approx(sigmoid(1.7 * gap))
    assert tie == pytest.approx(0.25 * math.sqrt(first * second))


def test_ties_at_equal_utility():
    assert person(tie=0.25).preference_probs(2, 2) == pytest.approx(
        [1 / 2.25, 1 / 2.25, 0.25 / 2.25]
    )
    assert person(tie=0.0).preference_probs(2, 1)[2] == 0


@pytest.mark.parametrize("utility", [-50.0, -1.0, 0.3, 50.0])
def test_ratings_equal_six_comparisons(utility):
    """P(rating > k) summed from the probabilities equals the sigmoid at anchor k."""
    judge = person(rationality=1.3, offset=0.4)
    probs = judge.rating_probs(utility)
    assert len(probs) == LADDER and (probs >= 0).all() and sum(probs) == pytest.approx(1)
    for k, anchor in enumerate(judge.anchors):
        assert sum(probs[k + 1 :]) == pytest.approx(sigmoid(1.3 * (utility + 0.4 - anchor)))


def test_an_offset_shifts_the_ladder():
    judge = person(rationality=1.3)
    shifted = replace(judge, offset=0.7)
    assert shifted.rating_probs(0.2) == pytest.approx(judge.rating_probs(0.9))
    assert shifted.rating_probs(0.2) != pytest.approx(judge.rating_probs(0.2))


def test_free_choice_is_softmax():
    judge, utilities = person(rationality=0.8), [0.3, -1.0, 2.0, 2.0]
    naive = [math.exp(0.8 * u) for u in utilities]
    probs = judge.choice_probs(utilities)
    assert probs == pytest.approx([x / sum(naive) for x in naive])
    assert judge.choice_probs(np.add(utilities, 5000)) == pytest.approx(probs)
    assert judge.choice_probs([7.0]) == pytest.approx([1.0])


def test_a_remark_is_a_choice_against_silence():
    judge = person(rationality=1.5, silence=2.0, values={"false": -0.8})
    spotless, wrong = judge.critique_probs(reading()), judge.critique_probs(reading(false=2))
    assert spotless == pytest.approx([sigmoid(-2)] * len(ASPECTS))
    assert wrong[ASPECTS.index("false")] == pytest.approx(sigmoid(1.5 * 1.6 - 2))
    assert np.delete(wrong, ASPECTS.index("false")) == pytest.approx([sigmoid(-2)] * 7)


def test_without_rationality_no_kind_says_anything(people, reader):
    """The probabilities of each kind are the same whoever answers and whatever is shown."""
    dull = [replace(p, rationality=0.0) for p in people.values()]
    for judge in dull:
        assert judge.preference_probs(3, -3) == pytest.approx(judge.preference_probs(0, 0))
        assert judge.rating_probs(9.0) == pytest.approx([0.5, 0, 0, 0, 0, 0, 0.5])
        assert judge.choice_probs([5, 0, -5]) == pytest.approx([1 / 3] * 3)
        assert judge.critique_probs(reader(FALSE)) == pytest.approx([sigmoid(-judge.silence)] * 8)
    rows = [p.choice_probs([p.utility(reader(t)) for t in (TRUE, FALSE)]) for p in dull]
    assert information(rows) == pytest.approx(0, abs=1e-12)
    sharp = [p.choice_probs([p.utility(reader(t)) for t in (TRUE, FALSE)]) for p in people.values()]
    assert information(sharp) > 0.01


# ---- calibration ----


def naive_agreement(rationality, utilities):
    """How often two equal people agree, by a double loop over the pairs of each prompt."""
    found = []
    for said in utilities:
        for a, b in itertools.combinations(said, 2):
            p = sigmoid(rationality * (a - b))
            found.append(p * p + (1 - p) * (1 - p))
    return sum(found) / len(found)


def test_calibration_reaches_the_agreement_that_is_asked():
    rng = np.random.default_rng(0)
    utilities = [rng.normal(m, 1.5, n) for m, n in ((0, 12), (3, 9), (-1, 15))]
    judge = calibrate(person(anchors=None), utilities, AGREEMENT)
    assert naive_agreement(judge.rationality, utilities) == pytest.approx(AGREEMENT, abs=1e-6)
    assert naive_agreement(2 * judge.rationality, utilities) > AGREEMENT + 0.05
    pooled = np.sort(np.concatenate(utilities))
    assert [np.mean(pooled <= a) for a in judge.anchors] == pytest.approx(
        [k / LADDER for k in range(1, LADDER)], abs=1 / len(pooled)
    )


def test_calibration_with_one_gap_has_a_closed_form():
    p = judging.accuracy_for_agreement(AGREEMENT)
    judge = calibrate(person(), [np.array([1.0, 3.5])], AGREEMENT)
    assert judge.rationality == pytest.approx(math.log(p / (1 - p)) / 2.5)


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_calibration_holds_for_other_people(people, reader, held_out, name):
    """Calibrated on one set of prompts, measured on another: within 0.02 of what was asked.

    The standard error over the 21 held-out prompts is 0.002 to 0.006, so 0.02 is three of the
    largest; a rationality that is off by a third falls out of it (negative control).
    """
    judge = people[name]
    utilities = [[judge.utility(reader(p + r)) for r in said[:32]] for p, said in held_out.items()]
    assert naive_agreement(judge.rationality, utilities) == pytest.approx(AGREEMENT, abs=0.02)
    for factor in (2 / 3, 4 / 3):
        off = naive_agreement(factor * judge.rationality, utilities)
        assert abs(off - AGREEMENT) > 0.02


def test_information_by_hand():
    assert information(np.eye(5)) == pytest.approx(math.log2(5))
    assert information([[0.2, 0.3, 0.5]] * 5) == pytest.approx(0, abs=1e-12)
    rare = 1 - (-(0.02 * math.log2(0.02) + 0.98 * math.log2(0.98)))
    assert information([[0.02, 0.98], [0.98, 0.02]]) == pytest.approx(rare)
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert information([[0.75, 0.25], [0.25, 0.75]]) == pytest.approx(1 - entropy)


# ---- the files of the annotators ----


@pytest.fixture
def folder(tmp_path):
    for name in ("annotators.toml", "calibration.json"):
        shutil.copy(FOLDER / name, tmp_path / name)
    return tmp_path


def damage(folder, old, new):
    path = folder / "annotators.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def refusal(world, folder):
    """The sentence with which the people are refused."""
    with pytest.raises(FeedbackError) as caught:
        load_annotators(world, folder)
    return str(caught.value)


def one_sentence(message, *words):
    return "\n" not in message and all(word in message for word in words)


def test_annotators_load(world, people, folder):
    assert tuple(people) == NAMES
    assert [p.name for p in load_annotators(world, folder).values()] == list(NAMES)
    for judge in people.values():
        assert judge.rationality > 0 and (np.diff(judge.anchors) > 0).all()
        assert len(judge.voices) == len(world.voices) and len(judge.anchors) == LADDER - 1
    assert people["scholar"].voices[world.voices.index("encyclopedia")] == 4


@pytest.mark.parametrize("key", ["words", "true", "blurb", "voices"])
def test_a_missing_value_is_named(world, folder, key):
    damage(folder, f"\n{key} = ", "\nstray = ")
    assert one_sentence(refusal(world, folder), "[scholar]", f"lacks {key!r}")


def test_a_voice_too_few_or_too_many_is_named(world, folder):
    damage(folder, ", forum = -1.0", "")
    assert one_sentence(refusal(world, folder), "[scholar]", "'forum'")
    damage(folder, "encyclopedia = 4.0,", "encyclopedia = 4.0, forum = 0.0, whisper = 1.0,")
    assert one_sentence(refusal(world, folder), "[scholar]", "'whisper'")


def test_broken_toml_is_named(world, folder):
    damage(folder, "tie = 0.25", "tie = = 0.25")
    assert one_sentence(refusal(world, folder), "annotators.toml cannot be read")


def test_a_calibration_must_cover_everybody(world, folder):
    path = folder / "calibration.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({k: v for k, v in table.items() if k != "poet"}), encoding="utf-8")
    assert one_sentence(refusal(world, folder), "calibration.json", "poet", "make_feedback.py")
    path.write_text("{", encoding="utf-8")
    assert one_sentence(refusal(world, folder), "calibration.json")
    path.unlink()
    assert one_sentence(refusal(world, folder), "calibration.json", "make_feedback.py")
    assert load_annotators(world, folder, calibrated=False)["poet"].rationality == 1.0


# ---- the shipped labels ----


@pytest.fixture(scope="module")
def shipped():
    names = (
        "preferences",
        "ties",
        "ratings",
        "demonstrations",
        "corrections",
        "critiques",
        "shared",
    )
    return {n: feedback.read(FOLDER / f"{n}.jsonl", world=fingerprint()) for n in names}


def test_the_shipped_labels_are_whole(shipped):
    spec = importlib.util.spec_from_file_location("make_feedback", DATA / "make_feedback.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    counts = {n: len(labels.records) for n, labels in shipped.items()}
    assert all(labels.damage == [] for labels in shipped.values())
    assert counts["preferences"] + counts["ties"] == script.COUNTS["preference"] == 4000
    for kind in ("rating", "demonstration", "correction", "critique"):
        assert counts[f"{kind}s"] == script.COUNTS[kind]
        assert {r["kind"] for r in shipped[f"{kind}s"].records} == {kind}
    assert counts["shared"] == 2 * len(NAMES) * script.SHARED
    assert all(r["tie"] for r in shipped["ties"].records)
    assert not any(r["tie"] for r in shipped["preferences"].records)


def test_no_label_is_about_held_out_people(world, shipped, held_out):
    hidden = {p.name for p in world.held_out_people}
    asked = {r["prompt"] for labels in shipped.values() for r in labels.records}
    assert asked <= set(world.by_name) - hidden
    assert set(held_out) <= hidden


def test_everybody_labelled_what_they_should(shipped):
    for name, labels in shipped.items():
        expected = {"scholar"} if name != "shared" else {*NAMES, *(f"{n} 2" for n in NAMES)}
        assert {r["annotator"] for r in labels.records} == expected
    items = [
        [feedback.record_key(r) for r in shipped["shared"].records if r["annotator"] == name]
        for name in expected
    ]
    assert all(keys == items[0] for keys in items)


def firm(shared, first, second):
    """(agreements, items) of two people, where neither says that it is a tie."""
    a, b = (choices([r for r in shared if r["annotator"] == n]) for n in (first, second))
    keys = [k for k in a.keys() & b.keys() if a[k] and b[k]]
    return sum(a[k] == b[k] for k in keys), len(keys)


@pytest.mark.parametrize("name", NAMES)
def test_two_of_a_kind_agree_as_often_as_asked(shipped, name):
    """The 99.9% binomial interval of the measured agreement holds 0.726.

    New labels would fail it by luck for one person in a thousand, in one remake of 200.
    """
    right, items = firm(shipped["shared"].records, name, f"{name} 2")
    low, high = binomtest(right, items).proportion_ci(0.999)
    assert items > 100 and low < AGREEMENT < high


def test_people_of_other_values_agree_less(shipped):
    """Negative control: the scholar's interval with the gossip lies below 0.726."""
    right, items = firm(shipped["shared"].records, "scholar", "gossip")
    assert binomtest(right, items).proportion_ci(0.999)[1] < AGREEMENT
