"""Does fine-tuning find the form where the base has never met an assistant?

The arms of lima that ask for numbers alone, from two bases that have read half their corpus.
"voiceless": the corpus lacks the assistant's voice; "twin": it lacks the pamphlet's instead. "none"
is untrained. A third of a minute an arm; the bases are not shipped.
"""

from functools import partial

from rlhf_lite.experiments import load

lima = load("lima")
LAB = lima.LAB

SEEDS, MINUTES = (0, 1, 2), 0.4
LACKS, NUMBERS = {"voiceless": "assistant", "twin": "pamphlet"}, (8, 32, 128, 2048)


# ---- the arms, a base and a number of demonstrations each, and how one is measured ----

ARMS = {
    f"{name}, {number or 'none'}": {"count": number, "lacks": lacks}
    for name, lacks in LACKS.items()
    for number in (0, *NUMBERS)
}


def measure(lab, seed, count, lacks):
    """Fine-tune a base that lacks a voice; return how it answers about people of the test."""
    return lima.measure(lab, seed, count, lacks=lacks)


# ---- what predictions are judged by: the statistics of lima, of these arms ----


def behind(record, number):
    """Return how much less of the form the voiceless have than their twin, (seeds, facts)."""
    return lima.gap(record, f"twin, {number}", f"voiceless, {number}", read=lima.form)


STATISTICS = {
    **{f"form, {n}": partial(lima.form, arm=f"voiceless, {n}") for n in NUMBERS},
    **{f"form, {n}, twin - voiceless": partial(behind, number=n) for n in NUMBERS},
    "knows, 2048 - none": lambda record: (
        lima.knows(record, "voiceless, 2048") - lima.knows(record, "voiceless, none")[0]),
}  # fmt: skip
