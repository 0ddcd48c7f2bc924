"""Share the plumbing of the notebooks: the exact world, small GPT-2s, and how to measure them.

Shapes, everywhere: B batch, Q query tokens, R response tokens, T = Q + R, V vocabulary, K samples
per query. Masks are 1 where a token counts. Modules import downward only, in the order runtime,
grammar, worldfiles, writer, world, models, sampling, training, feedback, annotators, rewards,
metrics, diversity, optimum, testbed, policies, ppo, direct, hacking, runs, claims, plots, widgets,
panel, desk.
"""

__version__ = "0.1.0"
