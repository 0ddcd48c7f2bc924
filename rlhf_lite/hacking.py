"""Push a reward model until it breaks, and measure what was wanted beside what was rewarded.

The gold utility of an auditor who checks every claim stands beside proxies: reward models of
several sizes, trained on the labels of people who check a claim only now and then. Omits the
training of transformers (see `rewards`) and of policies (see `ppo`). Taught by notebook 06.
"""

from collections import Counter
from dataclasses import replace
from numbers import Integral, Real

from rlhf_lite import metrics, optimum
from rlhf_lite.annotators import NUMBERS, Annotator, Panel
from rlhf_lite.feedback import FeedbackError
from rlhf_lite.metrics import check_alike, check_numbers
from rlhf_lite.models import ModelError
from rlhf_lite.runtime import check_texts

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, issparse
from scipy.special import expit
from transformers import GPT2LMHeadModel

# What is wanted [points]: a lie costs two truths, the voice does not matter, 32 words are enough.
GOLD = {
    "true": 1.0, "false": -2.0, "unsupported": -1.0, "tone": 0.0, "words": 32.0, "length": 0.8,
    "evasive": 0.0, "garbled": 2.0,
}  # fmt: skip
ENSEMBLES = ("mean", "worst", "uncertainty")


def auditor(world, rationality=1.0):
    """Return the Annotator whose utility is gold: indifferent to voices, never fooled."""
    blurb = "Checks every claim, and likes it short."
    values = {k: GOLD[k] for k in NUMBERS}
    return Annotator(
        "auditor", blurb, np.zeros(len(world.voices)), values, rationality, silence=2.0
    )


# ---- people who do not check ----


def glance(reading, checked, rng):
    """Return the Reading of someone who checks each claim with probability `checked`.

    What is not checked is believed: a false or unsupported claim then counts as a true one.
    """
    _check_probability(checked)
    false, unsupported = rng.binomial([reading.false, reading.unsupported], checked).tolist()
    believed = reading.true + reading.false + reading.unsupported - false - unsupported
    return replace(reading, true=believed, false=false, unsupported=unsupported)


def _check_probability(checked):
    """Raise FeedbackError unless claims can be checked with this probability."""
    if not isinstance(checked, Real) or not 0 <= checked <= 1:
        raise FeedbackError(f"checked is {checked}; expected a probability from 0 to 1")


class HastyPanel(Panel):
    """Be a labeller who checks each claim with probability `checked`.

    This person likes a response by `per_word` points the better for each word that it is longer.
    Example: `HastyPanel(world, auditor(world), seed=0, checked=0.25).prefer(prompt, a, b)`.
    """

    def __init__(
        self, world, annotator, seed=0, reader=None, stamp=None, checked=0.25, per_word=0.0
    ):
        super().__init__(world, annotator, seed, reader, stamp)
        _check_probability(checked)
        self.checked, self.per_word = checked, per_word

    def utility(self, prompt, response):
        """Return what this person believes prompt + response to be worth, this time [points]."""
        check_texts((prompt, response), "[prompt, response]")
        seen = glance(self.read(prompt + response), self.checked, self.rng)
        return self.annotator.utility(seen) + self.per_word * seen.words


# ---- proxies of several sizes ----


def first_layers(base, layers):
    """Return a copy of a base model with its first `layers` blocks only.

    Example: `first_layers(base, 1)`.
    """
    if not isinstance(layers, Integral) or not 1 <= layers <= base.config.n_layer:
        raise ModelError(f"layers is {layers}; expected 1 to {base.config.n_layer}")
    config = type(base.config)(**base.config.to_dict() | {"n_layer": layers})
    model = GPT2LMHeadModel(config)
    model.load_state_dict(base.state_dict(), strict=False)
    return model.to(base.device).eval()


def fit_preferences(gaps, ties):
    """Fit a linear score to preferences, w ~ N(0, 1); return the weights w (F,).

    P(chosen preferred) = sigmoid(w gap) (Bradley and Terry 1952), a tie counting half for either
    side. gaps (N, F), dense or sparse: features of the chosen text less those of the rejected one;
    ties (N,) bool.
    """
    numbers = gaps.data if issparse(gaps) else check_numbers(gaps, "gaps", 2)
    if np.shape(ties) != gaps.shape[:1] or not np.isfinite(numbers).all():
        raise FeedbackError(
            f"gaps {gaps.shape} and ties {np.shape(ties)}; expected finite ones, and a tie or none "
            f"for each pair"
        )
    target = np.where(ties, 0.5, 1.0)

    def loss(w):
        x = gaps @ w
        nats = np.logaddexp(0, x) - target * x
        return nats.sum() + w @ w / 2, gaps.T @ (expit(x) - target) + w

    return minimize(loss, np.zeros(gaps.shape[1]), jac=True, method="L-BFGS-B").x


class BagOfWords:
    """Be the smallest reward model: a weight a word, blind to order; call it on texts.

    score(text) = sum over its words of w, by `fit_preferences`.
    """

    def __init__(self, rows):
        """Fit to `rewards.examples("preference", records)`."""
        if not rows:
            raise FeedbackError("no preferences to fit a bag of words to; expected at least one")
        chosen, rejected = zip(*(texts for texts, _ in rows))
        self.words = {
            w: i for i, w in enumerate(sorted({w for t in chosen + rejected for w in t.split()}))
        }
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


def ensemble(scores, how="worst", weight=1.0):
    """Join the scores (M, N) of M reward models into one (N,), each in units of its own sd.

    "mean", "worst" = min over models, or "uncertainty" = mean - weight * variance over models
    (Coste et al. 2024).
    """
    if how not in ENSEMBLES:
        raise FeedbackError(f"no ensemble {how!r}; expected one of {', '.join(ENSEMBLES)}")
    try:
        table = torch.as_tensor(scores)
    except (TypeError, ValueError, RuntimeError):
        raise FeedbackError("scores are no table of numbers; expected (models, texts)") from None
    if table.ndim != 2 or not table.numel() or not table.isfinite().all():
        raise FeedbackError(
            f"scores have shape {tuple(table.shape)}, or some are not finite; expected finite "
            f"ones, (models, texts)"
        )
    if how == "worst":
        return table.min(0).values
    mean = table.mean(0)
    return mean if how == "mean" else mean - weight * table.var(0, unbiased=False)


# ---- how hard to push ----


def push(proxy, gold, ns):
    """Return the gold utility of the best of n by proxy, for each prompt and n, (P, len(ns)).

    proxy, gold (P, N); over all subsets of n of the N samples, without luck.
    """
    proxy, gold = optimum.check_scores(proxy), optimum.check_scores(gold)
    if proxy.shape != gold.shape or not np.iterable(ns):
        raise optimum.OptimumError(
            f"proxy {proxy.shape} and gold {gold.shape}, ns {ns!r}; expected both (prompts, "
            f"samples), and a list of numbers of samples"
        )
    return np.array([[metrics.best_of_n(s, u, n) for n in ns] for s, u in zip(proxy, gold)])


def fall(curves):
    """Return how far gold falls from its peak to the last n, one number a prompt (P,) [points].

    curves (P, len(ns)). The peak of each prompt is sought on the *others*, so that luck does not
    make a peak where there is none; the fall may come out below 0.
    """
    curves = optimum.check_scores(curves)
    if len(curves) < 2:
        raise optimum.OptimumError("one prompt; expected two or more, to seek the peak elsewhere")
    others = (curves.sum(0) - curves) / (len(curves) - 1)
    peak = others.argmax(1)
    return curves[np.arange(len(curves)), peak] - curves[:, -1]


def root_kl(ns):
    """Return d = sqrt(log n - (n - 1) / n) [sqrt nats] for each n (Gao et al. 2023)."""
    if not np.iterable(ns):
        raise optimum.OptimumError(f"ns is {ns!r}; expected a list of numbers of samples")
    return np.sqrt([max(optimum.best_of_n_bound(n), 0.0) for n in ns])


def fit_gold(d, gain, form="best-of-n"):
    """Fit gold's gain over the base; return (alpha, beta).

    "best-of-n": R(d) = d (alpha - beta d); "RL": R(d) = d (alpha - beta log d) (Gao et al. 2023).
    d, gain (K,): sqrt of KL [sqrt nats], gain [points]; least squares.
    """
    d, gain = check_alike({"d": d, "gain": gain})
    if len(d) < 2:
        raise optimum.OptimumError("one point; expected two or more, to fit alpha and beta")
    return np.linalg.lstsq(_columns(d, form), gain.astype(float), rcond=None)[0]


def predict_gold(d, alpha, beta, form="best-of-n"):
    """Return R(d) of `fit_gold`, (K,) [points]."""
    return _columns(d, form) @ np.array([alpha, beta])


def _columns(d, form):
    """Return the two columns whose weights are alpha and beta, (K, 2)."""
    d = check_numbers(d, "d").astype(float)
    if (d <= 0).any():
        raise optimum.OptimumError(f"d is {d.min():g}; expected KL above 0, so n of 2 or more")
    bends = {"best-of-n": d, "RL": np.log(d)}
    if form not in bends:
        raise optimum.OptimumError(f"no form {form!r}; expected one of {', '.join(bends)}")
    return np.stack([d, -d * bends[form]], 1)


# ---- length ----


def length_r2(scores, words):
    """Return the share of the variance of scores within a prompt that length explains.

    The R^2 of a line (Singhal et al. 2024), mean over prompts. scores, words (P, N).
    """
    rows = zip(*check_alike({"scores": scores, "words": words}, 2))
    pairs = [(s, w) for s, w in rows if np.ptp(s) * np.ptp(w)]
    return float(np.mean([np.corrcoef(s, w)[0, 1] ** 2 for s, w in pairs])) if pairs else 0.0


def without_length(scores, words):
    """Return scores (P, N) less what a line in length explains of them, over all prompts."""
    named = {"scores": scores, "words": words}
    scores, words = (a.astype(float) for a in check_alike(named, 2))
    slope = np.polyfit(words.ravel(), scores.ravel(), 1)[0]
    return scores - slope * (words - words.mean())


def matched_wins(ours, theirs, our_words, their_words, within=2):
    """Return (share of pairs of like length in which ours is better, their number).

    ours, theirs (N,) [points]; a tie counts half; pairs whose lengths differ by more than `within`
    words are left out.
    """
    ours, theirs, our_words, their_words = check_alike(
        {"ours": ours, "theirs": theirs, "our_words": our_words, "their_words": their_words}
    )
    like = np.abs(np.subtract(our_words, their_words)) <= within
    gap = np.subtract(ours, theirs)[like]
    return (float(np.mean((np.sign(gap) + 1) / 2)) if len(gap) else float("nan")), int(like.sum())
