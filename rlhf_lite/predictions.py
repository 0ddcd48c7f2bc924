"""Register predictions before the run, and verdict_on them by rule after it.

data/claims.toml holds what we expect, from which source, and what would refute it; the numbers come
from recorded runs. A verdict is computed and never typed, and a refuted prediction stays. Omits
everything that would let a prediction be changed after its run: git remembers. First used by
notebook 03.
"""

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path

from rlhf_lite.records import RecordError, read_record
from rlhf_lite.runtime import DATA

import numpy as np
from scipy.stats import t as student

KINDS = ("EXACT", "EMERGENT", "SIMULATOR")
FIELDS = (
    "id",
    "notebook",
    "kind",
    "source",
    "says",
    "run",
    "statistic",
    "rule",
    "control",
    "control_rule",
)
COLOURS = {"CONFIRMED": "#009E73", "REFUTED": "#D55E00", "UNDECIDED": "#7F7F7F"}


class PredictionError(ValueError):
    """Say in one sentence what is wrong with the registry or with the numbers behind a claim."""


@dataclass(frozen=True)
class Prediction:
    """Hold one prediction.

    says: the sentence; run, statistic: where its number stands in data/runs; rule: (low, high), the
    range that the statistic must lie in; control, control_rule: a statistic of the same run and the
    range it must touch, or the experiment says nothing ("" where there is none).
    """

    id: str
    notebook: str
    kind: str
    source: str
    says: str
    run: str
    statistic: str
    rule: tuple
    control: str
    control_rule: tuple


@dataclass(frozen=True)
class Verdict:
    """Hold a judged prediction: value with its 95% interval, the number of seeds, and why."""

    claim: Prediction
    word: str
    value: float
    low: float
    high: float
    seeds: int
    why: str


def load_predictions(path=DATA / "claims.toml", notebook=None):
    """Return the registered Claims, of one notebook or of all.

    Raises PredictionError where one is faulty.
    """
    path = Path(path)
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("claim")
    except (OSError, ValueError) as error:
        raise PredictionError(f"{path.name} cannot be read ({error}); expected TOML in UTF-8") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PredictionError(f"{path.name} cannot be read; expected [[claim]] entries")
    claims = [_claim(path.name, number, row) for number, row in enumerate(rows, 1)]
    doubled = {c.id for c in claims if sum(d.id == c.id for d in claims) > 1}
    if doubled:
        raise PredictionError(
            f"{path.name}: id {sorted(doubled)[0]!r} stands twice; expected one claim an id"
        )
    return [c for c in claims if notebook in (None, c.notebook)]


def _claim(file, number, row):
    """Check one entry and make it a Prediction."""
    row = {"control": "", "control_rule": [-math.inf, math.inf]} | row
    wrong = set(FIELDS) ^ set(row)
    if wrong:
        raise PredictionError(
            f"{file}, claim {number}: field {sorted(wrong)[0]!r} is missing or unknown"
        )
    if row["kind"] not in KINDS:
        raise PredictionError(
            f"{file}, claim {row['id']}: kind {row['kind']!r}; expected of {', '.join(KINDS)}"
        )
    for name in FIELDS:
        if not name.endswith("rule") and not isinstance(row[name], str):
            raise PredictionError(f"{file}, claim {number}: {name} is {row[name]!r}; expected text")
    for rule in ("rule", "control_rule"):
        ends = row[rule]
        good = isinstance(ends, list) and all(type(end) in (int, float) for end in ends)
        if not good or len(ends) != 2 or not ends[0] <= ends[1]:
            raise PredictionError(f"{file}, claim {row['id']}: {rule} {row[rule]}; expected [low, high]")
    return Prediction(**{k: tuple(row[k]) if k.endswith("rule") else row[k] for k in FIELDS})


def interval(numbers):
    """Return (mean, low, high, n): a 95% t interval over seeds, or what a record states itself.

    numbers: a list with one value a seed, or {"value", "low", "high", "n"}. One value alone has no
    interval; it is taken as exact.
    """
    if isinstance(numbers, dict):
        missing = [k for k in ("value", "low", "high", "n") if k not in numbers]
        if missing:
            raise PredictionError(f"a statistic lacks {missing[0]!r}; expected value, low, high, n")
        return tuple(numbers[k] for k in ("value", "low", "high", "n"))
    try:
        values = np.asarray(numbers, dtype=float)
    except (TypeError, ValueError):
        values = np.zeros((0, 0))
    if values.ndim != 1:
        raise PredictionError(f"a statistic is {numbers!r:.60}; expected a list with a number a seed")
    if not len(values):
        raise PredictionError("a statistic has no value; expected one a seed")
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return mean, mean, mean, n
    half = float(student.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return mean, mean - half, mean + half, n


def verdict_on(claim, record=None):
    """Judge a claim by its rule: CONFIRMED, REFUTED or UNDECIDED.

    Confirmed where the whole interval lies in the rule's range, refuted where none of it does,
    undecided in between, and undecided where the control's interval misses its own range. record:
    the run's "claims" table, read from data/runs if not given.
    """
    table = read_record(claim.run)["results"].get("claims", {}) if record is None else record
    if not isinstance(table, dict):
        raise PredictionError(f"the record is a {type(table).__name__}; expected {{statistic: numbers}}")
    for name in (claim.statistic, *([claim.control] if claim.control else [])):
        if name not in table:
            raise RecordError(
                f"run {claim.run!r} has no statistic {name!r}; expected it for {claim.id}"
            )
    value, low, high, n = interval(table[claim.statistic])
    if claim.control:
        _, a, b, _ = interval(table[claim.control])
        if b < claim.control_rule[0] or a > claim.control_rule[1]:
            why = f"its control {claim.control} is off"
            return Verdict(claim, "UNDECIDED", value, low, high, n, why)
    inside = claim.rule[0] <= low and high <= claim.rule[1]
    outside = high < claim.rule[0] or low > claim.rule[1]
    word = "CONFIRMED" if inside else "REFUTED" if outside else "UNDECIDED"
    return Verdict(claim, word, value, low, high, n, "by its rule")


def scoreboard(claims=None):
    """Return the scoreboard of claims as Markdown: counts, and folded below them every verdict.

    claims: list of Prediction, all that are registered if not given; every number is read from its
    recorded run, and a claim whose run is still to come is only counted.
    """
    known = load_predictions() if claims is None else claims
    verdicts = [verdict_on(c) for c in known if (DATA / "runs" / f"{c.run}.json").exists()]
    waiting = len(known) - len(verdicts)
    lines = [f"| notebook | {' | '.join(COLOURS)} |", "|---" * (1 + len(COLOURS)) + "|"]
    books = {
        c.notebook: [v.word for v in verdicts if v.claim.notebook == c.notebook] for c in known
    }
    books = {**books, f"**all {len(known)}**": [v.word for v in verdicts]}
    for book, words in books.items():
        lines.append(f"| {book} | {' | '.join(str(words.count(w)) for w in COLOURS)} |")
    if waiting:
        lines += ["", f"{waiting} more registered and not yet run."]
    lines += [
        "", f"<details><summary>All {len(verdicts)} verdicts</summary>", "",
        "| | kind | predicted before the run | rule | measured, 95% interval | runs | verdict |",
        "|---|---|---|---|---|---|---|", *map(_row, verdicts), "", "</details>",
    ]  # fmt: skip
    return "\n".join(lines)


def _row(verdict):
    """Return a verdict as a row of a Markdown table."""
    claim = verdict.claim
    measured = f"{verdict.value:z.3g} [{verdict.low:z.3g}, {verdict.high:z.3g}]"
    word = verdict.word if verdict.why == "by its rule" else f"{verdict.word}: {verdict.why}"
    cells = claim.id, claim.kind, claim.says, show_rule(claim.rule), measured, verdict.seeds, word
    return f"| {' | '.join(str(c).replace('|', chr(92) + '|') for c in cells)} |"


def show_rule(rule):
    """Put a rule into words, e.g. "above 0" or "0.48 to 0.52"."""
    low, high = rule
    if math.isinf(high):
        return f"above {low:g}"
    return f"below {high:g}" if math.isinf(low) else f"{low:g} to {high:g}"
