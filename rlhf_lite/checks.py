"""Check what a function is given, at its door: texts, counts, arrays of finite numbers.

Each check returns what is fit and says in one sentence what is not. Omits torch, so that what needs
numbers alone starts in a moment. Used by every module.
"""

import math
from numbers import Integral, Real

import numpy as np


class TextError(ValueError):
    """Says in one sentence which text cannot be used, and why."""


def check_text(text):
    """Raise TextError for what is no text, such as a list of texts."""
    if not isinstance(text, str):
        raise TextError(f"text is a {type(text).__name__}; expected one text")


def check_list(items, name, each, least=0):
    """Return items as a list; raise TextError for a text or a table, and for fewer than `least`.

    name: what they are called in a message; each: what one of them is, such as "text".
    """
    if isinstance(items, (str, bytes)):
        raise TextError(f"{name} is one string; expected a list of {each}s, such as [{each}]")
    if isinstance(items, dict) or not np.iterable(items):
        raise TextError(f"{name} is a {type(items).__name__}; expected a list of {each}s")
    items = list(items)
    if len(items) < least:
        raise TextError(f"no {name}; expected a list with at least one {each}")
    return items


def check_texts(texts, name="texts", least=0):
    """Return texts as a list of str, e.g. `check_texts(["A hero."])`.

    name: what they are called in a message; least: how many there must be. Raises TextError for a
    single string, which would be read letter by letter, for what is no text, and for half a
    character (a lone surrogate), which no tokenizer and no file takes.
    """
    texts = check_list(texts, name, "text", least)
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TextError(f"{name}[{number}] is a {type(text).__name__}; expected text")
        if not is_whole(text):
            what = "holds half a character (a lone surrogate)"
            raise TextError(f"{name}[{number}] {what}; expected whole text")
    return texts


def is_whole(text):
    """Tell whether a text is all whole characters, so that UTF-8 can write it."""
    return text == text.encode(errors="ignore").decode()


def check_count(value, name, least=1):
    """Return a whole number of at least `least`, e.g. `check_count(8, "samples")`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}")
    return value


def check_number(value, name, error=ValueError, above=None):
    """Return one finite number, above a bound if one is given, e.g. `check_number(0.5, "rate")`."""
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not number or (above is not None and value <= above):
        bound = "" if above is None else f" above {above}"
        raise error(f"{name} is {value!r}; expected a finite number{bound}")
    return value


def check_choice(value, choices, name, error=ValueError):
    """Return one of `choices`, e.g. `check_choice("RL", ("best-of-n", "RL"), "form")`."""
    if value not in list(choices):
        raise error(f"no {name} {value!r}; expected one of {', '.join(choices)}")
    return value


def check_numbers(values, name, ndim=1, error=ValueError):
    """Return values as an array of finite numbers, e.g. `check_numbers([0.5, 1], "scores")`.

    ndim: how many axes they must have, one or more if None, and none of them empty; name: what they
    are called in a message. Raises `error`.
    """
    expected = f"expected finite numbers on {ndim or 'some'} {'axis' if ndim == 1 else 'axes'}"
    try:
        array = np.asarray(values)
    except ValueError:
        raise error(f"{name} have rows of unequal length; {expected}") from None
    if array.dtype.kind not in "biuf":
        raise error(f"{name} are not all numbers ({type(values).__name__}); {expected}")
    if array.ndim != (ndim or max(array.ndim, 1)) or not array.size:
        raise error(f"{name} have the shape {array.shape}; {expected}, at least one")
    if not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0].tolist()
        raise error(f"{name}{place} is {array[tuple(place)]}; {expected}")
    return array


def check_alike(named, ndim=1, error=ValueError):
    """Return arrays of finite numbers that all have one shape; named: {name: values}."""
    arrays = [check_numbers(values, name, ndim, error) for name, values in named.items()]
    if len({array.shape for array in arrays}) > 1:
        shapes = " and ".join(f"{name} {a.shape}" for name, a in zip(named, arrays))
        raise error(f"shapes of {shapes} differ; expected a number of each for each")
    return arrays
