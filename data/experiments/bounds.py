"""Does alignment shift the curve of a voice against the length of the prompt, or bend it as well?

"base": what it goes on with after 1 to 5 mild lines as the pamphlet would write them. "all": PPO
against the parser's posterior of the pamphlet, asked with 1 to 5 lines; "short": asked with one;
"coin": a coin is the score, the control. Each also sees two lines that only the pamphlet writes;
what a base does with these that has never read a pamphlet stands in `unread`. A minute an arm.
"""

from functools import partial

from rlhf_lite import ppo
from rlhf_lite.experiments import load
from rlhf_lite.sampling import text_logprobs

import numpy as np

pamphlet = load("_pamphlet")
LINES, TOKENS = pamphlet.LINES, pamphlet.TOKENS

SEEDS, MINUTES = (0, 1, 2), 1
DIALS = {"steps": 16, "samples": 168, "kl_coef": 0.2, "lr": 2e-4, "max_new_tokens": TOKENS}
ARMS = [
    {"base": {}},
    {"all": {"lines": LINES}, "short": {"lines": 1},
     "coin": {"lines": LINES, "coin": True}},
]  # fmt: skip

LAB = pamphlet.PamphletLab


def measure(lab, seed, lines=0, coin=False):
    """Return log-odds of the pamphlet by the number of lines, and shares after its own lines."""
    fresh = 4000 + 100 * seed + 10 * lines + coin
    if not lines:
        return base(lab, seed) | {"own lines": lab.owned(lab.base, lab.tokenizer, fresh)}
    voice, rng = lab.world.voices.index("pamphlet"), np.random.default_rng(seed)

    def score(texts):
        read = [rng.random() if coin else lab.world.parse(t).voices[voice] for t in texts]
        return -np.array(read)

    config = ppo.PPOConfig(**DIALS, seed=seed)
    run = ppo.PPORun(lab.policy(), lab.base, lab.tokenizer, lab.asked(lines), score, config)
    history = [[round(s.score, 3), round(s.kl, 3)] for s in run]
    shares = []
    for number, prompts in enumerate(lab.prompts_by_length):
        said = lab.continued(run.policy, prompts, 16, fresh + number)
        shares.append(np.mean([v == "pamphlet" for _, v in said if v]))
    return {
        "history": history, "log-odds": reweighed(lab, run.policy), "sampled": shares,
        "own lines": lab.owned(run.policy, lab.tokenizer, fresh + 9),
    }  # fmt: skip


def base(lab, seed):
    """Return the log-odds of the base's own pool, and the exact ones of the generator."""
    shares = [(sum(row[2] for row in part) + 0.5) / (len(part) + 1) for part in lab.pool(seed)]
    share = np.array(shares)  # by half a text off, so that none is 0
    voice = lab.world.voices.index("pamphlet")
    exact = [[lab.world.posterior(p)[voice] for p in prompts] for prompts in lab.prompts_by_length]
    mean = np.mean(exact, 1)  # over the prompts, as the share above
    return {"log-odds": np.log(share / (1 - share)), "exact": np.round(exact, 5),
            "exact log-odds": np.log(mean / (1 - mean))}  # fmt: skip


def reweighed(lab, policy):
    """Return a policy's log-odds from base samples, each weighed by pi(y) / pi0(y)."""
    found = []
    for number in range(LINES):
        rows = [row for seed in SEEDS for row in lab.pool(seed)[number]]
        prompts, texts, ours, theirs = zip(*rows)
        logprobs = text_logprobs(policy, lab.tokenizer, list(texts), list(prompts))
        weights, ours = np.exp(np.array(logprobs) - theirs), np.array(ours)
        found.append(np.log((weights * ours).sum() / (weights * (1 - ours)).sum()))
    return found


# ---- what predictions are judged by, one number a seed ----


def slope(record, arm, key="log-odds"):
    """Return the rise of the log-odds a line [nats], (seeds,)."""
    curves = np.atleast_2d(record.arm(arm, key))
    return np.polyfit(np.arange(curves.shape[1]), curves.T, 1)[0]


def shift(record, arm):
    """Return how much lower the log-odds are than the base's, (seeds, lengths) [nats]."""
    return record.arm(arm, "log-odds") - record.arm("base", "log-odds").mean(0)


def new(record, arm):
    """Return the share of new lines of the pamphlet after two of its own, (seeds, prompts)."""
    return record.arm(arm, "own lines", "new")


STATISTICS = {
    "base slope / exact slope": lambda r: slope(r, "base") / slope(r, "base", "exact log-odds"),
    **{f"steeper, {a}": partial(lambda r, a: slope(r, a) - slope(r, "base").mean(), a=a)
       for a in ("all", "short", "coin")},
    **{f"shift, {a}": partial(lambda r, a: shift(r, a).mean(1), a=a)
       for a in ("all", "short", "coin")},
    "shift, short, 5 lines / 1 line": lambda r: shift(r, "short")[:, -1] / shift(r, "short")[:, 0],
    **{f"own lines, {a}": partial(new, arm=a) for a in ("base", "all", "short")},
    "own lines, all - base": lambda r: new(r, "all") - new(r, "base"),
}  # fmt: skip
