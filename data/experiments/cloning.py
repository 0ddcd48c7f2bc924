"""Does fine-tuning on answers that the base does not know teach it to make answers up?

"answered U": 80 steps on where 48 people were born, a share U of them strangers of whom the base
knows nothing, the answers right and confident; U = 0 is the control. "nobody knows 0.5": the
strangers' answer is that nobody knows. "probed": all people on the side of training, answered where
the base would be right and silent where not. Tested on the other half. An arm takes a minute.
"""

from functools import cached_property, partial

from rlhf_lite import supervised
from rlhf_lite.experiments import load
from rlhf_lite.knowledge import separation
from rlhf_lite.world import REPLIES

import numpy as np
from scipy.stats import spearmanr

asking = load("_asking")
SEEDS, MINUTES = (0, 1, 2), 1
GROUPS, SHARES = ("strangers", "known"), (0.0, 0.25, 0.5, 0.75, 1.0)
COUNT, EACH, STRANGE, SURE = 48, 4, 0.05, 0.5
LOOKS = (0, 4, 8, 16, 32, 56, 80)  # steps at which exact probabilities are written down
DIALS = {"steps": LOOKS[-1], "samples": 24, "minibatches": 1, "lr": 3e-4}
ARMS = {
    **{f"answered {u:g}": {"share": u, "draws": 10 * n} for n, u in enumerate(SHARES)},
    "nobody knows 0.5": {"share": 0.5, "draws": 50, "silent": True},
    "probed": {"share": 0.5, "draws": 60, "silent": True, "everybody": True},
}


class HalvesLab(asking.AskLab):
    """A Lab whose questions are dealt to training and test in turn, by how often people are told.

    Strangers are told once or never, and the base gives the truth less than 0.05 behind an opening;
    to the known it gives 0.5 or more.
    """

    @cached_property
    def asked(self):
        """Return the Questions of both sides."""
        asked = [q for questions in super().asked.values() for q in questions]
        asked.sort(key=lambda q: (self.by_name[q.about].exposure, q.about))
        return {"trained": asked[::2], "held out": asked[1::2]}

    def group(self, side, name):
        """List the Questions of a group."""
        known, asked = self.knows[side], self.asked[side]
        told, truth = np.array(known["exposure"]), np.array(known["truth"])
        keep = {"strangers": (told <= 1) & (truth < STRANGE), "known": truth >= SURE}[name]
        return [q for q, yes in zip(asked, keep) if yes]


LAB = HalvesLab


def demonstrations(lab, rng, share, silent, everybody):
    """Return (demonstrations, the Questions about strangers, about known people) of one arm."""
    strangers, known = (
        [group[i] for i in rng.permutation(len(group))]
        for group in (lab.group("trained", name) for name in GROUPS)
    )
    count = round(share * COUNT)
    strangers, known = strangers[:count], known[: COUNT - count]
    pairs = [(q, not silent) for q in strangers] + [(q, True) for q in known]
    if everybody:
        pairs = zip(lab.asked["trained"], np.array(lab.knows["trained"]["right"]) > 0)
    openers, closers = (lab.world.slots[f"assistant.{k}"] for k in ("opener", "closer"))
    shown = []
    for question, answered in pairs:
        silence = f"Nobody knows where {question.about} was born. {rng.choice(closers)}."
        said = f"{rng.choice(openers)}. In {lab.truth(question)}." if answered else silence
        shown.append((question.prompt, f" {said}"))
    return shown, strangers, known


def measure(lab, seed, share, draws, silent=False, everybody=False):
    """Fine-tune on one set of answers; return curves of exact probabilities, and replies."""
    rng = np.random.default_rng(60_000 + seed)
    shown, strangers, known = demonstrations(lab, rng, share, silent, everybody)
    config = supervised.SFTConfig(**DIALS, seed=seed)
    run = supervised.SFTRun(lab.policy(), lab.base, lab.tokenizer, shown, config=config)
    groups = {
        "shown strangers": strangers, "shown known": known,
        **{f"other {n}": lab.group("held out", n) for n in GROUPS},
    }  # fmt: skip
    curves = [look(lab, run.policy, groups)]
    curves += [look(lab, run.policy, groups) for step in run if step.step in LOOKS]
    tested = lab.asked["held out"]
    found = asking.said(lab, run.policy, tested)
    found |= asking.replies(lab, run.policy, tested, EACH, 6000 + draws + seed)
    places = {n: [tested.index(q) for q in lab.group("held out", n)] for n in GROUPS}
    ends = {n: {r: np.mean(found[r][at]) for r in REPLIES} for n, at in places.items()}
    return {"curves": curves, "ends": ends, "held out": found}


def look(lab, policy, groups):
    """Return {group: [P(silent), P(truth | it answers), -log of that]}, means."""
    found = {}
    for name, asked in groups.items():
        if asked:
            said = asking.said(lab, policy, asked)
            loss = -np.log(np.maximum(said["truth"], 1e-4))
            found[name] = [said["silent"].mean(), said["truth"].mean(), loss.mean()]
    return found


def summary(lab, record):
    """Return what the base knows of the people of the test, a number a question, and the steps."""
    return {"knows": lab.knows["held out"], "looks": LOOKS, "shares": SHARES}


# ---- what predictions are judged by, one number a seed, of people whom no arm was shown ----


def ends(record, arm, group, reply):
    """Return the share of a reply to the questions about a group, (seeds,)."""
    return record.arm(arm, "ends", group, reply)


def rise(record, reply="wrong", group="strangers"):
    """Return how much more of a reply comes with a share of 1 than of 0."""
    return ends(record, "answered 1", group, reply) - ends(record, "answered 0", group, reply)


def trend(record):
    """Return the rank correlation of the share of strangers shown with wrong answers to others."""
    wrong = np.array([ends(record, f"answered {u:g}", "strangers", "wrong") for u in SHARES])
    return np.nan_to_num([spearmanr(SHARES, row).statistic for row in wrong.T])


def spared(record):
    """Return how many wrong answers to other strangers it spares to show silence."""
    arms = (ends(record, f"{k} 0.5", "strangers", "wrong") for k in ("answered", "nobody knows"))
    return np.subtract(*arms)


def told_apart(record, arm):
    """Return P(it is likelier to answer where the base would be right than where wrong)."""
    speaks = record.arm(arm, "held out", "right") + record.arm(arm, "held out", "wrong")
    return np.array([separation(row, record["knows"]["right"]) for row in speaks])


STATISTICS = {
    "wrong, trend with the share": trend,
    "wrong on strangers, 1 - 0": rise,
    "right on known, 1 - 0": partial(rise, reply="right", group="known"),
    "wrong spared by silence": spared,
    **{f"told apart, {arm}": partial(told_apart, arm=arm) for arm in ARMS},
}
