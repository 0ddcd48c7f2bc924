"""Who prefers a policy that makes things up?

"sft" learns what careful people would have said; "ppo q" goes on from there by a reward model of
people who check a claim with probability q, "ptx q" with documents of the corpus mixed in; "base"
is untrained. All answer the same questions about people whom no training asks for: half of them
told 500 times or more, half fewer than ten times. Two minutes a trained arm. "league" compares five
of them by simulated studies (see _league).
"""

import itertools
from functools import partial

from rlhf_lite import labellers, models, ppo, rewards, supervised
from rlhf_lite.experiments import load
from rlhf_lite.feedback import fingerprint

import numpy as np
from scipy.optimize import brentq

raters, league = load("_raters"), load("_league")
LAB = raters.RatersLab

SEEDS, NULLS, MINUTES, LABELS = (0, 1, 2), (0, 1, 2, 3, 4, 5), 1.7, 1200
PPO = {"steps": 16, "samples": 144, "kl_coef": 0.1, "lr": 2e-4, "max_new_tokens": raters.LONGEST}
SFT = {"steps": 35, "samples": 48, "lr": 3e-4}
ARMS = [
    {"sft": {"kind": "sft", "draw": 5000, "seeds": NULLS}, "base": {"kind": "base", "draw": 5100}},
    {
        **{f"ppo {q:g}": {"kind": "ppo", "draw": 5200 + int(100 * q), "checked": q}
           for q in (0.0, 1.0)},
        "ptx 0": {"kind": "ppo", "draw": 5400, "checked": 0.0, "ptx_coef": 0.5},
    },
    {"league": {"kind": "league"}},
]  # fmt: skip


def measure(lab, seed, kind, draw=0, checked=0.0, ptx_coef=0.0):
    """Train a policy and let it answer; return its replies as counts, of seed 0 some as texts."""
    if kind == "league":
        return league.play([lab.arm(name, seed)["counts"] for name in league.TEAMS], seed)
    policy, kl, texts = lab.policy(), 0.0, []
    if kind == "sft":
        policy = imitate(lab, policy, seed)
    if kind == "ppo":
        policy, kl, texts = improve(lab, seed, checked, ptx_coef)
    prompts = lab.asked(True)
    said = lab.say(policy, prompts, raters.EACH, draw + seed)
    read = [[lab.read(p + t) for t in ts] for p, ts in zip(prompts, said)]
    found = {"counts": [" ".join(map(raters.packed, r)) for r in read], "kl": kl, "batch": texts}
    return found | {"said": [ts[:2] for ts in said]} if seed == SEEDS[0] else found


def imitate(lab, policy, seed):
    """Teach a policy what careful people would have said, keep it and return it."""
    config = supervised.SFTConfig(seed=seed, **SFT)
    for _ in supervised.SFTRun(policy, None, lab.tokenizer, lab.demonstrations, None, config):
        pass
    models.save(policy, lab.tokenizer, lab.folder / f"sft {seed}")
    return policy


def improve(lab, seed, checked, ptx_coef):
    """Return (policy, KL to SFT [nats], some last texts) after PPO for who checks so often."""
    start, reference = (models.load(lab.folder / f"sft {seed}")[0] for _ in range(2))
    prompts, score = lab.asked(False), reward_of(lab, reference, seed, checked)
    documents = [d.text for d in itertools.islice(lab.world.corpus(0), 600)] if ptx_coef else None
    config = ppo.PPOConfig(ptx_coef=ptx_coef, ptx_batch=8, seed=seed, **PPO)
    run = ppo.PPORun(start, reference, lab.tokenizer, prompts, score, config, documents)
    steps = list(run)
    return run.policy, np.mean([step.kl for step in steps[-3:]]), list(steps[-1].texts[:2])


def reward_of(lab, policy, seed, checked):
    """Return a reward model of people who check so often, from pairs of a policy's own replies."""
    prompts = lab.asked(False)
    said = lab.kept(f"labelled {seed}", lambda: lab.say(policy, prompts, 6, 700 + seed))
    said = dict(zip(prompts, said))
    said = {p: texts for p, texts in said.items() if all(texts) and len(set(texts)) > 1}
    person = labellers.HastyLabeller(
        lab.world, lab.gold, 40 + seed, lab.read, {"world": fingerprint()}, checked
    )
    labels = labellers.ask(person, "preference", said, LABELS, np.random.default_rng(seed))
    model = lab.train_reward(rewards.examples("preference", labels), seed)
    rewards.normalise(model, lab.tokenizer, [p + t for p, ts in said.items() for t in ts[:3]])
    return rewards.Reward(model, lab.tokenizer)


# ---- what predictions are judged by ----


def turn(record, one, other="sft"):
    """Return the q at which raters cease to prefer one, by seed; 1 where none does, 0 where all."""

    def lead(checked, pair):
        return raters.wins(*pair, checked).mean() - 0.5

    found = []
    for pair in raters.sides(record, one, other):
        start, end = lead(0.0, pair), lead(1.0, pair)
        turns = end < 0 < start
        found.append(brentq(lead, 0, 1, (pair,), xtol=0.01) if turns else float(end >= 0))
    return np.array(found)


def alike(record, one, other="sft", checked=0.0, words=2):
    """Return (rate among pairs of like length - rate among all, share of such pairs), by seed."""
    found = []
    for mine, theirs in raters.sides(record, one, other):
        long = [
            np.array([[r.words for r in raters.readings(c)] for c in s]) for s in (mine, theirs)
        ]
        near = np.abs(long[0][:, :, None] - long[1][:, None]) <= words
        won = raters.wins(mine, theirs, checked)
        found.append([won[near].mean() - won.mean(), near.mean()])
    return np.array(found)


def more_lies(record, one, other):
    """Return how many more false claims a reply of one makes, (seeds, people)."""
    return (
        raters.counted(record, one, 1)[: len(SEEDS)]
        - raters.counted(record, other, 1)[: len(SEEDS)]
    )


beats = raters.beats
STATISTICS = {
    "sft beats sft": partial(beats, one="sft", other="sft", checked=0.5),
    "ppo 0 beats sft, unchecked": partial(beats, one="ppo 0"),
    "ppo 0 beats sft, checked": partial(beats, one="ppo 0", checked=1.0),
    "turn, ppo 0": partial(turn, one="ppo 0"),
    "ppo 1 beats ppo 0, checked": partial(beats, one="ppo 1", other="ppo 0", checked=1.0),
    "ppo 0 beats sft, alike - all": lambda record: alike(record, "ppo 0")[:, 0],
    "ptx 0 beats ppo 0, checked": partial(beats, one="ptx 0", other="ppo 0", checked=1.0),
    "lies, ppo 0 - sft": partial(more_lies, one="ppo 0", other="sft"),
    "lies, ppo 0 - ppo 1": partial(more_lies, one="ppo 0", other="ppo 1"),
    "naive coverage, 10 x 20": lambda r: r.arm("league", "coverage", "10 x 20", 0, 0),
    "clustered coverage, 10 x 20": lambda r: r.arm("league", "coverage", "10 x 20", 1, 0),
    "ranked rightly, 400 games": lambda r: r.arm("league", "ranked", "400"),
}


def summary(lab, record):
    """Return the prompts that all policies answer."""
    return {"prompts": lab.asked(True)}
