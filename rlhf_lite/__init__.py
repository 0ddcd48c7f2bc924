"""Share the plumbing of the notebooks: the exact world, small GPT-2s, and how to measure them.

Shapes, everywhere: B batch, Q query tokens, R response tokens, T = Q + R, V vocabulary, K samples
per query. Masks are 1 where a token counts. Modules import downward only, in the order
checks, runtime, world, models, sampling, attacks, training, feedback, edits, annotators, labellers,
optimum, pools, judging, rewards, proxies, classroom, knowledge, truth, diversity, testbed, scores,
rollouts, steps, policies, ppo, direct, supervised, hacking, records, rulers, experiments,
launching, predictions, budget, published, exercises, show.
"""

import os

__version__ = "0.1.0"

# Torch's threads wait for each other spinning, and for long. Beside one other busy program on two
# cores a step of PPO then takes 29 s instead of 2; spinning 5,000 turns at most, it takes 5. Read
# when torch is loaded, so rlhf_lite must be imported before it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
