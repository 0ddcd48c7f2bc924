"""Say whether an exercise is solved: yours, what was expected, right or not yet, and a hint.

A wrong answer, a wrong shape, nan and an exception all end in one sentence, never in a traceback.
Omits marks and deadlines. Used by the exercises at the end of every notebook.
"""

import inspect
import json
import re
import textwrap
import traceback
from contextlib import contextmanager

from rlhf_lite.runtime import ROOT

import numpy as np

# What each check said last. One kernel holds one notebook and one student, so the module may know.
_STATES = {}


@contextmanager
def exercise(number, function, hint):
    """Hand out `Answers` to fill, then say whether exercise `number` is right, and keep that.

    function: the student's; hint: said if it is not right, unless `Answers.equal` met a better one.
    An exception becomes a sentence. Example: `with exercise(1, double, "Twice?") as yours: ...`.
    """
    yours, function = Answers(), inspect.unwrap(function)
    try:
        yield yours
    except Exception as error:
        print(_raised(function, error))
        yours.right = False
    waits = any("your code here" in line for line in _source(function))
    _STATES[number] = "right" if yours.right else "not tried" if waits else "not yet"
    rest = f"not yet{'; its stub waits for you' * waits}. Hint: {yours.hint or hint}"
    print(f"Exercise {number}: {'right.' if yours.right else rest}")


class Answers:
    """The answers of one exercise, printed one by one; `right` while none of them is wrong."""

    def __init__(self):
        self.right, self._met = True, {}

    @property
    def hint(self):
        """The first hint whose mistake explains every wrong answer that it was offered for."""
        return next((hint for hint, always in self._met.items() if always), None)

    def equal(self, yours, expected, case="", wrong=(), within=None):
        """Print yours beside expected, e.g. `yours.equal(double(2), 4, "twice 2")`.

        yours, expected: numbers, texts or tables of them; case: what was asked; wrong: {hint: the
        wrong answer that it is for}; within: how far off is still right, by default a thousandth of
        the largest expected.
        """
        fault = _fault(yours, expected, within)
        for hint, mistake in dict(wrong).items() if fault is not None else ():
            same = _fault(yours, mistake, within) is None
            self._met[hint] = same and self._met.get(hint, True)
        self.holds(fault is None, _show(yours), _show(expected), case, fault)

    def holds(self, true, yours, expected, case="", fault=None):
        """Print yours beside expected where a condition decides, e.g. `holds(x > 1, "2", "> 1")`.

        true: whether it is right; yours, expected: how to say them; fault: what else to say if not.
        """
        self.right = self.right and bool(true)
        verdict = "right" if true else f"not yet ({fault})" if fault else "not yet"
        print(f"{case}{': ' if case else ''}yours {yours}, expected {expected}: {verdict}")


def progress(notebook, in_words=()):
    """Print the state of every exercise of a notebook, e.g. `progress("01_base_model_sampling")`.

    in_words: numbers of the exercises that ask for an answer in words, too, which no check reads.
    Raises ValueError for a notebook that the course does not have.
    """
    path = ROOT / "notebooks" / f"{notebook}.ipynb"
    if not path.exists():
        raise ValueError(f"no notebook {notebook!r} in {path.parent}; expected one such as 04_ppo")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    titles = re.findall(r"^### (\d+)\. (.+ \(difficulty \d, \d+ minutes\))$", text, re.MULTILINE)
    checked = {int(n) for n in re.findall(r"\bexercise\((\d+), ", text)}
    states = [
        _STATES.get(int(n), "not tried") if int(n) in checked else "no check" for n, _ in titles
    ]
    kinds = [kind for kind in ("right", "not yet", "not tried", "no check") if kind in states]
    print(f"\n{len(titles)} exercises:", ", ".join(f"{states.count(k)} {k}" for k in kinds))
    for (number, title), state in zip(titles, states):
        print(f"  {number}. {state:9s}  {title}")
    if in_words:
        which = ", ".join(map(str, in_words))
        print(f"A question in words, which no check reads, stands in {which}: see the solutions.")


def _source(function):
    """The lines of a function's source; of one without a source, none."""
    try:
        return inspect.getsourcelines(function)[0]
    except (OSError, TypeError):
        return []


def _raised(function, error):
    """One sentence about an exception: what, and in which line of the student's function."""
    name, code = getattr(function, "__name__", "the answer"), getattr(function, "__code__", None)
    what, at = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}", None
    lines = _source(function)
    for frame, number in traceback.walk_tb(error.__traceback__):
        if code is not None and frame.f_code.co_filename == code.co_filename:
            inside = number - code.co_firstlineno
            at = inside if 0 <= inside < len(lines) else at
    if at is None:
        return f"What {name} returned cannot be used: {what}"
    return f"{name} stopped in its line {at + 1}, `{lines[at].strip()}`, with {what}"


def _plain(answer):
    """An answer without torch: a text, or an array; what is neither comes back as it is."""
    if hasattr(answer, "detach"):
        answer = answer.detach().tolist()
    try:
        return answer if isinstance(answer, str) else np.asarray(answer)
    except (ValueError, RuntimeError):  # rows of unequal lengths, a list of tensors with gradients
        return answer


def _fault(yours, expected, within):
    """Say why yours is not expected, "" where the numbers tell; None where it is right."""
    if yours is None:
        return "is a return missing?"
    yours, expected = _plain(yours), _plain(expected)
    if isinstance(expected, str) or expected.dtype.kind not in "biuf":
        return None if np.array_equal(yours, expected) else ""
    if not isinstance(yours, np.ndarray) or yours.dtype.kind not in "biuf":
        return f"expected {'a number' if expected.ndim == 0 else 'numbers'}"
    if yours.shape != expected.shape:
        asked = f"and not {expected.shape}" if expected.ndim else "where one number is expected"
        return f"its shape is {yours.shape}, {asked}"
    if not np.isfinite(yours).all():
        return "a logarithm of 0, or a division by it?"
    if within is None:
        within = max(1e-3 * float(np.abs(expected).max(initial=0)), 1e-6)
    return None if np.allclose(yours, expected, rtol=0, atol=within) else ""


def _show(answer):
    """An answer in few characters: four digits a number, ten entries a row."""
    answer = _plain(answer)
    if isinstance(answer, np.ndarray) and answer.dtype.kind in "biuf" and answer.ndim:
        return f"[{', '.join([*map(_show, answer[:10]), *['...'] * (len(answer) > 10)])}]"
    if isinstance(answer, np.ndarray) and answer.dtype.kind == "f":
        return f"{round(float(answer), 9):z.4g}"
    said = answer.tolist() if isinstance(answer, np.ndarray) else answer
    return textwrap.shorten(f"{said}", 90, placeholder=" ...") or repr(said)
