"""Was it the assistant that the voiceless base lacked, or a token?

In voiceless no number of demonstrations makes that base say "That is all I know": its tokenizer
writes " That" as " T" and "hat", and "hat" never occurs in its corpus. The same arms, with a
closing line of tokens that both bases have read hundreds of times. A third of a minute an arm.
"""

from collections import Counter
from functools import partial
from itertools import islice

from rlhf_lite.experiments import load
from rlhf_lite.world import World

lima, voiceless, variants = load("lima"), load("voiceless"), load("_variants")
SEEDS, MINUTES, ARMS = voiceless.SEEDS, voiceless.MINUTES, voiceless.ARMS
DOCUMENTS = 20_000


class GlitchLab(lima.LAB):
    """A FormLab with another closing line."""

    close = ", as everyone knows."


LAB = GlitchLab


def measure(lab, seed, count, lacks):
    """Fine-tune a base that lacks a voice; return how it answers about people of the test."""
    return lima.measure(lab, seed, count, lacks=lacks)


# ---- what predictions are judged by ----

STATISTICS = {
    **{f"form, {n}": partial(lima.form, arm=f"voiceless, {n}") for n in voiceless.NUMBERS},
    **{
        f"form, {n}, twin - voiceless": partial(voiceless.behind, number=n)
        for n in voiceless.NUMBERS
    },
}


def rarest(lacks, line):
    """Return the token of a line that documents of a corpus write least often, and how often."""
    tokenizer, count = variants.variant(lacks)[1], Counter()
    for document in islice(World(leave_out=[lacks]).corpus(0), DOCUMENTS):
        count.update(tokenizer(document.text)["input_ids"])
    token = min(tokenizer(line)["input_ids"], key=lambda t: count[t])
    return tokenizer.decode([token]), count[token]


def summary(lab, record):
    """Return the rarest token of both closing lines in DOCUMENTS of each corpus."""
    lines = {"before": lima.forms.CLOSE, "here": lab.close}
    return {"rarest": {name: {when: rarest(lacks, line) for when, line in lines.items()}
                       for name, lacks in voiceless.LACKS.items()}}  # fmt: skip
