"""Does fine-tuning find the form where the base has never met an assistant?

The arms of lima that ask for numbers alone, from a base whose corpus lacks the assistant's voice.
It lies in data/models/without-assistant, with a tokenizer of its own; a missing one is named, with
the command that makes it, half a day on two cores. A third of a minute an arm.
"""

from functools import partial

from rlhf_lite.experiments import load

lima = load("lima")
LAB = lima.LAB

SEEDS, MINUTES = (0, 1, 2), 0.4
NUMBERS = (8, 32, 128, 2048)


# ---- the arms, a number of demonstrations each, and how one is measured ----

ARMS = {
    "none": {"count": 0, "seeds": (0,)},
    **{f"{n}": {"count": n} for n in NUMBERS},
}


def measure(lab, seed, count):
    """Fine-tune the base without an assistant; return how it answers about people of the test."""
    return lima.measure(lab, seed, count, without=True)


# ---- what predictions are judged by: the statistics of lima, of these arms ----

STATISTICS = {
    **{f"form, {n}": partial(lima.form, arm=f"{n}") for n in NUMBERS},
    "form, 2048 - 128": partial(lima.gap, one="2048", other="128", read=lima.form),
    "knows, 2048 - none": lima.gained,
}
