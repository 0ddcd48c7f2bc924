"""Time a step of PPO alone and beside one busy program, for several ways in which torch's threads may wait.

    python tests/bench/threads.py

Prints the median of three steps of 252 responses in seconds. README says what follows.
"""

import os
import statistics
import subprocess
import sys
import time

WAYS = {
    "two threads, as libgomp comes": {"GOMP_SPINCOUNT": "300000"},
    "two threads, as rlhf_lite sets it": {},
    "two threads, OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
BUSY = [sys.executable, "-c", "while True: pass"]


def measure():
    """Take four steps of PPO with the default dials; print the median seconds of the last three."""
    from rlhf_lite import models, ppo, rewards
    from rlhf_lite.runtime import DATA
    from rlhf_lite.world import World, draw_prompts

    model, tokenizer = models.load(DATA / "models" / "base")
    score = rewards.load(DATA / "models" / "reward")
    prompts = sorted(set(draw_prompts(World(), 84)))
    run = ppo.PPORun(model, None, tokenizer, prompts, score)
    seconds = [run.advance().seconds for _ in range(4)]
    print(f"{statistics.median(seconds[1:]):.2f}")


def main():
    """Print a table, a line a way."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    print(f"{'seconds a step':40}{'alone':>8}{'busy':>8}")
    for name, environment in WAYS.items():
        row = []
        for busy in (False, True):
            other = subprocess.Popen(BUSY) if busy else None
            time.sleep(1)
            done = subprocess.run(
                [sys.executable, __file__, "--one"], env=clean | environment,
                capture_output=True, encoding="utf-8", check=True,
            )  # fmt: skip
            row.append(float(done.stdout))
            if other:
                other.kill()
        print(f"{name:40}{row[0]:8.2f}{row[1]:8.2f}")


if __name__ == "__main__":
    measure() if "--one" in sys.argv else main()
