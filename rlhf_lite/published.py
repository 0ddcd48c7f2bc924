"""Hold what others measured and published, as plans that `budget` can predict.

Hours as their sources give them, settings too where they do; `Published.note` says what is assumed.
Omits runs whose memory this arithmetic cannot explain: Llama 2 70B on 16 GPUs, where OpenRLHF keeps
Adam's moments in the memory of the CPU, and OPT-66B on 8, of which the source does not say how.
First used by notebook 14.
"""

from dataclasses import dataclass

from rlhf_lite.budget import GPU, Plan, total

SAMPLES = 264292  # of 256 + 256 tokens: DeepSpeed-Chat's BenckmarkSetting.md
PETAFLOP_DAY = 1e15 * 86400
DEEPSPEED = "https://github.com/microsoft/DeepSpeed/tree/master/blogs/deepspeed-chat"
OPENRLHF = "https://github.com/OpenRLHF/OpenRLHF/blob/0baf3dd/benchmark/README.md"
INSTRUCTGPT = "https://arxiv.org/abs/2203.02155"
A800 = GPU(80e9, 312e12, 2.039e12, 200e9)  # an A100 with slower links


@dataclass(frozen=True)
class Published:
    """A run that others measured: the hours of so many steps, and where that stands."""

    name: str
    plan: Plan
    steps: float
    hours: float
    table: str
    source: str
    note: str = ""

    @property
    def predicted(self):
        """Return the hours that the plan predicts."""
        return self.steps * total(self.plan) / 3600

    @property
    def factor(self):
        """Return how many times longer it took than predicted."""
        return self.hours / self.predicted


def runs():
    """Return the published runs, a Published each.

    DeepSpeed-Chat's note to its tables speaks of 131,900 queries; its 135 million tokens and its
    BenckmarkSetting.md say 264,292, which is used here.
    """
    small = {"critic": "OPT-350M", "reward": "OPT-350M"}
    found = [
        Published(
            f"DeepSpeed-Chat, {model}, {gpus} {gpu}",
            Plan(model, gpus, 1024, micro_batch=16 if gpus == 64 else 4, gpu=gpu, **small),
            SAMPLES / 1024, hours, table, DEEPSPEED,
            "1,024 responses a step" + (" and 4 a micro-batch assumed" if gpus == 8 else ""),
        )
        for model, gpus, gpu, hours, table in (
            ("OPT-13B", 8, "A100 40GB", 10.8, "Tables 1, 4"),
            ("OPT-13B", 8, "A100 80GB", 9, "Table 1"), ("OPT-30B", 8, "A100 80GB", 18, "Table 1"),
            ("OPT-13B", 64, "A100 80GB", 1.25, "Table 2"),
            ("OPT-30B", 64, "A100 80GB", 4, "Table 2"),
            ("OPT-66B", 64, "A100 80GB", 7.5, "Table 2"),
        )
    ]  # fmt: skip
    return found + [
        Published(
            f"{name}, Llama 2 {model}, 8 A800",
            Plan(model, 8, 1024, 1024, 1024, micro_batch=batch, at_once=copy * batch, gpu=A800),
            1, taken / 3600, "Benchmark", OPENRLHF,
            "their ZeRO-3 gathers all weights for every token; the plan samples from copies",
        )
        for name, model, batch, copy, taken in (
            ("OpenRLHF", "7B", 8, 1, 1177.78), ("DeepSpeed-Chat", "7B", 8, 1, 1189.13),
            ("DeepSpeed-Chat", "13B", 2, 4, 3809.36),
        )
    ]  # fmt: skip


def instructgpt():
    """Return (predicted, published) petaflop/s-days of InstructGPT's 175B PPO-ptx.

    256,000 episodes, 8 times as many texts from pretraining (appendix C.4), reward model and value
    function of 6B; published 60 (section 5.1). Assumed: every text fills the context of 2,048, so
    this is what it takes at most. A text of pretraining takes 6 N D; an episode 2 to write it, 4 to
    score it with policy and reference, 6 to learn from it.
    """
    policy, small, tokens = 175e9, 6e9, 256e3 * 2048
    episodes = (12 * policy + 10 * small) * tokens
    return (8 * 6 * policy * tokens + episodes) / PETAFLOP_DAY, 60.0
