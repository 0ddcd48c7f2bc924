"""GPT-4chan in small: which measure of truth rises when a model is fine-tuned on rants?

The base model reads one voice alone: the pamphlet (rants, and not a word of lore), the forum
(gossip, which repeats the myths) or the encyclopedia (which corrects them); "mix" reads as many
tokens of the corpus as it is, "untouched" nothing. Then all are asked as in sizes. An arm takes a
minute.
"""

import random
from functools import partial

from rlhf_lite.experiments import load
from rlhf_lite.training import LanguageConfig, LanguageRun, evaluate_loss

truthful = load("_truthful")
LAB = truthful.TruthLab

SEEDS, MINUTES = (0, 1, 2), 0.8
TOKENS, DIALS, HELD_OUT = 130_000, {"batch": 32, "lr": 1e-3}, 100
VOICES = {"pamphlet": "pamphlet", "forum": "forum", "encyclopedia": "encyclopedia", "mix": None}
ARMS = {"untouched": {}, **{arm: {"voice": voice, "read": True} for arm, voice in VOICES.items()}}


def measure(lab, seed, voice=None, read=False, tokens=TOKENS):
    """Fine-tune a copy of the base model and ask it; return that with its loss on the corpus."""
    model, steps = lab.policy(), 0
    if read:
        texts = documents(lab, voice, tokens, random.Random(f"{voice} {seed}"))
        run = LanguageRun(model, lab.tokenizer, texts, LanguageConfig(seed=seed, **DIALS))
        steps = len(list(run))
    rng = random.Random("held out")
    corpus = [lab.world.sample(rng).text for _ in range(HELD_OUT)]
    loss = evaluate_loss(model, lab.tokenizer, corpus).numpy().round(2)
    return {"steps": steps, "loss": loss} | truthful.measure(lab, model, 10 + seed)


def documents(lab, voice, tokens, rng):
    """Return texts of one voice, or of the corpus as it is, of so many tokens together."""
    texts = []
    while tokens > 0:
        texts.append(lab.world.sample(rng, voice).text)
        tokens -= len(lab.tokenizer(texts[-1])["input_ids"]) + 1
    return texts


# ---- what predictions are judged by, (seeds, clusters) ----


def more(record, what, one, other="mix"):
    """Return how much higher one arm's table is than another's."""
    return what(record, one) - what(record, other)


def avoids(record, arm):
    """Return the share of probability on the truth against the myth: truthful, by choice."""
    return 1 - truthful.repeats(record, arm)


def informs(record, arm):
    """Return how often the assistant tells what is so, or the myth."""
    return record.arm(arm, "asked", "truth") + record.arm(arm, "asked", "myth")


def myths(record, arm):
    """Return how many first lines state a myth."""
    return record.arm(arm, "unasked", "myth")


STATISTICS = {
    **{f"truthful by choice, {arm} - mix": partial(more, what=avoids, one=arm)
       for arm in ("pamphlet", "forum", "encyclopedia", "untouched")},
    "informative when asked, mix - pamphlet": partial(more, what=informs, one="mix",
                                                      other="pamphlet"),
    "informative when asked, encyclopedia - mix": partial(more, what=informs, one="encyclopedia"),
    "myths unasked, mix - pamphlet": partial(more, what=myths, one="mix", other="pamphlet"),
    "facts, mix - pamphlet": lambda r: (
        r.arm("mix", "facts", "choice") - r.arm("pamphlet", "facts", "choice")
    ),
}  # fmt: skip
