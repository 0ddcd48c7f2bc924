"""Is DPO worse than PPO, or was it only taught too gently?

In the experiment labour DPO hardly leaves the base (0.15 nats, seed 0). Here it learns from the
same pairs at five times the learning rate: "people" as there, "sure" from those who are four times
as rational. Half a minute an arm; the other numbers come from the record of labour.
"""

from rlhf_lite import records
from rlhf_lite.experiments import load

labour = load("labour")
LAB = labour.LAB

SEEDS, MINUTES, RATE = (0, 1, 2), 1.5, 5e-4
ARMS = {
    "people": {"draw": 900},
    "sure": {"draw": 910, "sure": labour.SURE},
}


def measure(lab, seed, draw, sure=1.0):
    """Train by DPO on 1,024 preferences; return the gold of responses about others."""
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
}
