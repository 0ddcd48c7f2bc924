"""Read scored base samples, from which everything about the base model's best follows.

A pool answers what happens at any KL coefficient, and at any n of best-of-n, without training.
Omits drawing: `data/make_pools.py` does that. Used from notebook 04 on.
"""

import math
import zipfile
import zlib
from dataclasses import dataclass, field

from rlhf_lite.optimum import OptimumError, check_scores, optimum, weights
from rlhf_lite.runtime import DATA

import numpy as np
from scipy.special import logsumexp

FOLDER = DATA / "pools"
DAMAGE = OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error


@dataclass(frozen=True)
class Pool:
    """N scored base samples to each of P prompts: `Pool.read("training").at(0.54).kl`.

    prompts: P str; scores (P, N); logprobs (P, N): log pi0 of all sampled tokens [nats]; voices (P,
    N, V + 1): ones and zeros, the likeliest voice of each, the last for no single one; texts: P
    lists of N str; words (P, N); claims (P, N, 3): true, false and unsupported ones. What a pool
    does not hold is None.
    """

    prompts: list
    scores: np.ndarray
    logprobs: np.ndarray | None = None
    voices: np.ndarray | None = None
    texts: list | None = field(default=None, repr=False)
    words: np.ndarray | None = None
    claims: np.ndarray | None = None

    @classmethod
    def read(cls, name, folder=FOLDER):
        """Read a pool; raise OptimumError where it is missing or damaged."""
        path = folder / f"{name}.npz"
        try:
            with np.load(path) as file:
                parts = {key: file[key] for key in file.files}
            # What an auditor's gold says of a sample is its score.
            scores = check_scores(parts["gold" if "gold" in parts else "scores"])
            more = {k: parts[k].astype(float) for k in ("logprobs", "words") if k in parts}
            if "voices" in parts:
                more["voices"] = np.eye(parts["voices"].max() + 1)[parts["voices"]]
            if "texts" in parts:
                flat = zlib.decompress(parts["texts"].tobytes()).decode().split("\x1e")
                more["texts"] = np.reshape(flat, scores.shape).tolist()
            if "claims" in parts:
                more["claims"] = parts["claims"].reshape(*scores.shape, 3)
            names = parts["prompts"].tolist()
            shapes = {np.shape(a)[:2] for a in more.values()} | {scores.shape}
            if len(shapes) > 1 or len(names) != len(scores):
                raise ValueError("its arrays do not fit together")
        except DAMAGE as error:
            expected = "expected what `python data/make_pools.py` writes"
            raise OptimumError(f"the pool {path} cannot be read ({error}); {expected}") from None
        return cls(names, scores, **more)

    def at(self, kl_coef, least=30):
        """Return the Optimum at kl_coef, its features the shares of voices."""
        return optimum(self.scores, kl_coef, self.voices, least)

    def tilted(self, kl_coef):
        """Return log pi* of all samples, (P, N) [nats], and their weights under pi*, (P, N)."""
        check_scores(self.scores, kl_coef)
        log_z = logsumexp(self.scores / kl_coef, axis=1, keepdims=True)
        best = self.logprobs + self.scores / kl_coef - log_z + math.log(self.scores.shape[1])
        return best, weights(self.scores, kl_coef)
