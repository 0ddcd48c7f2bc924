"""Draw the prompts that policies and labellers are asked: people whom the corpus knows well.

Omits prompts about myths, secrets and trades, which their own notebooks word. Used from notebook 02
on.
"""

from rlhf_lite.checks import check_choice, check_count, check_texts
from rlhf_lite.world.grammar import WorldError

import numpy as np

LEAST_EXPOSURE = 500


def draw_prompts(world, count, seed=0, held_out=False, wordings=("plain",)):
    """Draw prompts about people whom the corpus tells 500 times or more: a list of `count` str.

    held_out: whether about the people whom training never asks for; wordings: of prompts.toml.
    """
    check_count(count, "count", 0)
    for wording in check_texts(wordings, "wordings", 1):
        check_choice(wording, world.prompts["person"], "wording")
    rng, hidden = np.random.default_rng(seed), {p.name for p in world.held_out_people}
    known = [p.name for p in world.people if p.exposure >= LEAST_EXPOSURE]
    people = [name for name in known if (name in hidden) == held_out]
    forms = [world.prompts["person"][w].replace("{name}", p) for p in people for w in wordings]
    if not forms:
        expected = f"expected people told {LEAST_EXPOSURE} times"
        raise WorldError("people.csv", "exposure", f"nobody to ask for; {expected}")
    repeats = -(-count // len(forms))
    return [str(f) for _ in range(repeats) for f in rng.permutation(forms)][:count]
