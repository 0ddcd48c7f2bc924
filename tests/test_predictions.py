"""A verdict follows from the numbers and the rule alone, and a faulty registry is refused."""

import math
import re
import tomllib
from dataclasses import replace

from rlhf_lite.predictions import (
    COLOURS,
    KINDS,
    Prediction,
    PredictionError,
    _row,
    interval,
    load_predictions,
    scoreboard,
    show_rule,
    verdict_on,
)
from rlhf_lite.records import RecordError, write_record
from rlhf_lite.runtime import DATA, ROOT
from rlhf_lite.show.cards import predictions_html

import numpy as np
import pytest
from scipy.stats import t as student

ROW = {
    "id": "03-x",
    "notebook": "03_reward_model",
    "kind": "EMERGENT",
    "source": "our own",
    "says": "It works.",
    "run": "rewards",
    "statistic": "gain",
    "rule": [0.0, math.inf],
}


def claim(rule=(0.0, math.inf), control="", control_rule=(-math.inf, math.inf), **fields):
    fields = ROW | {"rule": rule, "control": control, "control_rule": control_rule} | fields
    return Prediction(**fields)


def toml(tmp_path, *rows):
    """Write rows as a registry: strings in quotes, numbers as TOML knows them."""
    lines = []
    for row in rows:
        lines.append("[[claim]]")
        lines += [f"{k} = {v!r}" if isinstance(v, list) else f'{k} = "{v}"' for k, v in row.items()]
    path = tmp_path / "claims.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


# ---- the registry ----


def test_the_registry_loads():
    claims = load_predictions()
    rows = tomllib.loads((DATA / "claims.toml").read_text(encoding="utf-8"))["claim"]
    assert [c.id for c in claims] == [r["id"] for r in rows] and len(rows) > 5
    assert len({c.id for c in claims}) == len(claims)
    for c in claims:
        assert re.fullmatch(r"\d\d-[a-z]", c.id) and c.notebook.startswith(
            c.id[:3].replace("-", "_")
        )
        assert c.kind in KINDS and c.says.endswith(".") and c.source
        assert c.rule != (-math.inf, math.inf)
        assert bool(c.control) == (c.control_rule != (-math.inf, math.inf))


def test_a_notebook_gets_its_own_claims(tmp_path):
    path = toml(tmp_path, ROW, ROW | {"id": "04-a", "notebook": "04_other"})
    assert [c.id for c in load_predictions(path)] == ["03-x", "04-a"]
    assert [c.id for c in load_predictions(path, "04_other")] == ["04-a"]
    assert load_predictions(path, "05_none") == []
    [only] = load_predictions(path, "03_reward_model")
    assert only == claim() and only.rule == (0.0, math.inf)


def test_every_registered_claim_with_a_run_can_be_judged():
    ready = [c for c in load_predictions() if (DATA / "runs" / f"{c.run}.json").exists()]
    if not ready:
        pytest.skip("no run of any claim is recorded yet")
    for c in ready:
        verdict = verdict_on(c)
        assert verdict.word in COLOURS and verdict.low <= verdict.value <= verdict.high


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "claim 1: field 'colour' is missing or unknown"),
        ({"statistic": None}, "claim 1: field 'statistic' is missing or unknown"),
        ({"id": None}, "claim 1: field 'id' is missing or unknown"),
        ({"kind": "GUESS"}, "claim 03-x: kind 'GUESS'; expected of EXACT, EMERGENT, SIMULATOR"),
        ({"rule": [1.0, 0.0]}, "claim 03-x: rule [1.0, 0.0]; expected [low, high]"),
        ({"rule": [1.0]}, "claim 03-x: rule [1.0]; expected [low, high]"),
        ({"rule": [0.0, math.nan]}, "claim 03-x: rule [0.0, nan]; expected [low, high]"),
        ({"control_rule": [0.1, -0.1]}, "claim 03-x: control_rule [0.1, -0.1]; expected"),
    ],
)
def test_a_faulty_claim_gets_one_sentence(tmp_path, change, message):
    row = {k: v for k, v in (ROW | change).items() if v is not None}
    with pytest.raises(PredictionError) as caught:
        load_predictions(toml(tmp_path, row))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("claims.toml")


def test_a_rule_may_be_one_point(tmp_path):
    assert load_predictions(toml(tmp_path, ROW | {"rule": [0.5, 0.5]}))[0].rule == (0.5, 0.5)


def test_a_doubled_id_is_refused(tmp_path):
    path = toml(tmp_path, ROW, ROW | {"id": "03-y"}, ROW)
    with pytest.raises(PredictionError, match="id '03-x' stands twice"):
        load_predictions(path)


@pytest.mark.parametrize("text", [None, "", "claim = ", "[[other]]\nid = 1\n"])
def test_a_registry_that_is_none_gets_one_sentence(tmp_path, text):
    path = tmp_path / "claims.toml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(PredictionError, match=r"claims\.toml cannot be read") as caught:
        load_predictions(path)
    assert "\n" not in str(caught.value)


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


def test_one_value_is_exact_and_a_table_speaks_for_itself():
    assert interval([0.25]) == (0.25, 0.25, 0.25, 1)
    stated = {"n": 7, "high": 3.0, "low": -1.0, "value": 0.5}
    assert interval(stated) == (0.5, -1.0, 3.0, 7)


# ---- verdicts ----


def test_nothing_is_minus_nothing():
    """A value below zero by rounding alone has no minus, in the notebook and in the README."""
    record = {"gain": {"value": -0.0, "low": -0.0001, "high": -0.0, "n": 3}}
    verdict = verdict_on(claim(), record)
    assert "0.000 [0.000, 0.000], 3 runs" in predictions_html([claim()], [verdict])
    assert "| 0 [-0.0001, 0] |" in _row(verdict)


def stated(low, high):
    return {"value": (low + high) / 2, "low": low, "high": high, "n": 3}


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.2, 0.4, "CONFIRMED"),
        (0.0, 1.0, "CONFIRMED"),
        (-0.1, 0.4, "UNDECIDED"),
        (0.9, 1.1, "UNDECIDED"),
        (-5.0, 5.0, "UNDECIDED"),
        (-0.5, 0.0, "UNDECIDED"),
        (-0.5, -0.1, "REFUTED"),
        (1.1, 1.2, "REFUTED"),
        (math.nan, math.nan, "UNDECIDED"),
    ],
)
def test_the_whole_interval_decides(low, high, word):
    verdict = verdict_on(claim(rule=(0.0, 1.0)), {"gain": stated(low, high)})
    assert verdict.word == word and verdict.why == "by its rule"
    assert verdict.seeds == 3


def test_seeds_decide_by_their_spread_and_not_by_their_mean():
    steady, wild = [0.5, 0.51, 0.49], [0.1, 1.4, 0.0]
    assert np.mean(steady) == pytest.approx(np.mean(wild))
    assert verdict_on(claim(), {"gain": steady}).word == "CONFIRMED"
    assert verdict_on(claim(), {"gain": wild}).word == "UNDECIDED"
    assert verdict_on(claim(), {"gain": [-x for x in steady]}).word == "REFUTED"


def test_one_value_decides_alone():
    assert verdict_on(claim(), {"gain": [1e-9]}).word == "CONFIRMED"
    assert verdict_on(claim(), {"gain": [-1e-9]}).word == "REFUTED"


@pytest.mark.parametrize("gain", [[0.5], [-0.5]])
def test_a_control_that_is_off_says_that_nothing_was_learned(gain):
    controlled = claim(control="idle", control_rule=(-0.1, 0.1))
    for idle in ([0.2], [-0.2], [0.2, 0.21, 0.19]):
        verdict = verdict_on(controlled, {"gain": gain, "idle": idle})
        assert (verdict.word, verdict.why) == ("UNDECIDED", "its control idle is off")
        assert verdict.value == gain[0]
    word = "CONFIRMED" if gain[0] > 0 else "REFUTED"
    for idle in ([0.0], [0.1], stated(0.05, 0.9), [0.2, -0.3, 0.4]):
        assert verdict_on(controlled, {"gain": gain, "idle": idle}).word == word


@pytest.mark.parametrize("table", [{}, {"idle": [0.0]}, {"gain": [1.0]}])
def test_a_missing_statistic_is_named(table):
    controlled = claim(control="idle", control_rule=(-0.1, 0.1))
    missing = "gain" if "gain" not in table else "idle"
    with pytest.raises(RecordError, match=f"run 'rewards' has no statistic '{missing}'.*for 03-x"):
        verdict_on(controlled, table)


def test_numbers_come_from_the_recorded_run(tmp_path, monkeypatch):
    from rlhf_lite import predictions, records

    write_record("mine", {"claims": {"gain": [0.3, 0.31, 0.29]}}, "python x.py", 0, tmp_path)
    write_record("bare", {"other": 1}, "python x.py", 0, tmp_path)
    monkeypatch.setattr(
        predictions, "read_record", lambda name: records.read_record(name, tmp_path)
    )
    verdict = verdict_on(claim(run="mine"))
    assert (verdict.word, verdict.seeds) == ("CONFIRMED", 3)
    with pytest.raises(RecordError, match="run 'bare' has no statistic 'gain'"):
        verdict_on(claim(run="bare"))
    with pytest.raises(RecordError, match=r"no recorded run nowhere\.json"):
        verdict_on(claim(run="nowhere"))


# ---- what is shown ----


def test_rules_in_words():
    assert show_rule((0.0, math.inf)) == "above 0"
    assert show_rule((-math.inf, 0.02)) == "below 0.02"
    assert show_rule((0.48, 0.52)) == "0.48 to 0.52"


def test_the_table_shows_predictions_without_verdicts():
    shown = predictions_html([claim(), claim(id="03-y", rule=(0.1, 0.2))])
    assert shown.count("<tr>") == 3 and "verdict" not in shown
    for text in ("03-x", "03-y", "It works.", "our own", "above 0", "0.1 to 0.2", "EMERGENT"):
        assert text in shown


def test_the_table_shows_verdicts_with_their_numbers():
    controlled = claim(control="idle", control_rule=(-0.1, 0.1))
    good = verdict_on(claim(), {"gain": stated(0.25, 0.5)})
    off = verdict_on(controlled, {"gain": [-1.0], "idle": [3.0]})
    shown = predictions_html([claim(), controlled], [good, off])
    assert "0.375 [0.250, 0.500], 3 runs" in shown and "its control idle is off" in shown
    assert shown.index(">CONFIRMED<") < shown.index(">UNDECIDED<")
    assert COLOURS["CONFIRMED"] in shown and COLOURS["REFUTED"] not in shown
    assert "by its rule" not in shown


def test_the_table_escapes_what_people_write():
    evil = claim(says="<script>a & b</script>", source="<i>x", control="<b>idle")
    verdict = verdict_on(evil, {"gain": [1.0], "<b>idle": [0.0]})
    off = verdict_on(claim(control="<b>", control_rule=(0, 0)), {"gain": [1.0], "<b>": [9.0]})
    for shown in (predictions_html([evil]), predictions_html([evil, evil], [verdict, off])):
        assert "<script>" not in shown and "<i>x" not in shown and "<b>idle" not in shown
        assert "&lt;script&gt;a &amp; b&lt;/script&gt;" in shown and "&lt;i&gt;x" in shown
    assert "its control &lt;b&gt; is off" in shown


def test_the_scoreboard_counts_and_escapes():
    claims = load_predictions(notebook="03_reward_model")
    text = scoreboard([replace(claims[0], says="a | b")])
    word, counts = verdict_on(claims[0]).word, text.split("\n")[3]
    assert counts.startswith("| **all 1** |") and counts.count("| 1 ") == 1
    names = text.split("\n")[0].split("|")
    assert names[counts.split("|").index(" 1 ")].strip() == word
    assert "a \\| b" in text and f"| {word} |\n\n</details>" in text


def test_the_scoreboard_counts_what_is_still_to_come():
    claims = load_predictions(notebook="03_reward_model")[:3]
    text = scoreboard([*claims[:2], replace(claims[2], run="not made yet")])
    assert "| **all 3** |" in text and "1 more registered and not yet run." in text
    assert "All 2 verdicts" in text


def test_the_readme_shows_the_scoreboard_of_the_records():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("<!-- scoreboard -->")[2].partition("<!-- end of the scoreboard -->")
    assert shown[0].strip() == scoreboard()
