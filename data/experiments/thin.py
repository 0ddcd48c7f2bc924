"""What do thin pairs do to offline DPO on the language model?

N pairs: DPO for 30 steps of 126 pairs, which are all of a file of 3,780, 504 or 126 pairs read so
many times; 7 prompts: 504 pairs about every twelfth prompt. Fresh responses to all 84 prompts
measure the policy. Beside it: what it thinks of its own pairs (of the oldest 126), and of pairs of
the base about the same prompts that it has not seen. Five minutes an arm.
"""

from functools import partial

from rlhf_lite import direct, experiments
from rlhf_lite.policies import PolicyError

SEEDS, MINUTES = (0, 1, 2), 5
UNSEEN = 999  # the step whose base responses no file holds
ARMS = {
    "3,780 pairs": {"offline": 30},
    "504 pairs": {"offline": 4},
    "126 pairs": {"offline": 1},
    "504 pairs, 7 prompts": {"offline": 4, "every": 12},
}
methods = experiments.load("methods")


def measure(lab, seed, every=1, **own):
    """Train and measure a policy."""
    dials = methods.DIALS | {"group": 2} | own
    run = methods.new_run(lab, seed, direct.DPORun, lab.prompts[::every], **dials)
    losses, stopped = [], ""
    try:
        for step in run:
            losses.append(step.policy_loss)
    except PolicyError as error:
        stopped = str(error)[:200]
    drawn = lab.draw(run.policy, lab.reward, methods.FRESH, 1000 + seed)
    objective, error = drawn.objective(methods.COEF)
    return {
        "dials": dials, "objective": objective, "objective_se": error, "kl": drawn.kl(),
        "score": float(drawn.scores.mean()), "losses": losses, "stopped": stopped,
        "own": told(run, run.old[0]), "unseen": told(run, run.collect(run.reference, UNSEEN)),
        "text": drawn.texts[5][0],
    }  # fmt: skip


def told(run, batch):
    """Return what a policy thinks of pairs: log pi - log pi0 of both sides [nats], accuracy."""
    run.step, batch = 0, run.read(batch)
    gap = ((batch.logprobs - batch.ref_logprobs) * batch.real).sum(1)
    chosen, rejected = (gap[side] for side in run.pairs(batch))
    found = {"chosen": chosen, "rejected": rejected, "accuracy": (chosen > rejected).float()}
    return {name: float(values.mean()) for name, values in found.items()}


def share(record, arm):
    """Return the share of the gain of an arm."""
    return methods.share(record.arm(arm, "objective"))


def ahead(record, arm, other="3,780 pairs"):
    """Return how much more of the gain an arm reaches than the whole file."""
    return share(record, arm) - share(record, other)


def by_heart(record, arm):
    """Return how much better a policy orders its own pairs than unseen ones."""
    return record.arm(arm, "own", "accuracy") - record.arm(arm, "unseen", "accuracy")


def heart(record):
    """Return how much more of it comes from 30 readings than from one (its oldest pairs)."""
    return by_heart(record, "126 pairs") - by_heart(record, "3,780 pairs")


STATISTICS = {
    "share, 126 - 3,780 pairs": partial(ahead, arm="126 pairs"),
    "share, 7 - 84 prompts": partial(ahead, arm="504 pairs, 7 prompts", other="504 pairs"),
    "log pi of chosen gained, 126 pairs": lambda record: record.arm("126 pairs", "own", "chosen"),
    "by heart, 126 - 3,780 pairs": heart,
}
