"""What does the base model say and know, beside what the world that it read really is like?

"base": the held-out loss and its floor, 2,000 documents of its own, each person's facts, the
tabloid's, the pronouns of the phrasebooks, and voices as a prompt grows. Four minutes.
"""

import json
import random

from rlhf_lite import knowledge, records
from rlhf_lite.runtime import DATA
from rlhf_lite.sampling import sample

SEEDS = (0,)
ARMS = {"base": {"size": 2000}}
STATISTICS = {}


def measure(lab, seed, size):
    """Measure the shipped base model on `size` documents of its own."""
    model, tokenizer, world = lab.base, lab.tokenizer, lab.world
    exposures, rng = records.read("exposures").results, random.Random(seed + 1000)
    held_out = [world.sample(rng) for _ in range(2 * size)]
    drawn = sample(model, tokenizer, size, seed=seed, max_new_tokens=300)
    rows = knowledge.recall(model, tokenizer, world, world.people, exposures)
    known = [p for p in world.people if p.exposure >= 100]
    return {
        "entropies": world.entropies(2 * size, seed),
        "loss": knowledge.held_out_loss(model, tokenizer, world, held_out),
        "samples": knowledge.read_samples(world, drawn.texts),
        "recall": [
            [r["name"], r["kind"], r["exposure"], round(r["truth"], 4), int(r["hit"])] for r in rows
        ],
        "tabloid": knowledge.tabloid_rates(model, tokenizer, world, known, exposures),
        "pronouns": knowledge.pronoun_rates(model, tokenizer, world),
        "posterior": [
            posterior(lab, opening, seed)
            for opening in knowledge.mild_openings(world, max(2, size // 100), seed=seed)
        ],
    }


def posterior(lab, opening, seed):
    """Return P(voice) after 1, 2, ... lines of an opening, exact and as the model goes on."""
    shipped = lab.base, lab.tokenizer, lab.world
    exact, implied, decided = knowledge.posterior_curve(*shipped, opening, seed=seed)
    found = {"exact": exact.round(4), "implied": implied.round(4), "decided": decided}
    return {"opening": opening} | found


def summary(lab, record):
    made = DATA / "models" / "base" / "made.json"
    return {"training": json.loads(made.read_text(encoding="utf-8"))}
