"""What does a language model learn first: words, sentences, whose turn it is to speak, or facts?

"learn": a new model of the base's size reads the first 44,000 documents of the corpus once, each
seed in its own order and from its own first weights. At ten steps on the way it writes 96 documents
(words, lines), is asked how much likelier a line is after one of its own voice than after another's
(voice), and for facts, by how often these documents tell them. Eight minutes a seed.
"""

from functools import partial

from rlhf_lite import experiments, models
from rlhf_lite.runtime import seed_everything
from rlhf_lite.sampling import sample, text_logprobs
from rlhf_lite.training import LanguageConfig, LanguageRun

import numpy as np

reading = experiments.load("_reading")
LAB = reading.ReadingLab
SEEDS, MINUTES = (0, 1, 2), 9
ARMS = {"learn": {}}
BATCH, WRITTEN, SIZE = 32, 96, (4, 192, 3)  # layers, width, heads: those of the base
STEPS = (10, 30, 60, 100, 180, 320, 480, 700, 1000, 1375)
LEVELS = {"words": 0.9, "lines": 0.5, "voice": 1.0, "facts": 0.5}  # from there on it is known


def measure(lab, seed, documents=reading.DOCUMENTS, steps=STEPS):
    """Train a model; return its losses [nats a document], and what it knows at these steps."""
    seed_everything(seed)
    texts = [d.text for d in lab.documents[:documents]]
    model = models.new_model(lab.tokenizer, *SIZE)
    run = LanguageRun(model, lab.tokenizer, texts, LanguageConfig(batch=BATCH, lr=4e-3, seed=seed))
    looks = [look(lab, model, seed) for step in run if step.step in steps]
    return {"loss": [s.loss for s in run.history], "steps": steps} | {
        key: [found[key] for found in looks] for key in looks[0]
    }


def look(lab, model, seed):
    """Return what a model knows: shares of words and lines, nats for a voice, P(truth) of facts."""
    drawn = sample(model, lab.tokenizer, WRITTEN, seed=seed, max_new_tokens=96).texts
    words = [w for text in drawn for w in reading.words_of(text)]
    # The last line may have been cut short.
    lines = [line for text in drawn for line in (text.split("\n")[:-1] or [text]) if line.strip()]
    found = {
        "words": np.mean([w in lab.words for w in words]) if words else 0.0,
        "lines": np.mean([lab.world.parse_line(x)[0] is not None for x in lines]) if lines else 0.0,
    }
    said, own, other = zip(*lab.turns)
    after = [
        text_logprobs(model, lab.tokenizer, [f"{a}\n{b}" for a, b in zip(before, said)],
                      [f"{a}\n" for a in before])
        for before in (own, other)
    ]  # fmt: skip
    found["voice"] = np.mean(np.subtract(*after))
    for name, asked in lab.facts.items():
        prompts, truths = map(list, zip(*asked))
        found[f"told {name}"] = np.mean(
            np.exp(text_logprobs(model, lab.tokenizer, truths, prompts))
        )
    return found


def summary(lab, record):
    """Return the floor of the loss [nats a document], and what "known" means."""
    return {"floor": lab.world.entropies(2000)["H(text)"], "levels": LEVELS}


# ---- what predictions are judged by, one number a seed ----


def crossing(record, what):
    """Return the step at which a curve first reaches its level, twice the last where it never does.

    On a straight line between two looks, over the logarithm of the step.
    """
    key = "told 100 or more" if what == "facts" else what
    steps, curves = record.arm("learn", "steps", seed=0), record.arm("learn", key)
    return np.array([_first(np.log(steps), np.array(curve), LEVELS[what]) for curve in curves])


def _first(x, y, level):
    above = np.flatnonzero(y >= level)
    if not len(above):
        return float(2 * np.exp(x[-1]))
    at = above[0]
    return float(np.exp(np.interp(level, y[at - 1 : at + 1], x[at - 1 : at + 1]) if at else x[0]))


def later(record, what, than):
    """Return by how many doublings of the steps one thing is known later than all others."""
    return np.log2(crossing(record, what) / np.max([crossing(record, o) for o in than], axis=0))


def last(record, what, less=None):
    """Return a curve's last value, less another's."""
    ends = [np.array(record.arm("learn", key))[:, -1] for key in (what, less) if key]
    return ends[0] - (ends[1] if less else 0)


STATISTICS = {
    "lines after words": partial(later, what="lines", than=["words"]),
    "voice after lines": partial(later, what="voice", than=["lines"]),
    "facts after all": partial(later, what="facts", than=["words", "lines", "voice"]),
    "told 10 to 99 - 1 to 9": partial(last, what="told 10 to 99", less="told 1 to 9"),
}
