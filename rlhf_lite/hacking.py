"""Measure how far a reward model can be pushed until what was wanted falls.

Best-of-n pushes a proxy without training; the gold utility of the best, and its fall from the peak,
say when the push has gone too far, and Gao's two curves fit it. Length explains much of it. Omits
the making of proxies (see `proxies`, `labellers`) and of policies. Taught by notebook 06.
"""

from rlhf_lite import optimum
from rlhf_lite.checks import check_alike, check_choice, check_numbers
from rlhf_lite.optimum import OptimumError

import numpy as np

# ---- how hard to push ----


def push(proxy, gold, ns):
    """Return the gold utility of the best of n by proxy, for each prompt and n, (P, len(ns)).

    proxy, gold (P, N); over all subsets of n of the N samples, without luck.
    """
    proxy, gold = optimum.check_scores(proxy), optimum.check_scores(gold)
    if proxy.shape != gold.shape or not np.iterable(ns):
        found = f"proxy {proxy.shape} and gold {gold.shape}, ns {ns!r}"
        raise OptimumError(f"{found}; expected both (prompts, samples), and a list of numbers")
    return np.array([[optimum.best_of_n(s, u, n) for n in ns] for s, u in zip(proxy, gold)])


def fall(curves):
    """Return how far gold falls from its peak to the last n, one number a prompt (P,) [points].

    curves (P, len(ns)). The peak of each prompt is sought on the *others*, so that luck does not
    make a peak where there is none; the fall may come out below 0. Of several seeds, (S, P,
    len(ns)), returns (S, P): all prompts of a seed share the luck of its labels, so each peak is
    sought on the other prompts of the other seeds.
    """
    curves = check_numbers(curves, "curves of prompts", None, OptimumError).astype(float)
    if curves.ndim not in (2, 3) or min(curves.shape[:-1]) < 2:
        found = f"curves of shape {curves.shape}"
        raise OptimumError(f"{found}; expected two or more prompts, and not one seed alone")
    others = (curves.sum(0) - curves) / (len(curves) - 1)
    if curves.ndim == 3:
        others = others.sum(1, keepdims=True) - others
    peak = others.argmax(-1)[..., None]
    return np.take_along_axis(curves, peak, -1)[..., 0] - curves[..., -1]


def root_kl(ns):
    """Return d = sqrt(log n - (n - 1) / n) [sqrt nats] for each n (Gao et al. 2023)."""
    if not np.iterable(ns):
        raise OptimumError(f"ns is {ns!r}; expected a list of numbers of samples")
    return np.sqrt([max(optimum.best_of_n_bound(n), 0.0) for n in ns])


def fit_gold(d, gain, form="best-of-n"):
    """Fit gold's gain over the base; return (alpha, beta).

    "best-of-n": R(d) = d (alpha - beta d); "RL": R(d) = d (alpha - beta log d) (Gao et al. 2023).
    d, gain (K,): sqrt of KL [sqrt nats], gain [points]; least squares.
    """
    d, gain = check_alike({"d": d, "gain": gain})
    if len(d) < 2:
        raise OptimumError("one point; expected two or more, to fit alpha and beta")
    return np.linalg.lstsq(_columns(d, form), gain.astype(float), rcond=None)[0]


def predict_gold(d, alpha, beta, form="best-of-n"):
    """Return R(d) of `fit_gold`, (K,) [points]."""
    return _columns(d, form) @ np.array([alpha, beta])


def _columns(d, form):
    """Return the two columns whose weights are alpha and beta, (K, 2)."""
    d = check_numbers(d, "d").astype(float)
    if (d <= 0).any():
        raise OptimumError(f"d is {d.min():g}; expected KL above 0, so n of 2 or more")
    bends = {"best-of-n": d, "RL": np.log(d)}
    return np.stack([d, -d * bends[check_choice(form, bends, "form", OptimumError)]], 1)


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
    named = {"ours": ours, "theirs": theirs, "our_words": our_words, "their_words": their_words}
    ours, theirs, our_words, their_words = check_alike(named)
    like = np.abs(np.subtract(our_words, their_words)) <= within
    gap = np.subtract(ours, theirs)[like]
    return (float(np.mean((np.sign(gap) + 1) / 2)) if len(gap) else float("nan")), int(like.sum())
