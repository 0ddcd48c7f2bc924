"""Train a policy or a reward model with TRL's own trainers, on one process or on many.

    python data/scale/train.py grpo --steps 2 --out data/models/my-grpo
    ACCELERATE_USE_CPU=true torchrun --standalone --nproc_per_node 2 \
        data/scale/train.py rloo --steps 2 --out data/models/my-rloo
    accelerate launch --config_file data/scale/fsdp_8.yaml data/scale/train.py grpo \
        --model gpt2 --config data/scale/vllm.yaml --out data/models/my-gpt2

The budget is the course's: --steps batches of --samples responses, each learned from in --updates
updates. What else is no default of TRL's stands in `options`, or in --config (YAML) and --set
NAME=VALUE. Three things TRL does not do by itself: texts get the end-of-text token in front that
all texts of this course have; a GPT-2 behind padding on the left is read at the positions at which
it was sampled (--as_it_comes leaves that out); what was learned goes into a plain folder.

Lines that begin with :: are for programs, see rlhf_lite/launching.py.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from rlhf_lite import feedback, models, rewards, sampling
from rlhf_lite.launching import MARK, LaunchError, lack
from rlhf_lite.runtime import DATA, pick_device
from rlhf_lite.world import World, draw_prompts

import torch
import yaml
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PrinterCallback,
    TrainerCallback,
)

FEEDBACK = {"sft": "demonstration", "reward": "preference", "dpo": "preference"}
METHODS = (*FEEDBACK, "grpo", "rloo")
ASKED = 84  # prompts, as in all experiments


def say(**event):
    """Write a line for programs."""
    print(f"\n{MARK}{json.dumps(event)}", flush=True)


# ---- what is learned from ----


def text_rows(method, path):
    """Return the rows of a label file as TRL wants them, each text behind its start token."""
    labels = feedback.read(path, FEEDBACK[method])
    found = feedback.require(labels.records, FEEDBACK[method])
    if method == "sft":
        return [{"prompt": models.END + r["prompt"], "completion": r["response"]} for r in found]
    return [
        {"prompt": models.END + r["prompt"], "chosen": r["chosen"], "rejected": r["rejected"]}
        for r in found
        if not r["tie"]
    ]


def token_rows(tokenizer, rows):
    """Return pairs as tokens: as text, TRL would put an end-of-text token behind each of them.

    The course scores texts that need not be over, so its reward models never read one there.
    """
    return [
        {f"{side}_ids": tokenizer(r["prompt"] + r[side])["input_ids"] for side in SIDES}
        for r in rows
    ]


SIDES = ("chosen", "rejected")


def dataset(method, path, tokenizer):
    """Return what a trainer trains on, a datasets.Dataset."""
    from datasets import Dataset

    if method not in FEEDBACK:
        asked = sorted(set(draw_prompts(World(), ASKED)))
        return Dataset.from_list([{"prompt": models.END + prompt} for prompt in asked])
    names = {"sft": "demonstrations", "reward": "preferences", "dpo": "preferences"}
    rows = text_rows(method, path or DATA / "feedback" / f"{names[method]}.jsonl")
    return Dataset.from_list(token_rows(tokenizer, rows) if method == "reward" else rows)


class Scores:
    """The shipped reward model as a reward function of TRL, minus the KL where that is asked.

    It reads what the course's reads: prompt and response, cut back to the last whole line unless
    the response ended by itself. charge: what a nat of KL costs in the reward, 0 for nothing.
    """

    __name__ = "score"

    def __init__(self, folder, tokenizer, reference, charge):
        """Open the reward model; the policy is filled in once a trainer has it."""
        self.score, self.tokenizer = rewards.load(folder, pick_device()), tokenizer
        self.reference, self.charge, self.policy = reference.to(pick_device()), charge, None

    def __call__(self, prompts, completions, completion_ids, **_):
        """Return one score a completion."""
        end = self.tokenizer.eos_token_id
        texts = [
            prompt.removeprefix(models.END) + sampling.whole_sentences(said, end in ids)
            for prompt, said, ids in zip(prompts, completions, completion_ids)
        ]
        scores = self.score(texts)
        return (scores - self.charge * self.gap(prompts, completion_ids)).tolist()

    @torch.no_grad()
    def gap(self, prompts, completion_ids):
        """Return log pi - log pi0 of whole responses, (B,) [nats]."""
        if not self.charge:
            return 0.0
        heads = [self.tokenizer(p)["input_ids"] for p in prompts]
        rows = [torch.tensor(h + list(ids)) for h, ids in zip(heads, completion_ids)]
        kept = [torch.tensor([0] * len(h) + [1] * len(i)) for h, i in zip(heads, completion_ids)]
        tables = (
            (rows, self.tokenizer.pad_token_id),
            ([torch.ones_like(r) for r in rows], 0),
            (kept, 0),
        )
        tokens, mask, real = (
            pad_sequence(table, True, fill, "left").to(pick_device()) for table, fill in tables
        )
        ours, theirs = (
            (sampling.token_logprobs(m, tokens, mask) * real).sum(1)
            for m in (self.policy, self.reference)
        )
        return (ours - theirs).cpu()


# ---- what learns ----


def positioned(model):
    """Make a model read padded texts at the positions at which it would have sampled them.

    GPT-2 learned its positions. TRL's trainers hand over a mask and no positions, so that a text
    behind three tokens of padding is read as if it began at the fourth.
    """

    def add(_, arguments, named):
        mask = named.get("attention_mask")
        plain = mask is not None and mask.dim() == 2 and named.get("past_key_values") is None
        if plain and named.get("position_ids") is None:
            named["position_ids"] = sampling.position_ids(mask)
        return arguments, named

    model.register_forward_pre_hook(add, with_kwargs=True)


def opened(method, name):
    """Return (model, tokenizer) to train; a tokenizer without a pad token pads with its end."""
    kind = AutoModelForSequenceClassification if method == "reward" else AutoModelForCausalLM
    if method == "reward":
        base, tokenizer = models.load(name)
        model = rewards.new_reward_model(base)
    else:
        model, tokenizer = models.open_folder(kind, name)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = model.get_input_embeddings().num_embeddings
    if tokenizer.eos_token != models.END or len(tokenizer) > rows:
        raise models.ModelError(
            f"the tokenizer of {name!r} has {len(tokenizer)} tokens, ends texts with "
            f"{tokenizer.eos_token!r} and the model has {rows} rows; expected a GPT-2's own, with "
            f"{models.END}"
        )
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):  # a GPT-2 from the hub has some
            part.p = 0.0
    tokenizer.padding_side = "right" if method in FEEDBACK else "left"
    return model, tokenizer


class Reporter(TrainerCallback):
    """Tells programs of steps and checkpoints."""

    def on_log(self, args, state, control, logs=None, **_):
        """Tell what TRL logs, numbers alone."""
        if state.is_world_process_zero:
            kept = {k: v for k, v in (logs or {}).items() if isinstance(v, int | float)}
            say(step=state.global_step, **kept)

    def on_save(self, args, state, control, **_):
        """Tell where the checkpoint lies."""
        if state.is_world_process_zero:
            say(checkpoint=str(Path(args.output_dir) / f"checkpoint-{state.global_step}"))


# ---- the command ----


def options(args, processes):
    """Return the options of TRL's config: the budget, and what was asked beside it."""
    texts = args.samples // (2 if args.method in ("reward", "dpo") else 1)
    each, left = divmod(texts, args.updates * processes)
    if left or not each:
        raise LaunchError(
            f"{texts} texts a step do not divide among {args.updates} updates and {processes} "
            f"processes; expected a multiple of {args.updates * processes}"
        )
    found = {
        "output_dir": args.out, "max_steps": args.steps * args.updates, "seed": args.seed,
        "learning_rate": args.lr, "per_device_train_batch_size": each, "logging_steps": 1,
        "save_steps": args.save_every, "use_cpu": not torch.cuda.is_available(),
        "bf16": torch.cuda.is_available(), "gradient_checkpointing": False, "report_to": "none",
        "disable_tqdm": True, "save_strategy": "steps" if args.save_every else "no",
    }  # fmt: skip
    if args.method not in FEEDBACK:
        found |= {
            "steps_per_generation": args.updates, "num_generations": args.group,
            "max_completion_length": args.tokens,
        }  # fmt: skip
    if args.method in ("dpo", "grpo", "rloo"):
        found["beta"] = 0.0 if args.kl_in_reward else args.kl_coef
    return found | asked_for(args)


def asked_for(args):
    """Return what --config and --set say, later ones winning."""
    found = {}
    if args.config:
        try:
            found |= yaml.safe_load(Path(args.config).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
            raise LaunchError(f"{args.config} cannot be read ({error}); expected YAML") from None
    for item in args.set:
        name, _, value = item.partition("=")
        found[name] = yaml.safe_load(value)
    return found


def trainer_of(args):
    """Return TRL's trainer, ready to train."""
    import trl

    names = {"sft": "SFT", "reward": "Reward", "dpo": "DPO", "grpo": "GRPO", "rloo": "RLOO"}
    # torchrun's count: asked this early, Accelerate 1.15.0 says 1 where two CPU processes run.
    name, processes = names[args.method], int(os.environ.get("WORLD_SIZE", 1))
    try:
        config = getattr(trl, f"{name}Config")(**options(args, processes))
    except TypeError as error:
        raise LaunchError(f"TRL's {name}Config refuses an option: {error}") from None
    model, tokenizer = opened(args.method, args.model)
    more = {}
    if args.method not in FEEDBACK:
        reference = models.open_folder(AutoModelForCausalLM, args.model)[0].eval()
        charge = args.kl_coef if args.kl_in_reward else 0.0
        more["reward_funcs"] = Scores(args.reward, tokenizer, reference, charge)
    trainer = getattr(trl, f"{name}Trainer")(
        model=model, args=config, processing_class=tokenizer,
        train_dataset=dataset(args.method, args.data, tokenizer), callbacks=[Reporter()], **more,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    if more:
        more["reward_funcs"].policy = trainer.accelerator.unwrap_model(trainer.model)
    if not args.as_it_comes:
        for each in filter(None, (model, getattr(trainer, "ref_model", None))):
            positioned(trainer.accelerator.unwrap_model(each))
    return trainer


def parsed():
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("method", choices=METHODS)
    parser.add_argument("--model", default=str(DATA / "models" / "base"), help="folder or hub name")
    parser.add_argument("--reward", default=str(DATA / "models" / "reward"), help="its folder")
    parser.add_argument("--data", help="label file (.jsonl); default: the one in data/feedback")
    parser.add_argument("--out", required=True, help="folder for what was learned")
    parser.add_argument("--steps", type=int, default=30, help="batches of responses")
    parser.add_argument("--samples", type=int, default=252, help="responses a batch")
    parser.add_argument("--updates", type=int, default=1, help="updates a batch")
    parser.add_argument("--group", type=int, default=4, help="responses to each prompt")
    parser.add_argument("--tokens", type=int, default=48, help="longest response")
    parser.add_argument("--kl_coef", type=float, default=0.54, help="TRL's beta")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save_every", type=int, default=0, help="updates between checkpoints")
    parser.add_argument("--resume", help="a checkpoint to go on from")
    parser.add_argument("--config", help="YAML file of TRL's own options")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--kl_in_reward", action="store_true", help="charge the KL there, beta 0")
    parser.add_argument("--as_it_comes", action="store_true", help="leave positions to TRL")
    return parser.parse_args()


def main():
    args = parsed()
    trainer = trainer_of(args)
    main_process = trainer.accelerator.is_main_process
    if main_process:
        say(processes=trainer.accelerator.num_processes)
    trainer.train(resume_from_checkpoint=args.resume)
    if trainer.is_fsdp_enabled:
        trainer.save_model(args.out)
    elif main_process:
        policy = trainer.accelerator.unwrap_model(trainer.model)
        policy.config.use_cache = True  # trainers switch it off, and the next reader wants it
        models.save(policy, trainer.processing_class, args.out)
    trainer.accelerator.wait_for_everyone()
    if main_process:
        say(folder=str(args.out))


if __name__ == "__main__":
    missing = lack()
    if missing:
        sys.exit(f"train: {missing}")
    try:
        main()
    except (LaunchError, feedback.FeedbackError, models.ModelError) as error:
        sys.exit(f"train: {error}")
