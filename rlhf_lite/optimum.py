"""Know the best that any policy can reach under a KL penalty, and how far one is from it.

The objective J(pi) = E_x[E_pi[score] - kl_coef KL(pi || pi0)] has the exact optimum
pi*(y|x) = pi0(y|x) exp(score / kl_coef) / Z(x) (Korbak et al. 2022). Here it is estimated from base
samples, prompt by prompt, and compared with best-of-n. Omits training, and estimates that the
samples cannot carry: those are refused. Taught by notebooks 04 and 05.
"""

import math
from dataclasses import dataclass

from rlhf_lite.checks import check_alike, check_number, check_numbers

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln, logsumexp, softmax
from scipy.stats import entropy


class OptimumError(ValueError):
    """Says in one sentence why an optimum, or a number that rests on it, cannot be had."""


@dataclass(frozen=True)
class Optimum:
    """What base samples say about pi* at one kl_coef; P prompts count alike.

    log_z (P,): log E_0 exp(score / kl_coef) [nats]; objective: J* = kl_coef mean log Z [score];
    kl: KL(pi* || pi0) [nats]; score: E*[score]; base_score: E_0[score]; ess (P,): effective number
    of samples; features (P, K): their means under pi*, or None. The errors (_se) are those of the
    samples drawn: the prompts are taken as given.
    """

    kl_coef: float
    log_z: np.ndarray
    objective: float
    objective_se: float
    kl: float
    kl_se: float
    score: float
    score_se: float
    base_score: float
    ess: np.ndarray
    features: np.ndarray | None = None
    features_se: np.ndarray | None = None


# ---- the optimum, from base samples ----


def weights(scores, kl_coef):
    """Return the weights that turn base samples into samples of pi*, summing to 1 for each prompt.

    w_i = exp(score_i / kl_coef) / sum_j exp(score_j / kl_coef). scores (P, N); returns (P, N).
    """
    return softmax(check_scores(scores, kl_coef) / kl_coef, axis=1)


def tilt_to(scores, nats):
    """Return the weights (P, N) of pi* at the kl_coef at which its mean KL is `nats`.

    The N samples of each prompt are taken as the base itself, so the KL, mean over prompts of
    sum_i w_i log(N w_i), is exact. Raises OptimumError for more nats than the samples can carry.
    """
    scores = check_scores(scores)
    check_number(nats, "nats", OptimumError, above=0)

    def excess(log_coef):
        q = weights(scores, math.exp(log_coef))
        return float(-entropy(q, axis=1).mean()) + math.log(scores.shape[1]) - nats

    spread = max(np.ptp(scores, axis=1).max(), 1e-12)
    low, high = math.log(1e-4 * spread), math.log(1e4 * spread)
    if not excess(low) > 0:
        found = f"{scores.shape[1]} samples a prompt carry no {nats:g} nats"
        raise OptimumError(f"{found}; expected more samples, or scores that differ")
    return weights(scores, math.exp(brentq(excess, low, high)))


def ess(scores, kl_coef):
    """Return how many samples of pi* the N base samples of each prompt are worth, (P,).

    (sum w)^2 / sum w^2 (Kong 1992): N where all weigh the same, 1 where one sample weighs all.
    """
    return 1 / (weights(scores, kl_coef) ** 2).sum(1)


def optimum(scores, kl_coef, features=None, least=30):
    """Estimate pi* and its J*, KL and score, e.g. `optimum(scores, 0.5).kl`; return an Optimum.

    log Z(x) = log mean_i exp(score_i / kl_coef), E*[f] = sum_i w_i f_i, KL(pi* || pi0) =
    E*[score] / kl_coef - log Z; bias and errors by the jackknife within each prompt (Efron 1982).
    scores (P, N): of N base samples of each of P prompts; features (P, N, K): anything else known
    of each sample, such as the probabilities of its voice. Raises OptimumError where the worst
    prompt has fewer than `least` effective samples: its error would look smaller than it is. On
    normal scores, at the very limit of 30, the stated errors are right for 64 prompts of 500
    samples, up to 1.7 times too small for 16, and 3 times or more for one: there ask for 200.
    """
    q = weights(scores, kl_coef)
    _require_samples(scores, kl_coef, least)
    scores = np.asarray(scores, dtype=float)
    n = scores.shape[1]
    log_z = logsumexp(scores / kl_coef, axis=1) - math.log(n)
    log_z_parts = log_z[:, None] + np.log1p(-q) - math.log1p(-1 / n)
    score, score_parts = (a[..., 0] for a in _means(q, scores[..., None]))
    z, z_se = _jackknife(log_z, log_z_parts)
    kl = _jackknife(score / kl_coef - log_z, score_parts / kl_coef - log_z_parts)
    objective, objective_se = _over_prompts(kl_coef * z, kl_coef * z_se)
    shares = (None, None) if features is None else _features(q, features)
    return Optimum(
        kl_coef, z, objective, objective_se, *_over_prompts(*kl),
        *_over_prompts(*_jackknife(score, score_parts)), float(scores.mean()),
        1 / (q**2).sum(1), *shares,
    )  # fmt: skip


def frontier(scores, kl_coefs, features=None, least=30):
    """Return the Optimum at each of kl_coefs that the samples can carry, the others left out.

    No policy has a higher score at the same KL, up to the errors stated.
    Example: `frontier(scores, [2, 1, 0.5])`.
    """
    if not np.iterable(kl_coefs):
        raise OptimumError(f"kl_coefs is {kl_coefs!r}; expected a list of numbers")
    kept = [c for c in kl_coefs if ess(scores, c).min() >= least]
    return [optimum(scores, c, features, least) for c in kept]


def distance(objective, optimum):
    """Return KL(pi || pi*) = mean log Z - J(pi) / kl_coef [nats] of a policy from its objective.

    objective: J(pi) on the same prompts, at the same kl_coef. The error is that of J / kl_coef.
    """
    check_number(objective, "the objective", OptimumError)
    return float(optimum.log_z.mean() - objective / optimum.kl_coef)


def share(objective, optimum):
    """Return the share (J - J0) / (J* - J0) of what can be gained over the base, 1 at pi*."""
    check_number(objective, "the objective", OptimumError)
    gain = optimum.objective - optimum.base_score
    if not gain > 0:
        raise OptimumError(f"J* - J0 is {gain:z.3g}; expected scores that differ, so that J* > J0")
    return float((objective - optimum.base_score) / gain)


def check_scores(scores, kl_coef=1.0):
    """Return the scores as floats (P, N), or raise OptimumError where they or kl_coef are unfit."""
    scores = check_numbers(scores, "scores (prompts, samples)", 2, OptimumError)
    check_number(kl_coef, "kl_coef", OptimumError, above=0)
    return scores.astype(float, copy=False)


def _require_samples(scores, kl_coef, least):
    """Raise OptimumError unless every prompt has `least` effective samples."""
    found = ess(scores, kl_coef).min()
    if found < least or least < 2:
        low = 1.005 * _smallest_coef(scores, least)  # still enough when printed in three digits
        kl = optimum(scores, low, least=least).kl
        raise OptimumError(
            f"at kl_coef {kl_coef:g} the worst prompt has {found:.1f} effective samples; expected "
            f"at least {least}: take more samples, or a kl_coef of {low:.3g} or more (these "
            f"samples can be trusted to a KL of {kl:z.2f} nats)"
        )


def _smallest_coef(scores, least):
    """Return the smallest kl_coef at which every prompt has `least` effective samples.

    The effective number grows with kl_coef, because log E exp(t score) is convex in t.
    """
    scores = check_scores(scores)
    # Two effective samples keep every weight below 0.71, so leaving one out loses no digits.
    if least < 2 or scores.shape[1] <= least:
        found = f"{scores.shape[1]} samples a prompt with least={least}"
        raise OptimumError(f"{found}; expected least to be 2 or more, and more samples than that")
    spread = np.ptp(scores, axis=1)
    if not spread.any():
        return 1.0
    low, high = 1e-3 * spread[spread > 0].min(), 1e6 * spread.max()
    if ess(scores, low).min() >= least:
        return low

    def surplus(log_coef):
        return ess(scores, math.exp(log_coef)).min() - least

    found = brentq(surplus, math.log(low), math.log(high), xtol=1e-11)
    return math.exp(found) * (1 + 1e-9)


def _means(q, values):
    """Return weighted means (P, K) of values (P, N, K), and the same with each sample left out.

    Without sample i the mean is m + q_i / (1 - q_i) (m - f_i): no second sum over N.
    """
    mean = np.einsum("pn,pnk->pk", q, values)
    return mean, mean[:, None] + (q / (1 - q))[..., None] * (mean[:, None] - values)


def _jackknife(whole, parts):
    """Return (value less its bias, standard error) of an estimate.

    whole: the estimate; parts: its N leave-one-outs on axis 1.
    """
    n, mean = parts.shape[1], parts.mean(1)
    spread = ((parts - mean[:, None]) ** 2).sum(1)
    return n * whole - (n - 1) * mean, np.sqrt((n - 1) / n * spread)


def _over_prompts(values, errors):
    """Return (mean, its standard error) over prompts."""
    return float(values.mean()), float(np.sqrt((errors**2).sum()) / len(errors))


def _features(q, features):
    """Return the means (P, K) of features (P, N, K) under pi*, and their errors."""
    features = check_numbers(features, "features", 3, OptimumError).astype(float)
    if features.shape[:2] != q.shape:
        found = f"features have shape {features.shape}"
        raise OptimumError(f"{found}; expected {(*q.shape, 'K')}, a row a sample")
    return _jackknife(*_means(q, features))


# ---- best of n ----


def best_of_n_bound(n):
    """Return log n - (n - 1) / n [nats], which the KL of best-of-n from the base cannot pass.

    An upper bound (Beirami et al. 2024), met only where no two answers tie.
    """
    if check_number(n, "n", OptimumError) < 1:
        raise OptimumError(f"n is {n!r}; expected a number of samples, 1 or more")
    return math.log(n) - (n - 1) / n


def best_of_n_kl(probabilities, scores, n):
    """Return KL(pi_n || pi0) [nats] of the best-scored of n draws from a discrete distribution.

    pi_n(y) = pi0(y) (F(y)^n - F(y-)^n) / (F(y) - F(y-)) with F the distribution of the score; among
    equal scores luck decides. probabilities, scores (S,).
    """
    named = {"probabilities": probabilities, "scores": scores}
    probabilities, scores = check_alike(named, error=OptimumError)
    if (probabilities < 0).any() or abs(probabilities.sum() - 1) > 1e-6 or not n >= 1:
        found = f"probabilities sum to {probabilities.sum():.6g} and n is {n}"
        raise OptimumError(f"{found}; expected shares of 1 and an n of 1 or more")
    _, levels = np.unique(scores, return_inverse=True)
    mass = np.bincount(levels, probabilities)
    best = np.diff(np.cumsum(mass) ** n, prepend=0.0)
    seen = best > 0
    return float((best[seen] * np.log(best[seen] / mass[seen])).sum())


def best_of_n_curve(scores, ns):
    """Return [{"n", "score", "kl", "bound"}] for each n of ns, means over prompts.

    The score is over all subsets of n samples; the KL is that of the N samples' own distribution,
    close to the truth up to n = N / 10. scores (P, N). Example: `best_of_n_curve(scores, [1, 4])`.
    """
    scores = check_scores(scores)
    if not np.iterable(ns):
        raise OptimumError(f"ns is {ns!r}; expected a list of numbers of samples")
    flat = np.full(scores.shape[1], 1 / scores.shape[1])
    return [
        {
            "n": n,
            "score": float(np.mean([best_of_n(row, row, n) for row in scores])),
            "kl": float(np.mean([best_of_n_kl(flat, row, n) for row in scores])),
            "bound": best_of_n_bound(n),
        }
        for n in ns
    ]


def best_of_n(scores, values, n):
    """Return E[value of the best-scored of n], over all subsets of n from N samples without luck.

    sum_i values_(i) C(i - 1, n - 1) / C(N, n), samples in ascending order of score (the estimator
    of Nakano et al. 2021).
    """
    scores, values = check_alike({"scores": scores, "values": values})
    if not 1 <= n <= len(scores) or n != int(n):
        raise ValueError(f"best of {n} from {len(scores)} samples; expected 1 to {len(scores)}")
    _, groups = np.unique(scores, return_inverse=True)
    # Among equal scores luck decides, so each of them counts as their mean.
    means = np.bincount(groups, values) / np.bincount(groups)
    ordered = means[np.sort(groups)]
    ranks = np.arange(1, len(ordered) + 1)
    logs = gammaln(ranks) - gammaln(np.maximum(ranks - n + 1, 1)) - gammaln(n)
    total = gammaln(len(ordered) + 1) - gammaln(len(ordered) - n + 1) - gammaln(n + 1)
    weights = np.where(ranks >= n, np.exp(logs - total), 0.0)
    return float(weights @ ordered)
