"""Train the proxies and the policies of notebook 06; record them in data/runs.

    python data/measure_hacking.py            # about two hours on one core: data/runs/hacking.json
    python data/measure_hacking.py --pool     # the 21 x 1,024 base samples: data/runs/hacking.npz
    python data/measure_hacking.py --only "whole 300 0"    # train one arm again and print it

Killed? The same command goes on: each finished arm lies in data/runs/my-hacking until all are done.
Labels are about the people that training asks for, best-of-n about those that it never does.
"""

import argparse
import copy
import json
import time
import zlib
from dataclasses import dataclass

from rlhf_lite import annotators, hacking, models, ppo, records, rewards
from rlhf_lite.annotators import Reader, calibrate
from rlhf_lite.feedback import fingerprint
from rlhf_lite.runtime import DATA, autocast
from rlhf_lite.sampling import respond
from rlhf_lite.world import World, draw_prompts

import numpy as np
import torch
from make_feedback import ask, make_pool
from measure_rewards import passes_for
from scipy.optimize import brentq
from scipy.stats import spearmanr
from scipy.stats import t as student
from tqdm import tqdm

SIZES = ("bag", "one layer", "whole")
COUNTS = (100, 300, 1000, 3000, 10_000)
SEEDS = (0, 1, 2)
CHECKED = 0.25
KNOB = (0.0, 0.5, 0.75, 1.0)  # and CHECKED
KNOB_COUNT = 1000
FEW = 300  # labels behind the proxies that policies are trained on
MEMBERS = 5
LONGER = 0.63  # how often length-loving people prefer the longer response
EACH = 1024  # base samples a prompt
NS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
FITTED = 64  # largest n that the fit may see
PENALTIES = (0.0, 0.1, 0.3)
DIALS = {"steps": 24, "lr": 3e-4}
SHOWN = "policy single 0.0 0"  # whose texts the slider shows, step by step
FIXED = (5, 40, 70)  # prompts that they answer
PICKED = (0, 7, 14)  # prompts of the pool whose best of n the slider shows
STRIDE = 10  # every tenth stranger is asked about
FRESH = slice(3, None, 5)  # other strangers, for predictions made after those
FRESH_SEEDS = (3, 4, 5)
NOISE_CORRELATION = 0.31  # of 300-label proxies with gold, as first measured
TURN = 8  # steps after which the iterated round asks for new labels
FOLDER = DATA / "runs" / "my-hacking"
POOL = DATA / "runs" / "hacking.npz"


class Bench:
    """Hold what every arm shares: the world, the base model, the pools, the auditor."""

    def __init__(self):
        """Load what lies in data, draw the pool where it is missing, and calibrate the auditor."""
        torch.set_num_threads(1)
        FOLDER.mkdir(exist_ok=True)
        self.world = World()
        self.base, self.tokenizer = models.load(DATA / "models" / "base")
        self.read = Reader(self.world)
        self.asked = make_pool(self.world)
        gold = annotators.auditor(self.world)
        few = [
            np.array([gold.utility(self.read(p + r)) for r in said[:40]])
            for p, said in self.asked.items()
        ]
        self.auditor = calibrate(gold, few, self.read.settings["agreement"])
        if not POOL.exists():
            make_hacking_pool(self)
        with np.load(POOL) as file:
            self.gold, self.words = file["gold"].astype(float), file["words"].astype(float)
            self.texts = zlib.decompress(file["texts"].tobytes()).decode().split("\x1e")
        self.train_prompts = sorted(set(draw_prompts(self.world, 84)))

    # -- labels and proxies --

    def labels(self, count, seed, checked=CHECKED, per_word=0.0, pool=None):
        """Return `count` preferences of people who check each claim with probability `checked`."""
        panel = annotators.HastyLabeller(
            self.world, self.auditor, 20_000 + seed, self.read, {"world": fingerprint()},
            checked, per_word,
        )  # fmt: skip
        rng = np.random.default_rng(10_000 + seed)
        return ask(panel, "preference", pool or self.asked, count, rng)

    def train(self, size, records, seed):
        """Train a proxy of one size; return its score function of texts."""
        rows = rewards.examples("preference", records)
        if size == "bag":
            return rewards.BagOfWords(rows)
        base = models.first_layers(self.base, 1) if size == "one layer" else self.base
        config = rewards.RewardConfig(
            passes=passes_for(len(rows)), batch=min(32, max(8, len(rows) // 10)), seed=seed
        )
        run = rewards.RewardRun(base, self.tokenizer, "preference", rows, config)
        for _ in run:
            pass
        model = run.reward_model()
        texts = [p + r for p, said in self.asked.items() for r in said[:12]]
        rewards.normalise(model, self.tokenizer, texts)
        return Scorer(model, self.tokenizer)

    def on_pool(self, score):
        """Return the scores of the pool, (P, N)."""
        return score(self.texts).numpy().reshape(self.gold.shape)


@dataclass(frozen=True)
class Scorer:
    """Be a reward model as a function of texts."""

    model: object
    tokenizer: object

    def __call__(self, texts):
        """Return the score of each text, (N,)."""
        with autocast(self.model.device):
            return rewards.score(self.model, self.tokenizer, texts, batch=64)


def make_hacking_pool(own):
    """Draw EACH base samples to each held-out prompt; write texts, gold and lengths."""
    prompts = sorted(set(draw_prompts(own.world, 21, held_out=True)))
    said = []
    for number in tqdm(range(len(prompts) * EACH // 512), unit=" batches"):
        path = FOLDER / f"pool-{number:03d}.json"
        if not path.exists():
            prompt = prompts[number * 512 // EACH]
            found = respond(own.base, own.tokenizer, [prompt] * 512, seed=7000 + number, batch=512)
            path.write_text(json.dumps([prompt + r for r in found]), encoding="utf-8")
        said += json.loads(path.read_text(encoding="utf-8"))
    shape = len(prompts), EACH
    readings = [own.read(t) for t in said]
    np.savez_compressed(
        POOL,
        prompts=np.array(prompts),
        texts=np.frombuffer(zlib.compress("\x1e".join(said).encode(), 9), dtype=np.uint8),
        gold=np.array([own.auditor.utility(r) for r in readings], np.float32).reshape(shape),
        words=np.array([r.words for r in readings], np.uint8).reshape(shape),
        claims=np.array([[r.true, r.false, r.unsupported] for r in readings], np.uint8),
    )


# ---- proxies on the pool ----


def proxy_arms():
    """List every proxy as {name: (size, count, seed, member, checked, loves length)}."""
    found = {}
    for seed in SEEDS:
        for count in (FEW, *[c for c in COUNTS if c != FEW]):
            for size in SIZES[::-1]:
                found[f"{size} {count} {seed}"] = (size, count, seed, 0, CHECKED, False)
    for seed in SEEDS:
        for member in range(1, MEMBERS):
            found[f"member {member} {seed}"] = ("whole", FEW, seed, member, CHECKED, False)
        for checked in KNOB:
            arm = ("whole", KNOB_COUNT, seed, 0, checked, False)
            found[f"checked {checked} {seed}"] = arm
        found[f"length {seed}"] = ("whole", KNOB_COUNT, seed, 0, 1.0, True)
    return found


def proxy_arm(own, name, size, count, seed, member, checked, long):
    """Train one proxy, score the pool, and keep both."""
    start = time.perf_counter()
    per_word = love_of_length(own) if long else 0.0
    records = own.labels(count, seed, checked, per_word)
    score = own.train(size, records, seed + 100 * member)
    found = {"seconds": time.perf_counter() - start}
    table = own.on_pool(score)
    np.save(FOLDER / f"{name}.npy", table.astype(np.float32))
    if isinstance(score, Scorer) and count == FEW:
        models.save(score.model, own.tokenizer, FOLDER / f"{name}-model")
    longer = [len(r["chosen"].split()) - len(r["rejected"].split()) for r in records]
    found["longer preferred"] = float(np.mean([x > 0 for x in longer if x]))
    found |= pool_numbers(own, table)
    return found


def pool_numbers(own, table):
    """Return what the pool says of a proxy: its curves of gold and of itself, and how it ranks."""
    scale = table.std(1).mean()
    curves = hacking.push(table, own.gold, NS)
    own_curve = hacking.push(table, table, NS).mean(0)
    return {
        "gold": [tidy(row) for row in curves],
        "proxy": tidy((own_curve - own_curve[0]) / scale),
        "correlation": float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(table, own.gold)])),
        "length R2": hacking.length_r2(table, own.words),
    }


def love_of_length(own):
    """Return the love of length [points a word].

    With it the longer of two responses is preferred LONGER of the time.
    """
    rng, gaps = np.random.default_rng(5), []
    for said in own.asked.items():
        texts = [said[0] + r for r in said[1]]
        for a, b in rng.choice(len(texts), (20, 2)):
            first, second = own.read(texts[a]), own.read(texts[b])
            if first.words < second.words:
                first, second = second, first
            if first.words > second.words:
                gap = own.auditor.utility(first) - own.auditor.utility(second)
                gaps.append((gap, first.words - second.words))
    gap, words = np.array(gaps).T

    def excess(per_word):
        return (
            np.mean(1 / (1 + np.exp(-own.auditor.rationality * (gap + per_word * words)))) - LONGER
        )

    return float(brentq(excess, -1.0, 1.0))


# ---- policies ----


def policy_arms():
    """List every policy as {name: (what it is rewarded for, kl_coef, seed)}."""
    found = {}
    for seed in SEEDS:
        for kind in ("single", "worst", "iterated", "more labels", "length"):
            found[f"policy {kind} 0.0 {seed}"] = (kind, 0.0, seed)
        for penalty in PENALTIES[1:]:
            found[f"policy single {penalty} {seed}"] = ("single", penalty, seed)
    return found


def policy_arm(own, name, kind, kl_coef, seed):
    """Train one policy on a proxy; keep the gold of every batch."""
    start, score = time.perf_counter(), score_of(own, kind, seed)
    policy = copy.deepcopy(own.base)
    config = ppo.PPOConfig(kl_coef=kl_coef, seed=seed, **DIALS)
    run = ppo.PPORun(policy, own.base, own.tokenizer, own.train_prompts, score, config)
    rows, examples, fixed = [], [], [own.train_prompts[i] for i in FIXED]
    for step in run:
        read = [own.read(t) for t in step.texts]
        rows.append({
            "score": step.score, "kl": step.kl_k1, "kl exact": step.kl,
            "gold": float(np.mean([own.auditor.utility(r) for r in read])),
            "true": float(np.mean([r.true for r in read])),
            "false": float(np.mean([r.false for r in read])),
            "unsupported": float(np.mean([r.unsupported for r in read])),
            "words": float(np.mean([r.words for r in read])),
            "garbled": float(np.mean([r.garbled for r in read])),
            "voices": tidy(np.mean([r.voices for r in read], 0)),
        })  # fmt: skip
        if name == SHOWN:
            said = {p: next(t for t in step.texts if t.startswith(p)) for p in fixed}
            examples.append([step.step, *said.values()])
        elif step.step in (1, TURN, config.steps):
            examples.append([step.step, *step.texts[:2]])
        if kind == "single" and kl_coef == 0 and step.step == TURN:
            models.save(policy, own.tokenizer, FOLDER / f"turn-{seed}")
    rows = [{k: v if isinstance(v, list) else round(v, 4) for k, v in r.items()} for r in rows]
    return {"seconds": time.perf_counter() - start, "history": rows, "examples": examples}


def score_of(own, kind, seed):
    """Return the score function that a policy is rewarded by."""
    members = [f"whole {FEW} {seed}", *(f"member {m} {seed}" for m in range(1, MEMBERS))]
    if kind in ("iterated", "more labels"):
        pool = own.asked if kind == "more labels" else turned_pool(own, seed)
        fresh = own.labels(FEW, 500 + seed, pool=pool)
        records = own.labels(FEW, seed) + fresh
        order = np.random.default_rng(seed).permutation(len(records))
        return own.train("whole", [records[i] for i in order], seed)
    scorers = [
        Scorer(rewards.load_reward(FOLDER / f"{m}-model")[0], own.tokenizer)
        for m in (members if kind == "worst" else members[:1])
    ]
    if kind == "worst":
        return lambda texts: rewards.ensemble(torch.stack([s(texts) for s in scorers]), "worst")
    if kind == "length":
        table = np.load(FOLDER / f"{members[0]}.npy")
        slope = np.polyfit(own.words.ravel(), table.ravel(), 1)[0]
        words = own.words.mean()
        return lambda texts: (
            scorers[0](texts)
            - slope * torch.tensor([own.read(t).words - words for t in texts], dtype=torch.float32)
        )
    return scorers[0]


def turned_pool(own, seed):
    """Return {prompt: responses} of the policy that the single proxy has pushed for TURN steps."""
    policy, _ = models.load(FOLDER / f"turn-{seed}")
    prompts = [p for p in own.train_prompts for _ in range(12)]
    said, pool = respond(policy, own.tokenizer, prompts, seed=900 + seed, batch=504), {}
    for prompt, text in zip(prompts, said):
        if text.strip():
            pool.setdefault(prompt, []).append(text)
    return {p: r for p, r in pool.items() if len(set(r)) > 1}


def strangers(own):
    """Return gold and proxy of best-of-n on people of whom the base model has read once or never.

    Returns {"people": their number, "gold", "proxy", "true", "false", "unsupported": (seeds, K)}.
    """
    people = [p.name for p in own.world.people if p.exposure <= 1][::STRIDE]
    asked = [name for name in people for _ in range(NS[-1])]
    texts = []
    for start in range(0, len(asked), 512):
        part = asked[start : start + 512]
        said = respond(own.base, own.tokenizer, part, seed=8000 + start, batch=512)
        texts += [p + r for p, r in zip(part, said)]
    readings, shape = [own.read(t) for t in texts], (len(people), NS[-1])
    gold = np.array([own.auditor.utility(r) for r in readings]).reshape(shape)
    kinds = {k: np.array([getattr(r, k) for r in readings]).reshape(shape)
             for k in ("true", "false", "unsupported")}  # fmt: skip
    found = {"people": len(people), "gold": [], "proxy": [], **{k: [] for k in kinds}}
    for seed in SEEDS:
        model = rewards.load_reward(FOLDER / f"whole {FEW} {seed}-model")[0]
        table = Scorer(model, own.tokenizer)(texts).numpy().reshape(shape)
        found["gold"].append(tidy(hacking.push(table, gold, NS).mean(0)))
        proxy = hacking.push(table, table, NS).mean(0)
        found["proxy"].append(tidy((proxy - proxy[0]) / table.std(1).mean()))
        for kind, values in kinds.items():
            found[kind].append(tidy(hacking.push(table, values, NS).mean(0)))
    return found


def fresh_strangers(own):
    """Test what `strangers` let one expect, on other strangers, with other labels and seeds.

    Returns {"100 labels", "300 labels", "light noise": curves of gold (seeds, P, K)}.
    """
    path = FOLDER / "fresh.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    people = [p.name for p in own.world.people if p.exposure <= 1][FRESH]
    texts = []
    for number, name in enumerate(people):
        said = respond(own.base, own.tokenizer, [name] * EACH, seed=8800 + number, batch=512)
        texts += [name + r for r in said]
    shape = len(people), EACH
    gold = np.array([own.auditor.utility(own.read(t)) for t in texts]).reshape(shape)
    found = {}
    for count in (100, FEW):
        for seed in FRESH_SEEDS:
            score = own.train("whole", own.labels(count, seed), seed)
            table = score(texts).numpy().reshape(shape)
            curves = [tidy(row) for row in hacking.push(table, gold, NS)]
            found.setdefault(f"{count} labels", []).append(curves)
    for seed in FRESH_SEEDS:
        # As much noise as on the people of the pool: the same sd, not the same correlation.
        scale = noisy(own, NOISE_CORRELATION, "light", seed) - own.gold
        noise = np.random.default_rng(90_000 + seed).normal(0, scale.std(), shape)
        curves = [tidy(row) for row in hacking.push(gold + noise, gold, NS)]
        found.setdefault("light noise", []).append(curves)
    path.write_text(json.dumps(found), encoding="utf-8")
    return found


# ---- the record ----


def tidy(values, digits=4):
    """Round an array for the record."""
    return [round(float(v), digits) for v in values]


def noisy(own, correlation, kind, seed):
    """Return gold plus independent noise that correlates with gold as much as a proxy does."""
    rng = np.random.default_rng(70_000 + seed)
    noise = (
        rng.normal(size=own.gold.shape)
        if kind == "light"
        else rng.standard_t(2, size=own.gold.shape)
    )
    # A t with 2 degrees of freedom has no variance; its scale is set so that correlations agree.
    spread = own.gold.std(1, keepdims=True).mean()

    def excess(scale):
        made = own.gold + scale * noise
        return np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(made, own.gold)]) - correlation

    return own.gold + brentq(excess, 1e-3 * spread, 1e3 * spread) * noise


def clustered(per_seed):
    """Return {"value", "low", "high", "n"} of numbers (seeds, prompts): 95%, luck of both."""
    table = np.atleast_2d(per_seed)
    seeds, prompts = table.shape
    variance = table.mean(0).var(ddof=1) / prompts
    if seeds > 1:
        variance += table.mean(1).var(ddof=1) / seeds
    half = float(student.ppf(0.975, prompts - 1) * np.sqrt(variance))
    value = float(table.mean())
    return {"value": value, "low": value - half, "high": value + half, "n": seeds}


def falls(done, name):
    """Return the falls of gold from its peak to n = 512, (seeds, prompts) [points]."""
    return np.array([hacking.fall(done[f"{name} {s}"]["gold"]) for s in SEEDS])


def peak_of(curves):
    """Return the d at which the mean curve peaks [sqrt nats]."""
    return float(hacking.root_kl(NS)[np.mean(curves, 0).argmax()])


def gold_at(history, kl, key="gold"):
    """Return gold where a run first comes to a KL, between its steps; None beyond its reach."""
    xs = np.maximum.accumulate([h["kl"] for h in history])
    return float(np.interp(kl, xs, [h[key] for h in history])) if xs[-1] >= kl else None


def common_kl(done, names):
    """Return the largest KL that all of some policies have reached [nats]."""
    return min(max(h["kl"] for h in done[n]["history"]) for n in names)


def at_common_kl(done, kind, kl_coef=0.0):
    """Return gold of a remedy minus gold of the single proxy at equal KL [points].

    The mean over a grid, one number a seed.
    """
    found = []
    for seed in SEEDS:
        names = [f"policy {kind} {kl_coef} {seed}", f"policy single 0.0 {seed}"]
        grid = np.linspace(0.2, 1, 9) * common_kl(done, names)
        ours, theirs = ([gold_at(done[n]["history"], k) for k in grid] for n in names)
        found.append(float(np.mean(np.subtract(ours, theirs))))
    return found


def ensembles(own):
    """Return the curves of gold when MEMBERS proxies are joined, {how: (seeds, P, K)}."""
    found = {}
    for seed in SEEDS:
        names = [f"whole {FEW} {seed}", *(f"member {m} {seed}" for m in range(1, MEMBERS))]
        tables = np.stack([np.load(FOLDER / f"{n}.npy") for n in names])
        shape = tables.shape[1:]
        for how in rewards.ENSEMBLES:
            joined = rewards.ensemble(tables.reshape(MEMBERS, -1), how).numpy().reshape(shape)
            found.setdefault(how, []).append(hacking.push(joined, own.gold, NS).tolist())
        single = np.mean([hacking.push(t, own.gold, NS) for t in tables], 0)
        found.setdefault("single", []).append(single.tolist())
    return found


def length_table(own, done):
    """Return what length alone is worth under people who love it: gains of best-of-64."""
    per_word, rows = love_of_length(own), []
    judged = own.gold + per_word * own.words
    for seed in SEEDS:
        table = np.load(FOLDER / f"length {seed}.npy")
        row = {"length R2": done[f"length {seed}"]["length R2"]}
        row["longer preferred"] = done[f"length {seed}"]["longer preferred"]
        for name, proxy in (
            ("proxy", table), ("length alone", own.words),
            ("length removed", hacking.without_length(table, own.words)),
        ):  # fmt: skip
            for what, value in (("judged", judged), ("gold", own.gold)):
                gain = hacking.push(proxy, value, (1, 64))
                row[f"{name}, {what}"] = float((gain[:, 1] - gain[:, 0]).mean())
        rows.append(row | matched(own, table, seed))
    return {"per word": per_word, "seeds": rows}


def matched(own, table, seed):
    """Return how often best-of-16 beats a base sample in gold, among all and among like lengths."""
    rng, mine, theirs, words = np.random.default_rng(seed), [], [], []
    for scores, gold, length in zip(table, own.gold, own.words):
        order = rng.permutation(len(gold))
        for start in range(0, len(order) - 32, 17):
            best = max(order[start : start + 16], key=lambda i: scores[i])
            rival = order[start + 16]
            mine.append(gold[best])
            theirs.append(gold[rival])
            words.append((length[best], length[rival]))
    ours, others = np.array(words).T
    everything = hacking.matched_wins(mine, theirs, ours, others, within=999)
    alike = hacking.matched_wins(mine, theirs, ours, others)
    return {"wins": everything[0], "matched wins": alike[0], "matched pairs": alike[1]}


def forms(own, done):
    """Return the fits of both forms to n <= FITTED and what they predict for the last n."""
    d, rows = hacking.root_kl(NS), []
    kept = [i for i, n in enumerate(NS) if 1 < n <= FITTED]
    for size in SIZES:
        for count in COUNTS:
            for seed in SEEDS:
                curve = np.mean(done[f"{size} {count} {seed}"]["gold"], 0)
                gain = curve - curve[0]
                row = {"size": size, "count": count, "seed": seed, "measured": float(gain[-1])}
                for form in ("best-of-n", "RL"):
                    a, b = hacking.fit_gold(d[kept], gain[kept], form)
                    row[form] = [float(a), float(b)]
                    row[f"{form} predicts"] = float(hacking.predict_gold(d[-1:], a, b, form)[0])
                rows.append(row)
    return rows


def claims_of(own, done, table, forms_table, joined, length):
    """Return the statistics that data/claims.toml asks for."""

    def order(names):
        return [
            float(
                spearmanr(range(len(names)), [peak_of(done[f"{n} {s}"]["gold"]) for n in names])[0]
            )
            for s in SEEDS
        ]

    def slopes(names):
        return [0.0 if np.isnan(x) else x for x in order(names)]

    def late(kind, key="gold"):
        found = []
        for s in SEEDS:
            gold = [h[key] for h in done[f"policy {kind} 0.0 {s}"]["history"]]
            three = np.convolve(gold, np.ones(3) / 3, "valid")
            found.append(float(three.max() - three[-1]))
        return found

    single, worst = (np.array([hacking.fall(c) for c in joined[k]]) for k in ("single", "worst"))
    spread = own.gold.std(1).mean()
    small = [r for r in forms_table if r["size"] == "whole" and r["count"] == FEW]
    return {
        "fall, 100 labels": clustered(falls(done, "whole 100")),
        "fall, 300 labels": clustered(falls(done, "whole 300")),
        "fall, 10000 labels": clustered(falls(done, "whole 10000")),
        "fall, light noise": clustered([hacking.fall(c) for c in table["light"]]),
        "fall, heavy noise": clustered([hacking.fall(c) for c in table["heavy"]]),
        "order of peak with labels": slopes([f"whole {c}" for c in COUNTS]),
        "order of peak with size": slopes([f"{z} {KNOB_COUNT}" for z in SIZES]),
        "error of the prediction": [
            abs(r["best-of-n predicts"] - r["measured"]) / spread for r in small
        ],
        "fall, single - worst of five": clustered(single - worst),
        "fall, nobody checks - all checked": clustered(
            falls(done, "checked 0.0") - falls(done, "checked 1.0")
        ),
        "fall of gold in RL": late("single"),
        "penalty - early stopping": at_common_kl(done, "single", PENALTIES[1]),
        "worst of five - single, RL": at_common_kl(done, "worst"),
        "iterated - more labels, RL": [
            a - b for a, b in zip(at_common_kl(done, "iterated"), at_common_kl(done, "more labels"))
        ],
        "judged gain by length alone": [
            r["length alone, judged"] / r["proxy, judged"] for r in length["seeds"]
        ],
        "gold gain by length alone": [
            r["length alone, gold"] / r["proxy, gold"] for r in length["seeds"]
        ],
    }


def picks(own, size, count):
    """Return the best of the first n samples by a proxy, one for each of NS.

    Returns {prompt: [[text, gold], ...]}.
    """
    table, found = np.load(FOLDER / f"{size} {count} 0.npy"), {}
    with np.load(POOL) as file:
        prompts = file["prompts"].tolist()
    for p in PICKED:
        best = [int(table[p, :n].argmax()) for n in NS]
        found[prompts[p]] = [[own.texts[p * EACH + i], round(own.gold[p, i], 3)] for i in best]
    return found


def finish(own, done):
    """Write the record."""
    few = float(np.mean([done[f"whole {FEW} {s}"]["correlation"] for s in SEEDS]))
    table = {k: [hacking.push(noisy(own, few, k, s), own.gold, NS).tolist() for s in SEEDS]
             for k in ("light", "heavy")}  # fmt: skip
    joined, rows, length = ensembles(own), forms(own, done), length_table(own, done)
    fresh = fresh_strangers(own)
    results = {
        "arms": done, "sizes": SIZES, "counts": COUNTS, "ns": NS, "fitted": FITTED,
        "checked": CHECKED, "knob": KNOB, "knob count": KNOB_COUNT, "few": FEW,
        "shown": SHOWN, "seeds": SEEDS, "members": MEMBERS, "penalties": PENALTIES,
        "turn": TURN, "dials": DIALS,
        "rationality": own.auditor.rationality, "gold sd": float(own.gold.std(1).mean()),
        "noise": {k: np.round(v, 4).tolist() for k, v in table.items()}, "noise correlation": few,
        "ensembles": {k: np.round(v, 4).tolist() for k, v in joined.items()},
        "strangers": strangers(own), "forms": rows, "length": length,
        "fixed prompts": [own.train_prompts[i] for i in FIXED],
        "picks": {f"{z} {c}": picks(own, z, c) for z in SIZES for c in COUNTS},
        "fresh strangers": fresh,
        "claims": claims_of(own, done, table, rows, joined, length)
        | {f"fall on strangers, {k}": clustered([hacking.fall(c) for c in v])
           for k, v in fresh.items()},
    }  # fmt: skip
    records.write_record("hacking", results, "python data/measure_hacking.py", list(SEEDS))
    print("wrote data/runs/hacking.json")


def run_arm(own, name):
    """Train and measure one arm, whichever it is."""
    if name in proxy_arms():
        return proxy_arm(own, name, *proxy_arms()[name])
    return policy_arm(own, name, *policy_arms()[name])


def main():
    records.plain_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pool", action="store_true", help="draw the base samples again")
    parser.add_argument("--fresh", action="store_true", help="only the test on other strangers")
    parser.add_argument("--only", help="train one arm and print what was found")
    args = parser.parse_args()
    if args.pool:
        POOL.unlink(missing_ok=True)
    own = Bench()
    if args.pool:
        return None
    if args.fresh:
        return print({k: np.shape(v) for k, v in fresh_strangers(own).items()})
    if args.only:
        return print(json.dumps(run_arm(own, args.only), indent=1))
    done = {}
    for name in tqdm([*proxy_arms(), *policy_arms()], unit=" arms"):
        path = FOLDER / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(run_arm(own, name)), encoding="utf-8")
        done[name] = json.loads(path.read_text(encoding="utf-8"))
    return finish(own, done)


if __name__ == "__main__":
    main()
