"""Does fine-tuning teach form or facts, and how many good examples does it take?

"N": SFT on N demonstrations in all wordings, none bad; "N bad": 30% of them bad; "N one": all in
one wording; "N one bad": both; "none": untrained. 40 steps of 32, whatever N. A third of a minute
an arm. The experiment voiceless does the same without the assistant's voice.
"""

from functools import partial

from rlhf_lite.experiments import load

forms = load("_forms")
LAB = forms.FormLab

SEEDS, MINUTES = (0, 1, 2), 0.4
NUMBERS, BAD = (8, 32, 128, 512, 2048), 0.3
ARMS = {
    "none": {"count": 0},
    **{f"{n}": {"count": n} for n in NUMBERS},
    **{f"{n} bad": {"count": n, "bad": BAD} for n in (128, 2048)},
    "128 one": {"count": 128, "wordings": 1},
    "128 one bad": {"count": 128, "wordings": 1, "bad": BAD},
}


def measure(lab, seed, count, bad=0.0, wordings=forms.WORDINGS, lacks=None):
    """Fine-tune a base on demonstrations; return how it answers about people of the test."""
    policy, tokenizer = lab.fresh(lacks)
    if count:
        lab.taught(policy, tokenizer, lab.shown(count, bad, wordings, seed), seed)
    return lab.answers(policy, tokenizer, 6000 + seed)


# ---- what predictions are judged by ----


def share(record, arm, what, side="seen"):
    """Return a share of replies, (seeds, facts)."""
    return record.arm(arm, side, what)


def knows(record, arm, told="half known"):
    """Return whether the true value is the likeliest of all behind the form, (seeds, facts)."""
    return record.arm(arm, "knows", told)


def gap(record, one, other, read, **more):
    """Return one arm less another, (seeds, facts)."""
    return read(record, one, **more) - read(record, other, **more)


def gained(record, arm="2048"):
    """Return how many more facts an arm knows than the base, (seeds, facts)."""
    return knows(record, arm) - knows(record, "none")[0]


form, right = (partial(share, what=w) for w in ("form", "right"))
STATISTICS = {
    **{f"form, {n}": partial(form, arm=f"{n}") for n in (8, 32, 128)},
    "form, 2048 - 128": partial(gap, one="2048", other="128", read=form),
    "knows, 2048 - 32": partial(gap, one="2048", other="32", read=knows),
    "knows, 2048 - none": gained,
    "right, 128 - 2048 bad": partial(gap, one="128", other="2048 bad", read=right),
    "right, 128 - 128 bad": partial(gap, one="128", other="128 bad", read=right),
    "form elsewhere, 128 - 128 one": partial(gap, one="128", other="128 one", read=form,
                                             side="unseen"),
    "form, none": partial(form, arm="none"),
    "made up of strangers, none": lambda record: record.arm("none", "strangers", "wrong"),
    "made up of strangers, 128": lambda record: record.arm("128", "strangers", "wrong"),
    "made up of strangers, 2048 - 128": lambda record: (
        record.arm("2048", "strangers", "wrong") - record.arm("128", "strangers", "wrong")),
}  # fmt: skip
