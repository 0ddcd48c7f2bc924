"""Reckon on paper what a step of PPO or GRPO needs: memory by term, seconds by stage, dollars.

For a dense transformer whose weights, gradients and moments are sharded over all GPUs (FSDP,
ZeRO-3) and which samples from copies gathered for the purpose. What is taken from whom:

- Kaplan et al. 2020 (arXiv:2001.08361), Table 1: 2 N + 2 L n_ctx d FLOPs a token forward, twice as
  much backward: 6 N D to train. N here counts the embeddings, which the last layer multiplies with.
- Rajbhandari et al. 2020, ZeRO (arXiv:1910.02054): 2 + 2 + 12 = 16 bytes a parameter with Adam in
  mixed precision; divided by the GPUs in stage 3, which sends 3 N numbers a pass.
- Korthikanti et al. 2022 (arXiv:2205.05198): 34 s b h bytes of activations a layer, 2 s b h where
  recomputed. 32 here: no dropout masks, and attention that stores no scores.
- Pope et al. 2022 (arXiv:2211.05102): each new token reads all weights and the whole KV cache.
- Shares of the peak that are reached: 38 to 43% of the FLOPs (Llama 3, arXiv:2407.21783, Table 4);
  55 to 60% of the bandwidth (Databricks 2023, "LLM Inference Performance Engineering").

A stage takes as long as its slowest resource. Omits offload, pipelines, small messages, texts of
unequal length, and what a framework does besides. First used by notebook 14.
"""

import math
from dataclasses import dataclass

from rlhf_lite.checks import check_choice, check_count, check_number

STAGES = ("sampling", "scoring", "update")
RESOURCES = ("compute", "memory bandwidth", "network")
STATES = ("weights", "gradients", "master weights", "Adam moments", "critic", "reference", "reward")
NODE = 8  # GPUs that share their fast links


@dataclass(frozen=True)
class Model:
    """The shape of a dense transformer; kv_width: of a key, smaller where heads share them."""

    parameters: int
    layers: int
    width: int
    kv_width: int
    vocab: int

    def __post_init__(self):
        """Check every field."""
        for name, value in vars(self).items():
            check_count(value, name)


@dataclass(frozen=True)
class GPU:
    """A GPU's data sheet: bytes, dense bfloat16 FLOP/s, bytes/s of its memory and of its link.

    The link leads to the GPUs of its node, one way. Raises ValueError for what is not above 0.
    """

    memory: float
    flops: float
    bandwidth: float
    link: float

    def __post_init__(self):
        """Check every field."""
        for name, value in vars(self).items():
            check_number(value, name, above=0)


def gpt2(layers, width, vocab=50257, positions=1024):
    """Return the Model of a GPT-2, e.g. `gpt2(12, 768)`; OPT counts alike."""
    blocks = layers * (12 * width**2 + 13 * width)
    return Model((vocab + positions + 2) * width + blocks, layers, width, width, vocab)


def llama(layers, width, inner, kv_width, vocab=32000):
    """Return the Model of a Llama, e.g. `llama(32, 4096, 11008, 4096)`; inner: of its MLP."""
    blocks = layers * width * (2 * (width + kv_width) + 3 * inner + 2)
    return Model((2 * vocab + 1) * width + blocks, layers, width, kv_width, vocab)


# config.json of gpt2, gpt2-xl, Llama-2-7b, -13b, -70b; OPT: Zhang et al. 2022, Table 1.
MODELS = {
    "2.2M": gpt2(4, 192, 2048, 320), "124M": gpt2(12, 768), "1.5B": gpt2(48, 1600),
    "7B": llama(32, 4096, 11008, 4096), "13B": llama(40, 5120, 13824, 5120),
    "70B": llama(80, 8192, 28672, 1024), "OPT-350M": gpt2(24, 1024, 50272, 2050),
    "OPT-13B": gpt2(40, 5120, 50272, 2050), "OPT-30B": gpt2(48, 7168, 50272, 2050),
    "OPT-66B": gpt2(64, 9216, 50272, 2050),
}  # fmt: skip

# Public tables of dense peaks; PCIe 4.0 where there is no NVLink.
GPUS = {
    "RTX 4090": GPU(24e9, 165e12, 1.008e12, 32e9),
    "A100 40GB": GPU(40e9, 312e12, 1.555e12, 300e9),
    "A100 80GB": GPU(80e9, 312e12, 2.039e12, 300e9),
    "H100": GPU(80e9, 989e12, 3.35e12, 450e9),
}


@dataclass(frozen=True)
class Plan:
    """One step of PPO or GRPO, and the machines for it: `Plan("7B", 8)`.

    Raises ValueError for a model or GPU that is unknown and for a number that is out of range.
    """

    model: str | Model = "7B"
    """the policy: a name in MODELS, or a Model"""
    gpus: int = 8
    responses: int = 512
    """sampled, scored and learned from in a step: prompts times samples each"""
    query: int = 256
    response: int = 256
    """tokens of a prompt, tokens of a response"""
    epochs: int = 1
    critic: str | Model = "same"
    """a network of its own, "same": as large as the policy; "head" on the policy; "none": GRPO"""
    reward: str | Model = "same"
    """the reward model, or "none" where a function scores"""
    micro_batch: int = 4
    """responses that a GPU puts through a network at once"""
    checkpointing: bool = True
    """recompute activations in the backward pass"""
    at_once: int = 0
    """responses that a copy samples at once; 0: as many as fit"""
    gpu: str | GPU = "A100 80GB"
    network: float = 25e9
    """bytes/s a GPU between nodes of 8, one way: InfiniBand of 200 Gb/s"""
    price: float = 4.0
    """dollars a GPU and hour, for the reader to set; DeepSpeed-Chat's tables divide to 4"""
    flops_share: float = 0.4
    bandwidth_share: float = 0.55
    usable: float = 0.9
    """share of a GPU's memory that tensors may fill"""

    def __post_init__(self):
        """Check every field."""
        for name in ("gpus", "responses", "query", "response", "epochs", "micro_batch"):
            check_count(getattr(self, name), name)
        check_count(self.at_once, "at_once", 0)
        check_number(self.network, "network", above=0)
        for name in ("flops_share", "bandwidth_share", "usable"):
            if check_number(getattr(self, name), name, above=0) > 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a share, at most 1")
        if check_number(self.price, "price") < 0:
            raise ValueError(f"price is {self.price}; expected dollars an hour, 0 or more")
        _ = self.device, self.models

    @property
    def device(self):
        """The GPU."""
        return _named(self.gpu, GPUS, "gpu")

    @property
    def models(self):
        """(policy, critic, reward model): a Model each, None where there is no such network."""
        policy = _named(self.model, MODELS, "model")
        own = {"same": policy, "none": None} | MODELS
        critic = _named(self.critic, {"head": None} | own, "critic")
        return policy, critic, _named(self.reward, own, "reward")

    @property
    def sizes(self):
        """Parameters of (policy, critic, reward model), a head's not counted."""
        return tuple(m.parameters if m else 0 for m in self.models)


def _named(value, table, name):
    """Return a Model or GPU as it is, or the one that a table has under a name."""
    if isinstance(value, GPU if table is GPUS else Model):
        return value
    return table[check_choice(value, table, name)]


def states(plan):
    """Return what a GPU holds all through a step, {term: bytes}, sharded over all GPUs.

    16 bytes a parameter that is trained, 2 for one that is only read.
    """
    n, critic, reward = plan.sizes
    each = (2 * n, 2 * n, 4 * n, 8 * n, 16 * critic, 2 * n, 2 * reward)
    return {term: size / plan.gpus for term, size in zip(STATES, each)}


def kv_bytes(model, tokens):
    """Return the bytes of a KV cache: a key and a value a token and layer, 2 bytes a number."""
    return 4 * model.layers * model.kv_width * tokens


def activation_bytes(model, tokens, checkpointing=True, number=2):
    """Return the bytes that a backward pass over so many tokens keeps.

    32 a token, unit of width and layer; with checkpointing 2, and 32 in one layer. 8 a logit: a
    float32 log-probability and its gradient. number: bytes a number, 4 in float32.
    """
    layer, light = 16 * number * model.width, number * model.width
    kept = light * model.layers + layer if checkpointing else layer * model.layers
    return tokens * (kept + 8 * model.vocab)


def _room(plan, size):
    """Return the bytes that a GPU has left for caches where `size` GPUs hold a copy, and it."""
    copy = 0 if size == plan.gpus else 2 * plan.sizes[0] / size
    return plan.usable * plan.device.memory - sum(states(plan).values()) - copy, copy


def sampler(plan):
    """Return (size, at_once): GPUs that hold a copy of the policy, responses it samples at once.

    The smallest power of two that leaves half of what is free to the cache; at_once may be 0.
    """
    free = _room(plan, plan.gpus)[0]
    sizes = [2**k for k in range(plan.gpus.bit_length()) if plan.gpus % 2**k == 0]
    size = next((s for s in sizes if 0 < free / 2 <= _room(plan, s)[0]), plan.gpus)
    one = kv_bytes(plan.models[0], plan.query + plan.response) / size
    fit = max(0, math.floor(_room(plan, size)[0] / one))
    return size, min(fit, plan.at_once or fit, math.ceil(plan.responses * size / plan.gpus))


def memory(plan):
    """Return the memory of a GPU by term [bytes]: `states`, then what comes and goes.

    "activations" live in the update, "copy" and "KV cache" while sampling, so the most at once is
    `peak(plan)` and not the sum. Where no response fits, the cache is that of one.
    """
    (size, at_once), policy = sampler(plan), plan.models[0]
    tokens = plan.query + plan.response
    batch = min(plan.micro_batch, math.ceil(plan.responses / plan.gpus))
    return states(plan) | {
        "activations": activation_bytes(policy, batch * tokens, plan.checkpointing),
        "copy": _room(plan, size)[1],
        "KV cache": max(1, at_once) * kv_bytes(policy, tokens) / size,
    }


def peak(plan):
    """Return the most memory that a GPU needs at once [bytes]."""
    terms = memory(plan)
    moving = max(terms["activations"], terms["copy"] + terms["KV cache"])
    return sum(terms[name] for name in STATES) + moving


def fits(plan):
    """Tell whether a step fits into the memory of its GPUs."""
    return peak(plan) <= plan.usable * plan.device.memory


def flops(plan):
    """Return the FLOPs of a step by stage, all GPUs together.

    Sampling: a forward pass. Scoring: one of policy, reference, reward model and critic each. The
    update: three of policy and critic (6 N D) an epoch, four with checkpointing.
    """
    context = plan.query + plan.response
    policy, critic, reward = (
        plan.responses * context * (2 * m.parameters + 2 * m.layers * context * m.width) if m else 0
        for m in plan.models
    )
    passes = (4 if plan.checkpointing else 3) * plan.epochs
    return dict(zip(STAGES, (policy, 2 * policy + critic + reward, passes * (policy + critic))))


def seconds(plan):
    """Return {stage: {resource: seconds}}, each resource as if it were the only limit.

    Memory bandwidth: a new token reads the copy's weights once a wave, and every cache. Network:
    ZeRO-3 gathers all weights for a micro-batch, in the update twice, and sums the gradients.
    Raises ValueError where the step does not fit.
    """
    device, (n, critic, reward), (size, at_once) = plan.device, plan.sizes, sampler(plan)
    if not fits(plan):
        raise ValueError(
            f"a step needs {peak(plan) / 1e9:,.0f} GB on each of {plan.gpus} GPUs; expected at "
            f"most {plan.usable * device.memory / 1e9:,.0f}: more GPUs, or a smaller model"
        )
    each = math.ceil(plan.responses * size / plan.gpus)
    cache = kv_bytes(plan.models[0], plan.query + plan.response / 2)
    read = plan.response * (math.ceil(each / at_once) * 2 * n + each * cache) / size
    batches = math.ceil(plan.responses / (plan.gpus * plan.micro_batch))
    away = 2 * batches * (plan.gpus - 1) / plan.gpus  # bytes a parameter that come from others
    sent = (_room(plan, size)[1], (2 * n + critic + reward) * away,
            3 * (n + critic) * away * plan.epochs)  # fmt: skip
    rate = device.flops * plan.flops_share * plan.gpus
    link = device.link if plan.gpus <= NODE else plan.network
    reading = (read / (device.bandwidth * plan.bandwidth_share), 0.0, 0.0)
    limits = zip((f / rate for f in flops(plan).values()), reading, (s / link for s in sent))
    return {stage: dict(zip(RESOURCES, limit)) for stage, limit in zip(STAGES, limits)}


def step(plan):
    """Return {stage: (seconds, the resource that bounds it)}."""
    found = seconds(plan).items()
    return {stage: max((taken, name) for name, taken in limits.items()) for stage, limits in found}


def total(plan):
    """Return the seconds of a step."""
    return sum(taken for taken, _ in step(plan).values())


def cost(plan):
    """Return the dollars of a step, at the plan's price."""
    return total(plan) * plan.gpus * plan.price / 3600
