"""Know the best that any policy can reach under a KL penalty, and how far one is from it.

The objective J(pi) = E_x[E_pi[score] - kl_coef KL(pi || pi0)] has the exact optimum
pi*(y|x) = pi0(y|x) exp(score / kl_coef) / Z(x) (Korbak et al. 2022). Here it is estimated from base
samples, prompt by prompt, compared with best-of-n, and found without any error on a testbed whose
answers can all be listed. Omits training, and estimates that the samples cannot carry: those are
refused. Taught by notebooks 04 and 05.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from rlhf_lite import metrics
from rlhf_lite.models import END, PAD, new_model

# One row a voice: the first word of an answer decides its voice.
WORDS = (
    "tide gull mast harbour sail rope anchor storm pier shell wave net",
    "bread oven salt spoon butter plum kettle flour pepper jam bowl feast",
    "oak moss fern owl brook root path fox bark leaf stone",
    "tram lamp clerk bell market coin roof poster ladder bridge crowd",
)
PROMPTS = ("tide", "bread", "oak", "tram")
LENGTH = 3  # words in an answer
NEVER = -48.0  # logit that keeps a token out: e^-48 of the probability


class OptimumError(ValueError):
    """Say in one sentence why an optimum, or a number that rests on it, cannot be had."""


@dataclass(frozen=True)
class Optimum:
    """Hold what base samples say about pi* at one kl_coef; P prompts count alike.

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


@dataclass(frozen=True)
class Pool:
    """Hold scored base samples, N to each of P prompts, from which pi* follows at any kl_coef.

    prompts: P str; scores (P, N); logprobs (P, N): log pi0 of all sampled tokens [nats]; voices (P,
    N, V + 1): ones and zeros, the likeliest voice of each, the last for no single one.
    """

    prompts: list
    scores: np.ndarray
    logprobs: np.ndarray
    voices: np.ndarray

    @classmethod
    def read(cls, path):
        """Read a pool as `data/measure_ppo.py --pool` writes it."""
        try:
            with np.load(path) as file:
                names, scores = file["prompts"].tolist(), file["scores"].astype(float)
                logprobs, voices = file["logprobs"].astype(float), file["voices"]
        except (OSError, KeyError, ValueError) as error:
            raise OptimumError(
                f"the pool {path} cannot be read ({error}); expected what "
                f"`python data/measure_ppo.py --pool` writes"
            ) from None
        return cls(names, scores, logprobs, np.eye(voices.max() + 1)[voices])

    def at(self, kl_coef, least=30):
        """Return the Optimum at kl_coef, its features the shares of voices."""
        return optimum(self.scores, kl_coef, self.voices, least)

    def tilted(self, kl_coef):
        """Return log pi* of all samples, (P, N) [nats], and their weights under pi*, (P, N)."""
        log_z = logsumexp(self.scores / kl_coef, axis=1, keepdims=True)
        best = self.logprobs + self.scores / kl_coef - log_z + math.log(self.scores.shape[1])
        return best, weights(self.scores, kl_coef)


# ---- the optimum, from base samples ----


def weights(scores, kl_coef):
    """Return the weights that turn base samples into samples of pi*, summing to 1 for each prompt.

    w_i = exp(score_i / kl_coef) / sum_j exp(score_j / kl_coef). scores (P, N); returns (P, N).
    """
    return softmax(_check(scores, kl_coef) / kl_coef, axis=1)


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
    """Return the Optimum at each of kl_coefs that the samples can carry, e.g. `frontier(scores,
    [2, 1, 0.5])`; the others are left out.

    No policy has a higher score at the same KL, up to the errors stated.
    """
    kept = [c for c in kl_coefs if ess(scores, c).min() >= least]
    return [optimum(scores, c, features, least) for c in kept]


def coef_for_kl(scores, kl, least=30):
    """Return the kl_coef whose pi* stands at KL(pi* || pi0) = kl [nats a response].

    Raises OptimumError for a KL that the samples cannot be trusted to.
    """
    if not 0 < kl < math.inf:
        raise OptimumError(f"kl is {kl}; expected a number of nats above 0")
    low, high = _smallest_coef(scores, least), 1e6 * np.ptp(scores, axis=1).max()
    most = optimum(scores, low, least=least).kl
    if not high or most < kl:
        raise OptimumError(
            f"KL {kl:g} nats is out of reach of these samples, which can be trusted to {most:.2f} "
            f"nats (kl_coef {low:.3g}); expected a smaller KL or more samples"
        )
    return _solve(lambda c: optimum(scores, c, least=least).kl - kl, low, high)


def distance(objective, optimum):
    """Return KL(pi || pi*) = mean log Z - J(pi) / kl_coef [nats] of a policy from its objective.

    objective: J(pi) on the same prompts, at the same kl_coef. The error is that of J / kl_coef.
    """
    return float(optimum.log_z.mean() - objective / optimum.kl_coef)


def share(objective, optimum):
    """Return the share (J - J0) / (J* - J0) of what can be gained over the base, 1 at pi*."""
    gain = optimum.objective - optimum.base_score
    if not gain > 0:
        raise OptimumError(f"J* - J0 is {gain:.3g}; expected scores that differ, so that J* > J0")
    return float((objective - optimum.base_score) / gain)


def _check(scores, kl_coef=1.0):
    """Return the scores as floats (P, N), or raise OptimumError."""
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2 or not scores.size:
        raise OptimumError(f"scores have shape {scores.shape}; expected (prompts, samples)")
    if not np.isfinite(scores).all():
        prompt, number = np.argwhere(~np.isfinite(scores))[0]
        raise OptimumError(
            f"the score of prompt {prompt}, sample {number} is {scores[prompt, number]}; "
            f"expected a finite number"
        )
    if not 0 < kl_coef < math.inf:
        raise OptimumError(f"kl_coef is {kl_coef}; expected a number above 0, such as 0.1")
    return scores


def _require_samples(scores, kl_coef, least):
    """Raise OptimumError unless every prompt has `least` effective samples."""
    found = ess(scores, kl_coef).min()
    if found < least or least < 2:
        low = 1.005 * _smallest_coef(scores, least)  # still enough when printed in three digits
        kl = optimum(scores, low, least=least).kl
        raise OptimumError(
            f"at kl_coef {kl_coef:g} the worst prompt has {found:.1f} effective samples; expected "
            f"at least {least}: take more samples, or a kl_coef of {low:.3g} or more (these "
            f"samples can be trusted to a KL of {kl:.2f} nats)"
        )


def _smallest_coef(scores, least):
    """Return the smallest kl_coef at which every prompt has `least` effective samples.

    The effective number grows with kl_coef, because log E exp(t score) is convex in t.
    """
    scores = _check(scores)
    # Two effective samples keep every weight below 0.71, so leaving one out loses no digits.
    if least < 2 or scores.shape[1] <= least:
        raise OptimumError(
            f"{scores.shape[1]} samples a prompt with least={least}; expected least to be 2 or "
            f"more, and more samples than that"
        )
    spread = np.ptp(scores, axis=1)
    if not spread.any():
        return 1.0
    low, high = 1e-3 * spread[spread > 0].min(), 1e6 * spread.max()
    if ess(scores, low).min() >= least:
        return low
    return _solve(lambda c: ess(scores, c).min() - least, low, high) * (1 + 1e-9)


def _solve(function, low, high):
    """Return the coefficient between low and high at which `function` is 0, sought on a log
    scale.
    """
    return math.exp(
        brentq(lambda x: function(math.exp(x)), math.log(low), math.log(high), xtol=1e-11)
    )


def _means(q, values):
    """Return weighted means (P, K) of values (P, N, K), and the same with each sample left out.

    Without sample i the mean is m + q_i / (1 - q_i) (m - f_i): no second sum over N.
    """
    mean = np.einsum("pn,pnk->pk", q, values)
    return mean, mean[:, None] + (q / (1 - q))[..., None] * (mean[:, None] - values)


def _jackknife(whole, parts):
    """Return (value less its bias, standard error) from an estimate and its N leave-one-outs on
    axis 1.
    """
    n, mean = parts.shape[1], parts.mean(1)
    spread = ((parts - mean[:, None]) ** 2).sum(1)
    return n * whole - (n - 1) * mean, np.sqrt((n - 1) / n * spread)


def _over_prompts(values, errors):
    """Return (mean, its standard error) over prompts."""
    return float(values.mean()), float(np.sqrt((errors**2).sum()) / len(errors))


def _features(q, features):
    """Return the means (P, K) of features (P, N, K) under pi*, and their errors."""
    features = np.asarray(features, dtype=float)
    if features.ndim != 3 or features.shape[:2] != q.shape:
        raise OptimumError(
            f"features have shape {features.shape}; expected {(*q.shape, 'K')}, a row a sample"
        )
    return _jackknife(*_means(q, features))


# ---- best of n ----


def best_of_n_bound(n):
    """Return log n - (n - 1) / n [nats], which the KL of best-of-n from the base cannot pass.

    An upper bound (Beirami et al. 2024), met only where no two answers tie.
    """
    return math.log(n) - (n - 1) / n


def best_of_n_kl(probabilities, scores, n):
    """Return KL(pi_n || pi0) [nats] of the best-scored of n draws from a discrete distribution.

    pi_n(y) = pi0(y) (F(y)^n - F(y-)^n) / (F(y) - F(y-)) with F the distribution of the score; among
    equal scores luck decides. probabilities, scores (S,).
    """
    probabilities = np.asarray(probabilities, dtype=float)
    if (probabilities < 0).any() or abs(probabilities.sum() - 1) > 1e-6 or n < 1:
        raise OptimumError(
            f"probabilities sum to {probabilities.sum():.6g} and n is {n}; expected shares of 1 "
            f"and an n of 1 or more"
        )
    _, levels = np.unique(scores, return_inverse=True)
    mass = np.bincount(levels, probabilities)
    best = np.diff(np.cumsum(mass) ** n, prepend=0.0)
    seen = best > 0
    return float((best[seen] * np.log(best[seen] / mass[seen])).sum())


def best_of_n_curve(scores, ns):
    """Return [{"n", "score", "kl", "bound"}], means over prompts, e.g. `best_of_n_curve(scores,
    [1, 4])`.

    The score is over all subsets of n samples; the KL is that of the N samples' own distribution,
    close to the truth up to n = N / 10. scores (P, N).
    """
    scores = _check(scores)
    flat = np.full(scores.shape[1], 1 / scores.shape[1])
    return [
        {
            "n": n,
            "score": float(np.mean([metrics.best_of_n(row, row, n) for row in scores])),
            "kl": float(np.mean([best_of_n_kl(flat, row, n) for row in scores])),
            "bound": best_of_n_bound(n),
        }
        for n in ns
    ]


# ---- the testbed: a policy whose every answer can be listed ----


@dataclass(frozen=True)
class Testbed:
    """Hold a tiny GPT-2 that answers in exactly three of W words, and a score of each answer.

    model, tokenizer: the base policy; words: W str; prompts: P str; scores (P, S): mean 0 and sd 1
    under the base, or any others by `dataclasses.replace`; voices (S,): the voice 0 to 3 of each
    answer, decided by its first word; base_logprobs (P, S) [nats]. Answer s is the words s // W^2,
    s // W % W and s % W, so S = W^3.
    """

    model: GPT2LMHeadModel
    tokenizer: PreTrainedTokenizerFast
    words: tuple
    prompts: tuple
    scores: np.ndarray
    voices: np.ndarray
    base_logprobs: np.ndarray

    def answer(self, number):
        """Return answer `number` as text, without its prompt."""
        return " ".join(self.words[i] for i in np.unravel_index(number, self._shape))

    def score(self, texts):
        """Look up the score of each text, a prompt and three words: float32 tensor (N,)."""
        found = [self.scores[self._place(number, text)] for number, text in enumerate(texts)]
        return torch.tensor(np.array(found), dtype=torch.float32)

    def sequence_logprobs(self, model):
        """Return the exact log pi(answer | prompt) of all answers, float64 tensor (P, S) [nats].

        log pi(y) = sum_t log pi(y_t | y_<t) from one pass over the W^2 first two words of each
        prompt. Gradients flow, unless under torch.no_grad().
        """
        return torch.stack([self._enumerate(model, prompt) for prompt in self.prompts])

    @property
    def _shape(self):
        return (len(self.words),) * LENGTH

    def _place(self, number, text):
        """Return (prompt, answer) of a text as numbers, or raise OptimumError."""
        prompt, *said = text.split() or [""]
        known = prompt in self.prompts and len(said) == LENGTH
        if not known or not set(said) <= set(self.words):
            raise OptimumError(
                f"text {number} is {text!r}; expected one of {', '.join(self.prompts)} "
                f"and {LENGTH} words of the testbed"
            )
        at = [self.words.index(word) for word in said]
        return self.prompts.index(prompt), int(np.ravel_multi_index(at, self._shape))

    def _enumerate(self, model, prompt):
        """Return log pi of all answers to one prompt, (S,)."""
        count = len(self.words)
        ids = torch.tensor(self.tokenizer(" ".join(self.words))["input_ids"])
        start = torch.tensor([self.tokenizer.eos_token_id, *self.tokenizer(prompt)["input_ids"]])
        tokens = torch.cat([start.expand(count**2, -1), torch.cartesian_prod(ids, ids)], 1)
        logits = model(input_ids=tokens.to(model.device)).logits[:, -LENGTH:].double().cpu()
        logprobs = torch.log_softmax(logits, -1)[..., ids]  # (W^2, 3, W)
        first, second = logprobs[0, 0], logprobs[::count, 1]
        third = logprobs[:, 2].view(self._shape)
        return (first[:, None, None] + second[:, :, None] + third).flatten()


def new_testbed(seed=0, words=12):
    """Make a Testbed, e.g. `new_testbed(words=3)`; the same seed gives the same one.

    words: how many words a voice has at most, 1 to 12; 12 make 46 words and 97,336 answers.
    """
    if not 1 <= words <= 12:
        raise OptimumError(f"words is {words}; expected 1 to 12 words a voice")
    rows = [row.split()[:words] for row in WORDS]
    names = tuple(name for row in rows for name in row)
    voices = np.repeat(np.arange(len(rows)), [len(row) * len(names) ** 2 for row in rows])
    tokenizer = _tokenizer(names)
    model = _random_policy(tokenizer, seed)
    bed = Testbed(model, tokenizer, names, PROMPTS, None, voices, None)
    with torch.no_grad():
        base = bed.sequence_logprobs(model).numpy()
    scores = _random_scores(np.exp(base), len(names), seed)
    return replace(bed, scores=scores, base_logprobs=base)


def _tokenizer(names):
    """Make a tokenizer of one token a word."""
    words = Tokenizer(WordLevel({name: i for i, name in enumerate((END, PAD, *names))}))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token=END, eos_token=END, pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


@torch.no_grad()
def _random_policy(tokenizer, seed):
    """Make a GPT-2 with large random weights that gives the end and pad tokens no probability."""
    model = new_model(tokenizer, layers=2, width=32, heads=2, context=8).eval()
    # A head of its own, so that a word does not make itself likely to come again.
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    model.config.tie_word_embeddings = False
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(0, 0.3, generator=generator)
    # One unit of the last layer norm is always 1, and only the two special tokens listen to it.
    final, head = model.transformer.ln_f, model.lm_head.weight
    final.weight[0], final.bias[0], head[:, 0] = 0, 1, 0
    head[[tokenizer.eos_token_id, tokenizer.pad_token_id], 0] = NEVER
    return model


def _random_scores(base, words, seed):
    """Draw scores (P, S) of word effects and effects of neighbours, standardised under the base."""
    rng = np.random.default_rng(seed)
    shape = (len(base), words)
    a, b, c = (rng.normal(size=shape) for _ in range(LENGTH))
    left, right = rng.normal(size=(2, words, 4)) / 2  # two words suit each other by four traits
    pairs = left @ right.T
    table = (
        a[:, :, None, None] + b[:, None, :, None] + c[:, None, None, :]
        + pairs[None, :, :, None] + pairs[None, None, :, :]
    ).reshape(len(base), -1)  # fmt: skip
    table -= (base * table).sum(1, keepdims=True)
    return table / np.sqrt((base * table**2).sum(1, keepdims=True))


# ---- exact, by enumeration ----


@dataclass(frozen=True)
class Exact:
    """Hold what enumeration says of a policy, means over prompts.

    objective: J(pi); best: J* [score]; log_z, kl: KL(pi || pi0), to_optimum: KL(pi || pi*),
    from_optimum: KL(pi* || pi) [nats]; score: E_pi[score].
    """

    objective: float
    best: float
    log_z: float
    kl: float
    to_optimum: float
    from_optimum: float
    score: float


def optimal_logprobs(base_logprobs, scores, kl_coef):
    """Return log pi* = log pi0 + score / kl_coef - log Z of all answers, (P, S) [nats]."""
    tilted = _logprobs(base_logprobs) + _check(scores, kl_coef) / kl_coef
    return tilted - logsumexp(tilted, axis=1, keepdims=True)


def exact(logprobs, base_logprobs, scores, kl_coef):
    """Measure a policy against pi* without error, e.g. `exact(bed.sequence_logprobs(model),
    bed.base_logprobs, bed.scores, 0.3).to_optimum`.

    J(pi) = E_pi[score] - kl_coef KL(pi || pi0) = kl_coef log Z - kl_coef KL(pi || pi*) (Korbak et
    al. 2022). logprobs, base_logprobs (P, S) [nats], scores (P, S). Returns Exact.
    """
    ours, base = _logprobs(logprobs), _logprobs(base_logprobs)
    best = optimal_logprobs(base, scores, kl_coef)
    scores = np.asarray(scores, dtype=float)
    log_z = float(logsumexp(base + scores / kl_coef, axis=1).mean())
    score, kl = float((np.exp(ours) * scores).sum(1).mean()), _kl(ours, base)
    return Exact(
        score - kl_coef * kl, kl_coef * log_z, log_z, kl, _kl(ours, best), _kl(best, ours), score
    )


@dataclass(frozen=True)
class Split:
    """Hold an entropy in two parts [nats], means over prompts: H(answer) = between + within.

    between: H(voice); within: H(answer | voice); shares (P, G): of each voice; by_group (P, G):
    H(answer | this voice).
    """

    between: float
    within: float
    shares: np.ndarray
    by_group: np.ndarray


def entropy_split(logprobs, groups):
    """Split the entropy of the answers by the chain rule H(Y) = H(M) + H(Y | M); return a Split.

    Where the score depends on the group M alone, pi*(y | m) = pi0(y | m): only H(M) may change.
    logprobs (P, S) [nats]; groups (S,): the group of each answer, 0 to G - 1.
    """
    logprobs = _logprobs(logprobs)
    shares, inside = [], []
    for group in range(int(np.max(groups)) + 1):
        part = logprobs[:, np.asarray(groups) == group]
        total = logsumexp(part, axis=1, keepdims=True)
        shares.append(total[:, 0])
        inside.append(-(np.exp(part - total) * (part - total)).sum(1))
    logs, inside = np.stack(shares, 1), np.stack(inside, 1)
    shares = np.exp(logs)
    between, within = -(shares * logs).sum(1).mean(), (shares * inside).sum(1).mean()
    return Split(float(between), float(within), shares, inside)


def _logprobs(logprobs):
    """Return log-probabilities as an array (P, S), or raise OptimumError where they are not of all
    answers.
    """
    array = torch.as_tensor(logprobs).detach().cpu().double().numpy()
    total = np.exp(array).sum(-1)
    if array.ndim != 2 or not np.allclose(total, 1, atol=1e-5):
        raise OptimumError(
            f"log-probabilities of shape {array.shape} sum to {np.ravel(total)[0]:.6g}; expected "
            f"(prompts, all answers) with a sum of 1 a prompt"
        )
    return array


def _kl(left, right):
    """Return KL(left || right) [nats] of two tables of log-probabilities, mean over prompts."""
    # What never happens counts 0, even where both say -inf.
    gap = np.subtract(left, right, out=np.zeros_like(left), where=left > -np.inf)
    return float((np.exp(left) * gap).sum(1).mean())
