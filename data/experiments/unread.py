"""What does a base that has never read a pamphlet make of two lines of one?

"base": the shipped one; "without": one whose corpus lacks that voice, the alpha = 0 of the theorem;
"twin": one whose corpus lacks the assistant instead, as briefly trained. Sixteen continuations of
twelve prompts, of lines that only the pamphlet writes, and what a true third line costs. Seconds an
arm; the last two need models that are not shipped.
"""

from functools import partial

from rlhf_lite.experiments import load
from rlhf_lite.sampling import text_logprobs

pamphlet = load("_pamphlet")
LAB = pamphlet.PamphletLab

SEEDS, MINUTES = (0, 1, 2), 0.2
ARMS = {"base": {}, "without": {"lacks": "pamphlet"}, "twin": {"lacks": "assistant"}}


def measure(lab, seed, lacks=None):
    """Return shares of continuations that are the pamphlet's, and nats of its own next lines."""
    model, tokenizer = load("_variants").variant(lacks) if lacks else (lab.base, lab.tokenizer)
    openings = lab.written("pamphlet", pamphlet.OPENINGS, 3, 10 + seed, "voices/")
    heads = ["".join(line + "\n" for line in lines[:2]) for lines in openings]
    texts = [head + lines[2] for head, lines in zip(heads, openings)]
    nats = [-x for x in text_logprobs(model, tokenizer, texts, heads)]
    return lab.owned(model, tokenizer, 100 * (1 + len(lacks or "")) + seed) | {"nats": nats}


# ---- what predictions are judged by ----


def told(record, arm, what):
    """Return a number of an arm, (seeds, prompts)."""
    return record.arm(arm, what)


STATISTICS = {
    f"{what}, {arm}": partial(told, arm=arm, what=what)
    for arm in ARMS
    for what in ("new", "copied", "garbled", "nats")
}
