"""Learn from written responses: supervised fine-tuning on prompt + response, as a policy run.

    run = SFTRun(policy, None, tokenizer, [("Q: Who was Ivo Vane?", " A miller.")], score)
    for step in run:
        print(step.policy_loss, step.kl)

The loss is on the response alone (InstructGPT, step 1). Omits masks of single words and packing of
several texts into one row. Used by notebooks 08 and 12.
"""

import random
from dataclasses import dataclass

from rlhf_lite.checks import check_list, check_texts
from rlhf_lite.models import context_of
from rlhf_lite.policies import PolicyRun
from rlhf_lite.rollouts import Rollout, step_prompts
from rlhf_lite.sampling import encode
from rlhf_lite.scores import PolicyError
from rlhf_lite.steps import PolicyConfig
from rlhf_lite.training import digest

import torch
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class SFTConfig(PolicyConfig):
    """The dials of supervised fine-tuning; samples are demonstrations a step."""

    kl_coef: float = 0.0
    """What a nat of KL is charged in the record's objective; the loss knows no KL."""
    end: bool = True
    """Whether a demonstration teaches to end behind it."""


class SFTRun(PolicyRun):
    """A run that makes written responses likelier.

    demonstrations: list of (prompt, response); a step takes the next ones, none twice before all
    came once. Other arguments as in PolicyRun; score None writes down 0. Records speak of the
    demonstrations, not of what the policy says itself: score is theirs, KL and entropy are read
    along them, policy_loss is -log pi of their tokens [nats a token]; ratio_gap is 0. Raises
    PolicyError for what cannot work.
    """

    def __init__(self, policy, reference, tokenizer, demonstrations, score=None, config=None):
        config = config or SFTConfig()
        if not isinstance(config, SFTConfig):
            raise PolicyError(f"config is a {type(config).__name__}; expected an SFTConfig")
        self.demonstrations = _checked(demonstrations)
        prompts = [prompt for prompt, _ in self.demonstrations]
        score = score or (lambda texts: torch.zeros(len(texts)))
        super().__init__(policy, reference, tokenizer, prompts, score, config)
        if self.score.learns:
            raise PolicyError("a score that learns needs fresh responses; SFT has none")
        longest = context_of(policy)
        for number, (prompt, response) in enumerate(self.demonstrations):
            taken = sum(len(tokenizer(t)["input_ids"]) for t in (prompt, response))
            taken += 1 + config.end
            if taken > longest:
                raise PolicyError(
                    f"demonstrations[{number}] takes {taken} places; expected at most the "
                    f"context of {longest}"
                )

    def room(self, config):
        """Return the least that a response takes; each is counted with its own prompt."""
        return 1

    def identity(self):
        """Return what a PolicyRun names, and the demonstrations."""
        return super().identity() | {"demonstrations": digest(self.demonstrations)}

    def collect(self, model, step):
        """Take the demonstrations of a step and score them; return a Rollout, not yet read."""
        config, tokenizer = self.config, self.tokenizer
        pairs = step_prompts(self.demonstrations, config.samples, step, config.seed)
        prompts, texts = [p for p, _ in pairs], [p + r for p, r in pairs]
        end = [tokenizer.eos_token_id] * config.end
        rows = [torch.tensor(tokenizer(r)["input_ids"] + end) for _, r in pairs]
        query, before = encode(tokenizer, prompts, model.device)
        said = pad_sequence(rows, True, tokenizer.pad_token_id).to(model.device)
        lengths = torch.tensor([len(row) for row in rows], device=model.device)
        real = (torch.arange(said.shape[1], device=model.device) < lengths[:, None]).long()
        with torch.no_grad():
            scores, parts = self.score.judge(texts, step, config.bfloat16)
        ended = torch.full_like(lengths, config.end, dtype=torch.bool)
        order, count = list(range(len(pairs))), config.minibatches
        random.Random(f"{config.seed}/{step}/minibatches").shuffle(order)
        return Rollout(
            prompts, texts, torch.cat([query, said], 1), torch.cat([before, real], 1),
            query.shape[1], real.float(), None, scores.to(model.device), ended,
            [order[i::count] for i in range(count)], config.bfloat16, said=parts,
        )  # fmt: skip

    def read(self, rollout):
        """Fill in what policy and reference say of the demonstrations; return the Rollout."""
        rollout = super().read(rollout)
        rollout.drawn_logprobs = rollout.logprobs  # nobody drew them
        return rollout

    def plan(self, rollout):
        """Learn from all of them."""
        return rollout.parts, None, {}

    def loss(self, rollout, part, lesson):
        """Return -mean log pi of the demonstrations' tokens [nats a token]."""
        table, _, chosen = rollout.forward(self.policy, part)
        return -table.gather(1, chosen).mean(), {}


def _checked(demonstrations):
    """Return demonstrations as a list of two texts each, or raise PolicyError."""
    try:
        found = check_list(demonstrations, "demonstrations", "(prompt, response)", least=1)
        found = [check_texts(pair, f"demonstrations[{n}]", 2) for n, pair in enumerate(found)]
    except ValueError as error:
        raise PolicyError(str(error)) from None
    for number, pair in enumerate(found):
        if len(pair) != 2 or not pair[1].strip():
            raise PolicyError(
                f"demonstrations[{number}] is {pair!r}; expected (prompt, response), two texts "
                f"that say something"
            )
    return found
