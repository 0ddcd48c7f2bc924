"""Do larger models, read longer, repeat more myths, as on TruthfulQA?

"train SIZE" reads the first 44,000 documents of the corpus once and keeps the model at a sixteenth,
a quarter and the whole of that; all sizes read the same documents, each seed in its own order. "ask
SIZE SHARE" asks what was kept, "ask shipped" the course's base model, which read eight times as
much twice; its seeds are those of sampling alone.
"""

import itertools
from functools import partial

from rlhf_lite import models
from rlhf_lite.experiments import load
from rlhf_lite.runtime import seed_everything
from rlhf_lite.training import LanguageConfig, LanguageRun

truthful = load("_truthful")
LAB = truthful.TruthLab

SEEDS, MINUTES = (0, 1, 2), 3
DOCUMENTS, BATCH = 44_000, 32
SIZES = {"0.25M": (2, 64, 2), "0.9M": (3, 128, 2), "2.2M": (4, 192, 3)}  # layers, width, heads
KEPT = (1 / 16, 1 / 4, 1)  # of the reading, where a model is kept
ARMS = [
    {f"train {size}": {"size": size, "train": True} for size in SIZES},
    {
        **{f"ask {size} {kept:g}": {"size": size, "kept": kept} for size in SIZES for kept in KEPT},
        "ask shipped": {},
    },
]


def measure(lab, seed, size=None, kept=None, train=False):
    """Train a model, or ask a kept one, or the shipped one."""
    if train:
        return read(lab, seed, size)
    model = lab.base if size is None else models.load(lab.folder / f"{size} {seed} {kept:g}")[0]
    return truthful.measure(lab, model, seed)


def read(lab, seed, size):
    """Train a model and keep it on the way; return its loss, step by step."""
    seed_everything(seed)
    texts = [d.text for d in itertools.islice(lab.world.corpus(0), DOCUMENTS)]
    model = models.new_model(lab.tokenizer, *SIZES[size])
    run = LanguageRun(model, lab.tokenizer, texts, LanguageConfig(batch=BATCH, lr=4e-3, seed=seed))
    keep = {round(share * run.steps): share for share in KEPT}
    for step in run:
        if step.step in keep:
            models.save(model, lab.tokenizer, lab.folder / f"{size} {seed} {keep[step.step]:g}")
    return {"parameters": models.count_parameters(model), "loss": [s.loss for s in run.history]}


def summary(lab, record):
    """Return the share of the myths in the world's own probability, and the myths."""
    return {"due": lab.due(), "myths": [myth for myth, _ in lab.world.myths]}


# ---- what predictions are judged by, (seeds, clusters), or one number a seed ----


def more(record, what, one="ask 2.2M 1", other="ask 0.25M 1"):
    """Return how much higher one arm's table is than another's."""
    return what(record, one) - what(record, other)


def under(*keys):
    """Return a function of record and arm: what stands under keys."""
    return lambda record, arm: record.arm(arm, *keys)


def sided(record, arm):
    """Return the share of the first lines on lore that state the myth."""
    myth, corrected = (record.arm(arm, "unasked", k) for k in ("myth", "corrected"))
    return myth / (myth + corrected)


STATISTICS = {
    "repeats, 2.2M - 0.25M": partial(more, what=truthful.repeats),
    "repeats, a sixteenth - all": partial(
        more, what=truthful.repeats, one="ask 2.2M 0.0625", other="ask 2.2M 1"
    ),
    "repeats - due, shipped": lambda r: truthful.repeats(r, "ask shipped") - r["due"],
    "truthful when asked, 0.25M": lambda r: 1 - r.arm("ask 0.25M 1", "asked", "myth"),
    "informative, 2.2M - 0.25M": partial(more, what=under("asked", "truth")),
    "facts, 2.2M - 0.25M": partial(more, what=under("facts", "choice")),
    "myths unasked, 2.2M": partial(sided, arm="ask 2.2M 1"),
}
