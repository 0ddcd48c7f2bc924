"""What helps against a proxy that PPO hacks, at equal KL?

Each policy is rewarded by reward models from 300 labels of people who check one claim in four:
"single 0.0": one of them, without a KL penalty, and with one of 0.1 or 0.3; "worst": the worst of
five; "length": one without what a line in length explains; "more labels": one from 300 more;
"iterated": 300 more on what the single policy says after eight steps. Two to five minutes an arm.
"""

from functools import partial

from rlhf_lite import models, ppo, proxies
from rlhf_lite.experiments import load
from rlhf_lite.sampling import respond

import numpy as np
import torch

hasty = load("_hasty")
LAB, FEW = hasty.HastyLab, hasty.FEW

SEEDS, MEMBERS = (0, 1, 2), 5
DIALS = {"steps": 24, "lr": 3e-4}
FIXED = (5, 40, 70)  # prompts whose answers by the single policy the slider shows, step by step
TURN = 8  # steps after which the iterated round asks for new labels
ARMS = {
    **{f"{kind} 0.0": {"kind": kind}
       for kind in ("single", "worst", "iterated", "more labels", "length")},
    **{f"single {c}": {"kind": "single", "kl_coef": c} for c in (0.1, 0.3)},
}  # fmt: skip


def measure(lab, seed, kind, kl_coef=0.0):
    """Train one policy on a proxy; return what gold, and what it is made of, did step by step."""
    rows, examples, fixed = [], [], [lab.prompts[i] for i in FIXED]
    shown = (kind, kl_coef, seed) == ("single", 0.0, SEEDS[0])
    for step in run(lab, rewarded(lab, kind, seed), kl_coef, seed):
        read = [lab.read(t) for t in step.texts]
        points = np.array([lab.auditor.points(r) for r in read])
        gold = points.sum(1)
        rows.append({
            "score": step.score, "kl": step.kl_k1, "kl exact": step.kl,
            "gold": gold.mean(), "halves": [gold[::2].mean(), gold[1::2].mean()],
            "terms": points.mean(0),
            **{k: np.mean([getattr(r, k) for r in read])
               for k in ("true", "false", "unsupported", "words", "garbled")},
            "voices": np.mean([r.voices for r in read], 0),
        })  # fmt: skip
        if shown:
            said = dict(zip(step.prompts[::-1], step.texts[::-1]))  # the first to each prompt stays
            examples.append([step.step, *(said[p] for p in fixed)])
        elif step.step in (1, TURN, DIALS["steps"]):
            examples.append([step.step, *step.texts[:2]])
    return {"history": rows, "examples": examples}


def run(lab, reward, kl_coef, seed):
    """Return a run of PPO."""
    config = ppo.PPOConfig(kl_coef=kl_coef, seed=seed, **DIALS)
    return ppo.PPORun(lab.policy(), lab.base, lab.tokenizer, lab.prompts, reward, config)


def rewarded(lab, kind, seed):
    """Return the function of texts that a policy is rewarded by."""
    single = partial(lab.member, seed, 0)
    if kind in ("iterated", "more labels"):
        responses = lab.responses if kind == "more labels" else turned(lab, single(), seed)
        fresh = lab.labels(FEW, 500 + seed, responses=responses)
        labels = lab.labels(FEW, seed) + fresh
        order = np.random.default_rng(seed).permutation(len(labels))
        return lab.train([labels[i] for i in order], seed)
    if kind == "worst":
        members = [lab.member(seed, m) for m in range(MEMBERS)]
        return lambda texts: proxies.ensemble(torch.stack([m(texts) for m in members]), "worst")
    if kind == "length":
        # Of a model as it was trained: once loaded, it reads in other last digits.
        table = lab.table(lab.train(lab.labels(FEW, seed), seed))
        return without_length(lab, single(), table)
    return single()


def without_length(lab, proxy, table):
    """Return a proxy less what a line in length explains of its table."""
    words = lab.pool.words
    slope, mean = np.polyfit(words.ravel(), table.ravel(), 1)[0], words.mean()
    return lambda texts: (
        proxy(texts)
        - slope * torch.tensor([lab.read(t).words - mean for t in texts], dtype=torch.float32)
    )


def turned(lab, proxy, seed):
    """Return {prompt: responses} of the policy that a proxy has pushed for TURN steps."""
    pushed, folder = run(lab, proxy, 0.0, seed), lab.folder / f"turn {seed}"
    next(step for step in pushed if step.step == TURN)
    models.save(pushed.policy, lab.tokenizer, folder)
    policy, responses = models.load(folder)[0], {}
    prompts = [p for p in lab.prompts for _ in range(12)]
    said = respond(policy, lab.tokenizer, prompts, seed=900 + seed, batch=504)
    for prompt, text in zip(prompts, said):
        if text.strip():
            responses.setdefault(prompt, []).append(text)
    return {p: said for p, said in responses.items() if len(set(said)) > 1}


# ---- what predictions are judged by, one number a seed [points] ----


def fall(record, name):
    """Return how far gold falls from its peak to the last step, means over three steps.

    The peak is sought on the other seeds, so that luck makes none where there is none.
    """
    gold = record.arm(name, "history", "gold")
    means = np.array([np.convolve(g, np.ones(3) / 3, "valid") for g in gold])
    peak = (means.sum(0) - means).argmax(1)
    return means[np.arange(len(means)), peak] - means[:, -1]


def more_gold(record, name, than="single 0.0"):
    """Return gold of one arm less that of another at equal KL, the mean over a grid."""
    kls = [np.maximum.accumulate(record.arm(n, "history", "kl"), axis=1) for n in (name, than)]
    golds, found = [record.arm(n, "history", "gold") for n in (name, than)], []
    for (ours, theirs), (mine, yours) in zip(zip(*kls), zip(*golds)):
        grid = np.linspace(0.2, 1, 9) * min(ours[-1], theirs[-1])
        found.append(np.mean(np.interp(grid, ours, mine) - np.interp(grid, theirs, yours)))
    return np.array(found)


def iterated_gap(record):
    """Return what labels on the policy's own texts are worth beyond as many on base samples."""
    return more_gold(record, "iterated 0.0") - more_gold(record, "more labels 0.0")


STATISTICS = {
    "fall of gold in RL": partial(fall, name="single 0.0"),
    "penalty - early stopping": partial(more_gold, name="single 0.1"),
    "worst of five - single, RL": partial(more_gold, name="worst 0.0"),
    "iterated - more labels, RL": iterated_gap,
}


def summary(lab, record):
    """Return the prompts of the slider, and what gold of the pool is like."""
    return {"gold sd": lab.gold.std(1).mean(), "fixed prompts": [lab.prompts[i] for i in FIXED]}
