"""Train and measure every policy of notebooks 04 and 05; record them in data/runs.

    python data/measure_ppo.py            # about 75 minutes on two cores: data/runs/ppo.json
    python data/measure_ppo.py --pool     # about 18 minutes: data/runs/pool.npz, the base samples
    python data/measure_ppo.py --only sweep-0.54-0     # train one arm again and print it

Killed? The same command goes on: each finished arm lies in data/runs/my-ppo until all are done. As
many arms run side by side as there are cores, one thread each. Every policy starts from
data/models/base, is scored by data/models/reward, and is measured on fresh samples of the 84
training prompts.
"""

import argparse
import copy
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context

from rlhf_lite import (
    diversity,
    feedback,
    knowledge,
    models,
    optimum,
    policies,
    ppo,
    records,
    rewards,
    sampling,
)
from rlhf_lite.annotators import Reader, load_annotators
from rlhf_lite.runtime import DATA
from rlhf_lite.world import World, draw_prompts

import numpy as np
import torch
from scipy.stats import spearmanr
from tqdm import tqdm

COEFS = (2.0, 1.3, 0.9, 0.54, 0.35, 0.24, 0.1, 0.04)  # and 0, for fewer steps
SEEDS = (0, 1, 2)
MIDDLE = 0.54
JUDGED = (0.9, MIDDLE, 0.24)  # pi* stands at about 0.5, 1 and 2 nats
DIALS = {"steps": 30, "lr": 1e-4}
PEOPLE = ("scholar", "gossip", "poet", "zealot", "salesman")
FAULTS = ("flipped sign", "score at the padding", "shifted by one", "filtered", "wild rate")
ABLATION = {
    "4 x samples": {"samples": 1008},
    "gradient head": {"critic": "head"},
    "lambda 0.95": {"lam": 0.95},
    "exact KL in the loss": {"kl_loss": True},
    "rate x 3": {"lr": 3e-4},
    "4 epochs": {"epochs": 4},
}
CHUNKS, CHUNK = 200, 6  # of the pool: 1,200 samples a prompt
READ = 24  # samples a prompt whose texts are parsed
FIXED = (5, 40, 70)  # prompts whose samples the slider shows
LEAST = 10  # effective samples a prompt; what has fewer is not reported
PARTIAL = DATA / "runs" / "my-ppo"
POOL = DATA / "runs" / "pool.npz"


class Bench:
    """Hold what every arm shares: the world, the models, the prompts."""

    def __init__(self):
        """Load what lies in data."""
        torch.set_num_threads(1)
        self.world = World()
        self.base, self.tokenizer = models.load(DATA / "models" / "base")
        self.reward = rewards.load_reward(DATA / "models" / "reward")[0]
        self.prompts = sorted(set(draw_prompts(self.world, 84)))

    def score(self, texts):
        """Return the shipped reward model's scores."""
        return rewards.score(self.reward, self.tokenizer, texts, batch=64)

    def voices(self, texts):
        """Return the likeliest voice of P lists of texts as ones and zeros, (P, K, V)."""
        read = np.array([[self.world.parse(t).voices for t in row] for row in texts])
        return (read == read.max(-1, keepdims=True)) * (read > 0.5).astype(float)

    def gold(self, name):
        """Return an annotator's own utility as a score, normalised on base samples."""
        person, read = load_annotators(self.world)[name], Reader(self.world)

        def utility(texts):
            return torch.tensor([person.utility(read(t)) for t in texts])

        sample = self.draw(self.base, utility, 6, 8).scores
        return lambda texts: (utility(texts) - sample.mean()) / sample.std()

    def coins(self, seed):
        """Return the score of a reward model that was trained on coin tosses."""
        rng = np.random.default_rng(50_000 + seed)
        labels = feedback.read(DATA / "feedback" / "preferences.jsonl").records[:2000]
        rows = [
            ((pair[::-1] if rng.random() < 0.5 else pair), tie)
            for pair, tie in rewards.examples("preference", labels)
        ]
        config = rewards.RewardConfig(passes=1, seed=seed)
        run = rewards.RewardRun(self.base, self.tokenizer, "preference", rows, config)
        for _ in run:
            pass
        model = run.reward_model()
        texts = [t for row in self.draw(self.base, self.score, 6, 8).texts for t in row]
        rewards.normalise(model, self.tokenizer, texts)
        return lambda texts: rewards.score(model, self.tokenizer, texts, batch=64)

    def draw(self, policy, score, count, seed):
        """Draw fresh samples to every prompt."""
        return policies.draw(policy, self.base, self.tokenizer, self.prompts, score, count, seed)


@cache
def bench():
    """Return this process's Bench."""
    return Bench()


# ---- the arms ----


def arms():
    """List every arm as {name: arguments of `run_arm`}."""
    found = {"base-0": {"dials": {"kl_coef": MIDDLE, "seed": 0}, "train": False}}
    for seed in SEEDS:
        for coef in COEFS:
            found[f"sweep-{coef}-{seed}"] = {"dials": {"kl_coef": coef, "seed": seed}}
        found[f"sweep-0-{seed}"] = {"dials": {"kl_coef": 0.0, "seed": seed, "steps": 16}}
        short = {"kl_coef": MIDDLE, "seed": seed, "steps": 10}
        found[f"constant-{seed}"] = {"dials": short, "score": "constant"}
        found[f"coins-{seed}"] = {"dials": short, "score": f"coins {seed}"}
    for name, change in ABLATION.items():
        found[f"ablation-{name}-0"] = {"dials": {"kl_coef": MIDDLE, "seed": 0} | change}
    for name in PEOPLE:
        dials = {"kl_coef": 0.35, "seed": 0, "steps": 14}
        found[f"person-{name}-0"] = {"dials": dials, "score": f"gold {name}"}
    for start in (2.0, 0.05):
        dials = {"kl_coef": start, "seed": 0, "target_kl": 1.0, "horizon": 800}
        found[f"adaptive-{start}-0"] = {"dials": dials}
    for name in (None, *FAULTS):
        dials = {"kl_coef": MIDDLE, "seed": 0, "steps": 12}
        found[f"fault-{name or 'none'}-0"] = {"dials": dials, "fault": name}
    return found


class Faulty(ppo.PPORun):
    """Be a run with one planted fault."""

    fault = None

    def _read(self, rollout):
        """Read the batch; shift the log-probabilities of the reference by one token."""
        super()._read(rollout)
        if self.fault == "shifted by one":
            rollout.ref_logprobs = rollout.ref_logprobs.roll(1, 1) * rollout.real

    def rollout(self):
        """Draw a batch; let the score fall on the padding, or drop rare tokens while sampling."""
        plain = sampling._draw
        if self.fault == "filtered":

            def filtered(probs, generator):
                least = probs.topk(4).values[:, -1:]
                return plain(probs.where(probs >= least, 0), generator)

            sampling._draw = filtered
        try:
            batch = super().rollout()
        finally:
            sampling._draw = plain
        return batch

    def update(self, rollout):
        """Update; forget the score, which a reward at the padding never delivers."""
        if self.fault == "score at the padding":
            seen = rollout.scores
            rollout.scores = torch.zeros_like(seen)
            info = super().update(rollout)
            rollout.scores = seen
            return info
        return super().update(rollout)


def new_run(dials, score="model", fault=None, train=True):
    """Return the run of an arm, its policy untrained.

    One that is not to train has no steps left.
    """
    own, dials = bench(), DIALS | dials
    if fault == "flipped sign":
        dials["kl_coef"] *= -1
    if fault == "wild rate":
        dials["lr"] = 3e-3
    kind, _, which = score.partition(" ")
    scores = {
        "model": lambda: own.score,
        "constant": lambda: lambda texts: torch.zeros(len(texts)),
        "coins": lambda: own.coins(int(which)),
        "gold": lambda: own.gold(which),
    }
    run = Faulty(
        copy.deepcopy(own.base), own.base, own.tokenizer, own.prompts, scores[kind](),
        ppo.PPOConfig(**dials),
    )  # fmt: skip
    run.fault, run.step = fault, 0 if train else run.config.steps
    return run


def run_arm(name, arm):
    """Train and measure one arm; write its numbers to PARTIAL / NAME.json."""
    start, run, stopped = time.perf_counter(), new_run(**arm), ""
    try:
        for _ in run:
            pass
    except policies.PolicyError as error:
        stopped = str(error)
    seconds = time.perf_counter() - start
    judged = name.startswith("sweep") and run.config.kl_coef in JUDGED
    count = 60 if judged else READ
    found = {
        "dials": arm["dials"],
        "seconds": round(seconds, 1),
        "stopped": stopped,
        "history": [tidy(s.numbers()) for s in run.history],
    }
    if not name.startswith("fault"):
        found |= measure(
            run, run.policy, count, diverse=name.startswith(("sweep", "constant", "base"))
        )
    if name.startswith("person"):
        found["best shares"] = gold_shares(run)
    found["examples"] = [list(s.texts[:3]) for s in run.history[:: max(1, len(run.history) - 1)]]
    if not name.startswith(("fault", "sweep-0-0")):
        del found["examples"]
    PARTIAL.mkdir(exist_ok=True)
    (PARTIAL / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")
    return name, found


def tidy(numbers, digits=4):
    """Round the numbers of a step."""
    return {k: round(v, digits) if isinstance(v, float) else v for k, v in numbers.items()}


# ---- the ruler ----


def measure(run, policy, count=READ, seed=777, diverse=True):
    """Return what fresh samples of a policy say of it."""
    own = bench()
    drawn = own.draw(policy, run.score, count, 1000 + seed)
    objective, error = drawn.objective(run.kl_coef)
    read = own.voices([row[:READ] for row in drawn.texts])
    lengths = [len(t.split()) for row in drawn.texts for t in row]
    found = {
        "objective": objective, "objective_se": error, "score": float(drawn.scores.mean()),
        "kl": drawn.kl(), "n": count * len(drawn.texts), "kl_coef": run.kl_coef,
        "words": float(np.mean(lengths)),
        "shares": tidy_list(diversity.voice_shares(read).mean(0)),
        "fixed prompts": [drawn.texts[i][k] for i in FIXED for k in (0, 1)],
    }  # fmt: skip
    return found | (diverse_numbers(drawn, read, policy) if diverse else {})


def tidy_list(values):
    """Round an array for the record."""
    return [round(float(v), 5) for v in values]


def diverse_numbers(drawn, read, policy):
    """Return entropies by the chain rule, n-gram scores, Vendi, per prompt and across prompts."""
    own = bench()
    logprobs = drawn.logprobs[:, :READ].numpy()
    split = diversity.sequence_entropy(logprobs, read, correct=True)
    inside, error = diversity.within_voice_entropy(logprobs, read, shares=base_shares())
    texts = [row[:16] for row in drawn.texts]
    ids = [own.tokenizer(row)["input_ids"] for row in texts]
    few = [row[:4] for row in texts[::4]]
    vocabulary = len(own.tokenizer)

    def spread(tokens):
        return diversity.ead(tokens, vocabulary)

    def alike(texts):
        return diversity.self_bleu(texts)

    return {
        "entropies": {k: [round(x, 4) for x in v] for k, v in split.items()},
        "within": [[round(float(x), 4) for x in row] for row in (inside, error)],
        "EAD": [diversity.per_prompt(spread, ids), diversity.across_prompts(spread, ids)],
        "self-BLEU": [diversity.per_prompt(alike, texts), diversity.across_prompts(alike, few)],
        "Vendi": [
            diversity.per_prompt(diversity.vendi, texts),
            diversity.across_prompts(diversity.vendi, [row[:4] for row in texts]),
        ],
        "tasks": two_tasks(policy),
    }


def two_tasks(policy):
    """Compare what a policy knows with what it can make up: facts asked for, heroes told of."""
    own = bench()
    known = [p for p in own.world.people if p.exposure >= 500][::3]
    counts = records.read_record("exposures")["results"]
    asked = knowledge.recall(policy, own.tokenizer, own.world, known, counts)
    heroes = [f"The hero {p.name}" for p in known[:4]]
    told = sampling.sample(policy, own.tokenizer, heroes * 50, 48, seed=3, batch=200)
    texts = sampling.responses_cut(told, own.tokenizer)[0]
    return {
        "fact": float(np.mean([row["truth"] for row in asked])),
        "fact said": float(np.mean([row["hit"] for row in asked])),
        "openings": diversity.coverage(texts, own.world, 200),
        "hero entropy": float(-told.logprobs.sum(1).mean()),
        "hero shares": tidy_list(own.voices([texts])[0].mean(0)),
        "hero texts": texts[:3],
    }


def gold_shares(run):
    """Return the shares of voices under pi* of an annotator's utility, from base samples."""
    own = bench()
    drawn = own.draw(own.base, run.score, READ, 4242)
    weights = optimum.weights(drawn.scores.numpy(), run.kl_coef)
    return tidy_list(diversity.voice_shares(own.voices(drawn.texts), weights).mean(0))


@cache
def base_shares():
    """Return the base model's voice shares (P, V + 1), from the pool."""
    return optimum.Pool.read(POOL).voices.mean(1)


# ---- the pool of base samples ----


def make_pool():
    """Draw CHUNKS x CHUNK base samples a prompt; write scores, log-probabilities and voices."""
    folder = DATA / "runs" / "my-pool"
    folder.mkdir(exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as workers:
        jobs = [workers.submit(pool_chunk, c) for c in range(CHUNKS)]
        parts = [np.load(job.result()) for job in tqdm(jobs, unit=" chunks")]
    joined = {k: np.concatenate([p[k] for p in parts], axis=1) for k in parts[0]}
    names = {"prompts": np.array(bench().prompts), "world": np.array(feedback.fingerprint())}
    np.savez_compressed(
        POOL,
        scores=joined["scores"].astype(np.float32),
        logprobs=joined["logprobs"].astype(np.float16),
        voices=joined["voices"].astype(np.uint8),
        **names,
    )


def pool_chunk(number):
    """Draw one chunk of the pool, unless it is there; return its path."""
    path = DATA / "runs" / "my-pool" / f"{number:04d}.npz"
    if not path.exists():
        own = bench()
        drawn = own.draw(own.base, own.score, CHUNK, 10_000 + number)
        voices = own.voices(drawn.texts)
        likeliest = np.where(voices.any(-1), voices.argmax(-1), voices.shape[-1])
        np.savez(path, scores=drawn.scores, logprobs=drawn.logprobs, voices=likeliest)
    return path


# ---- the record ----


def best_numbers(pool, kl_coef):
    """Return what base samples say of pi* at kl_coef, in the words of `measure`."""
    best = pool.at(kl_coef, LEAST)
    logprobs, weights = pool.tilted(kl_coef)
    split = diversity.sequence_entropy(logprobs, pool.voices[..., :-1], weights)
    inside = diversity.within_voice_entropy(
        logprobs, pool.voices[..., :-1], weights, shares=base_shares()
    )
    return {
        "objective": best.objective, "objective_se": best.objective_se, "score": best.score,
        "kl": best.kl, "kl_se": best.kl_se, "ess": float(best.ess.min()),
        "base_score": best.base_score, "shares": tidy_list(best.features.mean(0)),
        "entropies": {k: [round(x, 4) for x in v] for k, v in split.items()},
        "within": [[round(float(x), 4) for x in row] for row in inside],
    }  # fmt: skip


def base_numbers(pool):
    """Return entropies of the base model, from the pool."""
    split = diversity.sequence_entropy(pool.logprobs, pool.voices[..., :-1])
    inside = diversity.within_voice_entropy(pool.logprobs, pool.voices[..., :-1])
    return {
        "score": float(pool.scores.mean()), "shares": tidy_list(base_shares().mean(0)),
        "entropies": {k: [round(x, 4) for x in v] for k, v in split.items()},
        "within": [[round(float(x), 4) for x in row] for row in inside],
    }  # fmt: skip


def claims_of(done, best, base):
    """Return the statistics that data/claims.toml asks for, one value a seed."""
    scholar = bench().world.voices.index("encyclopedia")
    strict, loose = 0.24, COEFS[0]

    def get(name, *keys):
        found = [done[f"{name}-{s}"] for s in SEEDS]
        for key in keys:
            found = [f[key] for f in found]
        return found

    def order(key):
        coefs = [*COEFS, 0]
        columns = [get(f"sweep-{c}", "entropies", key, 0) for c in coefs]
        return [float(spearmanr(coefs, column).statistic) for column in zip(*columns)]

    def drop(*keys):
        return [1 - b / a for a, b in zip(get(f"sweep-{loose}", *keys),
                                          get(f"sweep-{strict}", *keys))]  # fmt: skip

    def less(left, right):
        return [a - b for a, b in zip(left, right)]

    shares = {
        c: [
            (j - base["score"]) / (best[c]["objective"] - base["score"])
            for j in get(f"sweep-{c}", "objective")
        ]
        for c in best
    }
    return {f"share of the gain at {c}": shares[c] for c in JUDGED} | {
        "largest share of the gain": [max(v[i] for v in shares.values()) for i in range(3)],
        "order of H(voice) with kl_coef": order("H(voice)"),
        "order of H(text) with kl_coef": order("H(text)"),
        "H(voice) lost, constant reward": less(
            [base["entropies"]["H(voice)"][0]] * 3, get("constant", "entropies", "H(voice)", 0)
        ),
        "excess collapse": less(
            [best[MIDDLE]["within"][0][scholar]] * 3,
            get(f"sweep-{MIDDLE}", "within", 0, scholar),
        ),
        "excess collapse, constant reward": less(
            [base["within"][0][scholar]] * 3, get("constant", "within", 0, scholar)
        ),
        "EAD lost per prompt - across prompts": less(drop("EAD", 0), drop("EAD", 1)),
        "openings lost - facts lost": less(drop("tasks", "openings"), drop("tasks", "fact")),
        "encyclopedia gained, coin labels": less(
            get("coins", "shares", scholar), [base["shares"][scholar]] * 3
        ),
        "annotators whose voice was found": [
            float(sum(np.argmax(a["shares"]) == np.argmax(a["best shares"]) for a in (
                done[f"person-{p}-0"] for p in PEOPLE)))
        ],
        "adaptive KL": [
            float(np.mean([s["kl"] for s in done[f"adaptive-{c}-0"]["history"][-5:]]))
            for c in (2.0, 0.05)
        ],
    }  # fmt: skip


def finish(done):
    """Write the record once all arms are done."""
    pool = optimum.Pool.read(POOL)
    best = {c: best_numbers(pool, c) for c in COEFS if optimum.ess(pool.scores, c).min() >= LEAST}
    base = base_numbers(pool)
    results = {
        "arms": done, "best": {str(c): b for c, b in best.items()}, "base": base,
        "coefs": COEFS, "middle": MIDDLE, "ablation": list(ABLATION), "faults": FAULTS,
        "people": PEOPLE, "fixed prompts": [bench().prompts[i] for i in FIXED],
        "claims": claims_of(done, best, base),
    }  # fmt: skip
    records.write_record("ppo", results, "python data/measure_ppo.py", list(SEEDS))
    print("wrote data/runs/ppo.json")


def main():
    records.plain_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pool", action="store_true", help="draw the base samples again")
    parser.add_argument("--only", help="train one arm and print what was found")
    args = parser.parse_args()
    if args.pool:
        return make_pool()
    if args.only:
        return print(json.dumps(run_arm(args.only, arms()[args.only])[1], indent=1))
    done = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in PARTIAL.glob("*.json")}
    todo = {name: arm for name, arm in arms().items() if name not in done}
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as workers:
        jobs = [workers.submit(run_arm, name, arm) for name, arm in todo.items()]
        for job in tqdm(as_completed(jobs), total=len(jobs), unit=" arms"):
            name, done[name] = job.result()
    finish({name: done[name] for name in arms()})


if __name__ == "__main__":
    main()
