"""How long does a step of each stage take at 124 million parameters, beside our two million?

STAGE, SIZE: continued pretraining on the corpus, the reward model on shipped preferences, PPO on
that reward: a few steps each on one thread, from a GPT-2 of that size with fresh weights, so that
nothing has to be fetched. It says what steps cost and nothing of what they teach.
"""

from functools import partial

from rlhf_lite import feedback, models, ppo, rewards, training
from rlhf_lite.runtime import DATA

import numpy as np
import torch

SEEDS, MINUTES = (0,), 2
ROWS = 50_257  # tokens of GPT-2; ours has 2,048, and the other rows are dead weight that costs
SIZES = {
    "2M": {"layers": 4, "width": 192, "heads": 3, "context": 320},
    "124M": {"layers": 12, "width": 768, "heads": 12, "context": 1024},
}
STAGES = ("pretraining", "reward model", "PPO")
STEPS, BATCH, RESPONSES = 4, 16, 32  # the first step warms up
ARMS = {f"{stage}, {size}": {"stage": stage, "size": size} for size in SIZES for stage in STAGES}


def begin(lab, size, seed):
    """Return a GPT-2 of a size with fresh weights, of as many rows as GPT-2 has if it is large."""
    torch.manual_seed(seed)
    model = models.new_model(lab.tokenizer, **SIZES[size])
    if size != "2M":
        model.resize_token_embeddings(ROWS, mean_resizing=False)
    return model.eval()


def pretraining(lab, model, seed):
    """Return a run on documents of the corpus."""
    texts = [d.text for _, d in zip(range(BATCH * STEPS), lab.world.corpus(seed=seed))]
    config = training.LanguageConfig(batch=BATCH, steps=STEPS, lr=1e-4, seed=seed)
    return training.LanguageRun(model, lab.tokenizer, texts, config)


def reward_model(lab, model, seed):
    """Return a run on pairs of the shipped preferences."""
    labels = feedback.read(DATA / "feedback" / "preferences.jsonl", "preference").records
    rows = rewards.examples("preference", labels[: BATCH * STEPS])
    config = rewards.RewardConfig(batch=BATCH, passes=1, lr=1e-4, seed=seed)
    return rewards.RewardRun(model, lab.tokenizer, "preference", rows, config)


def policy(lab, model, seed):
    """Return a run of PPO, scored by a reward model of the same size.

    Fresh weights would sample rows that our tokenizer has no words for, so these are taken out.
    """
    model.resize_token_embeddings(len(lab.tokenizer), mean_resizing=False)
    judge = rewards.Reward(rewards.new_reward_model(model, seed=seed), lab.tokenizer, batch=32)
    config = ppo.PPOConfig(steps=STEPS, samples=RESPONSES, minibatches=4, kl_coef=0.54, seed=seed)
    return ppo.PPORun(model, None, lab.tokenizer, lab.prompts, judge, config)


def measure(lab, seed, stage, size):
    """Take a few steps of a stage; return their seconds."""
    model = begin(lab, size, seed)
    make = {"pretraining": pretraining, "reward model": reward_model, "PPO": policy}[stage]
    steps = list(make(lab, model, seed))
    weights = sum(p.numel() for p in model.parameters())
    return {
        "parameters": weights, "each": [s.seconds for s in steps],
        "seconds a step": float(np.median([s.seconds for s in steps[1:]])),
    }  # fmt: skip


def times(record, stage):
    """Return how many times longer a step takes at 124M than at 2M, (seeds,)."""
    large, small = (record.arm(f"{stage}, {size}", "seconds a step") for size in ("124M", "2M"))
    return large / small


STATISTICS = {f"124M / 2M, {stage}": partial(times, stage=stage) for stage in STAGES}
