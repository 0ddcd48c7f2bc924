"""The experiments on reward models and on the base model: arms, statistics, and small measurements."""

import copy
import math
from functools import partial

from rlhf_lite import experiments, knowledge, records, rewards
from rlhf_lite.experiments import Lab
from rlhf_lite.judging import ruler
from rlhf_lite.records import Record

import numpy as np
import pytest

NAMES = ("rewards", "base")
AT = "preference 1000"
LESS = [
    ("correction - preference", "correction 1000", AT),
    ("critique - preference", "critique 1000", AT),
    ("rating - preference, one scale", "rating 1000", AT),
    ("rating - preference, shifted scales", "offset 1.0", AT),
    ("located - whole", "correction 1000", "whole"),
]
PLAIN = [
    ("shuffled accuracy", "shuffled", "accuracy"),
    ("rank correlation", "preference 20000", "rank"),
    ("shuffled rank correlation", "shuffled", "rank"),
    ("correction, no rationality", "knob 0.0 correction", "rank"),
    ("critique, no rationality", "knob 0.0 critique", "rank"),
    ("rating, no rationality", "knob 0.0 rating", "rank"),
    ("density ratio error", "density ratio", "error"),
]


@pytest.fixture(scope="module")
def rewarded():
    return experiments.load("rewards")


def record_of(arms):
    """A Record of {arm: {key: one number a seed}}."""
    made = {}
    for name, numbers in arms.items():
        seeds = zip(*numbers.values())
        made[name] = {str(s): dict(zip(numbers, row)) for s, row in enumerate(seeds)}
    return Record("made", {"arms": made}, {})


def judged(name, arms):
    """What a statistic of the experiment on rewards says of made-up arms."""
    return np.asarray(experiments.load("rewards").STATISTICS[name](record_of(arms)))


# ---- what is shipped ----


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_statistics_are_those_of_the_shipped_arms(name):
    record = records.read(name)
    assert record["statistics"] == experiments.statistics(experiments.load(name), record)


@pytest.mark.parametrize("name", NAMES)
def test_the_record_has_the_arms_and_seeds_of_the_experiment(name):
    module, record = experiments.load(name), records.read(name)
    assert set(record.names()) == set(module.ARMS)
    for arm, own in module.ARMS.items():
        assert record.seeds(arm) == list(own.get("seeds", module.SEEDS))


def test_the_sizes_of_the_record_are_those_of_the_arms(rewarded):
    record = records.read("rewards")
    assert record["sizes"] == list(rewarded.SIZES) and record["shipped"] == rewarded.SHIPPED
    assert record["kind sizes"] == list(rewarded.KIND_SIZES)
    assert record["knob size"] == rewarded.KNOB_SIZE


# ---- what the statistics say of arms that were made up ----


@pytest.mark.parametrize(("name", "one", "other"), LESS)
def test_a_difference_has_its_sign(name, one, other):
    arms = {one: {"rank": (0.9, 0.5)}, other: {"rank": (0.6, 0.7)}}
    assert judged(name, arms) == pytest.approx([0.3, -0.2])
    assert judged(name, {one: arms[other], other: arms[one]}) == pytest.approx([-0.3, 0.2])


@pytest.mark.parametrize(("name", "arm", "key"), PLAIN)
def test_a_number_is_that_of_its_arm(name, arm, key):
    """All other arms and keys hold 9."""
    arms = {a: dict.fromkeys(("rank", "accuracy", "error"), (9.0, 9.0)) for _, a, _ in PLAIN}
    arms[arm][key] = (0.25, -0.5)
    assert judged(name, arms) == pytest.approx([0.25, -0.5])


def test_the_gap_to_the_ceiling_has_its_sign():
    arms = {"preference 20000": {"ceiling": (0.8, 0.7), "accuracy": (0.75, 0.72)}}
    assert judged("ceiling gap", arms) == pytest.approx([0.05, -0.02])


@pytest.mark.parametrize(("name", "group"), [
    ("true beats false", "known"), ("true beats false, strangers", "strangers"),
])  # fmt: skip
def test_true_beats_false_in_its_own_group(name, group):
    twins = {"known": {"wins": 9.0}, "strangers": {"wins": 9.0}} | {group: {"wins": 0.6}}
    assert judged(name, {"extras": {"twins": (twins,)}}) == pytest.approx([0.6])


def test_points_per_doubling_is_a_slope_from_100_labels_on(rewarded):
    """One point a doubling in the first seed, two less in the second; 30 labels do not count."""
    sizes = [n for n in rewarded.SIZES if n > 30]
    arms = {f"preference {n}": {"accuracy": (0.5 + 0.01 * math.log2(n), 0.5 - 0.02 * math.log2(n))}
            for n in sizes}  # fmt: skip
    arms["preference 30"] = {"accuracy": (9.0, 9.0)}
    assert judged("points per doubling", arms) == pytest.approx([1.0, -2.0])


def test_demonstrations_are_held_against_the_worst_other_kind():
    arms = {f"{k} 1000": {"best16": (2.0, 2.0)} for k in rewards.KINDS}
    arms["critique 1000"] = {"best16": (1.5, 3.0)}
    arms["demonstration 1000"] = {"best16": (1.0, 2.5)}
    name = "demonstration - next worst, best of 16"
    assert judged(name, arms) == pytest.approx([-0.5, 0.5])


def test_every_statistic_was_tried(rewarded):
    others = {"ceiling gap", "true beats false", "true beats false, strangers", "points per doubling",
              "demonstration - next worst, best of 16"}  # fmt: skip
    assert set(rewarded.STATISTICS) == others | {row[0] for row in LESS + PLAIN}


# ---- what they share with the package ----


def utilities(*seeds):
    return [np.random.default_rng(seed).normal(0, 1.5, 40) for seed in seeds]


def test_the_ruler_calls_the_utility_perfect_and_its_opposite_as_bad():
    truth = utilities(0, 1, 2)
    best, worst = ruler(truth, truth, 0.8), ruler([-u for u in truth], truth, 0.8)
    assert best["rank"] == pytest.approx(1) and worst["rank"] == pytest.approx(-1)
    assert (
        best["accuracy"] == pytest.approx(best["ceiling"]) == pytest.approx(1 - worst["accuracy"])
    )
    assert (
        best["best16"] == pytest.approx(best["oracle16"]) and worst["best16"] < 0 < best["best16"]
    )
    assert ruler([np.zeros(40)] * 3, truth, 0.8)["rank"] == 0


def test_the_ruler_is_the_mean_over_prompts():
    truth, scores = utilities(0, 1), utilities(2, 3)
    each = [ruler([s], [u], 0.8) for s, u in zip(scores, truth)]
    mean = {k: (each[0][k] + each[1][k]) / 2 for k in each[0]}
    assert ruler(scores, truth, 0.8) == pytest.approx(mean)


def test_twins_differ_in_one_fact_of_their_person(world):
    """Where the world reads the sentence (it does not where a year ends it), the first is true."""
    people, read = world.people[:5], 0
    pairs = knowledge.twins(world, people, 40, seed=3)
    assert len(set(pairs)) > 10 and pairs == knowledge.twins(world, people, 40, seed=3)
    for true, false in pairs:
        person = next(p for p in people if p.name in true)
        assert person.name in false and true != false
        assert any(f and f in true and f not in false for f in person.facts.values())
        claims = [c for text in (true, false) for c in world.parse(text).claims]
        assert [c.verdict for c in claims] in ([], ["true", "false"])
        read += len(claims) // 2
    assert 25 < read < 40


def test_empty_responses_are_left_out():
    assert experiments.by_prompt(["a", "b", "a", "b"], ["x", " ", "", "y"]) == {
        "a": ["x"],
        "b": ["y"],
    }


# ---- measuring, with few labels and few texts ----


@pytest.fixture(scope="module")
def lab(world, base):
    """A lab with 20 responses to each of 4 prompts, which serve for training and as ruler."""
    lab = Lab(None)
    lab.world, lab._loaded = world, base
    said = experiments.base_responses(world, held_out=True)
    lab.held_out = lab.responses = {p: said[p][:20] for p in list(said)[:4]}
    return lab


def test_the_density_ratio_is_exact(rewarded, lab):
    assert (
        rewarded.measure(lab, 0, **experiments.arms_of(rewarded)["density ratio"])["error"] < 1e-9
    )


@pytest.mark.parametrize(
    "arm", ["preference 30", "critique 100", "demonstration 100", "rivals 1000"]
)
def test_an_arm_measures_what_its_record_holds(rewarded, lab, arm):
    found = rewarded.measure(lab, 0, **experiments.arms_of(rewarded)[arm] | {"count": 10})
    assert set(found) | {"labels"} == {*records.read("rewards")["arms"][arm]["0"], "labels"}
    assert 0.2 < found["accuracy"] < found["ceiling"] < 1 and found["labels"] == 10


def test_the_extras_measure_what_their_record_holds(rewarded, lab, monkeypatch):
    monkeypatch.setattr(rewarded, "reworded", lambda lab: lab.held_out)
    few = partial(knowledge.twins, count=5)
    monkeypatch.setattr(
        knowledge, "twins", lambda world, people, _, seed: few(world, people, seed=seed)
    )
    found = rewarded.measure(lab, 0, count=10, extras=True)
    shipped = records.read("rewards")["arms"]["extras"]["0"]
    assert {k: set(v) for k, v in found.items()} == {k: set(v) for k, v in shipped.items()}
    assert found["twins"]["known"]["n"] == 5


def test_tosses_swap_sides_and_nothing_else(lab):
    scholar = experiments.load("_scholar")
    labels = scholar.labels(lab, 0, "preference", 40)
    plain, tossed = (scholar.rows_of(lab, 0, "preference", labels, c) for c in (None, "shuffled"))
    swapped = [a[0] != b[0] for a, b in zip(plain, tossed)]
    assert all(set(a[0]) == set(b[0]) for a, b in zip(plain, tossed)) and 8 < sum(swapped) < 32


def test_rivals_are_other_edits_and_whole_texts_are_longer(lab):
    scholar = experiments.load("_scholar")
    labels = scholar.labels(lab, 0, "correction", 12)
    plain = scholar.rows_of(lab, 0, "correction", labels, None)
    whole = scholar.rows_of(lab, 0, "correction", labels, "whole")
    rivals = scholar.rows_of(lab, 0, "correction", copy.deepcopy(labels), "rivals")
    assert [w[0][0] for w in whole] == [r["prompt"] + r["corrected"] for r in labels]
    assert all(w[0][0].startswith(p[0][0].rstrip("\n")) for p, w in zip(plain, whole))
    assert all(a != b for (a, b), _ in rivals) and [r[0][1] for r in rivals] != [
        p[0][1] for p in plain
    ]


def test_raters_shift_their_ladders_by_the_spread_of_the_utility(lab):
    """20 raters of one label each; with shifts of 10,000 sds they say 1 or 7 alone."""
    scholar = experiments.load("_scholar")
    far = scholar.labels(lab, 0, "rating", 20, offset=1e4)
    assert {r["rating"] for r in far} == {1, 7} and len({r["seed"] for r in far}) == 20


def test_nobody_who_does_not_care_ranks(lab):
    """At rationality 0 the three answers to a pair have the chances 1, 1 and `tie`, whatever it is."""
    scholar, seen = experiments.load("_scholar"), []
    for r in scholar.labels(lab, 0, "preference", 200, rationality=0.0):
        better, worse = (
            lab.people["scholar"].utility(lab.read(r["prompt"] + r[k]))
            for k in ("chosen", "rejected")
        )
        seen += [better > worse] if not r["tie"] and better != worse else []
    assert abs(np.mean(seen) - 0.5) < 3.3 * 0.5 / len(seen) ** 0.5  # one seed in a thousand fails


def test_the_base_model_measures_what_its_record_holds(world, base, monkeypatch):
    """Two people, and four documents."""
    module, small = experiments.load("base"), copy.copy(world)
    small.people = world.people[:2]
    lab = Lab(None)
    lab.world, lab._loaded = small, base
    opening = records.read("base").arm("base", "posterior", 0, "opening", seed=0)[:1]
    monkeypatch.setattr(knowledge, "mild_openings", lambda *_, **__: [opening])
    found = experiments.rounded(module.measure(lab, 0, size=4))
    shipped = records.read("base")["arms"]["base"]["0"]
    assert {*found, "seconds"} == {*shipped, "seconds"}
    told = [row for row in shipped["recall"] if row[0] in {p.name for p in small.people}]
    assert [row[:3] for row in found["recall"]] == [row[:3] for row in told]
    assert np.allclose([r[3] for r in found["recall"]], [r[3] for r in told], atol=0.002)
    assert set(found["posterior"][0]) == set(shipped["posterior"][0])
    assert found["posterior"][0]["exact"][0] == shipped["posterior"][0]["exact"][0]
    assert module.summary(lab, None)["training"] == records.read("base")["training"]
