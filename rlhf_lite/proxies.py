"""Score texts by less or more than one transformer: a bag of words, a linear fit, an ensemble.

Each is a reward that a policy can be pushed against, of another size than `rewards` trains. Omits
the one-layer transformer, which is a RewardRun on `models.first_layers`. Taught by notebook 06; the
class of 02b fits a line to what the base model makes of its texts.
"""

from collections import Counter

from rlhf_lite.checks import check_choice, check_numbers, check_texts
from rlhf_lite.feedback import FeedbackError
from rlhf_lite.models import context_of
from rlhf_lite.rewards import encode_right

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, issparse
from scipy.special import expit

ENSEMBLES = ("mean", "worst", "uncertainty")


def fit_preferences(gaps, ties):
    """Fit a linear score to preferences, w ~ N(0, 1); return the weights w (F,).

    P(chosen preferred) = sigmoid(w gap) (Bradley and Terry 1952), a tie counting half for either
    side. gaps (N, F), dense or sparse: features of the chosen text less those of the rejected one;
    ties (N,) bool.
    """
    numbers = gaps.data if issparse(gaps) else check_numbers(gaps, "gaps", 2)
    if np.shape(ties) != gaps.shape[:1] or not np.isfinite(numbers).all():
        found = f"gaps {gaps.shape} and ties {np.shape(ties)}"
        raise FeedbackError(f"{found}; expected finite ones, and whether a tie for each pair")
    target = np.where(ties, 0.5, 1.0)

    def loss(w):
        x = gaps @ w
        nats = np.logaddexp(0, x) - target * x
        return nats.sum() + w @ w / 2, gaps.T @ (expit(x) - target) + w

    return minimize(loss, np.zeros(gaps.shape[1]), jac=True, method="L-BFGS-B").x


class BagOfWords:
    """The smallest reward model, a weight a word, blind to order; call it on texts.

    score(text) = sum over its words of w, by `fit_preferences`.
    """

    def __init__(self, rows):
        """Fit to `rewards.examples("preference", records)`."""
        if not rows:
            raise FeedbackError("no preferences to fit a bag of words to; expected at least one")
        chosen, rejected = zip(*(texts for texts, _ in rows))
        words = sorted({word for text in chosen + rejected for word in text.split()})
        self.words = {word: number for number, word in enumerate(words)}
        gaps = self._counts(chosen) - self._counts(rejected)
        self.weights = fit_preferences(gaps, [tie for _, tie in rows])

    def _counts(self, texts):
        """Return how often each known word stands in each text, sparse (N, W)."""
        rows = [Counter(self.words[w] for w in t.split() if w in self.words) for t in texts]
        place = [(n, i, c) for n, row in enumerate(rows) for i, c in row.items()]
        at, word, count = zip(*place) if place else ((), (), ())
        return csr_matrix((count, (at, word)), shape=(len(rows), len(self.words)), dtype=float)

    def __call__(self, texts):
        """Return the score of each text, float32 tensor (N,)."""
        return torch.tensor(self._counts(check_texts(texts)) @ self.weights, dtype=torch.float32)


class Features:
    """What a frozen base model makes of texts: its last layer, mean over the tokens; remembered.

    Example: `Features(base, tokenizer)(["Ivo Vane sang."])`, an array (1, width).
    """

    def __init__(self, base, tokenizer, batch=64):
        self.base, self.tokenizer, self.batch, self.seen = base, tokenizer, batch, {}

    def __call__(self, texts):
        """Return the features of each text, (N, width)."""
        texts = check_texts(texts, least=1)
        new = sorted({t for t in texts if t not in self.seen}, key=len)
        for start in range(0, len(new), self.batch):
            part = new[start : start + self.batch]
            self.seen.update(zip(part, self._read(part)))
        return np.array([self.seen[t] for t in texts])

    @torch.no_grad()
    def _read(self, texts):
        tokens, lengths = encode_right(self.tokenizer, texts, context_of(self.base), cut=True)
        hidden = self.base.transformer(input_ids=tokens.to(self.base.device)).last_hidden_state
        real = torch.arange(tokens.shape[1]) < lengths[:, None]
        weights = (real / lengths[:, None]).to(hidden)
        return (hidden * weights[..., None]).sum(1).cpu().numpy()


class LinearReward:
    """A linear score of `Features`, fitted to preferences in a moment; call it on texts.

    w ~ N(0, 1) on features in units of their sd over the texts told of, times spread / sqrt(width).
    """

    def __init__(self, features, rows, spread=1.0):
        """Fit to `rewards.examples("preference", records)`."""
        if not rows:
            raise FeedbackError("no preferences to fit a linear reward to; expected at least one")
        chosen, rejected = zip(*(texts for texts, _ in rows))
        self.features, told = features, features(chosen + rejected)
        width = told.shape[1]
        self.scale = spread / np.maximum(told.std(0), 1e-6) / width**0.5
        self.middle = told.mean(0)
        gaps = (told[: len(rows)] - told[len(rows) :]) * self.scale
        self.weights = fit_preferences(gaps, [tie for _, tie in rows])

    def __call__(self, texts):
        """Return the score of each text, float32 tensor (N,), in nats."""
        found = (self.features(texts) - self.middle) * self.scale @ self.weights
        return torch.tensor(found, dtype=torch.float32)


def ensemble(scores, how="worst", weight=1.0):
    """Join the scores (M, N) of M reward models into one (N,), each in units of its own sd.

    "mean", "worst" = min over models, or "uncertainty" = mean - weight * variance over models
    (Coste et al. 2024).
    """
    check_choice(how, ENSEMBLES, "ensemble", FeedbackError)
    check_numbers(scores, "scores (models, texts)", 2, FeedbackError)
    table = torch.as_tensor(scores)
    if how == "worst":
        return table.min(0).values
    mean = table.mean(0)
    return mean if how == "mean" else mean - weight * table.var(0, unbiased=False)
