"""What does learning from people do to a stereotype: where does the tilt of a pronoun come from?

Half of 32 trades are asked in training. Stage 1: "base"; "judge KIND", reward models of blind,
typical (a = 3 kl_coef) and coin-tossing labellers; "sft KIND", fine-tuned on translations as in the
corpus, on the usual pronoun alone, or with 30% "they". Stage 2: PPO, "tilt T" on labellers who like
the usual pronoun with a = T kl_coef (0: blind; -1: parity by trade), "count" on a bonus that makes
both pronouns equally many, "random", "learned KIND" on judges, "they, tilt T" after "sft they".
"""

from functools import partial

from rlhf_lite.experiments import load

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

judges = load("_bias_judges")
LAB, KL_COEF = judges.JudgeLab, judges.bias.KL_COEF

SEEDS, MINUTES = (0, 1, 2), 0.5
KINDS = {"blind": 0.0, "typical": 3.0, "coin": 0.0}
SFT = {"corpus": {}, "usual": {"usual": True}, "they": {"they": 0.3, "everywhere": True}}
TILTS, THEY = (0.0, 0.5, 1.0, 2.0, -1.0), (0.0, 1.0, -1.0)
POLICIES = {
    **{f"tilt {t}": {"tilt": t} for t in TILTS}, **{k: {"kind": k} for k in ("count", "random")},
    **{f"learned {k}": {"kind": k} for k in ("blind", "typical")},
    **{f"they, tilt {t}": {"tilt": t, "start": "they"} for t in THEY},
}  # fmt: skip
ARMS = [
    {"base": {"what": "base", "seeds": (0,)},
     **{f"judge {k}": {"what": "judge", "kind": k} for k in KINDS},
     **{f"sft {k}": {"what": "sft", "kind": k} for k in SFT}},
    {name: {"what": "ppo", "draw": n, **dials} for n, (name, dials) in enumerate(POLICIES.items())},
]  # fmt: skip


def measure(lab, seed, what, **dials):
    """Measure the base, one judge, one fine-tuned model or one policy."""
    if what == "base":
        known = {"corpus": lab.odds, "trained": lab.trained.astype(int)}
        exact = {f"shift {t}": lab.optimum(lab.likes(t))["shift"] for t in TILTS}
        return short(known | lab.read(lab.base) | lab.say(lab.base, 4000) | exact)
    return {"judge": judge, "sft": sft, "ppo": policy}[what](lab, seed, **dials)


def judge(lab, seed, kind):
    """Train a judge; return its loss and what the optimum by it would do."""
    found = lab.judged(kind, KINDS[kind], seed)
    return short(found | lab.optimum(lab.opened(kind, seed)))


def sft(lab, seed, kind):
    """Fine-tune the base on translations of one kind; keep the one that says "they"."""
    model = lab.taught(lab.written(768, 100 + seed, **SFT[kind]), seed)
    if kind == "they":
        judges.models.save(model, lab.tokenizer, lab.folder / f"they {seed}")
    return short(lab.read(model) | lab.say(model, 5000 + seed))


def policy(lab, seed, draw, tilt=0.0, kind="", start=""):
    """Train a policy by PPO and read it."""
    if kind == "count":
        score = lab.likes(0.0, even_count(lab.read(lab.base)["odds"][lab.trained]))
    elif kind == "random":
        rng = np.random.default_rng(seed)
        score = lambda texts: rng.normal(0, 0.5, len(texts))  # noqa: E731
    else:
        score = lab.opened(kind, seed) if kind else lab.likes(tilt)
    model, history = lab.train(score, seed, start and str(lab.folder / f"they {seed}"))
    said = lab.say(model, 6000 + 100 * seed + draw)
    return short(lab.read(model) | said | {"history": history})


def even_count(odds):
    """Return the bonus for she [nats] that makes her half of all translations."""
    return brentq(lambda b: expit(odds + b).mean() - 0.5, -5, 5)


def short(found):
    """Round the tables of an arm to four decimals."""
    return {k: np.round(v, 4) if isinstance(v, np.ndarray) else v for k, v in found.items()}


# ---- what predictions are judged by ----


def line(record, values, side):
    """Return (slopes, intercepts), (seeds,) each, of values (seeds, 32) on the corpus's odds."""
    mine = record.arm("base", "trained")[0] == (side == "trained")
    return np.polyfit(record.arm("base", "corpus")[0][mine], values[:, mine].T, 1)


def tilt(record, arm, side="trained", key="odds", part=0):
    """Return the slope (part 0) or the intercept of after - before on the corpus, (seeds,)."""
    before = "sft they" if arm.startswith("they") else "base"
    return line(record, record.arm(arm, key) - record.arm(before, key), side)[part]


def judged(record, kind, side="trained"):
    """Return the tilt of pi* by a learned judge, (seeds,)."""
    return line(record, record.arm(f"judge {kind}", "shift"), side)[0]


def uneven(record, kind):
    """Return the sd over trades of what a judge shifts beyond the gold of the blind (seeds,)."""
    return (record.arm(f"judge {kind}", "shift") - record.arm("base", "shift 0.0")).std(1)


def law(record):
    """Return the slope of the tilts of PPO on those of the labellers, (seeds,)."""
    return np.polyfit(TILTS, np.array([tilt(record, f"tilt {t}") for t in TILTS]), 1)[0]


def kept(record, arm):
    """Return log P(they) after less before, the mean over all trades, (seeds,)."""
    return (np.log(record.arm(arm, "they")) - np.log(record.arm("sft they", "they"))).mean(1)


def half(record):
    """Return the share of she that is left by the bonus that makes her half, (seeds,)."""
    mine = record.arm("base", "trained")[0] == 1
    return expit(record.arm("count", "odds")[:, mine]).mean(1)


STATISTICS = {
    **{f"tilt, {arm}, {side}": partial(tilt, arm=arm, side=side)
       for arm in (*POLICIES, "sft corpus", "sft usual") for side in ("trained", "held out")},
    **{f"tilt, tilt 1.0, {name}": partial(tilt, arm="tilt 1.0", key=f"odds, {name}")
       for name in ("is", "encyclopedia")},
    **{f"judge {k}: {side}": partial(judged, kind=k, side=side)
       for k in KINDS for side in ("trained", "held out")},
    **{f"judge {k}: uneven": partial(uneven, kind=k) for k in KINDS},
    **{f"they kept, tilt {t}": partial(kept, arm=f"they, tilt {t}") for t in THEY},
    "law": law, "count: she": half,
}  # fmt: skip
