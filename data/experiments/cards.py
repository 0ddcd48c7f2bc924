"""Does RLHF make a model hallucinate more than SFT, and from which share of checked claims on less?

"base"; "sft": fine-tuned on careful replies, with a card of facts in the prompt or about people who
are well known. "ppo 0.5": PPO from SFT with a reward model from preferences of people who check
each claim with probability 0.5 and believe the rest; "ptx 0.0": the same with documents of the
corpus mixed in. "shuffled": labels turned by coins, the control. One or two minutes an arm.
"""

import hashlib
import itertools
from functools import partial

from rlhf_lite import experiments, ppo
from rlhf_lite.sampling import respond

import numpy as np

cards = experiments.load("_cards")
LAB, GROUPS = cards.CardLab, cards.GROUPS

SEEDS, MINUTES = (0, 1, 2), 1.5
QS, PTX_QS = (0.0, 0.25, 0.5, 0.75, 1.0), (0.0,)
DIALS = {"steps": 16, "samples": 168, "lr": 3e-4, "kl_coef": 0.05, "max_new_tokens": cards.TOKENS}
PTX = {"ptx_coef": 1.0, "ptx_batch": 8}
ARMS = [
    {"base": {"kind": "base"}, "sft": {"kind": "sft"}},
    {
        **{f"ppo {q}": {"kind": "ppo", "checked": q} for q in QS},
        **{f"ptx {q}": {"kind": "ptx", "checked": q} for q in PTX_QS},
        "shuffled": {"kind": "shuffled", "checked": 0.5},
    },
]


def measure(lab, seed, kind, checked=None, **dials):
    """Train a policy and ask it all test questions."""
    luck, found = luck_of(kind, checked, seed), {}
    if kind == "base":
        policy = lab.base
    elif kind == "sft":
        policy = lab.sft(seed)
        lab.kept(f"pool {seed}", lambda: lab.pool(seed))
    else:
        policy, found = trained(lab, seed, kind, checked, DIALS | dials)
    found |= {
        "claims": lab.claims(policy, luck),
        "calibration": cards.calibration(policy, lab.tokenizer, lab),
    }
    if seed == SEEDS[0]:
        prompts = [a.prompt for a in listed(lab) for _ in (0, 1)]
        found["said"] = respond(
            policy, lab.tokenizer, prompts, cards.TOKENS, seed=luck + 1, batch=80
        )
    return found


def luck_of(*what):
    """Return a sampling seed of an arm's own."""
    return int(hashlib.sha256(repr(what).encode()).hexdigest()[:7], 16)


def trained(lab, seed, kind, checked, dials):
    """Return a policy trained from SFT, and what its run was like."""
    pool = lab.kept(f"pool {seed}", lambda: lab.pool(seed))
    score = lab.reward_from(pool, checked, seed, kind == "shuffled")
    documents, extra = None, PTX if kind == "ptx" else {}
    if extra:
        documents = [d.text for d in itertools.islice(lab.world.corpus(seed), 4000)]
    config = ppo.PPOConfig(**dials, **extra, seed=seed)
    prompts, start = [a.prompt for a in lab.asked], lab.sft(seed)
    run = ppo.PPORun(lab.sft(seed), start, lab.tokenizer, prompts, score, config, documents)
    history = [[s.score, s.kl, s.length, s.seconds] for s in run]
    return run.policy, {
        "history": history, "kl": np.mean([h[1] for h in history[-3:]]),
        "correlation": lab.seen_by(score, pool),
    }  # fmt: skip


def listed(lab):
    """List the 40 questions whose replies are kept: half with a card, half without."""
    found = []
    for group, count in zip(GROUPS, (7, 7, 6, 8, 6, 6)):
        among = [a for a in lab.tests if lab.group(a) == group]
        found += [among[i] for i in np.linspace(0, len(among) - 1, count).astype(int)]
    return found


# ---- what predictions are judged by ----


def made_up(record, arm, group):
    """Return the share of replies with a claim that is not supported, (seeds, people)."""
    return record.arm(arm, "claims", group, "made up")


def more(record, arm, group, than="sft"):
    """Return how much larger that share is than another arm's, (seeds, people)."""
    return made_up(record, arm, group) - made_up(record, than, group)


def turning(record, group):
    """Return the q at which PPO makes up as much as SFT, (seeds,): 0 where it never does more.

    The first crossing of straight lines between the measured q; 1 where it always does more.
    """
    gaps = np.array([more(record, f"ppo {q}", group).mean(1) for q in QS]).T
    return np.array([_crossing(g) for g in gaps])


def _crossing(gaps):
    if gaps[0] <= 0:
        return 0.0
    for left, right, a, b in zip(QS, QS[1:], gaps, gaps[1:]):
        if b <= 0:
            return left + (right - left) * a / (a - b)
    return 1.0


def changed(record, arm, key):
    """Return the change of a number of the calibration against SFT, (seeds,)."""
    return record.arm(arm, "calibration", key) - record.arm("sft", "calibration", key)


def right_lost(record, arm):
    """Return how much seldomer questions about the well known are answered rightly than by SFT."""
    shares = [record.arm(a, "claims", "known", "right") for a in ("sft", arm)]
    return shares[0] - shares[1]


STATISTICS = {
    **{f"PPO - SFT, q = {q}, {g}": partial(more, arm=f"ppo {q}", group=g)
       for q in QS for g in GROUPS},
    **{f"ptx - PPO, q = {q}, {g}": partial(more, arm=f"ptx {q}", group=g, than=f"ppo {q}")
       for q in PTX_QS for g in GROUPS},
    **{f"shuffled - SFT, {g}": partial(more, arm="shuffled", group=g) for g in GROUPS},
    **{f"SFT - base, {g}": partial(more, arm="sft", group=g, than="base") for g in GROUPS},
    **{f"turning, {g}": partial(turning, group=g) for g in GROUPS},
    **{f"right lost, q = {q}, known": partial(right_lost, arm=f"ppo {q}") for q in QS},
    **{f"ECE, q = {q}, PPO - SFT": partial(changed, arm=f"ppo {q}", key="ECE") for q in QS},
}  # fmt: skip


def summary(lab, record):
    """Return the list of questions whose replies are kept, with their cards, and the people."""
    rows = [{"prompt": a.prompt, "kind": a.kind, "about": a.about, "card": a.card,
             "group": lab.group(a)} for a in listed(lab)]  # fmt: skip
    return {"questions": rows, "qs": QS, "ptx qs": PTX_QS, "groups": GROUPS}
