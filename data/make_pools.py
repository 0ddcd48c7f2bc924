"""Draw a pool of scored base samples, on which exact answers rest: writes data/pools/NAME.npz.

    python data/make_pools.py training   # 84 prompts x 1,200: about 18 minutes on two cores
    python data/make_pools.py held_out   # 21 x 1,024, about people never asked for: 5 minutes

The first is scored by the shipped reward model, the second by an auditor who checks every claim.
Killed? The same command goes on: finished chunks lie in data/runs/my-pools until all are done.
"""

import argparse
import os
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

from rlhf_lite.annotators import auditor
from rlhf_lite.diversity import likeliest_voices
from rlhf_lite.experiments import Lab
from rlhf_lite.feedback import fingerprint
from rlhf_lite.pools import FOLDER
from rlhf_lite.records import plain_output
from rlhf_lite.runtime import DATA
from rlhf_lite.sampling import respond

import numpy as np
import torch
from tqdm import tqdm

EACH, AT_ONCE = 1024, 512  # held-out samples a prompt, and of them a chunk


@cache
def lab():
    """Return this process's Lab, on one thread."""
    torch.set_num_threads(1)
    return Lab(FOLDER)


def training_chunk(number):
    """Draw six samples of each prompt; return arrays (P, 6)."""
    drawn = lab().draw(lab().base, lab().reward, 6, 10_000 + number)
    voices = likeliest_voices(lab().world, drawn.texts)
    likeliest = np.where(voices.any(-1), voices.argmax(-1), voices.shape[-1])
    return {
        "scores": drawn.scores.numpy(), "logprobs": drawn.logprobs.numpy().astype(np.float16),
        "voices": likeliest.astype(np.uint8),
    }  # fmt: skip


def held_out_chunk(number):
    """Draw AT_ONCE samples of one prompt; return arrays (AT_ONCE, ...)."""
    own = lab()
    prompt, gold = sorted(own.held_out)[number * AT_ONCE // EACH], auditor(own.world)
    asked = [prompt] * AT_ONCE
    said = respond(own.base, own.tokenizer, asked, seed=7000 + number, batch=AT_ONCE)
    texts = [prompt + r for r in said]
    readings = [own.read(text) for text in texts]
    return {
        "texts": np.array(texts),
        "gold": np.array([gold.utility(r) for r in readings], np.float32),
        "words": np.array([r.words for r in readings], np.uint8),
        "claims": np.array([[r.true, r.false, r.unsupported] for r in readings], np.uint8),
    }


CHUNKS = {"training": (training_chunk, 200), "held_out": (held_out_chunk, 42)}


def kept(name, number):
    """Draw one chunk of a pool, unless it is there; return its path."""
    path = DATA / "runs" / "my-pools" / f"{name}-{number:04d}.npz"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        half = path.with_name(f"half-{path.name}")
        np.savez(half, **CHUNKS[name][0](number))
        os.replace(half, path)
    return path


def whole(name, parts):
    """Return the arrays of a pool from those of its chunks."""
    along = 1 if name == "training" else 0
    found = {k: np.concatenate([part[k] for part in parts], axis=along) for k in parts[0]}
    if name == "training":
        return found | {"prompts": np.array(lab().prompts), "world": np.array(fingerprint())}
    found["texts"] = zlib.compress("\x1e".join(found["texts"]).encode(), 9)
    found["texts"] = np.frombuffer(found["texts"], np.uint8)
    shaped = {k: found[k].reshape(-1, EACH) for k in ("gold", "words")}
    return found | shaped | {"prompts": np.array(sorted(lab().held_out))}


def main():
    plain_output()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=CHUNKS)
    name = parser.parse_args().name
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as workers:
        jobs = [workers.submit(kept, name, number) for number in range(CHUNKS[name][1])]
        parts = [dict(np.load(job.result())) for job in tqdm(jobs, unit=" chunks")]
    np.savez_compressed(FOLDER / f"{name}.npz", **whole(name, parts))
    print("wrote", FOLDER / f"{name}.npz")


if __name__ == "__main__":
    main()
