"""Compare the speed of a step of our PPO with TRL 1.12.0's PPOTrainer, the last that TRL ships.

And with our own step at an earlier commit, whose code a git worktree brings back.

    python tests/bench/trl_speed.py                   # builds a temporary environment for TRL
    python tests/bench/trl_speed.py --env /opt/trl    # builds it there once, and uses it again
    python tests/bench/trl_speed.py --env /opt/trl --record     # writes data/runs/trl_speed.json

Each arm runs in a process of its own, arms in turn, a few rounds, with the same base model, reward
model, prompts, batch, response length, epochs, minibatches, learning rate and number of threads.

What a step is, on both sides: everything from the end of one step to the end of the next. That is
prompts, sampling, the reference's log-probabilities, the reward model's own pass, values,
advantages, the updates, the step's statistics. There are two kinds of steps: 64 responses, 4 epochs
of one update; and the course's own, 252 responses, one epoch of four. Loading and the first steps are left out.
On TRL's side it is the time between two `on_step_end` callbacks; no evaluation, no saving, no
report, no sample completions, no gradient checkpointing (its default would only slow it down).

Where the two differ by design: TRL trains a second network as its value model (a copy of the reward
model, as its examples do), ours takes its values from the policy's own trunk, in the way that
PPOConfig names by default (the record says which); TRL runs every epoch over all 48 columns, ours
over what was written; ours also computes the exact KL over the vocabulary, clips the gradient and
keeps a copy of weights and optimiser to go back to, which TRL does not. The reward model reads the
texts cut back to the last whole line and tokenized again on our side, as the course scores
everything; TRL hands over its tokens as they are.

bfloat16 is autocast of the updates; on our side, where the hardware has it, of the whole step:
sampling, reward model, policy and reference before the updates (at the earlier commit sampling and
reward model were in float32). With TRL sampling and the reward model are in float32, whatever
accelerate is told.

Stopping: TRL gets stop_token="eos", so that a response ends on both sides where the model ends it
and sampling stops once all have ended. Without it TRL would write 48 tokens for everybody.
"""

import argparse
import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What TRL needs; torch, transformers and numpy come in the versions of requirements.txt.
PINS = ("trl==1.12.0", "accelerate==1.15.0", "datasets==5.2.0")
SHARED = ("torch", "transformers", "numpy")
ARMS = (
    ("ours", "bfloat16"), ("trl", "float32"), ("before", "bfloat16"), ("ours", "float32"),
    ("trl", "bfloat16"),
)  # fmt: skip
BEFORE = "a430c10"
SHARED_DIALS = {"max_new_tokens": 48, "lr": 1e-4, "kl_coef": 0.2}
SETTINGS = {
    "64 responses, 4 epochs": {"samples": 64, "epochs": 4, "minibatches": 1},
    "252 responses, 1 epoch": {"samples": 252, "epochs": 1, "minibatches": 4},
}
PROMPTS = 640


# ---- the two sides, each in its own process; only here are rlhf_lite's PPO and TRL imported ----


def side_ours(task):
    """Take the steps with rlhf_lite; return (stamps, real response tokens of each step, notes)."""
    from rlhf_lite import models, rewards
    from rlhf_lite.ppo import PPOConfig, PPORun
    from rlhf_lite.runtime import has_bfloat16

    import torch

    torch.set_num_threads(task["threads"])
    policy, tokenizer = models.load(task["base"])
    score = rewards.load(task["reward"])
    bfloat16 = task["precision"] == "bfloat16"
    config = PPOConfig(
        **task["settings"], steps=task["steps"], seed=task["seed"], bfloat16=bfloat16
    )
    run = PPORun(policy, None, tokenizer, task["prompts"], score, config)
    notes = {"bfloat16 used": bfloat16 and has_bfloat16(policy.device), "loaded MB": memory()}
    stamps, tokens = [time.perf_counter()], []
    for step in run:
        stamps.append(time.perf_counter())
        tokens.append(round(step.length * config.samples))
    return stamps, tokens, notes | {
        "score": [s.score for s in run.history], "config": asdict(config),
    }  # fmt: skip


def side_trl(task):
    """Take the steps with TRL; return (stamps, real response tokens of each step, notes)."""
    import torch
    from transformers import PrinterCallback, TrainerCallback
    from trl.experimental.ppo import PPOTrainer, ppo_trainer

    if task["precision"] == "bfloat16":
        # PPOConfig(bf16=True) alone does nothing: PPOTrainer makes an Accelerator that never hears
        # of it. This is what `accelerate launch --mixed_precision bf16` sets.
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
    torch.set_num_threads(task["threads"])
    stamps, tokens, widths, scores = [], [], [], []

    class Clock(TrainerCallback):
        def on_train_begin(self, args, state, control, **_):
            stamps.append(time.perf_counter())

        def on_log(self, args, state, control, logs=None, **_):
            scores.append(logs["objective/scores"])

        def on_step_end(self, args, state, control, **_):
            stamps.append(time.perf_counter())

    truncate = ppo_trainer.truncate_response

    def counted(stop, pad, responses):
        kept = truncate(stop, pad, responses)
        tokens.append(int((kept != pad).sum()))
        widths.append(responses.shape[1])
        return kept

    ppo_trainer.truncate_response = counted
    trainer = PPOTrainer(**trl_arguments(task), callbacks=[Clock()])
    trainer.remove_callback(PrinterCallback)
    used = trainer.accelerator.mixed_precision == "bf16"
    notes = {"bfloat16 used": used, "loaded MB": memory()}
    trainer.train()
    return stamps, tokens, notes | {"columns": widths, "score": scores}


def trl_arguments(task):
    """Return the arguments of PPOTrainer: the shipped models, the prompts, the shared settings."""
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )
    from trl.experimental.ppo import PPOConfig

    s, tokenizer = task["settings"], AutoTokenizer.from_pretrained(task["base"])
    tokenizer.padding_side = "left"
    config = PPOConfig(
        output_dir=task["folder"], use_cpu=True, bf16=task["precision"] == "bfloat16",
        gradient_checkpointing=False, report_to="none", save_strategy="no", eval_strategy="no",
        disable_tqdm=True, num_sample_generations=0, seed=task["seed"],
        total_episodes=s["samples"] * task["steps"], per_device_train_batch_size=s["samples"],
        gradient_accumulation_steps=1, local_rollout_forward_batch_size=s["samples"],
        num_ppo_epochs=s["epochs"], num_mini_batches=s["minibatches"],
        response_length=s["max_new_tokens"], stop_token="eos", temperature=1.0,
        learning_rate=s["lr"], kl_coef=s["kl_coef"], lam=1.0,
    )  # fmt: skip
    # Behind the start token, as on our side.
    rows = [[tokenizer.eos_token_id, *tokenizer(p)["input_ids"]] for p in task["prompts"]]
    models = {
        "model": AutoModelForCausalLM, "ref_model": AutoModelForCausalLM,
        "reward_model": AutoModelForSequenceClassification,
        "value_model": AutoModelForSequenceClassification,
    }  # fmt: skip
    kind = {"attn_implementation": task["attention"]} if task["attention"] else {}
    return {
        "args": config, "processing_class": tokenizer,
        "train_dataset": Dataset.from_dict({"input_ids": rows}),
    } | {
        name: load.from_pretrained(
            task["base" if load is AutoModelForCausalLM else "reward"], dtype="float32", **kind
        )
        for name, load in models.items()
    }  # fmt: skip


def memory():
    """Return the peak resident memory of this process so far [MB]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def take_side(path):
    """Run the side that a task file asks for and write what it measured into its result file."""
    task = json.loads(Path(path).read_text(encoding="utf-8"))
    side = {"ours": side_ours, "before": side_ours, "trl": side_trl}[task["side"]]
    stamps, tokens, notes = side(task)
    packages = (*SHARED, "trl", "accelerate", "datasets") if task["side"] == "trl" else SHARED
    found = {
        "seconds": [b - a for a, b in pairwise(stamps)], "tokens": tokens,
        "peak MB": memory(), "versions": {p: version(p) for p in packages},
    }  # fmt: skip
    Path(task["result"]).write_text(json.dumps(found | notes), encoding="utf-8")


# ---- the comparison ----


def requirements():
    """List what to install for TRL, shared packages pinned as in requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n")
    pinned = [line.split("#")[0].strip() for line in lines]
    return [p for p in pinned if p.split("==")[0] in SHARED] + list(PINS)


def environment(folder):
    """Return the Python of TRL's environment in `folder`, built if it is not there yet."""
    python, wanted = Path(folder) / "bin" / "python", requirements()
    if python.exists():
        freeze = [python, "-m", "pip", "list", "--format=freeze"]
        there = subprocess.run(freeze, capture_output=True, encoding="utf-8", check=True).stdout
        if set(wanted) <= {line.split("+")[0] for line in there.split("\n")}:
            return python
    print(f"installing {' '.join(wanted)} in {folder}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
    return python


def run_arm(python, task, code=ROOT):
    """Run one arm in a process of its own; return what it measured, as a dict.

    code: the checkout whose rlhf_lite and whose own copy of this file are run.
    """
    folder = Path(task["folder"])
    path, threads = folder / "task.json", str(task["threads"])
    path.write_text(json.dumps(task | {"result": str(folder / "result.json")}), encoding="utf-8")
    quiet = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRL_EXPERIMENTAL_SILENCE")
    env = os.environ | dict.fromkeys(quiet, "1") | {"TOKENIZERS_PARALLELISM": "false"}
    env |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONPATH": str(code)}
    command = [python, str(code / "tests" / "bench" / "trl_speed.py"), "--side", path]
    done = subprocess.run(command, env=env, cwd=code, capture_output=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{task['side']} {task['precision']} failed:\n{done.stderr[-4000:]}")
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def measure(python, args, folder, dials, before):
    """Run all arms in turn, each round beginning with another; return {arm: [a dict a round]}.

    dials: what a step is; before: a checkout of the earlier commit.
    """
    from rlhf_lite.runtime import DATA
    from rlhf_lite.world import World, draw_prompts

    shared = {
        "base": str(DATA / "models" / "base"), "reward": str(DATA / "models" / "reward"),
        "prompts": draw_prompts(World(), PROMPTS), "steps": args.warmup + args.steps,
        "threads": args.threads, "settings": SHARED_DIALS | dials, "attention": args.trl_attention,
        "folder": str(folder),
    }  # fmt: skip
    found = {f"{side} {precision}": [] for side, precision in ARMS}
    for number in range(args.rounds):
        turn = number % len(ARMS)
        for side, precision in ARMS[turn:] + ARMS[:turn]:
            kind = "ours" if side == "before" else side  # the name that the earlier file knows
            task = shared | {"side": kind, "precision": precision, "seed": number}
            code = before if side == "before" else ROOT
            done = run_arm(python if side == "trl" else sys.executable, task, code)
            found[f"{side} {precision}"].append(done)
            took = statistics.median(done["seconds"][args.warmup :])
            print(f"round {number + 1}, {side} {precision}: {took:.3f} s a step", flush=True)
    return found


def summary(found, warmup):
    """Return {arm: numbers}: seconds a step, tokens, memory over all rounds, warm-up left out."""
    rows = {}
    for arm, rounds in found.items():
        seconds = [s for r in rounds for s in r["seconds"][warmup:]]
        tokens = [t for r in rounds for t in r["tokens"][warmup:]]
        rows[arm] = {
            "median": statistics.median(seconds), "min": min(seconds), "max": max(seconds),
            "steps": len(seconds), "tokens a step": statistics.mean(tokens),
            "tokens a second": sum(tokens) / sum(seconds),
            "peak MB": max(r["peak MB"] for r in rounds),
            "loaded MB": max(r["loaded MB"] for r in rounds),
            "bfloat16 used": rounds[0]["bfloat16 used"],
        }  # fmt: skip
    return rows


def ratios(found, warmup):
    """Return how many times longer others take than ours as shipped, {"trl", "before"}: one a round.

    Of TRL's two arms the faster.
    """

    def median(arm, number):
        return statistics.median(found[arm][number]["seconds"][warmup:])

    others = {"trl": ("trl float32", "trl bfloat16"), "before": ("before bfloat16",)}
    return {
        name: [
            min(median(arm, i) for arm in arms) / median("ours bfloat16", i)
            for i in range(len(found["ours bfloat16"]))
        ]
        for name, arms in others.items()
    }


def table(rows):
    """Return the summary as a Markdown table; ours as shipped is "ours bfloat16"."""
    ours = rows["ours bfloat16"]["median"]
    lines = [
        "| arm | seconds a step: median (min..max) | times ours | response tokens a step "
        "| tokens/s | peak memory, of it after loading [MB] |",
        "|---|---|---|---|---|---|",
    ]
    for arm, r in rows.items():
        name = arm if r["bfloat16 used"] or "float32" in arm else f"{arm} (not used here)"
        lines.append(
            f"| {name} | {r['median']:.3f} ({r['min']:.3f}..{r['max']:.3f}) "
            f"| {r['median'] / ours:.2f} | {r['tokens a step']:.0f} | {r['tokens a second']:.0f} "
            f"| {r['peak MB']:.0f}, {r['loaded MB']:.0f} |"
        )
    return "\n".join(lines)


def report(kinds, args):
    """Print the tables and what was measured; record it where that was asked for."""
    from rlhf_lite import records

    results = {}
    for kind, found in kinds.items():
        rows, times = summary(found, args.warmup), ratios(found, args.warmup)
        print(f"\n{kind}\n\n{table(rows)}\n")
        for name, values in times.items():
            print(f"{name} / ours, each round:", *(f"{t:.2f}" for t in values))
        dials = SHARED_DIALS | SETTINGS[kind]
        results[kind] = {"arms": rows, "ratios": times, "rounds": found, "settings": dials}
    versions = next(iter(kinds.values()))["trl float32"][0]["versions"]
    print(f"{records.hardware()}; {args.rounds} rounds of {args.steps} steps")
    print("versions:", ", ".join(f"{k} {v}" for k, v in versions.items()))
    if args.record:
        results = {
            "kinds": results, "warmup": args.warmup, "threads": args.threads, "versions": versions,
            "before": BEFORE, "attention of TRL": args.trl_attention or "its default",
        }  # fmt: skip
        command = shlex.join(["python", "tests/bench/trl_speed.py", *sys.argv[1:]])
        print("wrote", records.write("trl_speed", results, command, list(range(args.rounds))))


def main():
    import torch

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--env", help="folder of TRL's environment, built there if need be")
    parser.add_argument("--rounds", type=int, default=3, help="how often each arm runs")
    parser.add_argument("--steps", type=int, default=8, help="measured steps of an arm in a round")
    parser.add_argument("--warmup", type=int, default=2, help="steps before those")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--trl-attention", choices=("eager", "sdpa"), help="default: TRL's own")
    parser.add_argument("--record", action="store_true", help="write data/runs/trl_speed.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        python, before = environment(args.env or f"{folder}/env"), Path(folder) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "-q", "--detach", str(before), BEFORE], check=True)
        try:
            kinds = {k: measure(python, args, folder, d, before) for k, d in SETTINGS.items()}
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)
        report(kinds, args)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        take_side(sys.argv[2])
    else:
        main()
