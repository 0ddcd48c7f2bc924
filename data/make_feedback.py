"""Ask the simulated annotators: data/feedback, remade from the base model.

    python data/make_feedback.py         # about five minutes on two cores
    python data/make_feedback.py --pool  # only the pool of base samples that all experiments share

The base model answers prompts; the annotators of annotators.toml are calibrated to the agreement
that is asked there; then each kind of feedback is asked for, with the annotator and the seed in
each record.
"""

import argparse
import json

from rlhf_lite import models
from rlhf_lite.annotators import ASPECTS, Labeller, Reader, calibrate, information, load_annotators
from rlhf_lite.edits import edits
from rlhf_lite.feedback import fingerprint, write
from rlhf_lite.records import plain_output, write_record
from rlhf_lite.runtime import DATA, pick_device
from rlhf_lite.sampling import respond
from rlhf_lite.world import World, draw_prompts

import numpy as np
from tqdm import tqdm

FOLDER = DATA / "feedback"
TRAIN, EACH = 84, 200
HELD_OUT, HELD_EACH = 21, 96
CHOICES = 40
COUNTS = {
    "preference": 4000,
    "rating": 2000,
    "demonstration": 2000,
    "correction": 2000,
    "critique": 2000,
}
SHARED = 150
SEED = 0


def make_pool(world, held_out=False):
    """Return {prompt: base responses}, from its file where it has been made before."""
    name = "held_out.json" if held_out else "my-pool.json"
    path, stamp = FOLDER / name, fingerprint()
    if path.exists():
        pool = json.loads(path.read_text(encoding="utf-8"))
        if pool["world"] == stamp:
            return pool["responses"]
    count, each = (HELD_OUT, HELD_EACH) if held_out else (TRAIN, EACH)
    model, tokenizer = models.load(DATA / "models" / "base", pick_device())
    prompts = [q for q in draw_prompts(world, count, SEED, held_out) for _ in range(each)]
    said = []
    for start in tqdm(range(0, len(prompts), 480), desc=name, unit=" batches"):
        part = prompts[start : start + 480]
        said += respond(model, tokenizer, part, seed=SEED + 1000 * held_out + start, batch=240)
    responses = {}
    for prompt, text in zip(prompts, said):
        if text.strip():
            responses.setdefault(prompt, []).append(text)
    record = {"world": stamp, "seed": SEED, "responses": responses}
    path.write_text(json.dumps(record, indent=0) + "\n", encoding="utf-8", newline="\n")
    return responses


def calibrate_all(world, read_text, pool):
    """Calibrate every annotator on the pool, write calibration.json, return them with a table."""
    people, table = load_annotators(world, calibrated=False), {}
    agreement = read_text.settings["agreement"]
    for name, person in people.items():
        utilities = [
            np.array([person.utility(read_text(p + r)) for r in said]) for p, said in pool.items()
        ]
        people[name] = found = calibrate(person, utilities, agreement)
        table[name] = {
            "rationality": found.rationality,
            "anchors": found.anchors.tolist(),
            "mean": float(np.concatenate(utilities).mean()),
            "sd": float(np.mean([u.std() for u in utilities])),
        }
    text = json.dumps(table, indent=1) + "\n"
    (FOLDER / "calibration.json").write_text(text, encoding="utf-8", newline="\n")
    return people, table


def ask(panel, kind, pool, count, rng):
    """Return `count` records of one kind from one annotator.

    The prompts and responses are drawn by rng.
    """
    prompts, found = list(pool), []
    while len(found) < count:
        prompt = prompts[rng.integers(len(prompts))]
        said = pool[prompt]
        if kind == "demonstration":
            among = rng.choice(len(said), min(CHOICES, len(said)), replace=False)
            found.append(panel.demonstrate(prompt, [said[i] for i in among]))
            continue
        a, b = (said[i] for i in rng.choice(len(said), 2, replace=False))
        if kind == "preference":
            record = panel.prefer(prompt, a, b) if a != b else None
        else:
            record = {
                "rating": panel.rate,
                "correction": panel.correct,
                "critique": panel.criticise,
            }[kind](prompt, a)
        if record:
            found.append(record)
    return found


def ask_everybody(world, people, read_text, pool, stamp):
    """Return preferences of everybody on the same pairs, in two sittings with luck of their own."""
    rng, pairs, found = np.random.default_rng(SEED + 9), [], []
    while len(pairs) < SHARED:
        prompt = list(pool)[rng.integers(len(pool))]
        a, b = (pool[prompt][i] for i in rng.choice(len(pool[prompt]), 2, replace=False))
        if a != b:
            pairs.append((prompt, a, b))
    for number, person in enumerate(people.values()):
        for sitting, name in enumerate((person.name, f"{person.name} 2")):
            seed = SEED + 200 + 2 * number + sitting
            panel = Labeller(world, person, seed, read_text, stamp | {"annotator": name})
            found += [panel.prefer(*pair) for pair in pairs]
    return found


def bits(world, people, read_text, pool, samples, rng):
    """Return {kind: bits about whose values these are, a label}, averaged over samples."""
    prompts, table = list(pool), {k: [] for k in COUNTS}
    for _ in range(samples):
        prompt = prompts[rng.integers(len(prompts))]
        said = [pool[prompt][i] for i in rng.permutation(len(pool[prompt]))[:CHOICES]]
        edited = [said[0]] + [t for t, _ in edits(world, prompt, said[0], rng)]
        rows = {k: [] for k in COUNTS}
        for person in people.values():
            u = [person.utility(read_text(prompt + r)) for r in said]
            rows["preference"].append(person.preference_probs(u[0], u[1]))
            rows["rating"].append(person.rating_probs(u[0]))
            rows["demonstration"].append(person.choice_probs(u))
            rows["correction"].append(
                person.choice_probs([person.utility(read_text(prompt + r)) for r in edited])
            )
            rows["critique"].append(joint(person.critique_probs(read_text(prompt + said[0]))))
        for kind, probs in rows.items():
            table[kind].append(information(probs))
    return {k: (float(np.mean(v)), float(np.std(v) / np.sqrt(len(v)))) for k, v in table.items()}


def joint(probs):
    """Return the probabilities of all 2^8 sets of remarks, given that of each."""
    found = np.ones(1)
    for p in probs:
        found = np.concatenate([found * (1 - p), found * p])
    return found


def main():
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pool", action="store_true", help="make the pools of base samples only")
    args = parser.parse_args()
    world = World()
    pool, held_out = make_pool(world), make_pool(world, held_out=True)
    if args.pool:
        return
    read_text = Reader(world)
    people, table = calibrate_all(world, read_text, pool)
    stamp = {"world": fingerprint()}
    for number, (kind, count) in enumerate(COUNTS.items()):
        rng = np.random.default_rng(SEED + number)
        panel = Labeller(world, people["scholar"], SEED + 100 + number, read_text, stamp)
        records = ask(panel, kind, pool, count, rng)
        if kind == "preference":
            write(FOLDER / "ties.jsonl", [r for r in records if r["tie"]])
            records = [r for r in records if not r["tie"]]
        write(FOLDER / f"{kind}s.jsonl", records)
        print(f"{kind}: {len(records)} records")
    write(FOLDER / "shared.jsonl", ask_everybody(world, people, read_text, pool, stamp))
    results = {
        "calibration": table,
        "bits": bits(world, people, read_text, held_out, 400, np.random.default_rng(SEED + 30)),
        "aspects": list(ASPECTS),
    }
    write_record("feedback", results, "python data/make_feedback.py", SEED)
    for kind, (mean, error) in results["bits"].items():
        print(f"{kind:14s} {mean:z.3f} +- {error:.3f} bits a label about whose values these are")


if __name__ == "__main__":
    main()
