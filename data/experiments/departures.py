"""Which of GRPO's changes moves the goal, each alone and together?

scores, zeros and ones: where large groups rest on a task of the testbed, for each way to charge the
KL (in the reward; in the loss as k3; there with the gradient of each token's own KL), with and
without division by the group's spread and by each response's length. No samples: the gradient of a
loss is summed over all answers and followed from the base, with a free number for each word after
each beginning. A task's rarer words end an answer here, so that it has one to three. "zeros and
ones" pays 1 for the best answers, on each prompt to a smaller share of them.
"""

from functools import cache, partial
from itertools import product

from rlhf_lite import experiments, testbed

import numpy as np
import torch

SEEDS, MINUTES = tuple(range(8)), 0.05
STEPS, RATE = 800, 0.05
PASSED = (0.5, 0.25, 0.1, 0.05)  # of base answers, about, that are right, prompt by prompt
CHARGED = ("reward", "k3", "own")
VARIANTS = {
    ", ".join([kl] + ["spread"] * spread + ["length"] * length): (kl, spread, length)
    for kl, spread, length in product(CHARGED, (False, True), (False, True))
}
COEFS = {"scores": 0.7, "zeros and ones": 0.35}
bed = experiments.load("bed")


def base_tables(task):
    """Return log pi0 of the next word, tables (P, W), (P, W, W) and (P, W, W, W) [nats]."""
    width = len(bed.bed().words)
    whole = torch.tensor(bed.bed(task).base_logprobs).double().view(-1, width, width, width)
    pairs, firsts = whole.logsumexp(3), whole.logsumexp((2, 3))
    return [firsts, pairs - firsts[..., None], whole - pairs[..., None]]


@cache
def answers(task):
    """Return (words (A, 3), real (A, 3), leaf (A, W^3)): answers, and the three words each covers.

    leaf is 1 where three words begin with an answer.
    """
    mass = base_tables(task)[0].exp().mean(0)
    order = mass.argsort()
    ending = set(order[mass[order].cumsum(0) <= 0.5].tolist())
    spelled = list(product(range(len(mass)), repeat=testbed.LENGTH))
    ends = [[n for n, word in enumerate(w, 1) if word in ending] for w in spelled]
    cut = [w[: min(end, default=testbed.LENGTH)] for w, end in zip(spelled, ends)]
    known = list(dict.fromkeys(cut))
    real = torch.tensor([[t < len(w) for t in range(testbed.LENGTH)] for w in known]).double()
    words = torch.tensor([[*w, 0, 0][: testbed.LENGTH] for w in known])
    leaf = torch.tensor([[w == c for c in cut] for w in known]).double()
    return words, real, leaf


def spell(tables, task):
    """Return log pi of each word of each answer, (..., P, A, 3) [nats]; 0 behind its end."""
    words, real, _ = answers(task)
    first, second, third = words.T
    one, two, three = (torch.log_softmax(t, -1) for t in tables)
    at = one[..., first], two[..., first, second], three[..., first, second, third]
    return torch.stack(at, -1) * real


def pay(task, kind):
    """Return the scores of all answers (P, A): mean 0 and sd 1 under the base, or 0 and 1."""
    leaf, here = answers(task)[2], bed.bed(task)
    base, scores = (torch.tensor(t).double() for t in (here.base_logprobs, here.scores))
    mass = base.exp() @ leaf.T
    found = (base.exp() * scores) @ leaf.T / mass
    if kind == "scores":
        return found / (mass * found**2).sum(1, keepdim=True).sqrt()
    order = found.argsort(1, descending=True)
    above = mass.gather(1, order).cumsum(1) - mass.gather(1, order) / 2
    right = (above < torch.tensor(PASSED).double()[:, None]).double()
    return torch.zeros_like(found).scatter(1, order, right)


def settle(task, scores, coef):
    """Follow the expected gradient of every variant to its rest; return log pi, (V, P, A, 3)."""
    base, size = base_tables(task), answers(task)[1].sum(1)
    kls, spread, length = zip(*VARIANTS.values())
    charged = {k: torch.tensor([kl == k for kl in kls]).double()[:, None, None] for k in CHARGED}
    spread, length = (torch.tensor(flag)[:, None, None] for flag in (spread, length))
    tables = [t.expand(len(kls), *t.shape).clone().requires_grad_() for t in base]
    theirs = spell(base, task)
    weight = torch.where(length, 1 / size, torch.ones_like(size))
    optimizer = torch.optim.Adam(tables, lr=RATE, eps=1e-12)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        ours = spell(tables, task)
        gap, probs = ours - theirs, ours.detach().sum(-1).exp()
        returns = scores - coef * charged["reward"] * gap.detach().sum(-1)
        centred = returns - (probs * returns).sum(-1, keepdim=True)
        sd = (probs * centred**2).sum(-1, keepdim=True).sqrt()
        lesson = torch.where(spread, centred / (sd + 1e-4), centred)
        k3 = torch.expm1(-gap) + gap
        own = (ours - ours.detach()).exp() * k3
        charge = (charged["k3"][..., None] * k3 + charged["own"][..., None] * own).sum(-1)
        optimizer.zero_grad()
        (probs * weight * (coef * charge - lesson * ours.sum(-1))).sum().backward()
        optimizer.step()
    return ours.detach()


def measure(lab, seed, kind):
    """Return {variant: {what: (P,)}} at rest: KL to pi* and to the base [nats], score, length."""
    scores, coef, size = pay(seed, kind), COEFS[kind], answers(seed)[1].sum(1)
    start = spell(base_tables(seed), seed).sum(-1)
    best = torch.log_softmax(start + scores / coef, -1)
    rests = dict(zip(VARIANTS, settle(seed, scores, coef).sum(-1)))

    def row(ours):
        told = {"to best": ours - best, "to base": ours - start, "score": scores, "length": size}
        return {name: (ours.exp() * value).sum(-1) for name, value in told.items()}

    return {name: row(t) for name, t in {"base": start, "pi*": best, **rests}.items()}


def summary(lab, record):
    return {"variants": list(VARIANTS)}


ARMS = {kind: {"kind": kind} for kind in COEFS}


def away(record, variant, kind="scores"):
    """Return KL(rest || pi*) [nats], mean over prompts."""
    return record.arm(kind, variant, "to best").mean(1)


def in_the_reward(record, kind):
    """Return the largest distance of the four variants that charge the KL in the reward [nats]."""
    return np.max([away(record, v, kind) for v, how in VARIANTS.items() if how[0] == "reward"], 0)


def apart(record, variant, other):
    """Return how much further from pi* one variant rests than another [nats]."""
    return away(record, variant) - away(record, other)


STATISTICS = {
    **{f"KL to pi*, KL in the reward, {kind}": partial(in_the_reward, kind=kind) for kind in COEFS},
    "KL to pi*, k3": partial(away, variant="k3"),
    "KL to pi*, own": partial(away, variant="own"),
    "KL to pi*, length - none": partial(apart, variant="k3, length", other="k3"),
    "KL to pi*, GRPO on zeros and ones": partial(away, variant="k3, spread", kind="zeros and ones"),
}
