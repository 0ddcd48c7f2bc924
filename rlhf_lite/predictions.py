"""Register predictions before the run, and judge them by rule after it.

data/predictions.toml holds what we expect, from which source, how sure we are, and what would
refute it; the numbers come from recorded runs. A verdict is computed and never typed, and a refuted
prediction stays. Omits everything that would let a prediction be changed after its run: git
remembers. First used by notebook 03.
"""

import math
import tomllib
from collections import Counter
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import get_type_hints

from rlhf_lite import records
from rlhf_lite.records import RecordError
from rlhf_lite.runtime import DATA

import numpy as np
from scipy.stats import t as student

KINDS = ("EXACT", "EMERGENT", "SIMULATOR")
GROUPS = ("blind", "after a look", "EXACT")
COLOURS = {
    "CONFIRMED": "#007A4D",
    "REFUTED": "#BE5400",
    "NO EFFECT": "#0072B2",
    "TOO NOISY": "#707070",
    "VOID": "#A0468F",
}
EVERYWHERE = (-math.inf, math.inf)


class PredictionError(ValueError):
    """Says in one sentence what is wrong with the registry or with the numbers behind it."""


@dataclass(frozen=True)
class Prediction:
    """One prediction, as it stands in the registry.

    says: the sentence; record, statistic: where its table of numbers stands in data/runs; rule:
    (low, high), the range that the statistic must lie in; margin: the smallest effect worth having,
    from the edge of a one-sided rule, 0 for a threshold, and for a range, which is its own margin;
    bounds: what the statistic cannot leave, such as (-1, 1) for a correlation; credence: how sure
    we are, 0 to 1; seeds: how many were planned, at least `seeds_for` the spread of a pilot
    (pilot_sd, 0 without one); control, control_rule: a statistic of the same record that must lie
    wholly in a range of its own, or the experiment says nothing; after_look: whether we had seen a
    run like it; first_verdict: under the rules that came before these, "" for none.
    """

    id: str
    notebook: str
    kind: str
    source: str
    says: str
    record: str
    statistic: str
    rule: tuple
    credence: float
    seeds: int
    margin: float = 0.0
    bounds: tuple = EVERYWHERE
    pilot_sd: float = 0.0
    control: str = ""
    control_rule: tuple = EVERYWHERE
    after_look: bool = False
    first_verdict: str = ""

    @property
    def group(self):
        """Return where it is counted: an identity, a blind prediction, or one after a look."""
        return "EXACT" if self.kind == "EXACT" else "after a look" if self.after_look else "blind"

    @property
    def edges(self):
        """List the ends of the rule that the statistic can cross."""
        inside = (self.rule[0] > self.bounds[0], self.rule[1] < self.bounds[1])
        return [end for end, real in zip(self.rule, inside) if real]


@dataclass(frozen=True)
class Verdict:
    """A judged prediction: value with its 95% interval, the number of seeds, and why."""

    prediction: Prediction
    word: str
    value: float
    low: float
    high: float
    seeds: int
    why: str


# ---- the registry ----


def load_predictions(path=DATA / "predictions.toml", notebook=None):
    """Return the registered Predictions, of one notebook or of all.

    Raises PredictionError where one is faulty, or could not lose.
    """
    path = Path(path)
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8-sig")).get("prediction")
    except (OSError, ValueError) as error:
        raise PredictionError(
            f"{path.name} cannot be read ({error}); expected TOML in UTF-8"
        ) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise PredictionError(f"{path.name} cannot be read; expected [[prediction]] entries")
    found = [_prediction(f"{path.name}, prediction {n}", row) for n, row in enumerate(rows, 1)]
    doubled = [name for name, count in Counter(p.id for p in found).items() if count > 1]
    if doubled:
        raise PredictionError(
            f"{path.name}: id {min(doubled)!r} stands twice; expected one prediction an id"
        )
    return [p for p in found if notebook in (None, p.notebook)]


def _prediction(place, row):
    """Check one entry and make it a Prediction."""
    known = {f.name: f for f in fields(Prediction)}
    needed = {name for name, f in known.items() if f.default is MISSING}
    wrong = sorted((needed - set(row)) | (set(row) - set(known)))
    if wrong:
        raise PredictionError(f"{place}: field {wrong[0]!r} is missing or unknown")
    kinds = get_type_hints(Prediction)
    found = Prediction(**{k: _value(f"{place}, {k}", kinds[k], v) for k, v in row.items()})
    if found.kind not in KINDS:
        raise PredictionError(f"{place}: kind {found.kind!r}; expected one of {', '.join(KINDS)}")
    _check_sense(place, found)
    return found


def _value(place, kind, value):
    """Return a field as its type; raise PredictionError where it is another."""
    if kind is tuple:
        good = isinstance(value, list) and len(value) == 2
        good = good and all(type(x) in (int, float) for x in value) and value[0] <= value[1]
        if not good:
            raise PredictionError(f"{place} is {value!r}; expected [low, high]")
        return tuple(map(float, value))
    value = float(value) if kind is float and type(value) is int else value
    if type(value) is not kind:
        raise PredictionError(f"{place} is {value!r}; expected a {kind.__name__}")
    return value


def _check_sense(place, p):
    """Raise PredictionError for a prediction that cannot lose, or whose numbers make no sense."""
    if not p.edges:
        raise PredictionError(
            f"{place}: its statistic lies in {list(p.bounds)} whatever happens, so the rule "
            f"{list(p.rule)} cannot lose; expected another statistic, paired with its null"
        )
    if not 0 <= p.margin < math.inf or (p.margin and len(p.edges) != 1):
        raise PredictionError(
            f"{place}: margin {p.margin:g} with the rule {list(p.rule)}; expected 0 or more, and 0 "
            f"for a range, which is its own margin"
        )
    low, high = p.rule
    reach = p.edges[0] + (p.margin if p.edges[0] == low else -p.margin)
    if max(low, p.bounds[0]) > min(high, p.bounds[1]) or not p.bounds[0] <= reach <= p.bounds[1]:
        raise PredictionError(
            f"{place}: its statistic lies in {list(p.bounds)}, so the rule {list(p.rule)} with a "
            f"margin of {p.margin:g} cannot win; expected one that can"
        )
    once = p.kind == "EXACT" or p.first_verdict  # the first 55 stay as they were
    if not 0 < p.credence < 1 or p.seeds < (1 if once else 2):
        raise PredictionError(
            f"{place}: credence {p.credence:g} and {p.seeds} seeds; expected a probability between "
            f"0 and 1, and two seeds or more"
        )
    worth = p.margin or (p.rule[1] - p.rule[0]) / 2
    if p.pilot_sd and not math.isfinite(worth):
        raise PredictionError(f"{place}: pilot_sd without a margin; expected both")
    if p.pilot_sd and p.seeds < seeds_for(p.pilot_sd, worth):
        raise PredictionError(
            f"{place}: {p.seeds} seeds; expected {seeds_for(p.pilot_sd, worth)} for a pilot's "
            f"sd of {p.pilot_sd:g} and an effect of {worth:g}"
        )


def seeds_for(sd, margin):
    """Return how many seeds it takes until half a 95% interval is no longer than the margin.

    The smallest n with t(0.975, n - 1) sd / sqrt(n) <= margin. Example: `seeds_for(0.1, 0.1)` is 7.
    """
    if not 0 < sd < math.inf or not 0 < margin < math.inf:
        raise PredictionError(f"sd {sd} and margin {margin}; expected numbers above 0")
    return next(n for n in range(2, 100_000)
                if student.ppf(0.975, n - 1) * sd / math.sqrt(n) <= margin)  # fmt: skip


# ---- intervals ----


def interval(table):
    """Return (mean, low, high, number of seeds): 95%, for seeds alone or seeds and clusters.

    table: (S,) one number a seed: Student's interval. (S, C): one a seed and cluster, such as a
    prompt, both drawn by luck: with the mean squares of the two-way table, Var(mean) = (MS_seeds +
    MS_clusters - MS_rest) / SC, with Satterthwaite's degrees of freedom (1946); never less than
    either part alone. One seed alone says nothing of other seeds: its interval has no ends.
    """
    try:
        values = np.asarray(table, dtype=float)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if values.ndim not in (1, 2) or not values.size or not np.isfinite(values).all():
        raise PredictionError(
            f"a statistic is {table!r:.60}; expected finite numbers, (seeds,) or (seeds, clusters)"
        )
    mean, seeds = float(values.mean()), len(values)
    if seeds == 1:
        return mean, -math.inf, math.inf, 1
    if values.ndim == 1 or values.shape[1] == 1:
        variance, dof = values.var(ddof=1) / seeds, seeds - 1
    else:
        variance, dof = _two_way(values)
    half = float(student.ppf(0.975, dof) * math.sqrt(variance))
    return mean, mean - half, mean + half, seeds


def _two_way(values):
    """Return (variance of the mean, degrees of freedom) of a table (seeds, clusters)."""
    seeds, clusters = values.shape
    rows, columns = values.mean(1, keepdims=True), values.mean(0, keepdims=True)
    both = (seeds - 1) * (clusters - 1)
    by_rest = ((values - rows - columns + values.mean()) ** 2).sum() / both
    by_seed, by_cluster = clusters * rows.var(ddof=1), seeds * columns.var(ddof=1)
    total = by_seed + by_cluster - by_rest
    larger, dof = max((by_seed, seeds - 1), (by_cluster, clusters - 1))
    if total <= larger:
        return larger / values.size, dof
    parts = (by_seed, seeds - 1), (by_cluster, clusters - 1), (by_rest, both)
    return total / values.size, total**2 / sum(part**2 / dof for part, dof in parts)


# ---- verdicts ----


def verdict_on(prediction, table=None):
    """Judge a prediction by its rule; return a Verdict.

    VOID: its control does not lie wholly in its own range. NO EFFECT: the interval lies within the
    margin around the edge of the rule. CONFIRMED: it lies wholly in the rule, its value a margin
    from the edge. REFUTED: it lies wholly outside. TOO NOISY: none of these. The interval is cut to
    the bounds. An EXACT identity is REFUTED by a single value outside. table: {statistic: numbers},
    read from the record if not given.
    """
    table = records.read(prediction.record)["statistics"] if table is None else table
    for name in filter(None, (prediction.statistic, prediction.control)):
        if name not in table:
            raise RecordError(
                f"record {prediction.record!r} has no statistic {name!r}; expected it for "
                f"{prediction.id}"
            )
    value, low, high, seeds = interval(table[prediction.statistic])
    least, most = (float(end(table[prediction.statistic])) for end in (np.min, np.max))
    if least < prediction.bounds[0] - 1e-9 or most > prediction.bounds[1] + 1e-9:
        raise PredictionError(
            f"{prediction.id}: its statistic goes from {least:g} to {most:g}; expected it within "
            f"its bounds {list(prediction.bounds)}"
        )
    low, high = (float(np.clip(end, *prediction.bounds)) for end in (low, high))
    if prediction.kind == "EXACT":
        low, high = least, most
    why = _why_void(prediction, table)
    word = "VOID" if why else _word(prediction, value, low, high, seeds)
    if word == "TOO NOISY" and seeds == 1:
        why = "one run"
    return Verdict(prediction, word, value, low, high, seeds, why)


def _why_void(prediction, table):
    """Say what is wrong with a control; "" where there is none, or it passes."""
    if not prediction.control:
        return ""
    _, low, high, _ = interval(table[prediction.control])
    if prediction.kind == "EXACT":
        low, high = np.min(table[prediction.control]), np.max(table[prediction.control])
    least, most = prediction.control_rule
    if least <= low and high <= most:
        return ""
    off = high < least or low > most
    return f"its control, {prediction.control}, is {'off' if off else 'too noisy to pass'}"


def _word(prediction, value, low, high, seeds):
    """Return the verdict that the interval of a statistic asks for."""
    least, most = prediction.rule
    if prediction.kind == "EXACT":
        return "CONFIRMED" if least <= low and high <= most else "REFUTED"
    if seeds == 1:
        return "TOO NOISY"
    edge, reach = prediction.edges[0], prediction.margin
    if reach and edge - reach <= low and high <= edge + reach:
        return "NO EFFECT"
    if least <= low and high <= most and abs(value - edge) >= reach:
        return "CONFIRMED"
    return "REFUTED" if high < least or low > most else "TOO NOISY"


def brier(verdicts):
    """Return (mean of (credence - came true)^2, number judged) (Brier 1950); nan where none is.

    CONFIRMED counts as true, REFUTED and NO EFFECT as false, the others not at all. Who always says
    one half has 0.25.
    """
    decided = {"CONFIRMED": 1, "REFUTED": 0, "NO EFFECT": 0}
    gaps = [v.prediction.credence - decided[v.word] for v in verdicts if v.word in decided]
    return (float(np.mean(np.square(gaps))) if gaps else math.nan), len(gaps)


# ---- the scoreboard ----


def scoreboard(predictions=None):
    """Return the scoreboard as Markdown: counts and Brier scores, and folded below every verdict.

    predictions: all that are registered if not given; one whose record is still to come is only
    counted.
    """
    known = load_predictions() if predictions is None else predictions
    found = [verdict_on(p) for p in known if (DATA / "runs" / f"{p.record}.json").exists()]
    names = [*COLOURS, "Brier score"]
    lines = [f"| | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    groups = [(g, [v for v in found if v.prediction.group == g]) for g in GROUPS]
    books = [(b, [v for v in found if v.prediction.notebook == b])
             for b in dict.fromkeys(p.notebook for p in known)]  # fmt: skip
    for name, part in [*groups, *books, (f"**all {len(known)}**", found)]:
        words, (score, judged) = Counter(v.word for v in part), brier(part)
        shown = f"{score:.2f} ({judged})" if judged and name in GROUPS else ""
        lines.append(f"| {name} | {' | '.join(str(words[w]) for w in COLOURS)} | {shown} |")
    if len(known) > len(found):
        lines += ["", f"{len(known) - len(found)} more registered and not yet run."]
    lines += [
        "", f"<details><summary>All {len(found)} verdicts</summary>", "",
        "| | kind | predicted | rule, margin | credence | measured | seeds | at first | verdict |",
        "|---" * 9 + "|", *map(_row, found), "", "</details>",
    ]  # fmt: skip
    return "\n".join(lines)


def _row(verdict):
    """Return a verdict as a row of a Markdown table."""
    p = verdict.prediction
    cells = (
        p.id, f"{p.kind}, {p.group}" if p.kind != "EXACT" else p.kind, p.says, show_rule(p),
        f"{p.credence:g}", show_measured(verdict), verdict.seeds, p.first_verdict or "",
        f"{verdict.word}: {verdict.why}" if verdict.why else verdict.word,
    )  # fmt: skip
    return f"| {' | '.join(str(c).replace('|', chr(92) + '|') for c in cells)} |"


def show_measured(verdict):
    """Put a value and its interval into words, e.g. "0.12 [0.05, 0.19]"."""
    if math.isinf(verdict.high - verdict.low):
        return f"{verdict.value:z.3g}"
    return f"{verdict.value:z.3g} [{verdict.low:z.3g}, {verdict.high:z.3g}]"


def show_rule(prediction):
    """Put a rule into words, e.g. "above 0, by 0.05" or "0.48 to 0.52"."""
    low, high = prediction.rule
    by = f", by {prediction.margin:g}" if prediction.margin else ""
    if math.isinf(high):
        return f"above {low:g}{by}"
    return f"below {high:g}{by}" if math.isinf(low) else f"{low:g} to {high:g}{by}"
