"""Check what a function is given, at its door: texts, counts, arrays of finite numbers.

Each check returns what is fit and says in one sentence what is not. Omits torch, so that what needs
numbers alone starts in a moment. Used by every module.
"""

from numbers import Integral

import numpy as np


class TextError(ValueError):
    """Says in one sentence which text cannot be used, and why."""


def check_text(text):
    """Raise TextError for what is no text, such as a list of texts."""
    if not isinstance(text, str):
        raise TextError(f"text is a {type(text).__name__}; expected one text")


def check_texts(texts, name="texts", least=0):
    """Return texts as a list of str, e.g. `check_texts(["A hero."])`.

    name: what they are called in a message; least: how many there must be. Raises TextError for a
    single string, which would be read letter by letter, for what is no text, and for half a
    character (a lone surrogate), which no tokenizer and no file takes.
    """
    if isinstance(texts, (str, bytes)):
        raise TextError(f"{name} is one string; expected a list of texts, such as [text]")
    if isinstance(texts, dict) or not hasattr(texts, "__iter__"):
        raise TextError(f"{name} is a {type(texts).__name__}; expected a list of texts")
    texts = list(texts)
    if len(texts) < least:
        raise TextError(f"no {name}; expected a list with at least one text")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise TextError(f"{name}[{number}] is a {type(text).__name__}; expected text")
        if not is_whole(text):
            raise TextError(
                f"{name}[{number}] holds half a character (a lone surrogate); expected whole text"
            )
    return texts


def is_whole(text):
    """Tell whether a text is all whole characters, so that UTF-8 can write it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_count(value, name, least=1):
    """Return a whole number of at least `least`, e.g. `check_count(8, "samples")`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}")
    return value


def check_numbers(values, name, ndim=1):
    """Return values as an array of finite numbers, e.g. `check_numbers([0.5, 1], "scores")`.

    ndim: how many axes they must have, none of them empty; name: what they are called in a message.
    """
    expected = f"expected finite numbers on {ndim} {'axis' if ndim == 1 else 'axes'}"
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} have rows of unequal length; {expected}") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} are not all numbers ({type(values).__name__}); {expected}")
    if array.ndim != ndim or not array.size:
        raise ValueError(f"{name} have the shape {array.shape}; {expected}, at least one")
    if not np.isfinite(array).all():
        place = np.argwhere(~np.isfinite(array))[0].tolist()
        raise ValueError(f"{name}{place} is {array[tuple(place)]}; {expected}")
    return array


def check_alike(named, ndim=1):
    """Return arrays of finite numbers that all have one shape; named: {name: values}."""
    arrays = [check_numbers(values, name, ndim) for name, values in named.items()]
    if len({array.shape for array in arrays}) > 1:
        shapes = " and ".join(f"{name} {a.shape}" for name, a in zip(named, arrays))
        raise ValueError(f"shapes of {shapes} differ; expected a number of each for each")
    return arrays
