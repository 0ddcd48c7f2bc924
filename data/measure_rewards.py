"""Measure reward models on the five kinds of feedback; record everything in data/runs/rewards.json.

    python data/measure_rewards.py             # about 50 minutes on two cores, 3 seeds
    python data/measure_rewards.py --ship      # train and save data/models/reward only, 2 minutes
    python data/measure_rewards.py --explore   # add the arms that were thought of afterwards

Killed? The same command goes on: each finished piece lies in data/runs/my-rewards.json until all
are done. Every arm is scored on the same held-out people, whom no label is about.
"""

import argparse
import json
import time
from dataclasses import replace

from rlhf_lite import judging, knowledge, models, optimum, rewards
from rlhf_lite.annotators import Labeller, Reader, load_annotators
from rlhf_lite.edits import edits
from rlhf_lite.feedback import fingerprint
from rlhf_lite.records import plain_output, read_record, write_record
from rlhf_lite.runtime import DATA, pick_device
from rlhf_lite.sampling import respond
from rlhf_lite.world import World, draw_prompts

import numpy as np
from make_feedback import CHOICES, FOLDER, ask, make_pool
from scipy.stats import linregress, spearmanr
from tqdm import tqdm

SIZES = (30, 100, 300, 1000, 3000, 10_000)
SHIPPED = 20_000
KIND_SIZES = (100, 300, 1000, 3000)
SEEDS = (0, 1, 2)
KNOB = (0.0, 0.3, 3.0)
OFFSETS = (0.0, 0.5, 1.0, 2.0)
DEFAULT = 1000
KNOB_SIZE = 300
PARTIAL = DATA / "runs" / "my-rewards.json"


class Bench:
    """Hold what every arm shares: the world, the pools, the scholar, the ruler."""

    def __init__(self):
        """Load what lies in data and read the held-out texts once."""
        self.world = World()
        self.base, self.tokenizer = models.load(DATA / "models" / "base", pick_device())
        self.pool, self.held_out = make_pool(self.world), make_pool(self.world, held_out=True)
        self.read = Reader(self.world)
        self.scholar = load_annotators(self.world)["scholar"]
        self.truth = self.utilities(self.held_out)
        self.spread = float(np.mean([u.std() for u in self.truth]))

    def utilities(self, pool):
        """Return the scholar's utility of every response, one array a prompt [points]."""
        return [
            np.array([self.scholar.utility(self.read(p + r)) for r in said])
            for p, said in pool.items()
        ]

    def labels(self, kind, count, seed, rationality=1.0, offset=0.0, raters=20):
        """Return `count` labels; offset: sd of the shifts of the raters' ladders [points]."""
        person = replace(self.scholar, rationality=self.scholar.rationality * rationality)
        rng = np.random.default_rng(10_000 + seed)
        stamp = {"world": fingerprint()}
        if not offset:
            panel = Labeller(self.world, person, 20_000 + seed, self.read, stamp)
            return ask(panel, kind, self.pool, count, rng)
        found = []
        for number, shift in enumerate(rng.normal(0, offset, raters)):
            rater = replace(person, offset=float(shift))
            panel = Labeller(self.world, rater, 30_000 + 100 * seed + number, self.read, stamp)
            found += ask(panel, kind, self.pool, count // raters, rng)
        return [found[i] for i in rng.permutation(len(found))]

    def train(self, kind, records, seed, located=True):
        """Train on records as often as `passes_for` says; return (one-head model, seconds)."""
        rng, base = np.random.default_rng(40_000 + seed), None
        if kind == "demonstration":
            base = [
                self.pool[r["prompt"]][rng.integers(len(self.pool[r["prompt"]]))] for r in records
            ]
        rows = rewards.examples(kind, records, base, located)
        config = rewards.RewardConfig(
            passes=passes_for(len(records)), batch=min(32, max(8, len(records) // 10)), seed=seed
        )
        run, start = rewards.RewardRun(self.base, self.tokenizer, kind, rows, config), time.time()
        for _ in run:
            pass
        return run.reward_model(), time.time() - start

    def rivals(self, records, seed):
        """Return correction records against another possible edit instead of the original.

        That is the pairwise likelihood of the choice among all edits, alternatives drawn evenly.
        """
        rng, found = np.random.default_rng(60_000 + seed), []
        for r in records:
            options = [t for t, _ in edits(self.world, r["prompt"], r["response"], rng)]
            options = [t for t in (r["response"], *options) if t != r["corrected"]]
            found.append(r | {"response": options[rng.integers(len(options))]})
        return found

    def measure(self, model, pool=None, truth=None):
        """Return the ruler's numbers of a model."""
        pool, truth = pool or self.held_out, truth or self.truth
        texts = [p + r for p, said in pool.items() for r in said]
        flat = rewards.score(model, self.tokenizer, texts).numpy()
        parts = np.split(flat, np.cumsum([len(u) for u in truth])[:-1])
        pairs = [
            judging.pair_accuracy(s, u, self.scholar.rationality) for s, u in zip(parts, truth)
        ]
        accuracy, ceiling = np.mean(pairs, axis=0)
        ranks = [spearmanr(s, u).statistic if s.std() > 0 else 0.0 for s, u in zip(parts, truth)]
        best = [optimum.best_of_n(s, u, 16) - u.mean() for s, u in zip(parts, truth)]
        oracle = [optimum.best_of_n(u, u, 16) - u.mean() for u in truth]
        words = np.array([len(t.split()) for t in texts])
        return {
            "accuracy": float(accuracy), "ceiling": float(ceiling), "rank": float(np.mean(ranks)),
            "best16": float(np.mean(best)), "oracle16": float(np.mean(oracle)),
            "length": float(np.corrcoef(flat, words)[0, 1]),
        }  # fmt: skip

    def other_wordings(self):
        """Return a pool in wordings that no label was asked in, with its utilities."""
        wordings = ("hero", "so_called", "learned", "citizen")
        prompts = [q for q in draw_prompts(self.world, 24, 7, True, wordings) for _ in range(32)]
        said, pool = respond(self.base, self.tokenizer, prompts, seed=77, batch=192), {}
        for prompt, text in zip(prompts, said):
            if text.strip():
                pool.setdefault(prompt, []).append(text)
        return pool, self.utilities(pool)

    def twins(self, known, count=300, seed=5):
        """Return pairs of texts that differ in one fact, true first; about strangers if not known.

        Each is one plain sentence of the encyclopedia; the false fact is another person's.
        """
        rng = np.random.default_rng(seed)
        hidden = {p.name for p in self.world.held_out_people}
        people = [
            p for p in self.world.people
            if p.name in hidden and (p.exposure >= 500 if known else p.exposure <= 1)
        ]  # fmt: skip
        rows = []
        while len(rows) < count:
            person = people[rng.integers(len(people))]
            kind = ("town", "year", "trade", "deed", "rival")[rng.integers(5)]
            other = self.world.people[rng.integers(len(self.world.people))].facts[kind]
            true = person.facts[kind]
            if true and other and other not in (true, person.tabloid, person.name):
                texts = (
                    knowledge.probe_text(self.world, "probe", kind, person, v)
                    for v in (true, other)
                )
                rows.append(tuple(f"{whole}." for _, whole in texts))
        return rows


def passes_for(count):
    """Return how often to read so many labels: about 3,000 in all, 1 to 6 times."""
    return int(np.clip(round(3000 / count), 1, 6))


def arms():
    """List every arm as (name, arguments): what is trained, on what, with which seed."""
    rows, turned = [], []
    for seed in SEEDS:
        for size in (SHIPPED, *SIZES[::-1]):
            rows.append((f"preference {size} {seed}", {"kind": "preference", "count": size}))
        for kind in rewards.KINDS[1:]:
            for size in KIND_SIZES:
                rows.append((f"{kind} {size} {seed}", {"kind": kind, "count": size}))
        for offset in OFFSETS[1:]:
            shifted = {"kind": "rating", "count": DEFAULT, "offset": offset}
            rows.append((f"offset {offset} {seed}", shifted))
        rows.append((f"whole {seed}", {"kind": "correction", "count": DEFAULT, "located": False}))
        rows.append((f"shuffled {seed}", {"kind": "preference", "count": 3000, "shuffled": True}))
        for knob in KNOB:
            for kind in rewards.KINDS:
                noisy = {"kind": kind, "count": KNOB_SIZE, "rationality": knob}
                turned.append((f"knob {knob} {kind} {seed}", noisy))
    return [(name, arm | {"seed": int(name.split()[-1])}) for name, arm in rows + turned]


def run_arm(bench, kind, count, seed, shuffled=False, located=True, offset=0.0, rationality=1.0):
    """Train and measure one arm; return (numbers, model)."""
    shift = offset * bench.spread
    records = bench.labels(kind, count, seed, rationality, shift)
    if shuffled:
        rng = np.random.default_rng(50_000 + seed)
        for r, swap in zip(records, rng.random(len(records)) < 0.5):
            if swap:
                r["chosen"], r["rejected"] = r["rejected"], r["chosen"]
    model, seconds = bench.train(kind, records, seed, located)
    return bench.measure(model) | {"seconds": seconds, "labels": len(records)}, model


def extras(bench, model):
    """Measure what only the largest preference model is asked."""
    known, strangers = bench.twins(True), bench.twins(False)
    rates = {}
    for name, pairs in (("known", known), ("strangers", strangers)):
        scores = rewards.score(model, bench.tokenizer, [t for pair in pairs for t in pair]).numpy()
        gaps = scores[0::2] - scores[1::2]
        rates[name] = {"wins": float(np.mean(gaps > 0)), "gap": float(gaps.mean()), "n": len(gaps)}
    pool, truth = bench.other_wordings()
    return {"twins": rates, "other wordings": bench.measure(model, pool, truth)}


def ship(bench, model, labels, seconds, numbers):
    """Normalise a model on the pool and save it as data/models/reward."""
    texts = [p + r for p, said in bench.pool.items() for r in said[:25]]
    mean, sd = rewards.normalise(model, bench.tokenizer, texts)
    models.save(model, bench.tokenizer, DATA / "models" / "reward")
    made = {
        "command": "python data/measure_rewards.py --ship", "seed": 0, "labels": labels,
        "annotator": "scholar", "rationality": bench.scholar.rationality,
        "seconds": round(seconds, 1), "mean": mean, "sd": sd, "normalised on": len(texts),
        "world": fingerprint(), "held out": numbers,
    }  # fmt: skip
    (DATA / "models" / "reward" / "made.json").write_text(
        json.dumps(made, indent=1) + "\n", encoding="utf-8"
    )


def density_ratio_error(bench):
    """Return the largest |fitted logit - (lambda u - log Z)| over the responses to one prompt.

    The base distribution is uniform on the pool's responses, experts choose among all of them, and
    a classifier with one free logit a response minimises the exact expected loss by Newton steps.
    """
    prompt = next(iter(bench.held_out))
    said = sorted(set(bench.held_out[prompt]))[:48]
    u = np.array([bench.scholar.utility(bench.read(prompt + r)) for r in said])
    expert, base = bench.scholar.choice_probs(u), np.full(len(said), 1 / len(said))
    logit = np.zeros(len(said))
    for _ in range(60):
        p = 1 / (1 + np.exp(-logit))
        gradient, curvature = (expert + base) * p - expert, (expert + base) * p * (1 - p)
        logit -= np.clip(gradient / curvature, -1, 1)
    worth = bench.scholar.rationality * u
    return float(np.abs(logit - (worth - np.log(np.mean(np.exp(worth))))).max())


def claims_of(done, seeds=SEEDS):
    """Return the statistics that data/claims.toml asks for, one value a seed."""

    def get(name, key="rank"):
        return [done[f"{name} {s}"][key] for s in seeds]

    def less(a, b, key="rank"):
        return [x - y for x, y in zip(get(a, key), get(b, key))]

    slopes = []
    for s in seeds:
        x = [np.log2(n) for n in SIZES[1:]]
        y = [100 * done[f"preference {n} {s}"]["accuracy"] for n in SIZES[1:]]
        slopes.append(float(linregress(x, y).slope))
    worst = [
        min(done[f"{k} {DEFAULT} {s}"]["best16"] for k in rewards.KINDS if k != "demonstration")
        for s in seeds
    ]
    twins = [done[f"extras {s}"]["twins"] for s in seeds]
    top = f"preference {SHIPPED}"
    return {
        "ceiling gap": [c - a for c, a in zip(get(top, "ceiling"), get(top, "accuracy"))],
        "shuffled accuracy": get("shuffled", "accuracy"),
        "rank correlation": get(top),
        "shuffled rank correlation": get("shuffled"),
        "points per doubling": slopes,
        "true beats false": [t["known"]["wins"] for t in twins],
        "true beats false, strangers": [t["strangers"]["wins"] for t in twins],
        "correction - preference": less(f"correction {DEFAULT}", f"preference {DEFAULT}"),
        "critique - preference": less(f"critique {DEFAULT}", f"preference {DEFAULT}"),
        "rating - preference, one scale": less(f"rating {DEFAULT}", f"preference {DEFAULT}"),
        "rating - preference, shifted scales": less("offset 1.0", f"preference {DEFAULT}"),
        "correction, no rationality": get("knob 0.0 correction"),
        "critique, no rationality": get("knob 0.0 critique"),
        "rating, no rationality": get("knob 0.0 rating"),
        "demonstration - next worst, best of 16": [
            a - b for a, b in zip(get(f"demonstration {DEFAULT}", "best16"), worst)
        ],
        "density ratio error": [done["density ratio error"]],
        "located - whole": less(f"correction {DEFAULT}", "whole"),
    }


def explore(bench):
    """Add to the record what was thought of after its verdicts: corrections against other edits."""
    record = read_record("rewards")
    results, more = record["results"], {}
    for seed in SEEDS:
        records = bench.rivals(bench.labels("correction", DEFAULT, seed), seed)
        model, seconds = bench.train("correction", records, seed)
        more[f"rivals {DEFAULT} {seed}"] = bench.measure(model) | {"seconds": seconds}
        print(seed, more[f"rivals {DEFAULT} {seed}"])
    results["arms"] |= more
    results["exploratory"] = "rivals: python data/measure_rewards.py --explore"
    write_record("rewards", results, record["command"], list(SEEDS))


def main():
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ship", action="store_true", help="train data/models/reward only")
    parser.add_argument("--explore", action="store_true", help="add the arms of afterwards")
    args = parser.parse_args()
    bench = Bench()
    if args.explore:
        return explore(bench)
    done = (
        json.loads(PARTIAL.read_text(encoding="utf-8"))
        if PARTIAL.exists() and not args.ship
        else {}
    )
    for name, arm in tqdm(arms()[:1] if args.ship else arms(), unit=" arms"):
        if name in done:
            continue
        done[name], model = run_arm(bench, **arm)
        if name.startswith(f"preference {SHIPPED} "):
            done[f"extras {arm['seed']}"] = extras(bench, model)
            if arm["seed"] == 0:
                ship(bench, model, arm["count"], done[name]["seconds"], done[name])
        if not args.ship:
            PARTIAL.write_text(json.dumps(done), encoding="utf-8")
    if not args.ship:
        finish(bench, done)


def finish(bench, done):
    """Write the record once all arms are done."""
    done["density ratio error"] = density_ratio_error(bench)
    results = {
        "arms": done,
        "sizes": SIZES,
        "kind sizes": KIND_SIZES,
        "knob": KNOB,
        "knob size": KNOB_SIZE,
        "offsets": OFFSETS,
        "default": DEFAULT,
        "shipped": SHIPPED,
        "choices": CHOICES,
        "rationality": bench.scholar.rationality,
        "spread": bench.spread,
        "held out": {p: len(r) for p, r in bench.held_out.items()},
        "claims": claims_of(done),
    }
    write_record("rewards", results, "python data/measure_rewards.py", list(SEEDS))
    PARTIAL.unlink()
    print(f"wrote data/runs/rewards.json; labels are remade from {FOLDER / 'annotators.toml'}")


if __name__ == "__main__":
    main()
