"""Measure how diverse the texts of a policy are: n-grams, kernels, statements, and entropies.

The n-gram scores read texts alone. The entropies also use what only a model knows, log pi(y), and
split by the chain rule into the choice of a voice and the choice of words within it. Arrays are
shaped (P, K): K samples for each of P prompts. Omits neural embeddings and entailment, which need a
second model. Taught by notebook 05.
"""

from collections import Counter

from rlhf_lite.checks import check_alike, check_count, check_list, check_numbers, check_texts

import numpy as np
from sacrebleu.metrics import BLEU
from scipy.special import entr


def ngrams(words, n):
    """List the n-grams of words or tokens, as tuples."""
    check_count(n, "n")
    return list(zip(*(words[i:] for i in range(n))))


def ead(tokens_lists, vocabulary, orders=range(1, 6)):
    """Return the expectation-adjusted distinct score of texts, averaged over n-gram orders.

    EAD = N / (V [1 - ((V - 1) / V)^C]) (Liu et al. 2022), N distinct among C n-grams of all texts.
    How many n-grams are possible is unknowable, so as in the code of Kirk et al. 2024 V is the size
    of the vocabulary for n = 1..5, which lets orders above 1 exceed 1, and an order for which all
    texts are too short counts 0. Example: `ead([[1, 2, 3], [1, 2, 4]], vocabulary=1000)`.
    """
    tokens_lists = _rows(tokens_lists, "tokens_lists", "token")
    check_count(vocabulary, "vocabulary")
    if vocabulary < max(2, len({t for tokens in tokens_lists for t in tokens})):
        raise ValueError(f"vocabulary of {vocabulary}; expected 2 or more and all tokens in it")
    scores = []
    for n in orders:
        found = [g for tokens in tokens_lists for g in ngrams(tokens, n)]
        expected = -vocabulary * np.expm1(len(found) * np.log1p(-1 / vocabulary))
        scores.append(len(set(found)) / expected if found else 0.0)
    return float(np.mean(scores))


def self_bleu(texts, limit=None):
    """Return the mean BLEU of each text against all others, 1 = all alike (Zhu et al. 2018).

    By sacrebleu: n = 1..4, or as far as the text is long, exponential smoothing, "13a" tokens
    (words and marks apart). limit: read the first so many texts only, as the cost is quadratic.
    """
    # BLEU calls an empty text unlike all others, but a policy that falls silent is not diverse.
    if limit is not None:
        check_count(limit, "limit")
    texts = [t if t.strip() else "silence" for t in check_texts(texts)[:limit]]
    if len(texts) < 2:
        raise ValueError(f"self-BLEU of {len(texts)} texts; expected 2 or more")
    bleu = BLEU(effective_order=True, tokenize="13a")
    scores = [bleu.sentence_score(t, texts[:i] + texts[i + 1 :]).score for i, t in enumerate(texts)]
    return min(1.0, float(np.mean(scores)) / 100)


def vendi(texts, n=2):
    """Return the Vendi score, an effective number of texts (Friedman and Dieng 2023).

    exp(-sum_i lambda_i log lambda_i), eigenvalues of K / len(texts). The kernel K is the cosine of
    counts of word n-grams, so it knows nothing of meaning; a text of fewer than n words is one
    n-gram. Example: `vendi(["a b c", "a b c", "d e f"])` is 1.89.
    """
    texts = check_texts(texts, least=1)
    check_count(n, "n")
    bags = [Counter(ngrams(t.split(), n) or [tuple(t.split())]) for t in texts]
    columns = {g: i for i, g in enumerate(dict.fromkeys(g for bag in bags for g in bag))}
    counts = np.zeros((len(texts), len(columns)))
    for row, bag in zip(counts, bags):
        row[[columns[g] for g in bag]] = list(bag.values())
    counts /= np.linalg.norm(counts, axis=1, keepdims=True)
    eigenvalues = np.linalg.eigvalsh(counts @ counts.T / len(texts))
    return float(np.exp(entr(np.maximum(eigenvalues, 0)).sum()))


# ---- which texts are compared ----


def _rows(rows, name, each, least=1):
    """Return rows as a list of lists; a text in place of a row would be read letter by letter."""
    rows = check_list(rows, name, "list", least)
    return [check_list(row, f"{name}[{number}]", each) for number, row in enumerate(rows)]


def per_prompt(metric, texts):
    """Return metric(the samples of one prompt), averaged over P prompts (Kirk et al. 2024)."""
    texts = _rows(texts, "texts", "sample")
    return float(np.mean([metric(row) for row in texts]))


def across_prompts(metric, texts):
    """Return metric(one sample for each prompt), averaged over K draws (Kirk et al. 2024)."""
    texts = _rows(texts, "texts", "sample")
    counts = {len(row) for row in texts}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"prompts with {sorted(counts)} samples; expected equally many for all")
    return float(np.mean([metric(list(draw)) for draw in zip(*texts)]))


def cut_to(tokens_lists, length):
    """Cut texts to `length` tokens and drop the shorter: (texts, number kept)."""
    tokens_lists = _rows(tokens_lists, "tokens_lists", "token", 0)
    check_count(length, "length")
    kept = [tokens[:length] for tokens in tokens_lists if len(tokens) >= length]
    return kept, len(kept)


def coverage(texts, world, limit=200):
    """Count the distinct first statements among the first `limit` texts.

    A statement is a frame with its words; a line off the grammar states nothing. Texts hold their
    prompt. One line a text, so that length does not matter; the number of texts does.
    """
    check_count(limit, "limit")
    read = [world.parse_line(t.strip("\n").split("\n")[0]) for t in check_texts(texts)[:limit]]
    return len({(f.index, *sorted(fills.items())) for f, fills in read if f is not None})


# ---- entropies ----


def _probabilities(values, name):
    """Return values as an array that is a distribution over its last axis."""
    values = check_numbers(values, name, None).astype(float)
    if (values < 0).any() or not np.allclose(values.sum(axis=-1), 1):
        raise ValueError(f"{name} are negative or do not sum to 1; expected probabilities")
    return values


def mode_entropy(shares):
    """Return H = -sum_m p(m) log p(m) over the last axis [nats].

    shares: (..., V) [probability].
    """
    return entr(_probabilities(shares, "shares")).sum(axis=-1)


def _read(voices, weights, logprobs=None):
    """Check all arrays, append "no single voice" to voices (P, K, V), fill in equal weights."""
    voices = check_numbers(voices, "voices (prompts, samples, voices)", 3)
    none = (voices == 0).all(axis=-1, keepdims=True)
    voices = _probabilities(np.concatenate([voices, none], axis=-1), "a text's voices")
    shape = voices.shape[:2]
    weights = np.full(shape, 1 / shape[1]) if weights is None else weights
    logprobs = np.zeros(shape) if logprobs is None else logprobs
    named = {"weights": weights, "logprobs": logprobs, "texts with voices": np.zeros(shape)}
    weights, logprobs, _ = check_alike(named, 2)
    return voices, _probabilities(weights, "weights"), logprobs.astype(float)


def _share_terms(voices, weights, correct):
    """Return shares p (P, V + 1) and -p log p, corrected or not, whose sum is H(voice) [nats]."""
    shares = np.einsum("pk,pkv->pv", weights, voices)
    terms = entr(shares)
    if correct:
        variance = np.einsum("pk,pkv->pv", weights**2, (voices - shares[:, None]) ** 2)
        terms = terms + variance / 2 / np.where(shares > 0, shares, 1)
    return shares, terms


def voice_shares(voices, weights=None):
    """Return pi(m | x) (P, V + 1) [probability]: the mean posterior of each prompt's samples.

    voices (P, K, V): posterior of each text, zeros where no single voice can have written it, which
    counts in the last column; weights (P, K): importance weights, 1 in sum for each prompt.
    """
    return _share_terms(*_read(voices, weights)[:2], False)[0]


def voice_entropy(voices, weights=None, correct=False):
    """Return H(voice) [nats]: the entropy of `voice_shares`, averaged over prompts.

    The plug-in value is too low on few samples; `correct` adds sum_m Var(p_m) / (2 p_m), which is
    Miller and Madow's (m - 1) / 2K where each text has one voice. Not for enumerations.
    """
    return float(_share_terms(*_read(voices, weights)[:2], correct)[1].sum(axis=1).mean())


def sequence_entropy(logprobs, voices, weights=None, correct=False):
    """Split H(text) = -E log pi(y | x) by voice: {name: (value, standard error)} [nats].

    H(text | voice) = H(text) + H(voice | text) - H(voice), the chain rule, exact for any reading of
    voices. Errors are over prompts, NaN for one.

    logprobs (P, K): log pi(y | x) of all sampled tokens, under the policy that is measured; voices,
    weights, correct: as in `voice_entropy`. For the optimum pi* from base samples, logprobs are
    log pi0(y) + score / kl_coef - log Z(x) and weights its importance weights.
    """
    voices, weights, logprobs = _read(voices, weights, logprobs)
    text = -(weights * logprobs).sum(axis=1)
    unsure = (weights * entr(voices).sum(axis=-1)).sum(axis=1)
    voice = _share_terms(voices, weights, correct)[1].sum(axis=1)
    rows = {"H(voice)": voice, "H(text)": text, "H(voice | text)": unsure}
    rows["H(text | voice)"] = text + unsure - voice
    return {k: _mean_and_error(v) for k, v in rows.items()}


def _mean_and_error(values):
    """Return the mean over prompts and its standard error."""
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return float(values.mean()), float(error)


def within_voice_entropy(logprobs, voices, weights=None, shares=None, least=30, correct=False):
    """Return H(text | voice = m) of every voice and its standard error, each (V + 1,) [nats].

    -E[log pi(y | m) | m], log pi(y | m) = log pi(y) + log p(m | y) - log pi(m), all given x. A
    reward that sees the voice alone leaves each of these unchanged, but not their mean
    H(text | voice), for it moves weight between voices. Prompts count by `shares` (P, V + 1), their
    own if not given: give both sides the base model's to compare them on the same mix. NaN where a
    voice has fewer than `least` samples: the smaller of its weight in samples and Kish's number.
    """
    voices, weights, logprobs = _read(voices, weights, logprobs)
    own, terms = _share_terms(voices, weights, correct)
    if shares is not None and check_numbers(shares, "shares", 2).shape != own.shape:
        raise ValueError(f"shares of shape {np.shape(shares)}; expected {own.shape}, as our own")
    joint = weights[..., None] * voices  # (P, K, V + 1)
    cost = weights[..., None] * entr(voices) - joint * logprobs[..., None]
    entropy = (cost.sum(axis=1) - terms) / np.where(own > 0, own, 1)  # (P, V + 1)
    kish = own.sum(axis=0) ** 2 / np.maximum((joint**2).sum(axis=(0, 1)), 1e-300)
    worth = np.minimum(own.sum(axis=0) * voices.shape[1], kish)
    mix = np.where(own > 0, own if shares is None else shares, 0)
    whole, count = mix.sum(axis=0), len(mix)
    # Rounding must not turn 30 samples into fewer.
    whole = np.where((whole > 0) & (worth >= least * (1 - 1e-9)), whole, np.nan)
    mean = (mix * entropy).sum(axis=0) / whole
    variance = ((mix * (entropy - mean)) ** 2).sum(axis=0) / (count - 1 if count > 1 else np.nan)
    return mean, np.sqrt(count * variance) / whole


def batch_voices(world, texts):
    """Return the mean posterior of voices over texts, (V,) [probability]."""
    return np.mean([world.parse(text).voices for text in texts], axis=0)


def likeliest_voices(world, texts):
    """Return the likeliest voice of P lists of K texts as ones and zeros, (P, K, V).

    All zeros where no single voice has more than half, as the entropies take it.
    """
    read = np.array([[world.parse(text).voices for text in row] for row in texts])
    return (read == read.max(-1, keepdims=True)) * (read > 0.5).astype(float)


def diversity_of(arm):
    """Return {name: value} of the diversity among answers to one prompt, the more the larger."""
    found = {k: arm["entropies"][k][0] for k in ("H(voice)", "H(text | voice)")}
    return found | {
        "EAD": arm["EAD"][0], "self-BLEU": 1 - arm["self-BLEU"][0], "Vendi": arm["Vendi"][0]
    }  # fmt: skip
