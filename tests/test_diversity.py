"""What diversity is measured by equals a closed form, a loop or an enumeration."""

import itertools
import math
import random
import time

from rlhf_lite.diversity import (
    across_prompts,
    coverage,
    cut_to,
    ead,
    mode_entropy,
    per_prompt,
    self_bleu,
    sequence_entropy,
    vendi,
    voice_entropy,
    voice_shares,
    within_voice_entropy,
)

import numpy as np
import pytest

ALIKE = ["Ivo sang in the old mill ."] * 5
APART = ["a b c d e", "f g h i j", "k l m n o", "p q r s t"]
MIXED = ["a b c d", "a b c e", "a b x y", "q r s t", "a b c d"]

# ---- n-grams ----


def naive_ead(rows, vocabulary):
    """Count n-grams one at a time and put them into the formula as it is printed."""
    scores = []
    for n in range(1, 6):
        seen, total = set(), 0
        for row in rows:
            for start in range(len(row) - n + 1):
                seen.add(tuple(row[start : start + n]))
                total += 1
        v = vocabulary
        scores.append(len(seen) / (v * (1 - ((v - 1) / v) ** total)) if total else 0)
    return sum(scores) / 5


@pytest.mark.parametrize("vocabulary", [20, 1000])
def test_ead_equals_a_loop(vocabulary):
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 20, size).tolist() for size in (12, 3, 1, 0, 30)]
    assert ead(rows, vocabulary) == pytest.approx(naive_ead(rows, vocabulary))
    words = [[f"w{i}" for i in row] for row in rows]
    assert ead(words, vocabulary) == pytest.approx(naive_ead(rows, vocabulary))


def test_ead_of_uniform_tokens_is_one_and_of_constant_tokens_is_small():
    """4,000 uniform tokens of 1,000 (seed 1): the sd of the number of distinct ones is below
    sqrt(1000 e^-4) = 4.3, so 0.03 of 982 is six of them.
    """
    rows = np.random.default_rng(1).integers(0, 1000, (50, 80)).tolist()
    assert ead(rows, 1000, orders=[1]) == pytest.approx(1, abs=0.03)
    assert ead([[7] * 80] * 50, 1000) < 0.002
    # Two tokens in turn, five in all: 2 distinct n-grams of orders 1 to 4, and 1 of order 5.
    expected = [d / (1000 * (1 - 0.999**c)) for d, c in zip((2, 2, 2, 2, 1), (5, 4, 3, 2, 1))]
    assert ead([[1, 2, 1, 2, 1]], 1000) == pytest.approx(np.mean(expected))


def test_ead_adjusts_for_length_where_plain_distinct_does_not():
    """One uniform source, 10 and 100 tokens a text (seed 2): distinct-1 falls to less than half, EAD
    stays at 1, with an sd of 0.009 (short texts) and 0.002; 0.05 is over five of them.
    """
    rng = np.random.default_rng(2)
    short, long = (rng.integers(0, 5000, (160, size)).tolist() for size in (10, 100))
    distinct = [
        len({t for row in rows for t in row}) / (160 * len(rows[0])) for rows in (short, long)
    ]
    assert distinct[1] < 0.5 * distinct[0]
    assert [ead(rows, 5000, orders=[1]) for rows in (short, long)] == pytest.approx(
        [1, 1], abs=0.05
    )


def test_ead_of_silence_is_zero_and_a_small_vocabulary_is_an_error():
    assert ead([[], []], 100) == 0
    with pytest.raises(ValueError, match="vocabulary of 2; expected"):
        ead([[1, 2, 3]], 2)
    with pytest.raises(ValueError, match="vocabulary of 1; expected"):
        ead([[1]], 1)


# ---- self-BLEU ----


def clipped_precision(text, others, n):
    """Return BLEU's clipped n-gram precision, as (matches, n-grams)."""
    grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
    count = 0
    for g in set(grams):
        best = max(sum(tuple(o[i : i + n]) == g for i in range(len(o))) for o in others)
        count += min(best, grams.count(g))
    return count, len(grams)


def naive_bleu(text, others):
    """BLEU of equally long texts (no brevity penalty), orders without a match smoothed by 2^-k."""
    logs, halvings = [], 0
    for n in range(1, min(4, len(text)) + 1):
        match, total = clipped_precision(text, others, n)
        if match == 0:
            halvings += 1
            match = 0.5**halvings
        logs.append(math.log(match / total))
    return math.exp(sum(logs) / len(logs))


def test_self_bleu_equals_a_loop():
    rng = np.random.default_rng(3)
    rows = [[f"w{i}" for i in row] for row in rng.integers(0, 6, (7, 9))]
    expected = [naive_bleu(r, rows[:i] + rows[i + 1 :]) for i, r in enumerate(rows)]
    assert 0.2 < np.mean(expected) < 0.9
    assert self_bleu([" ".join(r) for r in rows]) == pytest.approx(np.mean(expected))


def test_self_bleu_of_alike_and_apart():
    assert self_bleu(ALIKE) == pytest.approx(1) and self_bleu(ALIKE) <= 1
    assert self_bleu(APART) == pytest.approx(0, abs=1e-9)
    assert self_bleu(["Ivo", "Ivo"]) == pytest.approx(1)
    assert 0 < self_bleu(MIXED) < 1


def test_silence_is_alike_and_punctuation_is_apart_from_words():
    assert self_bleu(["", " ", ""]) == pytest.approx(1)
    assert self_bleu(["", "a b c d"]) == pytest.approx(0, abs=1e-9)
    assert self_bleu(["He sang.", "He sang ."]) == pytest.approx(1)


def test_self_bleu_reads_the_first_texts_only():
    assert self_bleu(ALIKE[:3] + APART, limit=3) == pytest.approx(1)
    assert self_bleu(ALIKE[:3] + APART) < 0.5
    for texts, limit in ((["alone"], None), (ALIKE, 1)):
        with pytest.raises(ValueError, match="self-BLEU of 1 texts"):
            self_bleu(texts, limit)


def test_self_bleu_of_64_texts_is_quick(world):
    """About half a second of processor time, with a fourfold reserve for slow machines."""
    rng = random.Random(4)
    texts = [" ".join(world.sample(rng).text.split()[:40]) for _ in range(64)]
    start = time.process_time()
    self_bleu(texts)
    assert time.process_time() - start < 2


# ---- Vendi ----


def test_vendi_of_alike_and_apart():
    assert vendi(ALIKE) == pytest.approx(1)
    assert vendi(APART) == pytest.approx(4)
    assert vendi(["one text"]) == pytest.approx(1)
    assert vendi(["", "", "a b"]) == pytest.approx(vendi(["x y", "x y", "a b"]))
    assert vendi(["x", "x", "y"]) == pytest.approx(vendi(["x y", "x y", "a b"]))


def test_vendi_of_two_texts_follows_from_their_cosine():
    """Bigrams ab, bc against ab, bx: cosine 1/2, eigenvalues (1 + 1/2) / 2 and (1 - 1/2) / 2."""
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert vendi(["a b c", "a b x"]) == pytest.approx(expected)
    # Words, a twice: (2, 1) against (1, 1): cosine 3 / sqrt(10).
    high, low = (1 + 3 / 10**0.5) / 2, (1 - 3 / 10**0.5) / 2
    expected = math.exp(-high * math.log(high) - low * math.log(low))
    assert vendi(["a a b", "b a"], n=1) == pytest.approx(expected)


def test_vendi_of_groups_is_their_perplexity_and_none_is_an_error():
    texts = [APART[0]] * 5 + [APART[1]] * 3 + [APART[2]] * 2
    assert vendi(texts) == pytest.approx(math.exp(mode_entropy([0.5, 0.3, 0.2])))
    with pytest.raises(ValueError, match="no texts"):
        vendi([])


@pytest.mark.parametrize(
    "metric", [self_bleu, vendi, lambda texts: ead([t.split() for t in texts], 50)]
)
def test_the_order_of_texts_does_not_matter(metric):
    values = [metric(list(p)) for p in itertools.islice(itertools.permutations(MIXED), 0, 120, 17)]
    assert values == pytest.approx([values[0]] * len(values))
    assert metric(MIXED) != pytest.approx(metric(APART))


# ---- prompts ----


def test_per_prompt_and_across_prompts_by_hand():
    """Three prompts, each with its own two samples: alike within, apart across, and the reverse."""
    distinct = lambda texts: len(set(texts)) / len(texts)  # noqa: E731
    collapsed = [["a", "a"], ["b", "b"], ["c", "c"]]
    assert (per_prompt(distinct, collapsed), across_prompts(distinct, collapsed)) == (0.5, 1)
    deaf = [["a", "b"], ["a", "b"], ["a", "c"]]
    assert per_prompt(distinct, deaf) == 1
    assert across_prompts(distinct, deaf) == pytest.approx((1 / 3 + 2 / 3) / 2)


def test_across_prompts_wants_as_many_samples_everywhere():
    with pytest.raises(ValueError, match=r"\[1, 2\] samples"):
        across_prompts(len, [["a", "b"], ["c"]])
    with pytest.raises(ValueError, match="expected equally many"):
        across_prompts(len, [[], []])
    assert per_prompt(len, [["a", "b"], ["c"]]) == 1.5


def test_cut_texts_have_one_length():
    assert cut_to([[1, 2, 3], [4], [5, 6]], 2) == ([[1, 2], [5, 6]], 2)
    assert cut_to([[1]], 5) == ([], 0)


# ---- statements ----


def test_coverage_counts_what_the_parser_reads_as_different(world):
    rng = random.Random(5)
    texts = [world.sample(rng).text for _ in range(40)]
    firsts = {t.split("\n")[0] for t in texts}
    assert len(firsts) > 20
    assert coverage(texts, world) == len(firsts)
    assert coverage(texts * 2, world) == len(firsts)
    assert coverage(texts, world, limit=10) == coverage(texts[:10], world) <= 10
    assert coverage([*texts, "Zzz of the of.", ""], world) == len(firsts)
    # What follows the first line does not count.
    assert coverage([texts[0], texts[0].split("\n")[0]], world) == 1
    assert coverage([], world) == 0


# ---- entropies ----


def table(prompts=3, texts=12, voices=3, seed=7, hard=False):
    """Enumerate a policy: (logprobs (P, K), voices (P, K, V), weights (P, K)), two texts without a
    voice a prompt, and each text of voice k % V alone where hard.
    """
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.ones(texts), prompts)
    posterior = rng.dirichlet(np.ones(voices) / 2, (prompts, texts))
    if hard:
        posterior = np.broadcast_to(np.eye(voices)[np.arange(texts) % voices], posterior.shape)
    posterior = posterior.copy()
    posterior[:, -2:] = 0
    return np.log(weights), posterior, weights


def naive_entropies(voices, weights):
    """Sum over the joint table p(y, m) of each prompt, m = V where no voice."""
    sums = {"H(voice)": [], "H(text)": [], "H(voice | text)": [], "H(text | voice)": []}
    for prompt in range(len(weights)):
        joint = {}
        for y, w in enumerate(weights[prompt]):
            row = list(voices[prompt][y])
            row.append(0.0 if sum(row) > 0 else 1.0)
            joint |= {(y, m): w * v for m, v in enumerate(row) if v > 0}
        text, voice = {}, {}
        for (y, m), p in joint.items():
            text[y] = text.get(y, 0) + p
            voice[m] = voice.get(m, 0) + p
        sums["H(voice)"].append(-sum(p * math.log(p) for p in voice.values()))
        sums["H(text)"].append(-sum(p * math.log(p) for p in text.values()))
        sums["H(voice | text)"].append(
            -sum(p * math.log(p / text[y]) for (y, _), p in joint.items())
        )
        sums["H(text | voice)"].append(
            -sum(p * math.log(p / voice[m]) for (_, m), p in joint.items())
        )
    return sums


def tilt(logprobs, weights, scores):
    """Return (logprobs, weights) of pi* = pi exp(score) / Z of each prompt."""
    log_z = np.log((weights * np.exp(scores)).sum(axis=1, keepdims=True))
    return logprobs + scores - log_z, weights * np.exp(scores - log_z)


def test_mode_entropy_in_closed_form():
    assert mode_entropy([0.25] * 4) == pytest.approx(math.log(4))
    assert mode_entropy([[1, 0], [0.5, 0.5]]) == pytest.approx([0, math.log(2)])
    for shares in ([0.5, 0.6], [1.5, -0.5]):
        with pytest.raises(ValueError, match="shares are negative or do not sum to 1"):
            mode_entropy(shares)


@pytest.mark.parametrize("hard", [False, True])
def test_entropies_equal_an_enumeration(hard):
    """Exact values, and errors over prompts; each conditional comes from its own definition, so this
    checks the chain rule.
    """
    logprobs, voices, weights = table(hard=hard)
    expected, found = naive_entropies(voices, weights), sequence_entropy(logprobs, voices, weights)
    assert set(found) == set(expected)
    for name, values in expected.items():
        error = np.std(values, ddof=1) / math.sqrt(len(values))
        assert found[name] == pytest.approx((np.mean(values), error)), name
    assert voice_entropy(voices, weights) == pytest.approx(np.mean(expected["H(voice)"]))
    assert (found["H(voice | text)"][0] < 1e-12) == hard


def test_texts_without_a_voice_are_a_category_of_their_own():
    voices = np.zeros((1, 4, 2))
    voices[0, :2, 0] = 1
    assert voice_shares(voices).tolist() == [[0.5, 0, 0.5]]
    assert voice_entropy(voices) == pytest.approx(math.log(2))
    assert np.isnan(sequence_entropy(np.zeros((1, 4)), voices)["H(text)"][1])


def test_weights_give_the_entropies_of_the_tilted_policy():
    """pi* from base weights and scores equals the enumeration of pi*; unweighted it does not."""
    logprobs, voices, weights = table()
    scores = np.random.default_rng(8).normal(0, 1.5, weights.shape)
    star, star_weights = tilt(logprobs, weights, scores)
    # A base that is uniform over its texts, as a set of samples is: weights are exp(score) / sum.
    counts = np.full(weights.shape, 1 / weights.shape[1])
    uniform, tilted = tilt(np.log(counts), counts, scores)
    for log_p, w in ((star, star_weights), (uniform, tilted)):
        assert np.exp(log_p) == pytest.approx(w)
        expected, found = naive_entropies(voices, w), sequence_entropy(log_p, voices, w)
        for name, values in expected.items():
            assert found[name][0] == pytest.approx(np.mean(values)), name
    base = sequence_entropy(logprobs, voices, weights)
    assert sequence_entropy(star, voices, star_weights)["H(text)"][0] < base["H(text)"][0] - 0.1


def test_importance_weights_on_samples_estimate_the_tilted_policy():
    """4,000 base samples a prompt (seed 9), scores of sd 0.5: errors of sd 0.008 at most, judged at 0.05."""
    logprobs, voices, weights = table()
    rng = np.random.default_rng(9)
    scores = rng.normal(0, 0.5, weights.shape)
    star, star_weights = tilt(logprobs, weights, scores)
    drawn = np.array([rng.choice(12, 4000, p=w) for w in weights])
    take = lambda a: np.take_along_axis(a, drawn, 1)  # noqa: E731
    w = np.exp(take(scores))
    own = np.stack([v[d] for v, d in zip(voices, drawn)])
    found = sequence_entropy(take(star), own, w / w.sum(axis=1, keepdims=True))
    exact, base = sequence_entropy(star, voices, star_weights), naive_entropies(voices, weights)
    for name, (value, _) in exact.items():
        assert found[name][0] == pytest.approx(value, abs=0.05), name
    assert abs(exact["H(text)"][0] - np.mean(base["H(text)"])) > 0.02


# ---- within a voice ----


@pytest.mark.parametrize("hard", [False, True])
def test_entropies_within_voices_average_to_the_conditional_entropy(hard):
    logprobs, voices, weights = table(hard=hard)
    for correct in (False, True):
        shares = voice_shares(voices, weights).mean(axis=0)
        within, _ = within_voice_entropy(logprobs, voices, weights, least=0, correct=correct)
        whole = sequence_entropy(logprobs, voices, weights, correct=correct)["H(text | voice)"][0]
        assert shares @ within == pytest.approx(whole)


def test_entropy_within_a_voice_equals_a_loop():
    """-sum p(y | m) log p(y | m) of one prompt, for each voice and for none."""
    logprobs, voices, weights = table(prompts=1)
    found, error = within_voice_entropy(logprobs, voices, weights, least=0)
    full = np.concatenate([voices[0], voices[0].sum(axis=1, keepdims=True) == 0], axis=1)
    for m in range(4):
        joint = weights[0] * full[:, m]
        p = joint[joint > 0] / joint.sum()
        assert found[m] == pytest.approx(-(p * np.log(p)).sum())
    assert np.isnan(error).all()


@pytest.mark.parametrize("hard", [False, True])
def test_a_tilt_that_sees_only_the_voice_leaves_each_voice_as_it_was(hard):
    """The invariance: pi*(y | m) = pi(y | m). The mean over voices and H(voice) do move, and a tilt
    that sees the text moves the voices too.
    """
    logprobs, voices, weights = table(hard=hard)
    taste = np.array([2.0, 0.0, -1.5, 0.7])
    full = np.concatenate([voices, voices.sum(axis=-1, keepdims=True) == 0], axis=-1)
    joint = weights[..., None] * full * np.exp(taste)
    joint /= joint.sum(axis=(1, 2), keepdims=True)
    star = joint.sum(axis=2)
    posterior = (joint / star[..., None])[..., :3]
    shares = voice_shares(voices, weights)
    options = {"shares": shares, "least": 0}
    before, error = within_voice_entropy(logprobs, voices, weights, **options)
    after, after_error = within_voice_entropy(np.log(star), posterior, star, **options)
    assert after == pytest.approx(before) and after_error == pytest.approx(error)
    base = sequence_entropy(logprobs, voices, weights)
    tilted = sequence_entropy(np.log(star), posterior, star)
    for name in ("H(voice)", "H(text | voice)"):
        assert abs(tilted[name][0] - base[name][0]) > 0.02, name
    scores = np.random.default_rng(10).normal(0, 1.5, weights.shape)
    other, other_weights = tilt(logprobs, weights, scores)
    moved, _ = within_voice_entropy(other, voices, other_weights, **options)
    assert np.abs(moved - before).max() > 0.1


def test_a_voice_with_too_few_samples_has_no_entropy():
    """40 samples: 30 of the first voice, 10 of the second; then 30 whose weight sits on three."""
    voices = np.zeros((1, 40, 2))
    voices[0, :30, 0] = voices[0, 30:, 1] = 1
    logprobs = np.full((1, 40), -3.0)
    assert np.isnan(within_voice_entropy(logprobs, voices)[0]).tolist() == [False, True, True]
    found = within_voice_entropy(logprobs, voices, least=10)[0]
    # log pi(m) is taken off: 3 + log p(m).
    assert found[:2] == pytest.approx([3 + math.log(0.75), 3 + math.log(0.25)])
    weights = np.full((1, 40), 1e-4)
    weights[0, :3] = (1 - 37e-4) / 3
    assert np.isnan(within_voice_entropy(logprobs, voices, weights, least=4)[0]).all()
    assert not np.isnan(within_voice_entropy(logprobs, voices, weights, least=2)[0][0])


def test_errors_within_a_voice_are_over_prompts():
    """Equal shares in all prompts: the plain mean over prompts and its standard error."""
    rng = np.random.default_rng(11)
    logprobs = -rng.uniform(5, 9, (6, 10))
    voices = np.zeros((6, 10, 2))
    voices[:, :5, 0] = voices[:, 5:, 1] = 1
    found, error = within_voice_entropy(logprobs, voices)
    rows = -logprobs[:, :5].mean(axis=1) + math.log(0.5)
    assert found[0] == pytest.approx(rows.mean())
    assert error[0] == pytest.approx(rows.std(ddof=1) / math.sqrt(6))


def test_shares_set_the_mix_of_prompts():
    """Two prompts whose entropies within the voice are 1 and 3; the second counts three times."""
    logprobs, voices = np.array([[-1.0] * 40, [-3.0] * 40]), np.ones((2, 40, 1))
    own = within_voice_entropy(logprobs, voices)[0]
    mixed = within_voice_entropy(logprobs, voices, shares=np.array([[0.25, 0], [0.75, 0]]))[0]
    assert (own[0], mixed[0]) == pytest.approx((2, 2.5))


# ---- small samples ----


def test_the_correction_is_that_of_miller_and_madow():
    """(m - 1) / 2K where each text has one voice: here 3, 2 and 1 voices among 8 texts."""
    seen = [[0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 0, 1, 1, 1, 1, 1], [2] * 8]
    voices = np.eye(3)[np.array(seen)]
    gain = voice_entropy(voices, correct=True) - voice_entropy(voices)
    assert gain == pytest.approx((2 + 1 + 0) / 3 / 16)
    logprobs = np.zeros((3, 8))
    plain, right = (sequence_entropy(logprobs, voices, correct=c) for c in (False, True))
    assert right["H(voice)"][0] - plain["H(voice)"][0] == pytest.approx(gain)
    assert right["H(text | voice)"][0] - plain["H(text | voice)"][0] == pytest.approx(-gain)


@pytest.mark.parametrize("sharpness", [0.3, 3.0])
def test_the_correction_takes_off_most_of_the_bias(sharpness):
    """3,000 prompts of 16 texts (seed 12), posteriors near one voice or spread: the error of the mean
    is about 0.003 and the bias 0.02 to 0.08. The spread ones need far less than (m - 1) / 2K.
    """
    rng = np.random.default_rng(12)
    texts = rng.dirichlet(np.full(4, sharpness), 200)
    exact = mode_entropy(texts.mean(axis=0))
    voices = texts[rng.integers(0, 200, (3000, 16))]
    bias = voice_entropy(voices) - exact
    assert bias < -0.005
    assert abs(voice_entropy(voices, correct=True) - exact) < 0.3 * abs(bias)


# ---- errors ----


def test_wrong_arrays_are_named():
    logprobs, voices, weights = table()
    with pytest.raises(ValueError, match=r"voices \(prompts, .*the shape \(12, 3\); expected"):
        voice_entropy(voices[0])
    with pytest.raises(ValueError, match="a text's voices are negative or do not sum to 1"):
        voice_entropy(voices * 0.5)
    with pytest.raises(ValueError, match="weights are negative or do not sum to 1"):
        voice_entropy(voices, weights * 2)
    with pytest.raises(ValueError, match=r"weights \(3, 1\) and .* \(3, 12\) differ; expected"):
        voice_entropy(voices, np.ones((3, 1)))
    with pytest.raises(ValueError, match=r"logprobs \(2, 12\) and .* \(3, 12\) differ; expected"):
        sequence_entropy(logprobs[:2], voices, weights)
    with pytest.raises(ValueError, match="expected finite"):
        within_voice_entropy(np.where(logprobs < -3, -np.inf, logprobs), voices, weights)
