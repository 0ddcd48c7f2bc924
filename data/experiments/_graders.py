"""Self-preference: the base model grades documents by its readers' notes, beside the exact grade.

Documents of the corpus, the base model's own, and those of a policy trained by PPO, all about the
same people and starting with their names.
"""

import random

from rlhf_lite.sampling import encode, sample

import numpy as np
import torch

PPO, EACH, LONGEST = {"steps": 20, "samples": 252, "kl_coef": 0.2}, 3, 160
GRADES = ("good", "mixed", "bad")


def measure(lab, seed, each=EACH, **dials):
    """Grade three kinds of documents; return the judge's P(good note) and the exact one."""
    run = lab.ppo(lab.reward, seed=seed, **PPO | dials)
    kl = [step.kl for step in run]
    rng, prompts = random.Random(f"notes {seed}"), lab.prompts * each
    documents = {"corpus": [_about(lab, rng, prompt) for prompt in prompts]}
    for place, (kind, model) in enumerate({"own": lab.base, "policy": run.policy}.items()):
        drawn = sample(model, lab.tokenizer, prompts, LONGEST, seed=800 + 10 * place + seed,
                       batch=256)  # fmt: skip
        documents[kind] = drawn.texts
    return {"kl": kl[-1]} | {kind: _graded(lab, texts) for kind, texts in documents.items()}


def _about(lab, rng, name):
    """Draw a document of the corpus that starts with a person's name, as the models' own do."""
    while True:
        text = lab.world.sample(rng, topic="person", subject=lab.world.by_name[name]).text
        if text.startswith(name):
            return text


def _graded(lab, texts):
    """Return {judge, exact: P(good note) of each text that the world could write; possible}."""
    parses = [lab.world.parse(t) for t in texts]
    parses = [p for p in parses if p.possible]
    asked = ["\n".join([x.text for x in p.lines] + [lab.world.notes["prefix"].strip()])
             for p in parses]  # fmt: skip
    exact = []
    for p in parses:
        lied = any(c.verdict == "false" for c in p.claims)
        rows = lab.world.notes["with_false_claim" if lied else "truthful"]
        exact.append(sum(s * rows[v][0] for s, v in zip(p.voices, lab.world.voices)))
    return {"possible": len(parses) / len(texts), "judge": _good(lab, asked),
            "exact": np.round(exact, 3)}  # fmt: skip


@torch.no_grad()
def _good(lab, asked):
    """Return the base model's P(good note | there is a note), by the first tokens of the notes."""
    first = [[lab.tokenizer(f" {p}")["input_ids"][0] for p in lab.world.notes["phrases"][g]]
             for g in GRADES]  # fmt: skip
    found = []
    for start in range(0, len(asked), 64):
        tokens, mask = encode(lab.tokenizer, asked[start : start + 64])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        hidden = lab.base.base_model(
            input_ids=tokens, attention_mask=mask, position_ids=positions
        ).last_hidden_state[:, -1]
        probs = torch.softmax(lab.base.lm_head(hidden), -1)
        sums = torch.stack([probs[:, ids].sum(1) for ids in first], 1)
        found += (sums[:, 0] / sums.sum(1)).tolist()
    return np.round(found, 3)
