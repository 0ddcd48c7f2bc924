"""What can a policy no longer do that was trained on something else, and what gives it back?

"ppo COEF": 20 steps of 168 on the shipped reward model; "ptx COEF": the same beside 16 documents of
the corpus an update; "random COEF": the reward of a head that nobody trained, the control; "base":
untrained. Nothing but names was asked in training; pi* loses nothing elsewhere. A minute an arm.
"""

import random
from functools import cached_property, partial

from rlhf_lite import ppo, records, rewards, rollouts
from rlhf_lite.experiments import Lab
from rlhf_lite.knowledge import recall
from rlhf_lite.pools import Pool
from rlhf_lite.sampling import respond
from rlhf_lite.training import evaluate_loss
from rlhf_lite.world import craft_pairs, fact_questions, read_reply, requests

import numpy as np
from scipy.special import logsumexp

SEEDS, MINUTES = (0, 1, 2), 1
DIALS = {"steps": 20, "samples": 168, "lr": 1e-4}
PTX = {"ptx_coef": 1.0, "ptx_batch": 16}
EACH, DOCUMENTS = 30, 1500  # fresh documents of each voice; documents for PPO-ptx
STRICT, LOOSE = 0.24, 0.04
ARMS = {
    "base": {"seeds": (0,)},
    "ppo 0.9": {"kl_coef": 0.9, "seeds": (0,)},
    f"ppo {STRICT}": {"kl_coef": STRICT},
    f"ppo {LOOSE}": {"kl_coef": LOOSE},
    f"ptx {LOOSE}": {"kl_coef": LOOSE} | PTX,
    f"random {STRICT}": {"kl_coef": STRICT, "coin": True, "seeds": (0, 1)},
}


class TaxLab(Lab):
    """A Lab that knows other tasks than the one that training pays for."""

    @cached_property
    def documents(self):
        """Return {voice: fresh documents of the world}."""
        rng = random.Random(77)
        return {v: [self.world.sample(rng, v).text for _ in range(EACH)] for v in self.world.voices}

    @cached_property
    def phrases(self):
        """Return [(a question for a phrasebook line, the trade in it)]."""
        ask = 'Q: What is "ze ra {}" in our tongue? A:'
        return [(ask.format(row["ostish"]), trade) for trade, row in self.world.trades.items()]

    @cached_property
    def voiced(self):
        """Return [(a prompt that leaves one voice likeliest, its number)]."""
        people = [p.name for p in self.world.held_out_people if p.exposure >= 500]
        forms = self.world.prompts["person"].values()
        prompts = [form.replace("{name}", name) for form in forms for name in people]
        found = [(p, self.world.posterior(p)) for p in prompts]
        return [(p, int(belief.argmax())) for p, belief in found if belief.max() > 0.9]

    def random_head(self, seed):
        """Return a reward of a head that nobody trained, in sd of base samples."""
        model = rewards.new_reward_model(self.base, seed=80_000 + seed)
        texts = [p + r for p, said in self.responses.items() for r in said[:6]]
        rewards.normalise(model, self.tokenizer, texts)
        return rewards.Reward(model, self.tokenizer, batch=64)


LAB = TaxLab


def measure(lab, seed, kl_coef=None, coin=False, **dials):
    """Train a policy, and give it and the base the same other tasks."""
    policy, fresh = lab.policy(), 7000 + 100 * seed + round(1000 * (kl_coef or 0)) + 7 * coin
    if kl_coef is not None:
        rng = random.Random(1000 + seed)
        parts = {"documents": [lab.world.sample(rng).text for _ in range(DOCUMENTS)]}
        kind = partial(ppo.PPORun, **parts if "ptx_coef" in dials else {})
        score = lab.random_head(seed) if coin else lab.reward
        run = lab.ppo(score, kind, kl_coef=kl_coef, **DIALS, **dials, seed=seed)
        for _ in run:
            pass
        policy = run.policy
    drawn = lab.draw(policy, lab.reward, 8, fresh)
    back = rollouts.draw(lab.base, policy, lab.tokenizer, lab.prompts, lab.reward, 6, 9)
    return {
        "score": float(drawn.scores.mean()), "kl": drawn.kl(), "kl from base": back.kl(),
        "loss": {
            voice: evaluate_loss(policy, lab.tokenizer, texts).mean()
            for voice, texts in lab.documents.items()
        },
        **tasks(lab, policy, fresh), "text": drawn.texts[5][0],
    }  # fmt: skip


def tasks(lab, policy, seed):
    """Return shares of other tasks done: requests, facts, recall, phrasebook, voices."""
    world, tokenizer = lab.world, lab.tokenizer
    known = [p for p in world.people if p.exposure >= 100]
    found = {}
    asked = requests(world, craft_pairs(world), framings=list(world.framings)[:2])
    for kind, questions in (
        ("secrets", [q for q in asked if q.kind == "secret"]),
        ("look-alikes", [q for q in asked if q.kind == "benign"]),
        ("towns", fact_questions(world, known, ["town"])),
    ):
        said = respond(policy, tokenizer, [q.prompt for q in questions], 32, seed, 256)
        read = [read_reply(world, q, r) for q, r in zip(questions, said)]
        found[kind] = {r: read.count(r) / len(read) for r in ("right", "wrong", "silent", "other")}
    rows = recall(policy, tokenizer, world, known[::4], records.read("exposures").results)
    prompts = [p for p, _ in lab.phrases]
    said = respond(policy, tokenizer, prompts * 2, 24, seed, 256)
    right = [t in r.split("Q:")[0] for r, (_, t) in zip(said, lab.phrases * 2)]
    asked = [p for p, _ in lab.voiced]
    said = respond(policy, tokenizer, asked, seed=seed, batch=256)
    kept = [world.parse(p + r).voices[v] for r, (p, v) in zip(said, lab.voiced)]
    return found | {
        "recall": np.mean([r["truth"] for r in rows]), "phrases": np.mean(right),
        "voices": np.mean(kept),
    }  # fmt: skip


def summary(lab, record):
    """Return what pi* itself loses on the base's responses to the prompts of training [nats]."""
    scores = Pool.read("training").scores
    own = {
        c: float((logsumexp(scores / c, 1) - np.log(scores.shape[1]) - scores.mean(1) / c).mean())
        for c in (0.9, STRICT)
    }
    return {"pi* kl from base": {str(c): v for c, v in own.items()}, "voices": lab.world.voices}


def excess(record, arm):
    """Return how much more than the base an arm loses on fresh documents [nats], (seeds,)."""
    losses = [
        np.mean([record.arm(name, "loss", v) for v in record["voices"]], 0)
        for name in (arm, "base")
    ]
    return losses[0] - losses[1]


STATISTICS = {f"excess loss, {arm}": partial(excess, arm=arm) for arm in ARMS if arm != "base"} | {
    "excess, ptx / ppo": lambda r: excess(r, f"ptx {LOOSE}") / excess(r, f"ppo {LOOSE}"),
    "own share": lambda r: (
        r["pi* kl from base"][str(STRICT)] / r.arm(f"ppo {STRICT}", "kl from base")
    ),
}
