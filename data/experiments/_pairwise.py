"""Position bias: a judge of two texts, trained on labels of people who lean to the first.

It reads both, one under the other, and is the base model with a head for P(the first is chosen).
"""

from rlhf_lite import rewards
from rlhf_lite.models import context_of
from rlhf_lite.runtime import autocast, seed_everything
from rlhf_lite.training import adamw, cosine, descend, set_lr

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import expit

LABELS, TESTED, DIALS = 1920, 400, {"batch": 32, "lr": 5e-4}


def measure(lab, seed, first, labels=LABELS):
    """Train a judge of pairs on leaning labels; return P(first) of fresh pairs, in both orders."""
    seed_everything(seed)
    scholar, rng = lab.people["scholar"], np.random.default_rng(seed)
    pairs = [_pair(lab, rng) for _ in range(labels + TESTED)]
    worth = [[scholar.utility(lab.read(t)) for t in pair] for pair in pairs]
    gap = scholar.rationality * -np.diff(worth)[:, 0]
    lean = brentq(lambda b: expit(gap + b).mean() - first, -5, 5)
    chosen = (rng.random(len(gap)) < expit(gap + lean)).astype(float)
    judge = _learn(lab, [*map(_shown, pairs[:labels])], chosen[:labels], seed)
    tested = pairs[labels:]
    there, back = (
        rewards.score(judge, lab.tokenizer, [_shown(p[::way]) for p in tested]).numpy()
        for way in (1, -1)
    )
    return {"labels": chosen.mean(), "lean": lean, "gap": gap[labels:].round(3),
            "there": expit(there).round(3), "back": expit(back).round(3)}  # fmt: skip


def _pair(lab, rng):
    """Draw two different base responses to one prompt."""
    while True:
        prompt = lab.prompts[rng.integers(len(lab.prompts))]
        said = [lab.responses[prompt][i] for i in rng.integers(len(lab.responses[prompt]), size=2)]
        if said[0] != said[1]:
            return [prompt + text for text in said]


def _shown(pair):
    """Show one text under the other."""
    return "\n\n".join(pair)


def _learn(lab, texts, chosen, seed):
    """Fit a head on a copy of the base model to P(the first is chosen)."""
    model = rewards.new_reward_model(lab.base, 1, seed)
    model.set_attn_implementation("eager")
    optimizer = adamw(model.parameters(), DIALS["lr"], 0.1)
    steps, shuffled = len(texts) // DIALS["batch"], torch.randperm(len(texts))
    for step, part in enumerate(shuffled[: steps * DIALS["batch"]].split(DIALS["batch"])):
        tokens, lengths = rewards.encode_right(
            lab.tokenizer, [texts[i] for i in part], context_of(model), cut=True
        )
        model.train()
        with autocast(model.device, True):
            logits = rewards.read_heads(model, tokens, lengths)[:, 0].float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, torch.tensor(chosen)[part].float()
        )
        set_lr(optimizer, DIALS["lr"] * cosine(step, steps, 8))
        descend(loss, optimizer, model.parameters(), 1.0, step)
    return model.eval()
