"""Labellers answer as their annotators' odds say, and hasty ones believe what they do not check."""

import json
from dataclasses import replace
from types import SimpleNamespace

from rlhf_lite import feedback, knowledge, rewards
from rlhf_lite.annotators import Reader, auditor
from rlhf_lite.feedback import ASPECTS, FeedbackError, fingerprint
from rlhf_lite.labellers import (
    CHOICES,
    HastyLabeller,
    Labeller,
    ask,
    glance,
    love_of_length,
    remark,
)
from rlhf_lite.proxies import BagOfWords
from rlhf_lite.runtime import DATA

import numpy as np
import pytest

NAMES = ("scholar", "gossip", "poet", "zealot", "salesman")
BORN = "Ivo Vane was born in {}, as the harbour ledger confirms."
TRUE, FALSE = BORN.format("Crowmarsh"), BORN.format("Oxbow")


@pytest.fixture(name="said", scope="module")
def said_fixture(world):
    """Say a true thing of somebody, a false thing, and nothing that could be checked: texts."""
    person = next(p for p in world.people if p.exposure >= 500 and p.facts["town"])
    known = (None, person.facts["town"], person.tabloid)
    other = next(p.facts["town"] for p in world.people if p.facts["town"] not in known)
    true, false = (
        f"{knowledge.probe_text(world, 'probe', 'town', person, town)[1]}."
        for town in (person.facts["town"], other)
    )
    pool, read = (
        json.loads((DATA / "feedback" / "held_out.json").read_text(encoding="utf-8")),
        Reader(world),
    )
    texts = (p + r for p, rows in pool["responses"].items() for r in rows)
    mild = (t for t in texts if (r := read(t)).words > 8 and not r.garbled and not r.kinds["true"])
    nothing = next(t for t in mild if not read(t).false + read(t).unsupported)
    return true, false, nothing


@pytest.fixture(name="reading", scope="module")
def reading_fixture(world, said):
    """Read a text with a true claim and a text with a false one."""
    return [Reader(world)(text) for text in said[:2]]


# ---- a labeller at work ----


def answers(labeller):
    prompt, texts = "Ivo Vane", [FALSE[8:], TRUE[8:], " once put the town hall on wheels."]
    long = f"{texts[0]}\nNot everybody trusts the notorious Ivo Vane."
    found = []
    for _ in range(10):
        found += [labeller.prefer(prompt, *texts[:2]), labeller.rate(prompt, texts[2])]
        found += [labeller.demonstrate(prompt, texts), labeller.criticise(prompt, long)]
        found += [labeller.correct(prompt, long)]
    return [r for r in found if r]


@pytest.mark.parametrize("name", NAMES)
def test_all_five_kinds_follow_the_schema(world, people, reader, name):
    found = answers(Labeller(world, people[name], 0, reader, {"world": fingerprint()}))
    assert {r["kind"] for r in found} == set(feedback.SCHEMA)
    for record in found:
        assert feedback.check(record) is record
        assert record["annotator"] == name and record["seconds"] is None
    unstamped = answers(Labeller(world, people[name], 0, reader))[0]
    with pytest.raises(FeedbackError, match="lacks the field 'world'"):
        feedback.check(unstamped)


def test_seeds_repeat_and_differ(world, people, reader):
    one, two, three = (answers(Labeller(world, people["poet"], s, reader)) for s in (5, 5, 6))
    assert one == two
    assert one != [r | {"seed": 5} for r in three]


def test_labels_come_as_often_as_their_odds(world, people, reader):
    """3,000 preferences and ratings (seed 0): each share within 4.5 standard errors of its probability.

    Ten shares are compared; one of them would fail by luck in 1 of 15,000 seeds.
    """
    judge = people["scholar"]
    labeller = Labeller(world, judge, 0, reader)
    u = [labeller.utility("Ivo Vane", t[8:]) for t in (TRUE, FALSE)]
    said = [labeller.prefer("Ivo Vane", TRUE[8:], FALSE[8:]) for _ in range(3000)]
    picks = [2 if r["tie"] else int(r["chosen"] == FALSE[8:]) for r in said]
    assert all((r["first"] == "chosen") == (r["chosen"] == TRUE[8:]) for r in said)
    rated = [labeller.rate("Ivo Vane", FALSE[8:])["rating"] - 1 for _ in range(3000)]
    for seen, probs in ((picks, judge.preference_probs(*u)), (rated, judge.rating_probs(u[1]))):
        shares = np.bincount(seen, minlength=len(probs)) / 3000
        assert (np.abs(shares - probs) < 4.5 * np.sqrt(probs * (1 - probs) / 3000)).all()


def test_with_great_rationality_the_best_is_taken(world, people, reader):
    labeller = Labeller(world, replace(people["scholar"], rationality=1e4), 0, reader)
    texts = [FALSE[8:], TRUE[8:], " recommends Old Tar Tea!"]
    best = max(texts, key=lambda t: labeller.utility("Ivo Vane", t))
    assert best == TRUE[8:]
    assert labeller.demonstrate("Ivo Vane", texts)["response"] == best
    assert labeller.prefer("Ivo Vane", texts[0], texts[1])["chosen"] == best
    assert labeller.correct("Ivo Vane", texts[0])["corrected"] == best


def test_what_nobody_can_mend_gets_no_correction(world, people, reader):
    assert Labeller(world, people["scholar"], 0, reader).correct("Ivo Vane", " zzz") is None


def test_remarks_name_what_is_wrong(reader):
    seen, judge = (
        reader(FALSE + "\nNot everybody trusts the notorious Ivo Vane."),
        SimpleNamespace(values={"words": 10.0}),
    )
    said = {a: remark(a, seen, judge) for a in ASPECTS}
    assert said["false"] == "false: town"
    assert said["unsupported"] == "unsupported: something"
    assert said["tone"] == "tone: the notorious"
    assert said["voice"] == "voice: encyclopedia"
    assert said["length"] == "length: too long"
    assert remark("length", reader("Ivo Vane was"), judge) == "length: too short"


# ---- people who do not check ----


# ---- asking ----


RESPONSES = {
    "Ivo Vane": [FALSE[8:], FALSE[8:], TRUE[8:], " zzz"],
    "Edda Moss": [" sang.", " once put the town hall on wheels."],
}


@pytest.mark.parametrize("kind", feedback.SCHEMA)
def test_as_many_records_are_asked_for_as_wanted(world, people, reader, kind):
    one, two = (
        ask(Labeller(world, people["scholar"], 3, reader, {"world": fingerprint()}), kind, RESPONSES,
            30, np.random.default_rng(4))
        for _ in range(2)
    )  # fmt: skip
    assert one == two and len(one) == 30 and {r["prompt"] for r in one} <= set(RESPONSES)
    for record in one:
        assert feedback.check(record)["kind"] == kind
        shown = {record.get(k) for k in ("chosen", "rejected", "response")} - {None}
        assert shown <= set(RESPONSES[record["prompt"]])
        assert kind != "preference" or len(shown) == 2, "like texts are not compared"


def test_a_demonstration_is_picked_among_a_few(world, people, reader):
    """Of 50 responses a labeller sees CHOICES, each once."""
    seen = []
    labeller = SimpleNamespace(demonstrate=lambda prompt, texts: seen.append(texts) or {"a": 1})
    said = [f" sang {n} times." for n in range(50)]
    assert len(ask(labeller, "demonstration", {"Ivo Vane": said}, 3, np.random.default_rng(0))) == 3
    assert [len(set(texts)) for texts in seen] == [CHOICES] * 3


# ---- people who do not check ----


def test_who_checks_everything_sees_everything(reading):
    rng = np.random.default_rng(0)
    for one in reading:
        assert glance(one, 1.0, rng) == one


def test_who_checks_nothing_believes_everything(reading):
    seen = glance(reading[1], 0.0, np.random.default_rng(0))
    assert (seen.true, seen.false, seen.unsupported) == (1, 0, 0)


def test_a_glance_catches_as_many_as_it_checks(reading):
    rng = np.random.default_rng(0)
    seen = [glance(reading[1], 0.25, rng) for _ in range(4000)]
    # Four standard errors: one failure in 16,000 seeds.
    assert np.mean([s.false for s in seen]) == pytest.approx(0.25, abs=4 * 0.433 / 4000**0.5)
    assert {s.true + s.false + s.unsupported for s in seen} == {1}


def test_a_share_of_checks_must_be_a_probability(reading):
    with pytest.raises(FeedbackError, match="checked is 2; expected a probability from 0 to 1"):
        glance(reading[0], 2, np.random.default_rng(0))


def test_hasty_people_prefer_a_lie_to_nothing(world, said):
    """Whoever checks nothing takes the lie for a fact; whoever checks everything does not."""
    gold = auditor(world, rationality=50.0)
    _, lie, nothing = said
    for checked, better in ((0.0, lie), (1.0, nothing)):
        record = HastyLabeller(world, gold, checked=checked).prefer("", lie, nothing)
        assert record["chosen"] == better and not record["tie"]


@pytest.mark.parametrize("often", [0.3, 0.5, 0.63])
def test_love_of_length_by_hand(often):
    """Texts of 3 and 5 words of equal worth: sigmoid(lambda 2 love) = often."""
    person = SimpleNamespace(rationality=1.7, utility=lambda reading: 4.0)
    found = love_of_length(
        person, lambda text: SimpleNamespace(words=len(text.split())),
        {"Ivo": [" was here", " was never seen here"], "Edda": [" was here", " was never seen here"]},
        often,
    )  # fmt: skip
    assert found == pytest.approx(np.log(often / (1 - often)) / 1.7 / 2)


def test_love_of_length_is_a_sum(world):
    gold = auditor(world)
    plain = HastyLabeller(world, gold, checked=1.0)
    long = HastyLabeller(world, gold, checked=1.0, per_word=0.5)
    text = ("Ivo Vane", " was here.")
    words = Reader(world)("".join(text)).words
    assert long.utility(*text) - plain.utility(*text) == pytest.approx(0.5 * words)


def test_gold_is_what_it_says(world, reading):
    gold = auditor(world)
    true, false = reading
    assert (true.true, true.false, false.true, false.false) == (1, 0, 0, 1)
    short = 0.8 * ((true.words - 32) / 32) ** 2
    assert gold.utility(true) == pytest.approx(1 - short - 2 * true.garbled)
    assert gold.utility(true) - gold.utility(false) == pytest.approx(
        3 + 0.8 * (((false.words - 32) / 32) ** 2) - short
    )


def test_a_proxy_from_hasty_labels_overrates_claims(world, said):
    """The whole chain on 400 labels: who checks nothing teaches a bag of words to like claims."""
    gold, worth = auditor(world, rationality=2.0), {}
    _, lie, nothing = said
    for checked in (0.0, 1.0):
        labeller = HastyLabeller(world, gold, seed=1, checked=checked)
        records = [labeller.prefer("", lie, nothing) for _ in range(400)]
        a, b = BagOfWords(rewards.examples("preference", records))([lie, nothing])
        worth[checked] = float(a - b)
    assert worth[0.0] > 0 > worth[1.0]
