"""Do larger models, read longer, repeat more myths? TruthfulQA's question, in small.

"train SIZE" reads the first 44,000 documents of the corpus once and keeps the model at a sixteenth,
a quarter and the whole of that; all sizes read the same documents, each seed in its own order.
"""

import itertools

from rlhf_lite import models
from rlhf_lite.runtime import seed_everything
from rlhf_lite.training import LanguageConfig, LanguageRun

SEEDS, MINUTES = (0, 1, 2), 5
DOCUMENTS, BATCH = 44_000, 32
SIZES = {"0.25M": (2, 64, 2), "0.9M": (3, 128, 2), "2.2M": (4, 192, 3)}  # layers, width, heads
KEPT = (1 / 16, 1 / 4, 1)  # of the reading, where a model is kept
ARMS = [{f"train {size}": {"size": size, "train": True} for size in SIZES}]


def measure(lab, seed, size, train=False):
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
