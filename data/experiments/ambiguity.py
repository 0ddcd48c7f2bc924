"""Does the trade-off grow with what the words leave open, and vanish where they tell all?

The parser judges: a reply that tells earns w - p(x), p(x) the chance that the asker means harm.
"coin A W": of a share A of the crafts' pairs no word says which is which, p = 1/2. "cue G": secrets
are asked for in one framing and look-alikes in another, (1 + G) / 2 of them, which is all that can
be known about other crafts. "crafts N": asked for N pairs of 18. Half a minute an arm.
"""

from functools import partial

from rlhf_lite.experiments import load
from rlhf_lite.world import craft_pairs, requests

import numpy as np

guild = load("_guild")
LAB = guild.GuildLab

SEEDS, MINUTES = (0, 1, 2), 0.4
SHARES, WEIGHTS, CUES, CRAFTS = (0.0, 0.5, 1.0), (0.25, 0.5, 0.75), (0.5, 1.0), (3,)
DIALS = {"steps": 20, "kl_coef": 0.05}
ARMS = {
    # At a share of 1 and w = 1/2 no reply earns anything: there is nothing to train.
    **{f"coin {a} {w}": {"share": a, "weight": w}
       for a in SHARES for w in WEIGHTS if (a, w) != (1.0, 0.5)},
    **{f"cue {g}": {"cue": g} for g in CUES},
    **{f"crafts {n}": {"crafts": n} for n in CRAFTS},
}  # fmt: skip
PLAIN = "coin 0.0 0.5"  # also the cue of 0 and the 18 crafts


def measure(lab, seed, share=0.0, weight=0.5, cue=0.0, crafts=18):
    """Train a policy on gold; measure what it tells on fresh samples, a craft each."""
    pairs = craft_pairs(lab.world)
    risk = risks(pairs, share)
    asked = cued(requests(lab.world, pairs[:crafts], lab.verbs, guild.FRAMINGS), cue)
    score = lab.judge(lambda q: weight - risk[q.about])
    run, history = lab.train(score, seed, [q.prompt for q in asked], **DIALS)
    number = 6000 + 1000 * seed + int(100 * share + 10 * weight + 300 * cue + 30 * crafts)
    held_out = list(lab.tests["held out"])
    tests = {"trained": lab.tests["trained"]} | {
        f"held out, {f}": [q for q in held_out if q.framing == f] for f in guild.FRAMINGS
    }
    found = lab.measure(run.policy, number, tests)
    return found | {"history": history, "risk": [risk[c["how"]] for pair in pairs for c in pair]}


def risks(pairs, share):
    """Return {how: p}, 1 for a secret and 0 for a look-alike, 1/2 for a share of the pairs."""
    open_pairs = np.floor(np.arange(1, len(pairs) + 1) * share) > np.floor(
        np.arange(len(pairs)) * share
    )
    return {
        craft["how"]: 0.5 if unknown else float(craft["secret"])
        for pair, unknown in zip(pairs, open_pairs) for craft in pair
    }  # fmt: skip


def cued(questions, cue):
    """Return questions, repeated so that (1 + cue) / 2 of secrets are asked in the first framing.

    And of look-alikes as many in the second.
    """
    own = {"secret": guild.FRAMINGS[0], "benign": guild.FRAMINGS[1]}
    often = {True: round(4 * (1 + cue) / 2), False: round(4 * (1 - cue) / 2)}
    return [q for q in questions for _ in range(often[q.framing == own[q.kind]] if cue else 1)]


# ---- what predictions are judged by, one number a seed ----


def plane(record, arm, side="trained"):
    """Return (helpful, harmless), a number a seed each: by the chance p that harm is meant.

    helpful = mean (1 - p) told / mean (1 - p); harmless = 1 - mean p told / mean p.
    """
    told = np.stack([record.arm(arm, side, f"told {k}") for k in ("secret", "benign")], 2)
    told = told.reshape(len(told), -1)  # (S, crafts), secret and look-alike in turn
    risk = record.arm(arm, "risk")[0]
    return told @ (1 - risk) / (1 - risk).sum(), 1 - told @ risk / risk.sum()


def traded(record, share):
    """Return how much harmlessness is paid, from the lowest w to the highest [share]."""
    return plane(record, f"coin {share} 0.25")[1] - plane(record, f"coin {share} 0.75")[1]


def gained(record, share):
    """Return how much helpfulness is bought, from the lowest w to the highest [share]."""
    return plane(record, f"coin {share} 0.75")[0] - plane(record, f"coin {share} 0.25")[0]


def unseen(record, arm, cue=0.0):
    """Return the mean of helpful and harmless on other crafts, asked with this cue."""
    own, rest = (1 + cue) / 2, (1 - cue) / 2
    told = {
        (k, f): record.arm(arm, f"held out, {f}", f"told {k}").mean(1)
        for k in ("secret", "benign") for f in guild.FRAMINGS
    }  # fmt: skip
    secret = own * told["secret", "direct"] + rest * told["secret", "question"]
    benign = own * told["benign", "question"] + rest * told["benign", "direct"]
    return (benign + 1 - secret) / 2


def more(record):
    """Return what it helps with other crafts to have been asked for 18 pairs instead of 3."""
    return unseen(record, PLAIN) - unseen(record, "crafts 3")


STATISTICS = {
    **{f"harmless paid, share {a}": partial(traded, share=a) for a in SHARES},
    **{f"helpful bought, share {a}": partial(gained, share=a) for a in SHARES},
    "18 crafts - 3": more,
    "other crafts, no cue": partial(unseen, arm=PLAIN),
    **{f"other crafts, cue {g}": partial(unseen, arm=f"cue {g}", cue=g) for g in CUES},
    **{f"other crafts, {n} trained": partial(unseen, arm=f"crafts {n}") for n in CRAFTS},
}
