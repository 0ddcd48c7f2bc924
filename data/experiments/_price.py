"""What a policy has not learned of its score, read on responses that all policies share."""

from functools import cached_property

from rlhf_lite import direct, sampling
from rlhf_lite.experiments import Lab, load
from rlhf_lite.pools import Pool

import numpy as np
import torch

COEF = 0.54
PROBED = 6  # responses a prompt on which all policies are read
spending, methods = load("_spending"), load("methods")


class PriceLab(Lab):
    """A Lab with one set of responses that every policy is asked about."""

    def path(self, name, seed):
        """Return where the weights of an arm lie."""
        return self.folder / f"{name} {seed}.pt"

    def keep_policy(self, name, seed, policy):
        """Write weights down for later stages."""
        torch.save(policy.state_dict(), self.path(name, seed))

    def kept_policy(self, name, seed):
        """Return a policy that an earlier stage has written down."""
        policy = self.policy()
        policy.load_state_dict(torch.load(self.path(name, seed)))
        return policy

    @cached_property
    def probe(self):
        """Return (SampleBatch, texts): responses of a policy that is none of those compared."""
        asked = [p for p in self.prompts for _ in range(PROBED)]
        writer, longest = self.kept_policy("tune", 10), sampling.RESPONSE_TOKENS
        drawn = sampling.sample(writer, self.tokenizer, asked, longest, seed=77, batch=len(asked))
        return drawn, sampling.responses_cut(drawn, self.tokenizer)[0]

    @torch.no_grad()
    def on_probe(self, policy):
        """Return log pi - log pi0 of the probe's responses, (P, PROBED) [nats]."""
        drawn, found = self.probe[0], []
        for part in torch.arange(len(drawn.tokens)).split(84):
            tokens, mask, keep = drawn.tokens[part], drawn.mask[part], drawn.response[part]
            ours, theirs = (sampling.token_logprobs(m, tokens, mask) for m in (policy, self.base))
            found.append(((ours - theirs) * keep).sum(1))
        return torch.cat(found).view(-1, PROBED).numpy()


def where_it_goes(paid, gap):
    """Return how far log-ratios follow scores: slope, unlearned and drift [nats].

    Within prompts, b = log pi - log pi0 on a = s / beta. With slope c, what is not learned costs
    (1 - c)^2 Var(a) / 2 and what no score asks for (Var(b) - c^2 Var(a)) / 2; to second order they
    add up to KL(pi || pi*). paid, gap (P, K): scores [sd], log-ratios [nats].
    """
    a, b = (np.asarray(t, float) for t in (paid / COEF, gap))
    a, b = (t - t.mean(1, keepdims=True) for t in (a, b))
    free = a.shape[0] * (a.shape[1] - 1)
    slope = float((a * b).sum() / (a * a).sum())
    return {
        "slope": slope, "unlearned": float((1 - slope) ** 2 * (a * a).sum() / free / 2),
        "drift": float(((b - slope * a) ** 2).sum() / free / 2),
    }  # fmt: skip


def wrong(run, turns):
    """Return the variance of log pi - log pi0 - s / beta within prompts, over old batches."""
    by_prompt = {}
    for batch in (run.read(run.old[turn]) for turn in turns):
        batch.fresh = None  # its graph is of no use, and large
        gap = ((batch.logprobs - batch.ref_logprobs) * batch.real).sum(1)
        for prompt, off in zip(batch.prompts, (gap - batch.scores / COEF).tolist()):
            by_prompt.setdefault(prompt, []).append(off)
    return float(np.mean([np.var(found, ddof=1) for found in by_prompt.values()]))


def capacity(lab, seed, epochs=10):
    """Teach a policy 72 of its own responses a prompt by regression, and hold out 12 more.

    Returns the variance of log pi - log pi0 - s / beta within prompts [nats^2], before and after.
    """
    writer = lab.kept_policy("PPO", seed)
    own = {"steps": 24 * epochs, "samples": 252, "lr": 5e-5, "kl_coef": COEF, "offline": 24}
    config = direct.DirectConfig(group=3, seed=4000 + seed, **own)
    run = spending.ReplayRun(
        lab.kept_policy("PPO", seed), lab.base, lab.tokenizer, lab.prompts, lab.reward, config
    )
    best = Pool.read("training")
    run.known = dict(zip(best.prompts, best.at(COEF).log_z.tolist()))
    run.again, run.old = 0, {turn: run.collect(writer, turn) for turn in range(28)}
    sides = {"own": range(24), "held out": range(24, 28)}
    before = {name: wrong(run, turns) for name, turns in sides.items()}
    for _ in run:
        pass
    return {"before": before, "after": {n: wrong(run, turns) for n, turns in sides.items()}}


# ---- what the predictions are about ----


def share(record, name):
    """Return the share of the gain of an arm, (seeds,)."""
    return methods.share(record.arm(name, "objective"))


def ahead(record, name, other="PPO x 1"):
    """Return how much more of the gain an arm reaches than another, (seeds,)."""
    return share(record, name) - share(record, other)


def law(record):
    """Return (exponent, log of the gap at one response): a power law a seed, of the small sizes."""
    names = [str(n) for n in record["fitted"]]
    x = np.log([record["responses"][n] for n in names])
    y = np.log([1 - share(record, f"PPO x {n}") for n in names])
    slope, start = np.polyfit(x, y, 1)
    return -slope, start


def beyond(record, times):
    """Return the gap at a size over what the law of the smaller ones says, (seeds,)."""
    gap = 1 - share(record, f"PPO x {times}")
    power, start = (part[: len(gap)] for part in law(record))
    return gap / np.exp(start - power * np.log(record["responses"][str(times)]))


def residuals(record, name="PPO x 1"):
    """Return log pi - log pi0 - s / beta of the probe, by prompt, (seeds, P, PROBED) [nats]."""
    paid = np.array(record["paid"])
    found = record.arm(name, "probe").reshape(-1, *paid.shape) - paid
    return found - found.mean(2, keepdims=True)


def shared(record):
    """Return the correlation of two seeds' residuals on the same responses, a pair each."""
    found = residuals(record)
    table = np.corrcoef(found.reshape(len(found), -1))
    return table[np.triu_indices(len(found), 1)]


def held(record, side):
    """Return what regression leaves of the squared residuals of one side, (seeds,)."""
    return np.divide(*(record.arm("capacity", when, side) for when in ("after", "before")))
