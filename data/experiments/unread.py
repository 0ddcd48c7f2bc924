"""What does a base that has never read a pamphlet make of two lines of one?

"base": the shipped one; "without": a base of its own tokenizer, trained on a corpus without that
voice, the alpha = 0 of the theorem. Sixteen continuations of twelve prompts, of lines that only the
pamphlet writes. Seconds an arm; the second needs a model that is not shipped.
"""

from functools import partial

from rlhf_lite import models
from rlhf_lite.experiments import ExperimentError, load
from rlhf_lite.runtime import DATA

LAB = load("_pamphlet").PamphletLab

SEEDS, MINUTES = (0, 1, 2), 0.2
ARMS = {"base": {}, "without": {"folder": "without-pamphlet"}}
MAKE = "python data/make_base.py --leave-out pamphlet --passes 1 --out data/models/"


def measure(lab, seed, folder=None):
    """Return shares of continuations that are the pamphlet's, new or copied."""
    if folder is None:
        return lab.owned(lab.base, lab.tokenizer, 100 + seed)
    if not (DATA / "models" / folder).exists():
        raise ExperimentError(f"no model data/models/{folder}; expected that of `{MAKE}{folder}`")
    return lab.owned(*models.load(DATA / "models" / folder), 200 + seed)


STATISTICS = {
    f"{what}, {arm}": partial(lambda record, arm, what: record.arm(arm, what), arm=arm, what=what)
    for arm in ARMS
    for what in ("new", "copied", "garbled")
}
