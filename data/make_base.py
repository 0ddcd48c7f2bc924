"""Train the base model on the corpus of Tarrowmere.

    python data/make_base.py                         # from nothing, about an hour on two cores
    python data/make_base.py --model gpt2            # go on from GPT-2 124M (hub name or folder)
    python data/make_base.py --leave-out pamphlet    # a world without one voice

Killed? The same command goes on from the last checkpoint. Uses a GPU and bfloat16 where there are
any. What it writes to data/models/base comes with data/runs/exposures.json: how often the corpus
tells each fact.
"""

import argparse
import itertools
import json
import shutil
import sys
from pathlib import Path

from rlhf_lite import models, records
from rlhf_lite.runtime import DATA, pick_device, seed_everything
from rlhf_lite.training import CHECKPOINT, LanguageConfig, LanguageRun, TrainingError
from rlhf_lite.world import World, WorldError

import torch
from tqdm import tqdm

OUT = DATA / "models" / "base"


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="go on from this model instead of starting from nothing")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="VOICE")
    parser.add_argument("--documents", type=int, help="only the first so many of the corpus")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--heads", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--passes", type=int, default=2, help="how often to read the corpus")
    parser.add_argument("--lr", type=float, help="default 4e-3 from nothing, 3e-4 with --model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=500, help="steps between checkpoints")
    return parser.parse_args()


def main():
    records.plain_output()
    args = options()
    seed_everything(args.seed)
    world = World(leave_out=args.leave_out)
    model, tokenizer = models.load(args.model, pick_device()) if args.model else (None, None)
    size = min(args.documents or world.corpus_size, world.corpus_size)
    documents = itertools.islice(world.corpus(args.seed), args.documents)
    texts = [d.text for d in tqdm(documents, total=size, desc="corpus", unit=" documents")]
    floor, error = world.entropies(2000)["H(text)"]
    if model is None:
        tokenizer = models.new_tokenizer(texts[:40_000])
        model = models.new_model(tokenizer, args.layers, args.width, args.heads).to(pick_device())
    config = LanguageConfig(
        batch=args.batch,
        lr=args.lr or (3e-4 if args.model else 4e-3),
        passes=args.passes,
        seed=args.seed,
    )
    run = LanguageRun(model, tokenizer, texts, config)
    print(f"{models.count_parameters(model):,} parameters on {model.device}, {run.steps:,} steps, ")
    print(f"entropy of the grammar {floor:.2f} +- {error:.2f} nats a document")
    checkpoint = args.out.with_name(args.out.name + "-training")
    if (checkpoint / CHECKPOINT).exists():
        run.load(checkpoint)
        print(f"going on from step {run.step:,} in {checkpoint}")
    train(run, checkpoint, floor, args.every)
    models.save(model, tokenizer, args.out)
    write_made(args, run, len(texts))
    shutil.rmtree(checkpoint, ignore_errors=True)
    print(f"wrote {args.out}")
    if args.out == OUT:
        told = world.exposures(itertools.islice(world.corpus(args.seed), args.documents))
        records.write("exposures", told, "python data/make_base.py", args.seed)
        print("now measure it with: python data/measure.py base")


def train(run, checkpoint, floor, every):
    """Train to the end, a checkpoint every so many steps; floor: of the loss [nats a document]."""
    with tqdm(total=run.steps, initial=run.step, unit=" steps") as bar:
        for step in run:
            bar.update()
            recent = run.history[-50:]
            speed = sum(s.tokens for s in recent) / sum(s.seconds for s in recent)
            loss = sum(s.loss for s in recent) / len(recent)
            bar.set_postfix_str(f"loss {loss:.2f} (floor {floor:.2f}) nats, {speed:,.0f} tokens/s")
            if step.step % every == 0:
                run.save(checkpoint)


def write_made(args, run, documents):
    """Write down beside the model how it was made."""
    tokens = sum(s.tokens for s in run.history)
    minutes = round(sum(s.seconds for s in run.history) / 60, 1)
    hundreds = [run.history[i : i + 100] for i in range(0, run.steps, 100)]
    made = {
        "command": "python data/make_base.py", "model": args.model, "seed": args.seed,
        "leave_out": args.leave_out, "documents": documents, "tokens": tokens, "steps": run.steps,
        "passes": args.passes, "batch": args.batch, "lr": run.config.lr, "minutes": minutes,
        "torch": torch.__version__,
        "loss": [round(sum(s.loss for s in part) / len(part), 3) for part in hundreds],
    }  # fmt: skip
    text = json.dumps(made) + "\n"
    (args.out / "made.json").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    try:
        main()
    except (models.ModelError, TrainingError, WorldError) as error:
        sys.exit(f"make_base: {error}")
