"""Measure what a policy has become, on fresh samples: gain, voices, diversity, facts and tales.

Every policy of an experiment is measured alike, and so is the optimum pi*, from base samples. Omits
training and the rulers themselves, which are in `diversity` and `knowledge`. First used by notebook
04.
"""

from functools import cache

from rlhf_lite import diversity, knowledge, records, sampling
from rlhf_lite.pools import Pool
from rlhf_lite.rollouts import PolicyError

import numpy as np

READ = 24  # samples a prompt whose texts are read
LEAST = 10  # effective samples a prompt; an optimum with fewer is not reported
FIXED = (5, 40, 70)  # prompts whose samples a slider shows


def follow(run):
    """Take the steps that are left of a PolicyRun; return {"stopped": why or "", "history"}."""
    stopped = ""
    try:
        for _ in run:
            pass
    except PolicyError as error:
        stopped = str(error)
    return {"stopped": stopped, "history": [step.numbers() for step in run.history]}


def measure(lab, run, count=READ, diverse=False):
    """Return what `count` fresh responses to each prompt of a Lab say of a run's policy.

    diverse: whether to measure its diversity too, which takes a minute.
    """
    drawn = lab.draw(run.policy, run.score, count, 1777)
    objective, error = drawn.objective(run.kl_coef)
    read = diversity.likeliest_voices(lab.world, [row[:READ] for row in drawn.texts])
    found = {
        "objective": objective, "objective_se": error, "score": float(drawn.scores.mean()),
        "kl": drawn.kl(), "n": count * len(drawn.texts), "kl_coef": run.kl_coef,
        "words": np.mean([len(text.split()) for row in drawn.texts for text in row]),
        "shares": diversity.voice_shares(read).mean(0),
        "fixed prompts": [drawn.texts[i][k] for i in FIXED for k in (0, 1)],
    }  # fmt: skip
    if diverse:
        found |= spread(lab.tokenizer, drawn, read) | {"tasks": two_tasks(lab, run.policy)}
    return found


def entropies(logprobs, voices, weights=None, correct=False):
    """Return H(text) split by voice, and H(text | voice) of each on the base model's mix of voices.

    Arguments as in `diversity.sequence_entropy`; correct: of H(voice) alone.
    """
    split = diversity.sequence_entropy(logprobs, voices, weights, correct)
    inside = diversity.within_voice_entropy(logprobs, voices, weights, base_shares())
    return {"entropies": split, "within": inside}


@cache
def base_shares():
    """Return the base model's shares of voices (P, V + 1) [probability]."""
    return Pool.read("training").voices.mean(1)


def spread(tokenizer, drawn, read):
    """Return entropies, n-gram scores and Vendi of Draws, [per prompt, across prompts].

    read (P, K, V): the voices of the first K samples of each prompt.
    """
    found = entropies(drawn.logprobs[:, : read.shape[1]].numpy(), read, correct=True)
    texts = [row[:16] for row in drawn.texts]
    few = [row[:4] for row in texts]
    ids = [tokenizer(row)["input_ids"] for row in texts]

    def ead(rows):
        return diversity.ead(rows, len(tokenizer))

    for name, metric, inside, across in (
        ("EAD", ead, ids, ids),
        ("self-BLEU", diversity.self_bleu, texts, few[::4]),
        ("Vendi", diversity.vendi, texts, few),
    ):
        found[name] = [
            diversity.per_prompt(metric, inside), diversity.across_prompts(metric, across)
        ]  # fmt: skip
    return found


def two_tasks(lab, policy):
    """Compare what a policy knows with what it can make up: facts asked for, heroes told of."""
    world, tokenizer = lab.world, lab.tokenizer
    known = [p for p in world.people if p.exposure >= 500][::3]
    asked = knowledge.recall(policy, tokenizer, world, known, records.read("exposures").results)
    heroes = [f"The hero {p.name}" for p in known[:4]]
    told = sampling.sample(policy, tokenizer, heroes * 50, 48, seed=3, batch=200)
    texts = sampling.responses_cut(told, tokenizer)[0]
    return {
        "fact": np.mean([row["truth"] for row in asked]),
        "fact said": np.mean([row["hit"] for row in asked]),
        "openings": diversity.coverage(texts, world, 200),
        "hero entropy": float(-told.logprobs.sum(1).mean()),
        "hero shares": diversity.likeliest_voices(world, [texts])[0].mean(0),
        "hero texts": texts[:3],
    }


# ---- the same of base samples ----


def base_numbers(pool):
    """Return what a Pool says of the base model, in the words of `measure`."""
    voices = pool.voices[..., :-1]
    return {
        "score": pool.scores.mean(), "shares": base_shares().mean(0),
        **entropies(pool.logprobs, voices),
    }  # fmt: skip


def best_numbers(pool, kl_coef):
    """Return what a Pool says of pi* at kl_coef, in the words of `measure`."""
    best = pool.at(kl_coef, LEAST)
    logprobs, weights = pool.tilted(kl_coef)
    return {
        "objective": best.objective, "objective_se": best.objective_se, "score": best.score,
        "kl": best.kl, "kl_se": best.kl_se, "ess": best.ess.min(),
        "base_score": best.base_score, "shares": best.features.mean(0),
        **entropies(logprobs, pool.voices[..., :-1], weights),
    }  # fmt: skip
