"""What unread and voiceless start from: bases whose corpus lacks one voice.

Both have read the first half of their corpus once, a quarter of what the shipped base has read, so
each is the other's control.
"""

from rlhf_lite import models
from rlhf_lite.experiments import ExperimentError
from rlhf_lite.runtime import DATA

FOLDER = DATA / "models"


def variant(voice):
    """Return (model, tokenizer) of a base that has never read a voice.

    They are not shipped. Raises ExperimentError with the command that makes a missing one.
    """
    folder = FOLDER / f"without-{voice}"
    if not (folder / "config.json").exists():
        raise ExperimentError(
            f"no base in data/models/{folder.name}; expected what `python data/make_base.py "
            f"--leave-out {voice} --passes 1 --documents 175000 --out data/models/{folder.name}` "
            "writes, in an hour on one core"
        )
    return models.load(folder)
