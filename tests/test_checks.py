"""Texts pass one door, and numbers another that needs no torch."""

import subprocess
import sys

from rlhf_lite.checks import TextError, check_texts
from rlhf_lite.runtime import ROOT

import pytest


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ("a text", "texts is one string; expected a list of texts, such as [text]"),
        (b"bytes", "texts is one string"),
        (None, "texts is a NoneType; expected a list of texts"),
        (3, "texts is a int; expected a list of texts"),
        ({"a": 1}, "texts is a dict; expected a list of texts"),
        (["a", None], "texts[1] is a NoneType; expected text"),
        (["a", ["b"]], "texts[1] is a list; expected text"),
        (
            ["a", "b\ud83d"],
            "texts[1] holds half a character (a lone surrogate); expected whole text",
        ),
    ],
)
def test_what_is_no_list_of_texts(texts, words):
    with pytest.raises(TextError) as caught:
        check_texts(texts)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_a_list_of_texts():
    assert check_texts(("a", "\U0001f600")) == ["a", "\U0001f600"] and check_texts(
        x for x in "ab"
    ) == ["a", "b"]
    assert check_texts([]) == []
    with pytest.raises(TextError, match="no prompts; expected a list with at least one text"):
        check_texts([], "prompts", least=1)


@pytest.mark.parametrize(("module", "expected"), [("optimum", "False"), ("runtime", "True")])
def test_the_optimum_needs_no_torch(module, expected):
    """In a fresh Python; the second row shows that the test would notice."""
    source = f"import sys, rlhf_lite.{module}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == expected
