"""Measure a base model against the world and record it: `python data/measure_base.py`.

Prints what the README and notebook 01 quote and writes data/runs/NAME.json (NAME is the model's
folder) with seed, hardware and commit; data/runs/exposures.json holds how often the corpus tells
each fact. About four minutes on two cores.
"""

import argparse
import json
import random
import sys
from pathlib import Path

from rlhf_lite import knowledge, models, records
from rlhf_lite.knowledge import bin_exposures
from rlhf_lite.runtime import DATA, pick_device
from rlhf_lite.sampling import sample
from rlhf_lite.world import World

import numpy as np


def exposures_of(world, seed):
    """Return the recorded exposures of the corpus, counted first where there is no record."""
    try:
        return records.read_record("exposures")["results"]
    except records.RecordError:
        counts = world.exposures(world.corpus(seed))
        records.write_record("exposures", counts, "python data/measure_base.py", seed)
        return counts


def measure(model, tokenizer, world, exposures, seed, size):
    """Return every number that section 2 of notebook 01's record needs."""
    rng = random.Random(seed + 1000)
    held_out = [world.sample(rng) for _ in range(2 * size)]
    print("held-out loss ...", flush=True)
    results = {
        "entropies": {k: list(v) for k, v in world.entropies(2 * size, seed).items()},
        "loss": knowledge.held_out_loss(model, tokenizer, world, held_out),
    }
    print("unconditional samples ...", flush=True)
    results["samples"] = knowledge.read_samples(
        world, sample(model, tokenizer, size, seed=seed, max_new_tokens=300).texts
    )
    print("recall ...", flush=True)
    rows = knowledge.recall(model, tokenizer, world, world.people, exposures)
    results["recall"] = [
        [r["name"], r["kind"], r["exposure"], round(r["truth"], 4), int(r["hit"])] for r in rows
    ]
    known = [p for p in world.people if p.exposure >= 100]
    results["tabloid"] = knowledge.tabloid_rates(model, tokenizer, world, known, exposures)
    results["pronouns"] = knowledge.pronoun_rates(model, tokenizer, world)
    print("posterior as the prompt grows ...", flush=True)
    openings = knowledge.mild_openings(world, max(2, size // 100), seed=seed)
    curves = [
        knowledge.posterior_curve(model, tokenizer, world, o, samples=128, seed=seed)
        for o in openings
    ]
    results["posterior"] = [
        {"opening": o, "exact": np.round(e, 4).tolist(), "implied": np.round(i, 4).tolist(),
         "decided": d.tolist()}
        for o, (e, i, d) in zip(openings, curves)
    ]  # fmt: skip
    return results


def report(results):
    """Print the results as a reader wants them."""
    for name, (value, error) in results["entropies"].items():
        print(f"{name:18s} {value:8.3f} +- {error:.3f} nats a document")
    for name, r in results["loss"].items():
        print(
            f"{name:30s} {r['documents']:5d} documents: "
            f"loss {r['loss']:6.2f}, floor {r['floor']:6.2f}, "
            f"excess {r['excess']:z6.2%} +- {r['excess_se']:.2%}; "
            f"a token {r['loss_token']:.4f}, floor {r['floor_token']:.4f}"
        )
    samples = results["samples"]
    for voice, share in samples["shares"].items():
        prior = samples["prior"][voice]
        print(
            f"{voice:15s} {share:6.1%} of samples, {prior:6.1%} of the corpus, "
            f"{share - prior:+z.1%}"
        )
    for key in ("no voice", "off_grammar", "faulty lines", "impossible", "repetition"):
        print(f"{key:15s} {samples[key]:z6.2%}")
    print("claims", {k: f"{v:.1%}" for k, v in samples["claims"].items()})
    keys = ("name", "kind", "exposure", "truth", "hit")
    rows = [dict(zip(keys, r)) for r in results["recall"]]
    for kind in ("town", "year", "trade", "deed", "rival"):
        table = bin_exposures([r for r in rows if r["kind"] == kind], "truth")
        print(
            f"recall of {kind:6s}", ", ".join(f"{label}: {mean:.2f}" for label, mean, _, _ in table)
        )
    for name, key in (("tabloid", "rate"), ("pronouns", "recorded")):
        x, y = zip(*((r[key], r["model"]) for r in results[name]))
        print(name, len(x), {k: round(v, 3) for k, v in knowledge.calibration(x, y).items()})
    exact = [row for c in results["posterior"] for row in c["exact"]]
    implied = [row for c in results["posterior"] for row in c["implied"]]
    print("posterior", {k: round(v, 3) for k, v in knowledge.calibration(exact, implied).items()})


def main():
    records.plain_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=str(DATA / "models" / "base"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=2000, help="unconditional samples")
    args = parser.parse_args()
    world = World()
    try:
        model, tokenizer = models.load(args.model, pick_device())
    except models.ModelError as error:
        sys.exit(f"measure_base: {error}")
    results = measure(model, tokenizer, world, exposures_of(world, args.seed), args.seed, args.size)
    made = Path(args.model) / "made.json"
    results["training"] = json.loads(made.read_text(encoding="utf-8")) if made.exists() else None
    report(results)
    name = Path(args.model).name
    print(
        "wrote", records.write_record(name, results, "python data/measure_base.py", args.seed).name
    )


if __name__ == "__main__":
    main()
