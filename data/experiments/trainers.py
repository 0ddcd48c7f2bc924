"""How much of what can be gained do TRL's own trainers gain, at their defaults and beyond?

METHOD, WHAT: data/scale/train.py in a process of its own, on the budget of the record "methods":
7,560 responses at kl_coef 0.54 and PPO's learning rate, groups of four, in 126 batches of one
update each, as TRL's defaults have it; then the same ruler. DPO and SFT read as many texts: DPO
3,780 pairs of base samples that the reward model labels by chance, as methods' offline DPO.
"""

import random
from functools import partial
from tempfile import TemporaryDirectory

from rlhf_lite import direct, diversity, feedback, launching, models, records
from rlhf_lite.experiments import ExperimentError, load
from rlhf_lite.runtime import DATA

SEEDS, MINUTES = (0, 1, 2), 6
SCRIPT = DATA / "scale" / "train.py"
COEF, FRESH = 0.54, 12  # as in methods.py
DIALS = {"steps": 126, "samples": 60, "updates": 1, "group": 4, "kl_coef": COEF, "lr": 1e-4}
UNDIVIDED = {"scale_rewards": "none", "loss_type": "dr_grpo"}
ARMS = {
    "GRPO, defaults": {"method": "grpo"},
    "RLOO, defaults": {"method": "rloo"},
    "DPO, defaults": {"method": "dpo"},
    "GRPO, undivided": {"method": "grpo", "options": UNDIVIDED},
    "GRPO, undivided, 3/4 beta": {"method": "grpo", "options": UNDIVIDED, "kl_coef": 0.75 * COEF},
    "GRPO, k3 uncorrected": {"method": "grpo", "options": {"use_bias_correction_kl": False}},
    "GRPO, KL in the reward": {"method": "grpo", "flags": ["--kl_in_reward"]},
    "RLOO, 4 updates a batch": {"method": "rloo", "steps": 30, "samples": 252, "updates": 4},
    "RLOO, TRL's positions": {"method": "rloo", "flags": ["--as_it_comes"]},
    "SFT, defaults": {"method": "sft", "seeds": (0,)},
}
KEPT = ("reward", "kl", "entropy", "clip_ratio/region_mean", "loss", "grad_norm")


def pairs(lab, seed):
    """Write the pairs of base samples that the budget buys, labelled by chance; return a file."""
    drawn = lab.draw(lab.base, lab.reward, 7560 // len(lab.prompts), 5000 + seed)
    first = direct.label_pairs(drawn.scores.view(-1, 2), rng=random.Random(seed)).tolist()
    texts = [t.removeprefix(q) for q, row in zip(drawn.prompts, drawn.texts) for t in row]
    asked = [q for q, row in zip(drawn.prompts, drawn.texts) for _ in row]
    common = {"kind": "preference", "annotator": "reward model", "world": feedback.fingerprint()}
    rows = [
        common | {"prompt": asked[2 * n], "chosen": texts[2 * n + (not won)], "tie": False,
                  "rejected": texts[2 * n + won], "first": "chosen" if won else "rejected",
                  "seed": seed, "seconds": None}
        for n, won in enumerate(first)
    ]  # fmt: skip
    whole = [r for r in rows if r["chosen"].strip() and r["rejected"].strip()]
    return feedback.write(lab.folder / f"pairs {seed}.jsonl", whole)


def train(lab, seed, folder, method, flags=(), options=None, **dials):
    """Train with TRL in a process of its own; return what it logged, a dict an update."""
    words = [method, "--out", folder, "--seed", seed, *flags]
    words += [word for name, value in (DIALS | dials).items() for word in (f"--{name}", value)]
    words += [w for name, value in (options or {}).items() for w in ("--set", f"{name}={value}")]
    if method == "dpo":
        words += ["--data", pairs(lab, seed)]
    try:
        lines = list(launching.launch(SCRIPT, words, 1, threads=1))
    except launching.LaunchError as error:
        raise ExperimentError(str(error)) from None
    return [line for line in lines if isinstance(line, dict) and "loss" in line]


def measure(lab, seed, **arm):
    """Train and measure a policy of TRL's."""
    with TemporaryDirectory() as folder:
        logged = train(lab, seed, folder, **arm)
        policy = models.load(folder)[0]
    gold, drawn = lab.gold("scholar"), lab.draw(policy, lab.reward, FRESH, 1000 + seed)
    objective, error = drawn.objective(COEF)
    judged = gold([t for row in drawn.texts for t in row])
    read = diversity.likeliest_voices(lab.world, drawn.texts)
    history = [[row["step"], *(row.get(name) for name in KEPT)] for row in logged]
    history = history[:: max(1, len(history) // 21)]
    return {
        "dials": DIALS | {k: v for k, v in arm.items() if k in DIALS},
        "objective": objective, "objective_se": error, "score": float(drawn.scores.mean()),
        "kl": drawn.kl(), "gold": float(judged.mean()),
        "gold_se": float(judged.std() / len(judged) ** 0.5), "n": len(judged),
        "shares": diversity.voice_shares(read).mean(0), "history": history,
        "text": drawn.texts[5][0],
    }  # fmt: skip


def summary(lab, record):
    """Return the columns of a history, the versions, and losses on one process and on two."""
    there = launching.installed(launching.scale_python())
    names = ("torch", "transformers", *launching.pins())
    return {
        "coef": COEF, "kept": ["step", *KEPT], "versions": {n: there[n] for n in names},
        "losses": {str(count): losses(count) for count in (1, 2)},
    }  # fmt: skip


def losses(processes):
    """Return the losses of three steps of SFT on the same rows, on so many processes."""
    with TemporaryDirectory() as folder:
        words = ["sft", "--out", folder, "--steps", 3, "--samples", 16]
        lines = list(launching.launch(SCRIPT, words, processes, threads=1))
    return [line["loss"] for line in lines if isinstance(line, dict) and "loss" in line]


def share(record, name):
    """Return the share of the gain of an arm, (seeds,)."""
    return load("methods").share(record.arm(name, "objective"))


def ahead(record, name, other):
    """Return how much more of the gain one arm reaches than another, (seeds,)."""
    return share(record, name) - share(record, other)


def ahead_of_ours(record, name, ours):
    """Return how much more of the gain an arm reaches than our own code, (seeds,)."""
    return share(record, name) - share(records.read("methods"), ours)


def further(record, name, other):
    """Return how much further from the base one arm goes than another, (seeds,) [nats]."""
    return record.arm(name, "kl") - record.arm(other, "kl")


GRPO, RLOO = "GRPO, defaults", "RLOO, defaults"
AHEAD = {
    "GRPO - RLOO": (GRPO, RLOO),
    "GRPO, k3 uncorrected - corrected": ("GRPO, k3 uncorrected", GRPO),
    "GRPO, KL in the reward - in the loss": ("GRPO, KL in the reward", GRPO),
    "RLOO, 4 updates a batch - 1": ("RLOO, 4 updates a batch", RLOO),
    "RLOO, TRL's positions - mended": ("RLOO, TRL's positions", RLOO),
    "GRPO undivided, 3/4 beta - beta": ("GRPO, undivided, 3/4 beta", "GRPO, undivided"),
}
OURS = {"RLOO": (RLOO, "RLOO, k = 4"), "DPO": ("DPO, defaults", "DPO offline")}
STATISTICS = {
    **{f"share, {n}": partial(ahead, name=a, other=b) for n, (a, b) in AHEAD.items()},
    **{f"share, TRL's {n} - ours": partial(ahead_of_ours, name=a, ours=b)
       for n, (a, b) in OURS.items()},
    "KL, GRPO - RLOO": partial(further, name=GRPO, other=RLOO),
    "KL, GRPO undivided, 3/4 beta - RLOO": partial(
        further, name="GRPO, undivided, 3/4 beta", other=RLOO
    ),
}  # fmt: skip
