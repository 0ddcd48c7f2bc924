"""Is DPO worse than PPO, and SFT, or were they only taught too gently?

In the experiment labour DPO hardly leaves the base (0.15 nats, seed 0). Here it learns from the
same pairs at five times the learning rate: "people" as there, "sure" from those who are four times
as rational. "sft": 1,024 demonstrations read six times, not once, with "sft coin" its control. Half
a minute an arm; the other numbers come from the record of labour.
"""

from rlhf_lite import records
from rlhf_lite.experiments import load

labour = load("labour")
LAB = labour.LAB

SEEDS, MINUTES, RATE = (0, 1, 2), 1.5, 5e-4
ARMS = {
    "people": {"draw": 900},
    "sure": {"draw": 910, "sure": labour.SURE},
    "sft": {"draw": 920, "steps": 192},
    "sft coin": {"draw": 930, "steps": 192, "sure": 0.0},
}


def measure(lab, seed, draw, sure=1.0, steps=0):
    """Train on 1,024 labels, by SFT for some steps or by DPO; return gold of other responses."""
    if steps:
        pairs = lab.written(labour.BUDGET, seed, sure)
        policy = lab.imitate(lab.policy(), pairs, seed, most=steps)
    else:
        policy = lab.directly(labour.BUDGET, seed, sure, RATE)
    return labour.tested(lab, policy, 10 * draw + seed)


# ---- what predictions are judged by ----


def ahead(record, arm, *other):
    """Return the gold of an arm less that of an arm of labour, (seeds, prompts) [points]."""
    return labour.gold(record, arm) - labour.gold(records.read("labour"), *other)


STATISTICS = {
    "dpo, fast - slow": lambda r: ahead(r, "people", "dpo 1024"),
    "ppo - fast dpo": lambda r: -ahead(r, "people", *labour.MODEL),
    "fast dpo - sft 1024": lambda r: ahead(r, "people", "sft 1024"),
    "fast dpo, sure - people": lambda r: labour.gold(r, "sure") - labour.gold(r, "people"),
    "kl, people": lambda r: r.arm("people", "kl"),
    "sft, six times - once": lambda r: ahead(r, "sft", "sft 1024"),
    "ppo - sft, six times": lambda r: -ahead(r, "sft", *labour.MODEL),
    "sft, six times - coin": lambda r: labour.gold(r, "sft") - labour.gold(r, "sft coin"),
}
