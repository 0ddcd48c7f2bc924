"""Why do methods differ: how noisy is a gradient, and where do k3 and GRPO's division lead?

noise: the variance of the gradient of 256 samples, at the base and after 40 steps of RLOO, for each
baseline, about a minute; k3: the expected gradient of k3 in the loss beside those of both KLs, by
enumeration, seconds; rests: where GRPO comes to rest when the scores of one prompt vary more than
those of another, in no time. On the testbed of the experiment bed.
"""

from functools import partial

from rlhf_lite import direct, experiments, testbed
from rlhf_lite.policies import kl_estimates

import numpy as np
import torch

SEEDS = (0, 1, 2, 3, 4)
LR = 1e-3
PLACES = (0, 40)  # steps of RLOO before the look
DRAWN = 40  # batches a look
NAMES = ("REINFORCE", "RLOO, k = 2", "RLOO, k = 4", "RLOO, k = 8", "no baseline")
SPREADS = (0.5, 0.8, 1.25, 2.0)  # of the four prompts' scores, to see what division does
RESTS = {  # (divide, tokens of k3 in the loss)
    "undivided": (False, 0),
    "divided": (True, 0),
    "undivided, k3": (False, 3),
    "divided, k3": (True, 3),
}
bed = experiments.load("bed")


def noise(seed, task=0):
    """Return {method: a row a place, the variance and the signal of a batch's gradient}."""
    start = bed.new_run("RLOO, k = 4", seed, LR, task=task)
    found = {name: [] for name in NAMES}
    for place in PLACES:
        while start.step < place:
            start.advance()
        for name in NAMES:
            kind = "REINFORCE" if name == "no baseline" else name
            run = bed.new_run(kind, 100 + seed, LR, task=task)
            run.policy.load_state_dict(start.policy.state_dict())
            if name == "no baseline":
                run.advantages = run.returns
            found[name].append(gradients(run))
    return found


def gradients(run):
    """Return the mean squared length of batch gradients about their mean, and of that mean."""
    found = []
    for run.step in range(1000, 1000 + DRAWN):
        batch = run.rollout()
        parts, lesson, _ = run.plan(batch)
        loss = sum(run.loss(batch, part, lesson)[0] for part in parts) / len(parts)
        found.append(pull(run.policy, loss))
    table = torch.stack(found).double()
    return float(table.var(0).sum()), float(table.mean(0).pow(2).sum())


def pull(policy, value):
    """Return the gradient of a value, one long vector."""
    grads = torch.autograd.grad(value, list(policy.parameters()))
    return torch.cat([g.flatten() for g in grads])


def k3(seed):
    """Compare the expected gradient of k3 as a loss with those of both KLs."""
    run = bed.new_run("RLOO, k = 4", seed, LR)
    for _ in range(20):
        run.advance()
    base = torch.tensor(bed.bed().base_logprobs)

    def expected(loss):
        ours = bed.bed().sequence_logprobs(run.policy)
        return pull(run.policy, loss(ours).sum(1).mean()).double()

    found = expected(lambda ours: ours.detach().exp() * kl_estimates(ours, base)[2])
    forward = expected(lambda ours: base.exp() * (base - ours))
    backward = expected(lambda ours: ours.exp() * (ours - base))
    lengths = found.norm() * backward.norm()
    return {
        "error to KL(ref || pi)": float((found - forward).norm() / forward.norm()),
        "error to KL(pi || ref)": float((found - backward).norm() / backward.norm()),
        "cosine to KL(pi || ref)": float(found @ backward / lengths),
        "lengths": float(found.norm() / backward.norm()),
    }


def rests(seed):
    """Return where GRPO rests with prompts of unlike spread: KL to the base and to pi* [nats]."""
    base, scores = bed.bed().base_logprobs, bed.bed().scores * np.array(SPREADS)[:, None]
    best = testbed.optimal_logprobs(base, scores, bed.COEF)

    def rows(table):
        found = {"to base": table - base, "to best": table - best, "score": scores}
        return {name: (np.exp(table) * value).sum(1) for name, value in found.items()}

    found = {"pi*": rows(best)}
    for name, dials in RESTS.items():
        table, coefs = direct.fixed_point(base, scores, bed.COEF, *dials)
        found[name] = rows(table) | {"coef": coefs}
    return found


ARMS = {"noise": {"what": noise}, "k3": {"what": k3}, "rests": {"what": rests, "seeds": (0,)}}


def measure(lab, seed, what):
    return what(seed)


def summary(lab, record):
    return {"spreads": SPREADS}


def noisier(record):
    """Return the variance with k = 2 over that with k = 8, after 40 steps."""
    few, many = (record.arm("noise", f"RLOO, k = {k}", 1, 0) for k in (2, 8))
    return few / many


def forward_error(record):
    """Return the relative error of k3's gradient as that of KL(ref || pi)."""
    return record.arm("k3", "error to KL(ref || pi)")


def beyond(record, prompt):
    """Return how much further from the base the divided rest of a prompt is than pi* [nats]."""
    return np.subtract(*(record.arm("rests", n, "to base", prompt) for n in ("divided", "pi*")))


STATISTICS = {
    "gradient variance, k = 2 / k = 8": noisier,
    "k3 error to KL(ref || pi)": forward_error,
    "KL to base beyond pi*, narrow prompt": partial(beyond, prompt=0),
    "KL to base beyond pi*, wide prompt": partial(beyond, prompt=-1),
}
