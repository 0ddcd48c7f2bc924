"""Small runs that the tests of policies share: a score that counts letters, and what to compare."""

import copy
from dataclasses import asdict

from rlhf_lite.ppo import PPOConfig, PPORun
from rlhf_lite.sampling import position_ids

import torch
from torch.nn.functional import log_softmax

PROMPTS = ["Ivo Vane", "The hero Norbert Pell was born in Oxbow", "Q:"]
DOCUMENTS = ["Ivo Vane was born in Oxbow.", "Q: Who was Edda Moss?", "The hero sang.", "A goose"]
DIALS = {
    "samples": 16, "minibatches": 4, "max_new_tokens": 10, "steps": 4, "warmup": 0, "lr": 3e-3,
    "value_lr": 1e-2, "bfloat16": False,
}  # fmt: skip


def count_e(texts):
    """A score that some text changes: the letter e, in tens."""
    return [text.count("e") / 10 for text in texts]


def start(parts, reference=None, score=count_e, prompts=PROMPTS, documents=None, **dials):
    """A run on copies, so that no test changes what another one uses."""
    model, tokenizer = parts
    reference = None if reference is None else copy.deepcopy(reference)
    config = PPOConfig(**DIALS | dials)
    return PPORun(copy.deepcopy(model), reference, tokenizer, prompts, score, config, documents)


def weights(run):
    return [p.detach().clone() for p in run._named().values()]


def same(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def records(run):
    """The history without its times."""
    return [{k: v for k, v in asdict(s).items() if k != "seconds"} for s in run.history]


def list_through(run):
    list(run)
    return run


def naive_reading(run, tokens, mask, real):
    """What policy, reference and the head, if there is one, say of one response, without padding."""
    row, count = tokens[mask.bool()], int(real.sum())
    found = []
    for model in (run.policy, run.reference):
        out = model(row[None], output_hidden_states=True)
        part = slice(len(row) - count - 1, len(row) - 1)
        found += [log_softmax(out.logits[0, part], -1), out.hidden_states[-1][0, part]]
    ours, states, theirs, _ = found
    chosen = row[-count:, None]
    values = run.critic.head(states)[:, 0] if run.config.critic == "head" else torch.zeros(count)
    return (
        ours.gather(1, chosen)[:, 0], theirs.gather(1, chosen)[:, 0],
        (ours.exp() * (ours - theirs)).sum(1), -(ours.exp() * ours).sum(1),
        values,
    )  # fmt: skip


def dropped(wordy):
    """The wordy model with dropout of a half, in training mode."""
    model = copy.deepcopy(wordy[0]).train()
    places = [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    for place in places:
        place.p = 0.5
    assert len(places) > 4
    return model, wordy[1]


def exact_kl(policy, reference, tokens, mask):
    """KL(policy || reference) of each next-token distribution over the whole vocabulary, (B, T); 0 on padding and
    the first token.
    """
    kwargs = {"input_ids": tokens, "attention_mask": mask, "position_ids": position_ids(mask)}
    ours = log_softmax(policy(**kwargs).logits[:, :-1].float(), -1)
    theirs = log_softmax(reference(**kwargs).logits[:, :-1].float(), -1)
    kl = (ours.exp() * (ours - theirs)).sum(-1)
    real = mask[:, 1:].bool() & mask[:, :-1].bool()
    return torch.nn.functional.pad(torch.where(real, kl, 0.0), (1, 0))
