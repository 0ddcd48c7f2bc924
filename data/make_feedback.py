"""Ask the simulated annotators: data/feedback, remade from the base model in about five minutes.

    python data/make_feedback.py

The base model answers prompts; the annotators of annotators.toml are calibrated to the agreement
that is asked there; then each kind of feedback is asked for, with the annotator and the seed in
each record.
"""

import json

from rlhf_lite import records
from rlhf_lite.annotators import calibrate, information, load_annotators
from rlhf_lite.edits import edits
from rlhf_lite.experiments import Lab
from rlhf_lite.feedback import ASPECTS, fingerprint, write
from rlhf_lite.labellers import CHOICES, Labeller, ask
from rlhf_lite.runtime import DATA

import numpy as np

FOLDER = DATA / "feedback"
COUNTS = {
    "preference": 4000,
    "rating": 2000,
    "demonstration": 2000,
    "correction": 2000,
    "critique": 2000,
}
SHARED = 150  # pairs that everybody judges
SEED = 0


def calibrate_all(lab):
    """Calibrate every annotator, write calibration.json, return them with a table."""
    people, table = load_annotators(lab.world, calibrated=False), {}
    for name, person in people.items():
        utilities = lab.utilities(person, lab.responses)
        people[name] = found = calibrate(person, utilities, lab.read.settings["agreement"])
        table[name] = {
            "rationality": found.rationality,
            "anchors": found.anchors.tolist(),
            "mean": float(np.concatenate(utilities).mean()),
            "sd": float(np.mean([u.std() for u in utilities])),
        }
    text = json.dumps(table, indent=1) + "\n"
    (FOLDER / "calibration.json").write_text(text, encoding="utf-8", newline="\n")
    return people, table


def ask_scholar(lab, scholar, stamp):
    """Write all kinds of feedback of one person."""
    for number, (kind, count) in enumerate(COUNTS.items()):
        labeller = Labeller(lab.world, scholar, SEED + 100 + number, lab.read, stamp)
        found = ask(labeller, kind, lab.responses, count, np.random.default_rng(SEED + number))
        if kind == "preference":
            write(FOLDER / "ties.jsonl", [r for r in found if r["tie"]])
            found = [r for r in found if not r["tie"]]
        write(FOLDER / f"{kind}s.jsonl", found)
        print(f"{kind}: {len(found)} records")


def ask_everybody(lab, people, stamp):
    """Return preferences of everybody on the same pairs, in two sittings with luck of their own."""
    rng, pairs, found = np.random.default_rng(SEED + 9), [], []
    while len(pairs) < SHARED:
        prompt = list(lab.responses)[rng.integers(len(lab.responses))]
        said = lab.responses[prompt]
        a, b = (said[i] for i in rng.choice(len(said), 2, replace=False))
        if a != b:
            pairs.append((prompt, a, b))
    sittings = [(p, name) for p in people.values() for name in (p.name, f"{p.name} 2")]
    for number, (person, name) in enumerate(sittings):
        own = stamp | {"annotator": name}
        labeller = Labeller(lab.world, person, SEED + 200 + number, lab.read, own)
        found += [labeller.prefer(*pair) for pair in pairs]
    return found


def bits(lab, people, samples=400):
    """Return {kind: bits about whose values these are, a label}: (mean over samples, its error)."""
    rng, table = np.random.default_rng(SEED + 30), {k: [] for k in COUNTS}
    for _ in range(samples):
        prompt = list(lab.held_out)[rng.integers(len(lab.held_out))]
        said = lab.held_out[prompt]
        said = [said[i] for i in rng.permutation(len(said))[:CHOICES]]
        edited = [said[0]] + [t for t, _ in edits(lab.world, prompt, said[0], rng)]
        rows = {k: [] for k in COUNTS}
        for person in people.values():
            u, after = (lab.utilities(person, {prompt: texts})[0] for texts in (said, edited))
            remarks = person.critique_probs(lab.read(prompt + said[0]))
            rows["preference"].append(person.preference_probs(u[0], u[1]))
            rows["rating"].append(person.rating_probs(u[0]))
            rows["demonstration"].append(person.choice_probs(u))
            rows["correction"].append(person.choice_probs(after))
            rows["critique"].append(joint(remarks))
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
    records.plain_output()
    lab, stamp = Lab(None), {"world": fingerprint()}
    people, table = calibrate_all(lab)
    ask_scholar(lab, people["scholar"], stamp)
    write(FOLDER / "shared.jsonl", ask_everybody(lab, people, stamp))
    results = {"calibration": table, "bits": bits(lab, people), "aspects": list(ASPECTS)}
    records.write("feedback", results, "python data/make_feedback.py", SEED)
    for kind, (mean, error) in results["bits"].items():
        print(f"{kind:14s} {mean:z.3f} +- {error:.3f} bits a label about whose values these are")


if __name__ == "__main__":
    main()
