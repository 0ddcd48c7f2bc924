"""A verdict follows from the numbers and the rule alone, and a rule that cannot lose is refused."""

import math
import re
import tomllib
from dataclasses import replace

from rlhf_lite import predictions, records
from rlhf_lite.predictions import (
    COLOURS,
    KINDS,
    Prediction,
    PredictionError,
    brier,
    interval,
    load_predictions,
    scoreboard,
    seeds_for,
    show_rule,
    verdict_on,
)
from rlhf_lite.records import RecordError
from rlhf_lite.runtime import DATA, ROOT
from rlhf_lite.show import predictions_html

import numpy as np
import pytest
from scipy.stats import t as student

ROW = {
    "id": "03-x",
    "notebook": "03_reward_model",
    "kind": "EMERGENT",
    "source": "our own",
    "says": "It works.",
    "record": "rewards",
    "statistic": "gain",
    "rule": [0.0, math.inf],
    "credence": 0.7,
    "seeds": 3,
}


def prediction(**fields):
    fields = ROW | fields
    return Prediction(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def controlled(**fields):
    return prediction(control="idle", control_rule=(-0.1, 0.1), **fields)


def toml(tmp_path, *rows):
    """Write rows as a registry: strings in quotes, numbers as TOML knows them."""
    lines = []
    for row in rows:
        lines.append("[[prediction]]")
        lines += [
            f"{k} = {str(v).lower() if isinstance(v, bool) else v!r}"
            if not isinstance(v, str)
            else f'{k} = "{v}"'
            for k, v in row.items()
        ]
    path = tmp_path / "predictions.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def judged_ones():
    """Those registered whose experiment has been run."""
    made = {path.stem for path in (DATA / "runs").glob("*.json")}
    return [p for p in load_predictions() if p.record in made]


# ---- the registry ----


def test_the_registry_loads():
    known = load_predictions()
    rows = tomllib.loads((DATA / "predictions.toml").read_text(encoding="utf-8"))["prediction"]
    assert [p.id for p in known] == [r["id"] for r in rows] and len(rows) >= 55
    for p in known:
        assert re.fullmatch(r"\d\d-z?[a-z]", p.id) and re.match(p.id[:2] + "b?_", p.notebook)
        assert p.kind in KINDS and p.says.endswith(".") and p.source
        assert bool(p.control) == (p.control_rule != (-math.inf, math.inf))


def test_the_first_fifty_five_are_as_they_were():
    """None is reworded: the sha256 of their ids, sentences, sources, kinds and rules."""
    import hashlib

    old = [p for p in load_predictions() if p.first_verdict]
    text = repr([(p.id, p.kind, p.source, p.says, p.statistic, p.rule, p.control, p.control_rule)
                 for p in old])  # fmt: skip
    assert len(old) == 55
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "0491793536457987"


def test_a_notebook_gets_its_own(tmp_path):
    path = toml(tmp_path, ROW, ROW | {"id": "04-a", "notebook": "04_other"})
    assert [p.id for p in load_predictions(path)] == ["03-x", "04-a"]
    assert [p.id for p in load_predictions(path, "04_other")] == ["04-a"]
    assert load_predictions(path, "05_none") == []
    assert load_predictions(path, "03_reward_model") == [prediction()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "prediction 1: field 'colour' is missing or unknown"),
        ({"statistic": None}, "prediction 1: field 'statistic' is missing or unknown"),
        ({"credence": None}, "prediction 1: field 'credence' is missing or unknown"),
        ({"kind": "GUESS"}, "kind 'GUESS'; expected one of EXACT, EMERGENT, SIMULATOR"),
        ({"rule": [1.0, 0.0]}, "rule is [1.0, 0.0]; expected [low, high]"),
        ({"rule": [1.0]}, "rule is [1.0]; expected [low, high]"),
        ({"rule": [0.0, math.nan]}, "rule is [0.0, nan]; expected [low, high]"),
        ({"control_rule": [0.1, -0.1]}, "control_rule is [0.1, -0.1]; expected"),
        ({"seeds": 2.5}, "seeds is 2.5; expected a int"),
        ({"credence": 1.0}, "credence 1 and 3 seeds; expected a probability between 0 and 1"),
        ({"seeds": 0}, "credence 0.7 and 0 seeds"),
        ({"margin": -0.1}, "margin -0.1 with the rule"),
        ({"margin": math.inf}, "margin inf with the rule"),
        ({"margin": 0.2, "rule": [0.9, 1.0], "bounds": [-1.0, 1.0]}, "margin of 0.2 cannot win"),
        ({"rule": [2.0, 3.0], "bounds": [-1.0, 1.0]}, "cannot win"),
        ({"seeds": 1}, "credence 0.7 and 1 seeds"),
        ({"pilot_sd": 0.1}, "pilot_sd without a margin"),
        ({"rule": [-0.1, 0.1], "margin": 0.1}, "0 for a range, which is its own margin"),
        ({"bounds": [0.0, math.inf]}, "lies in [0.0, inf] whatever happens, so the rule [0.0, inf] cannot lose"),
        ({"margin": 0.1, "pilot_sd": 0.1}, "3 seeds; expected 7 for a pilot's sd of 0.1 and an effect of 0.1"),
    ],
)  # fmt: skip
def test_a_faulty_prediction_gets_one_sentence(tmp_path, change, message):
    row = {k: v for k, v in (ROW | change).items() if v is not None}
    with pytest.raises(PredictionError) as caught:
        load_predictions(toml(tmp_path, row))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("predictions.toml")


def test_a_rule_may_be_one_point_and_may_touch_a_bound(tmp_path):
    row = ROW | {"rule": [0.9, 1.0], "bounds": [-1.0, 1.0], "margin": 0.05}
    assert load_predictions(toml(tmp_path, row))[0].edges == [0.9]
    assert load_predictions(toml(tmp_path, ROW | {"rule": [0.5, 0.5]}))[0].edges == [0.5, 0.5]


def test_a_doubled_id_is_refused(tmp_path):
    path = toml(tmp_path, ROW, ROW | {"id": "03-y"}, ROW)
    with pytest.raises(PredictionError, match="id '03-x' stands twice"):
        load_predictions(path)


@pytest.mark.parametrize("text", [None, "", "prediction = ", "[[other]]\nid = 1\n"])
def test_a_registry_that_is_none_gets_one_sentence(tmp_path, text):
    path = tmp_path / "predictions.toml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(PredictionError, match=r"predictions\.toml cannot be read") as caught:
        load_predictions(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("sd", "margin", "count"), [(0.1, 0.1, 7), (0.1, 0.5, 3), (1, 0.1, 387)])
def test_seeds_for_a_pilot(sd, margin, count):
    """The first n whose half interval fits; one less does not."""
    halves = [student.ppf(0.975, n - 1) * sd / math.sqrt(n) for n in (count - 1, count)]
    assert seeds_for(sd, margin) == count and halves[0] > margin >= halves[1]


# ---- intervals ----


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_interval_is_that_of_student(count):
    values = np.random.default_rng(count).normal(3, 2, count)
    mean, low, high, n = interval(values.tolist())
    error = values.std(ddof=1) / math.sqrt(count)
    assert (low, high) == pytest.approx(student.interval(0.95, count - 1, values.mean(), error))
    assert (mean, n) == (pytest.approx(sum(values) / count), count)


def test_three_seeds_by_hand():
    """1, 2, 3: the error is 1 / sqrt(3), and the t quantile of two degrees of freedom is 4.3027."""
    assert interval([1, 2, 3]) == pytest.approx((2, 2 - 2.4841, 2 + 2.4841, 3), abs=1e-3)


def test_one_seed_says_nothing_of_others():
    assert interval([0.25]) == (0.25, -math.inf, math.inf, 1)
    assert interval([[0.2, 0.3]]) == (0.25, -math.inf, math.inf, 1)


def test_seeds_that_differ_alone_and_clusters_that_differ_alone():
    """A table of one luck has the interval of that luck."""
    values = np.array([1.0, 2.0, 4.0])
    alone = interval(values)
    assert interval(np.repeat(values[:, None], 5, 1)) == pytest.approx(alone)
    assert interval(np.repeat(values[None], 5, 0))[:3] == pytest.approx(alone[:3])


def luck(rng, shape, seeds, clusters, rest):
    """A table (S, C) of mean 0 whose seeds, clusters and cells have luck of these sizes."""
    return (
        seeds * rng.normal(size=(shape[0], 1))
        + clusters * rng.normal(size=(1, shape[1]))
        + rest * rng.normal(size=shape)
    )


@pytest.mark.parametrize("shape", [(3, 21), (5, 21), (20, 21)], ids=str)
@pytest.mark.parametrize(
    "sizes", [(1, 0, 1), (0, 1, 1), (0.5, 0.5, 1), (0.2, 0.5, 0.5), (1, 0.3, 0.3)], ids=str
)
def test_clustered_intervals_cover(shape, sizes):
    """2,000 tables (seed 0): the truth lies in 92.5 to 98% of them, three standard errors about 93
    to 97.
    """
    rng, hits = np.random.default_rng(0), 0
    for _ in range(2000):
        _, low, high, _ = interval(luck(rng, shape, *sizes))
        hits += low <= 0 <= high
    assert 0.925 <= hits / 2000 <= 0.98


def test_counting_prompts_alone_would_not_cover():
    """Negative control: the interval of before took prompts - 1 degrees of freedom for all luck."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(2000):
        table = luck(rng, (3, 21), 1, 0.3, 0.3)
        variance = table.mean(0).var(ddof=1) / 21 + table.mean(1).var(ddof=1) / 3
        hits += abs(table.mean()) <= student.ppf(0.975, 20) * math.sqrt(variance)
    assert hits / 2000 < 0.9


@pytest.mark.parametrize(
    "table", [[], "a", [[1, 2], [3]], [math.nan, 1], None, [[[1.0]]], {"value": 1}]
)
def test_what_is_no_table_gets_one_sentence(table):
    with pytest.raises(PredictionError, match="expected finite numbers") as caught:
        interval(table)
    assert "\n" not in str(caught.value)


# ---- verdicts ----


def seeds_of(low, high):
    """Three seeds whose interval is [low, high]."""
    middle, half = (low + high) / 2, (high - low) / 2
    step = half / student.ppf(0.975, 2) * math.sqrt(3)
    return [middle - step, middle, middle + step]


RANGE = {"rule": (-0.15, 0.15)}
EFFECT = {"margin": 0.2}


@pytest.mark.parametrize(
    ("fields", "low", "high", "word"),
    [
        ({}, 0.2, 0.4, "CONFIRMED"),
        ({}, -0.1, 0.4, "TOO NOISY"),
        ({}, -0.5, -0.1, "REFUTED"),
        (EFFECT, 0.1, 0.5, "CONFIRMED"),
        (EFFECT, 0.01, 0.3, "TOO NOISY"),  # above 0, but its value is not worth having
        (EFFECT, 0.05, 0.15, "NO EFFECT"),
        (EFFECT, -0.19, 0.19, "NO EFFECT"),
        (EFFECT, -0.19, 0.25, "TOO NOISY"),
        (EFFECT, -0.15, -0.05, "NO EFFECT"),
        (EFFECT, -0.5, -0.05, "REFUTED"),
        (RANGE, -0.1, 0.1, "CONFIRMED"),
        (RANGE, -0.1, 0.2, "TOO NOISY"),
        (RANGE, 0.2, 0.3, "REFUTED"),
        ({"rule": (-math.inf, 0.0), "margin": 0.2}, -0.6, -0.2, "CONFIRMED"),
    ],
)
def test_the_whole_interval_decides(fields, low, high, word):
    verdict = verdict_on(prediction(**fields), {"gain": seeds_of(low, high)})
    assert (verdict.word, verdict.why, verdict.seeds) == (word, "", 3)
    assert (verdict.low, verdict.high) == pytest.approx((low, high))


def test_seeds_decide_by_their_spread_and_not_by_their_mean():
    steady, wild = [0.5, 0.51, 0.49], [0.1, 1.4, 0.0]
    assert np.mean(steady) == pytest.approx(np.mean(wild))
    assert verdict_on(prediction(), {"gain": steady}).word == "CONFIRMED"
    assert verdict_on(prediction(), {"gain": wild}).word == "TOO NOISY"


def test_a_bound_that_cannot_be_crossed_blocks_nothing():
    """Rank correlations of 1, 1 and 0.9667: Student's interval passes 1, the statistic cannot."""
    fields = {"rule": (0.9, 1.0), "bounds": (-1.0, 1.0)}
    verdict = verdict_on(prediction(**fields), {"gain": [1, 1, 0.9667]})
    assert verdict.word == "CONFIRMED" and verdict.high == 1.0
    assert verdict_on(prediction(rule=(0.9, 1.0)), {"gain": [1, 1, 0.9667]}).word == "TOO NOISY"


@pytest.mark.parametrize("kind", ["EXACT", "EMERGENT"])
def test_a_value_beyond_its_bounds_is_no_value(kind):
    """A fault in units must not be cut to a confirmation."""
    wild = prediction(kind=kind, rule=(0.9, 1.0), bounds=(-1.0, 1.0))
    with pytest.raises(PredictionError, match="goes from 93 to 95; expected it within"):
        verdict_on(wild, {"gain": [93, 95, 94]})


def test_as_many_seeds_ran_as_were_planned():
    for p in judged_ones():
        assert p.kind == "EXACT" or verdict_on(p).seeds == p.seeds, p.id


def test_one_run_decides_nothing_but_an_identity():
    verdict = verdict_on(prediction(), {"gain": [5.0]})
    assert (verdict.word, verdict.why) == ("TOO NOISY", "one run")
    exact = prediction(kind="EXACT")
    assert verdict_on(exact, {"gain": [1e-9]}).word == "CONFIRMED"
    assert verdict_on(exact, {"gain": [-1e-9]}).word == "REFUTED"


def test_an_identity_must_hold_for_every_value():
    exact = prediction(kind="EXACT", rule=(0.0, 1e-4))
    assert verdict_on(exact, {"gain": [1e-5, 9e-5]}).word == "CONFIRMED"
    assert verdict_on(exact, {"gain": [1e-5, 2e-4]}).word == "REFUTED"


@pytest.mark.parametrize("gain", [[0.5, 0.51, 0.52], [-0.5, -0.51, -0.52]])
def test_a_control_must_pass_and_touching_is_not_passing(gain):
    for idle, why in (
        ([0.2, 0.21, 0.19], "its control, idle, is off"),
        ([-0.2, -0.21, -0.19], "its control, idle, is off"),
        ([0.2, -0.3, 0.4], "its control, idle, is too noisy to pass"),
        ([0.0], "its control, idle, is too noisy to pass"),
    ):
        verdict = verdict_on(controlled(), {"gain": gain, "idle": idle})
        assert (verdict.word, verdict.why) == ("VOID", why)
        assert verdict.value == pytest.approx(np.mean(gain))
    passed = verdict_on(controlled(), {"gain": gain, "idle": [0.0, 0.01, -0.01]})
    assert passed.word == ("CONFIRMED" if gain[0] > 0 else "REFUTED")


@pytest.mark.parametrize("table", [{}, {"idle": [0.0]}, {"gain": [1.0]}])
def test_a_missing_statistic_is_named(table):
    missing = "gain" if "gain" not in table else "idle"
    with pytest.raises(RecordError, match=f"record 'rewards' has no statistic '{missing}'.*03-x"):
        verdict_on(controlled(), table)


def test_numbers_come_from_the_record(tmp_path, monkeypatch):
    plain = records.read
    monkeypatch.setattr(predictions.records, "read", lambda name: plain(name, tmp_path))
    records.write("mine", {"statistics": {"gain": [0.3, 0.31, 0.29]}}, "python x.py", 0, tmp_path)
    verdict = verdict_on(prediction(record="mine"))
    assert (verdict.word, verdict.seeds) == ("CONFIRMED", 3)
    with pytest.raises(RecordError, match=r"no recorded run nowhere\.json"):
        verdict_on(prediction(record="nowhere"))


# ---- with no effect, no rule confirms more than one time in twenty ----

KIND = {
    "above": prediction(),
    "above, by a margin": prediction(margin=0.5),
    "below": prediction(rule=(-math.inf, 0.0)),
    "a range, the truth at its edge": prediction(rule=(-2.0, 0.0)),
    "a threshold at a bound": prediction(rule=(0.0, 9.0), bounds=(-9.0, 9.0)),
    "a control that could fail": controlled(),
}


@pytest.mark.parametrize("table", ["3 seeds", "5 seeds", "20 seeds", "3 seeds, 21 prompts"])
@pytest.mark.parametrize("kind", KIND)
def test_nothing_is_confirmed_where_nothing_is(kind, table):
    """1,000 experiments without an effect (seed 1): at most 50 confirmed; 2.5 in 100 are expected,
    and a thousand of those pass 50 by luck less often than once in 10^5.
    """
    rng, confirmed = np.random.default_rng(1), 0
    seeds, prompts = int(table.split()[0]), 21 if "prompts" in table else 0
    for _ in range(1000):
        numbers = luck(rng, (seeds, prompts), 0.3, 0.5, 1) if prompts else rng.normal(size=seeds)
        verdict = verdict_on(KIND[kind], {"gain": numbers, "idle": 0.01 * rng.normal(size=5)})
        confirmed += verdict.word == "CONFIRMED"
    assert confirmed <= 50


def test_a_real_effect_is_confirmed():
    """Positive control (seed 2): an effect of 3 sd with 5 seeds, 9 times in 10 or more."""
    rng = np.random.default_rng(2)
    tables = [{"gain": rng.normal(3, 1, 5)} for _ in range(500)]
    found = [verdict_on(prediction(margin=0.5), table).word for table in tables]
    assert found.count("CONFIRMED") > 450


def test_a_precise_nothing_is_told_from_a_hopeless_noise():
    """Seed 3: sd 0.05 and sd 5 about no effect, five seeds each, a margin of 0.2."""
    rng, words = np.random.default_rng(3), {}
    for sd in (0.05, 5):
        found = [verdict_on(prediction(margin=0.2), {"gain": rng.normal(0, sd, 5)}).word
                 for _ in range(200)]  # fmt: skip
        words[sd] = max(set(found), key=found.count)
    assert words == {0.05: "NO EFFECT", 5: "TOO NOISY"}


# ---- Brier ----


def judged(word, credence):
    return predictions.Verdict(prediction(credence=credence), word, 0, 0, 0, 3, "")


def test_brier_by_hand():
    """(0.9 - 1)^2, (0.6 - 0)^2, (0.2 - 0)^2: the mean of 0.01, 0.36 and 0.04."""
    known = [judged("CONFIRMED", 0.9), judged("REFUTED", 0.6), judged("NO EFFECT", 0.2)]
    silent = [judged("TOO NOISY", 0.9), judged("VOID", 0.1)]
    assert brier(known + silent) == (pytest.approx(0.41 / 3), 3)
    assert math.isnan(brier(silent)[0]) and brier(silent)[1] == 0


# ---- what is shown ----


def test_nothing_is_minus_nothing():
    """A value below zero by rounding alone has no minus, in the notebook and in the README."""
    verdict = verdict_on(prediction(margin=0.1), {"gain": [-1e-9, -1e-9, 0.0]})
    assert "0 [0, 0], 3 seeds" in predictions_html(
        [prediction()], [replace(verdict, value=-0.0, low=-0.0, high=-0.0)]
    )


def test_rules_in_words():
    assert show_rule(prediction()) == "above 0"
    assert show_rule(prediction(margin=0.05)) == "above 0, by 0.05"
    assert show_rule(prediction(rule=(-math.inf, 0.02))) == "below 0.02"
    assert show_rule(prediction(rule=(0.48, 0.52))) == "0.48 to 0.52"


def test_the_table_shows_predictions_without_verdicts():
    shown = predictions_html([prediction(), prediction(id="03-y", rule=(0.1, 0.2))])
    assert shown.count("<tr>") == 3 and "verdict" not in shown
    for text in (
        "03-x",
        "03-y",
        "It works.",
        "our own",
        "above 0",
        "0.1 to 0.2",
        "EMERGENT",
        "70%",
    ):
        assert text in shown


def test_the_table_shows_both_verdicts_with_their_numbers():
    first = prediction(first_verdict="UNDECIDED")
    good = verdict_on(first, {"gain": seeds_of(0.25, 0.5)})
    off = verdict_on(controlled(), {"gain": [-1.0, -1.1], "idle": [3.0, 3.1]})
    shown = predictions_html([first, controlled()], [good, off])
    assert "0.375 [0.25, 0.5], 3 seeds" in shown and "its control, idle, is off" in shown
    assert shown.index(">CONFIRMED<") < shown.index(">VOID<") and "undecided" in shown
    assert COLOURS["CONFIRMED"] in shown and COLOURS["REFUTED"] not in shown


def test_the_table_escapes_what_people_write():
    evil = prediction(says="<script>a & b</script>", source="<i>x", control="<b>idle",
                      control_rule=(0, 1))  # fmt: skip
    off = verdict_on(evil, {"gain": [1.0, 1.1], "<b>idle": [9.0, 9.1]})
    for shown in (predictions_html([evil]), predictions_html([evil], [off])):
        assert "<script>" not in shown and "<i>x" not in shown and "<b>idle" not in shown
        assert "&lt;script&gt;a &amp; b&lt;/script&gt;" in shown and "&lt;i&gt;x" in shown
    assert "its control, &lt;b&gt;idle, is off" in shown


def test_the_scoreboard_counts_and_escapes():
    [first, *_] = load_predictions(notebook="03_reward_model")
    text = scoreboard([replace(first, says="a | b")])
    word, counts = verdict_on(first).word, text.split("\n")[6]
    names = [cell.strip() for cell in text.split("\n")[0].split("|")]
    assert counts.startswith("| **all 1** |")
    assert counts.split("|")[names.index(word)].strip() == "1"
    assert "a \\| b" in text and first.first_verdict in text and text.endswith("</details>")


def test_the_scoreboard_counts_what_is_still_to_come():
    known = load_predictions(notebook="03_reward_model")[:3]
    text = scoreboard([*known[:2], replace(known[2], record="not made yet")])
    assert "| **all 3** |" in text and "1 more registered and not yet run." in text
    assert "All 2 verdicts" in text


def test_the_scoreboard_shows_five_verdicts_three_groups_and_brier():
    text = scoreboard()
    assert all(word in text for word in (*COLOURS, "Brier score"))
    rows = {row.split("|")[1].strip(): row.split("|")[2:-1] for row in text.split("\n")[2:10]}
    known = judged_ones()
    for group in predictions.GROUPS:
        *counts, score = rows[group]
        assert sum(map(int, counts)) == sum(p.group == group for p in known) > 0
        judged = brier([verdict_on(p) for p in known if p.group == group])
        assert score.strip() == f"{judged[0]:.2f} ({judged[1]})"


def test_the_readme_and_the_list_show_the_scoreboard_of_the_records():
    """The counts stand in the README, the verdicts one by one in data/scoreboard.md."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("<!-- scoreboard -->")[2].partition("<!-- end of the scoreboard -->")
    counts, _, folded = scoreboard().partition("<details><summary>")
    assert shown[0].strip() == counts.strip()
    title, _, rows = folded.partition("</summary>")
    listed = (DATA / "scoreboard.md").read_text(encoding="utf-8")
    assert listed.startswith(f"# {title}\n")
    assert listed.endswith(f"\n\n{rows.removesuffix('</details>').strip()}\n")
