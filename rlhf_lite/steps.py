"""Name the dials that every method of improving a policy has, and what it records of each step.

Omits what a single method has: its config goes on from PolicyConfig. Notebook 04 turns the dials.
"""

from dataclasses import dataclass, field, fields

from rlhf_lite.sampling import RESPONSE_TOKENS
from rlhf_lite.scores import PolicyError
from rlhf_lite.training import settle_dials


@dataclass(frozen=True)
class PolicyConfig:
    """The dials that every method has."""

    kl_coef: float = 0.2
    """What a nat of KL costs, in units of the score (beta)."""
    steps: int = 40
    """Steps: batches of responses."""
    samples: int = 252
    """Responses a step."""
    epochs: int = 1
    """Passes over each batch of responses."""
    minibatches: int = 4
    """Updates a pass."""
    lr: float = 1e-4
    """Peak learning rate; up in a line, down along a cosine."""
    warmup: int = 2
    """Steps until the peak."""
    cliprange: float = 0.2
    """How far a token's probability ratio may move in one batch before its gradient stops."""
    target_kl: float | None = None
    """KL to steer to by moving kl_coef [nats a response]; None keeps kl_coef as it is set."""
    horizon: int = 5000
    """Responses over which the adaptive coefficient answers; smaller is quicker."""
    unended_penalty: float = 0.0
    """Taken from the score of a response that ran into the length limit [score]."""
    max_new_tokens: int = RESPONSE_TOKENS
    """Longest response [tokens]."""
    clip: float = 1.0
    """Largest gradient norm."""
    kl_limit: float = 60.0
    """KL at which the run stops and goes back to the last good policy [nats a response]."""
    seed: int = 0
    """Order of the prompts, sampling, minibatches."""
    bfloat16: bool = True
    """Whether a step multiplies in bfloat16 where the hardware has it, the reward model too; fresh
    samples that measure a policy never do."""

    def __post_init__(self):
        """Check that the dials make sense."""
        settle_dials(self, PolicyError)
        self._require_positive(
            "steps", "samples", "epochs", "minibatches", "lr", "cliprange", "clip", "horizon",
            "max_new_tokens", "kl_limit",
        )  # fmt: skip
        if self.samples % self.minibatches:
            raise PolicyError(
                f"{self.samples} samples do not divide into {self.minibatches} minibatches; "
                f"expected a multiple"
            )
        if self.target_kl is not None and not (self.target_kl > 0 and self.kl_coef > 0):
            raise PolicyError(
                "an adaptive coefficient multiplies; expected target_kl and kl_coef above 0"
            )

    def _require_positive(self, *names):
        """Raise PolicyError for the first dial that is 0 or below."""
        for name in names:
            if not getattr(self, name) > 0:
                raise PolicyError(f"{name} is {getattr(self, name):g}; expected more than 0")


@dataclass(frozen=True)
class PolicyStep:
    """One step; all but the losses and norms describe the policy before the update.

    score: mean of the batch; kl: to the reference, exact over the vocabulary at each token and
    summed over the response [nats]; kl_k1, kl_k3: two estimates of the same; objective: score -
    kl_coef * kl_k1, whose noise vanishes at the optimum; entropy, length: of the response [nats,
    tokens]; ended: share that stopped by themselves; kl_old: from the sampling policy to the
    updated one [nats a token]; ratio_gap: mean |log-probability while sampling - before the
    update| [nats a token]; explained_variance: share of the returns' variance that the critic, or
    the baseline, foresees; parts: what each part of a mixed score said, and its weight; prompts,
    texts, scores: the batch. What a method does not have is 0.
    """

    step: int
    of: int
    kl_coef: float
    score: float
    kl: float
    kl_k1: float
    kl_k3: float
    objective: float
    entropy: float
    length: float
    ended: float
    ratio_gap: float
    policy_loss: float
    grad_norm: float
    lr: float
    seconds: float
    clip_fraction: float = 0.0
    first_clip_fraction: float = 0.0
    kl_old: float = 0.0
    value_loss: float = 0.0
    ptx_loss: float = 0.0
    explained_variance: float = 0.0
    parts: dict = field(default_factory=dict)
    prompts: tuple = ()
    texts: tuple = ()
    scores: tuple = ()

    def numbers(self):
        """Return the record without prompts, texts and scores, as a flat dict."""
        return {f.name: getattr(self, f.name) for f in fields(self)[:-4]} | self.parts
