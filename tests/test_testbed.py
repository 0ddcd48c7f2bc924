"""On the testbed sampling, scoring and enumeration agree, and the exact numbers equal loops."""

import itertools
import math
from dataclasses import replace

from rlhf_lite import models, optimum, testbed
from rlhf_lite.optimum import OptimumError
from rlhf_lite.sampling import sample, text_logprobs

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import chisquare


def answer(bed, number):
    """The three words of an answer."""
    return " ".join(bed.words[i] for i in np.unravel_index(number, [len(bed.words)] * 3))


@pytest.fixture(scope="module")
def bed():
    return testbed.new_testbed()


@pytest.fixture(scope="module")
def small():
    return testbed.new_testbed(words=2)


def perturbed(logprobs, seed=0, sd=1.0):
    """Any other policy: log-probabilities with noise, made to sum to one again."""
    noisy = logprobs + np.random.default_rng(seed).normal(0, sd, logprobs.shape)
    return noisy - logsumexp(noisy, axis=1, keepdims=True)


def refused(function, *args, **kwargs):
    with pytest.raises(OptimumError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


# ---- enumeration is sampling ----


def test_all_answers_are_listed_and_sum_to_one(bed):
    assert len(bed.words) == len(set(bed.words)) == 46
    assert bed.base_logprobs.shape == bed.scores.shape == (4, 46**3)
    assert np.exp(bed.base_logprobs).sum(1) == pytest.approx(1, abs=1e-5)
    entropy = -(np.exp(bed.base_logprobs) * bed.base_logprobs).sum(1)
    assert (entropy < math.log(46**3) - 2).all() and (entropy > 5).all()
    assert len({answer(bed, i) for i in range(0, 46**3, 7)}) == len(range(0, 46**3, 7))


def test_the_next_word_depends_on_the_words_before(bed):
    """The last two words have different probs under different first words, by over 0.1 nats."""
    table = np.exp(bed.base_logprobs).reshape(4, 46, 46, 46)
    pair = table.sum(3)
    first, second = pair.sum(2, keepdims=True), pair.sum(1, keepdims=True)
    assert ((pair * np.log(pair / first / second)).sum((1, 2)) > 0.1).all()


def test_enumeration_equals_the_log_probability_of_the_text(bed):
    rng = np.random.default_rng(21)
    for place, prompt in enumerate(bed.prompts):
        picks = rng.integers(46**3, size=6)
        texts = [f"{prompt} {answer(bed, i)}" for i in picks]
        scored = text_logprobs(bed.model, bed.tokenizer, texts, [prompt] * 6)
        assert scored == pytest.approx(bed.base_logprobs[place, picks], abs=1e-4)
        assert bed.score(texts).numpy() == pytest.approx(bed.scores[place, picks], abs=1e-6)
        first = [text.split()[1] for text in texts]
        rows = [row.split() for row in testbed.WORDS]
        assert [next(v for v, r in enumerate(rows) if w in r) for w in first] == list(
            bed.voices[picks]
        )


def drawn_answers(bed, prompt, count, seed=22):
    """Sample texts the way a trainer does, and return their answers as numbers."""
    texts = sample(bed.model, bed.tokenizer, [prompt] * count, 3, seed=seed, batch=2000).texts
    places = [bed.place(text, i) for i, text in enumerate(texts)]
    assert {p for p, _ in places} == {bed.prompts.index(prompt)}
    return np.array([answer for _, answer in places])


def fit(counts, probabilities):
    """p-value of a chi-square test, answers expected less than five times put into one cell."""
    expected = counts.sum() * probabilities
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    return chisquare(observed, np.append(expected[~rare], expected[rare].sum())).pvalue


def test_samples_have_the_listed_frequencies(small):
    """20,000 answers (seed 22) of 512: p is below 1 in 1,000 once in 1,000 seeds. The frequencies
    of another prompt, and of a slightly colder model, are told apart.
    """
    counts = np.bincount(drawn_answers(small, small.prompts[1], 20_000), minlength=8**3)
    table = np.exp(small.base_logprobs)
    assert fit(counts, table[1]) > 1e-3
    assert fit(counts, table[2]) < 1e-9
    colder = table[1] ** 1.1
    assert fit(counts, colder / colder.sum()) < 1e-9


def test_estimates_from_samples_agree_with_enumeration(bed):
    """1,500 sampled answers to each of 4 prompts, weighted, against all 97,336 of them (seeds 30 to
    33): 5 numbers within four errors, about 1 in 3,000 to fail by luck.
    """
    numbers = np.stack([drawn_answers(bed, p, 1500, 30 + i) for i, p in enumerate(bed.prompts)])
    scores = np.take_along_axis(bed.scores, numbers, 1)
    voices = np.eye(4)[bed.voices[numbers]]
    found = optimum.optimum(scores, 1.0, voices)
    best = testbed.optimal_logprobs(bed.base_logprobs, bed.scores, 1.0)
    truth = testbed.exact(best, bed.base_logprobs, bed.scores, 1.0)
    assert abs(found.objective - truth.best) < 4 * found.objective_se < 0.2
    assert abs(found.kl - truth.kl) < 4 * found.kl_se
    assert abs(found.score - truth.score) < 4 * found.score_se
    shares = testbed.entropy_split(best, bed.voices).shares.mean(0)
    error = np.sqrt((found.features_se**2).sum(0)) / 4
    assert (np.abs(found.features.mean(0) - shares)[:2] < 4 * error[:2]).all()
    base = testbed.entropy_split(bed.base_logprobs, bed.voices).shares.mean(0)
    assert np.abs(base - shares).max() > 0.01


def test_training_keeps_the_list_complete(small):
    """40 steps of gradient ascent move the policy; its answers still sum to one."""
    model = testbed.new_testbed(words=2).model
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    base, scores = torch.tensor(small.base_logprobs), torch.tensor(small.scores)
    for _ in range(40):
        logprobs = small.sequence_logprobs(model)
        p = logprobs.exp()
        loss = -(p * (scores - 0.5 * (logprobs - base))).sum(1).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    logprobs = small.sequence_logprobs(model)
    assert logprobs.detach().exp().sum(1).numpy() == pytest.approx(1, abs=1e-5)
    before = testbed.exact(base, base, scores, 0.5)
    after = testbed.exact(logprobs, base, scores, 0.5)
    assert after.objective == pytest.approx(-loss.item(), abs=0.05)
    assert before.objective + 0.3 < after.objective < after.best
    assert after.to_optimum < before.to_optimum and after.kl > 0.1


def test_a_testbed_is_decided_by_its_seed_and_survives_a_folder(small, tmp_path):
    again, other = testbed.new_testbed(words=2), testbed.new_testbed(seed=1, words=2)
    assert (again.base_logprobs == small.base_logprobs).all()
    assert (again.scores == small.scores).all()
    assert np.abs(other.base_logprobs - small.base_logprobs).max() > 0.5
    models.save(small.model, small.tokenizer, tmp_path)
    model, tokenizer = models.load(tmp_path)
    loaded = replace(small, tokenizer=tokenizer).sequence_logprobs(model)
    assert loaded.detach().numpy() == pytest.approx(small.base_logprobs, abs=1e-6)


def test_scores_are_standardised_and_looked_up_only_for_answers(bed):
    p = np.exp(bed.base_logprobs)
    assert (p * bed.scores).sum(1) == pytest.approx(0, abs=1e-9)
    assert (p * bed.scores**2).sum(1) == pytest.approx(1)
    for text in (
        "",
        "tide",
        "tide oak oak",
        "tide oak oak oak oak",
        "fox oak oak oak",
        "tide a b c",
    ):
        message = refused(bed.score, ["tide oak oak oak", text])
        assert message.startswith(
            f"text 1 is {text!r}; expected one of tide, bread, oak, tram and 3"
        )
    for words in (0, 13):
        assert f"words is {words}; expected 1 to 12" in refused(testbed.new_testbed, words=words)


# ---- exact measurement ----


@pytest.mark.parametrize("kl_coef", [0.05, 0.4, 5.0])
def test_the_objective_is_the_value_less_the_distance(bed, kl_coef):
    """J(pi) = beta log Z - beta KL(pi || pi*) for any policy, here the base with noise."""
    policy = perturbed(bed.base_logprobs)
    found = testbed.exact(policy, bed.base_logprobs, bed.scores, kl_coef)
    identity = kl_coef * found.log_z - kl_coef * found.to_optimum
    assert found.objective == pytest.approx(identity, abs=1e-8)
    assert found.objective == pytest.approx(found.score - kl_coef * found.kl, abs=1e-12)
    assert found.best == pytest.approx(kl_coef * found.log_z)
    assert found.to_optimum > 0.1 and found.from_optimum > 0.1
    assert found.to_optimum != pytest.approx(found.from_optimum, rel=1e-3)


def test_exact_numbers_equal_a_loop():
    """Two prompts with three answers, every sum written out."""
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    base = np.array([[0.2, 0.2, 0.6], [0.3, 0.3, 0.4]])
    scores = np.array([[1.0, 0.0, -1.0], [0.0, 2.0, 0.5]])
    names = ("objective", "best", "log_z", "kl", "to_optimum", "from_optimum", "score")
    rows = []
    for ours, b, s in zip(p.tolist(), base.tolist(), scores.tolist()):
        z = sum(y * math.exp(r / 0.7) for y, r in zip(b, s))
        best = [y * math.exp(r / 0.7) / z for y, r in zip(b, s)]
        kl = sum(x * math.log(x / y) for x, y in zip(ours, b))
        score = sum(x * r for x, r in zip(ours, s))
        there = sum(x * math.log(x / y) for x, y in zip(ours, best))
        back = sum(y * math.log(y / x) for x, y in zip(ours, best))
        rows.append([score - 0.7 * kl, 0.7 * math.log(z), math.log(z), kl, there, back, score])
    found = testbed.exact(np.log(p), np.log(base), scores, 0.7)
    assert [getattr(found, n) for n in names] == pytest.approx(np.mean(rows, 0))


def test_nothing_beats_the_optimum_and_it_is_met(bed):
    best = testbed.optimal_logprobs(bed.base_logprobs, bed.scores, 0.3)
    assert np.exp(best).sum(1) == pytest.approx(1)
    top = testbed.exact(best, bed.base_logprobs, bed.scores, 0.3)
    assert top.objective == pytest.approx(top.best) and abs(top.to_optimum) < 1e-10
    for seed in range(5):
        near = perturbed(best, seed, sd=0.05)
        assert testbed.exact(near, bed.base_logprobs, bed.scores, 0.3).objective < top.best - 1e-5


def test_a_policy_that_never_says_something_has_finite_numbers():
    base = np.log(np.array([[0.5, 0.25, 0.25]]))
    policy = np.array([[0.0, -np.inf, -np.inf]])
    found = testbed.exact(policy, base, np.zeros((1, 3)), 1.0)
    assert found.kl == pytest.approx(math.log(2)) and found.from_optimum == math.inf


def test_a_list_that_is_not_complete_is_refused(bed):
    cut = bed.base_logprobs[:, 46**2 :]
    message = refused(testbed.exact, cut, cut, bed.scores[:, 46**2 :], 1.0)
    assert "expected (prompts, all answers) with a sum of 1" in message
    assert "of shape (97336,)" in refused(testbed.entropy_split, bed.base_logprobs[0], bed.voices)


# ---- entropy, split by voice ----


def test_the_two_parts_add_up_and_equal_a_loop(small):
    logprobs = perturbed(small.base_logprobs, sd=2)
    split = testbed.entropy_split(logprobs, small.voices)
    p = np.exp(logprobs)
    assert split.between + split.within == pytest.approx(-(p * logprobs).sum(1).mean())
    assert split.shares.sum(1) == pytest.approx(1)
    for prompt, voice in itertools.product(range(4), range(4)):
        part = p[prompt, small.voices == voice]
        assert split.shares[prompt, voice] == pytest.approx(part.sum())
        part = part / part.sum()
        assert split.by_group[prompt, voice] == pytest.approx(-(part * np.log(part)).sum())


@pytest.mark.parametrize("kl_coef", [0.2, 1.0])
def test_a_score_of_the_voice_alone_leaves_each_voice_as_it_is(bed, kl_coef):
    """Control: give one word of a voice more, and the entropy within that voice changes, no other's."""
    scores = np.tile(np.array([0.0, 1.0, 0.5, -1.0])[bed.voices], (4, 1))
    base = testbed.entropy_split(bed.base_logprobs, bed.voices)
    best = testbed.optimal_logprobs(bed.base_logprobs, scores, kl_coef)
    split = testbed.entropy_split(best, bed.voices)
    assert split.by_group == pytest.approx(base.by_group, abs=1e-10)
    assert (split.shares[:, 1] > base.shares[:, 1] + 0.05).all()
    favoured = np.arange(46**3) % 46 == 3
    scores[:, favoured & (bed.voices == 1)] += 3
    control = testbed.entropy_split(
        testbed.optimal_logprobs(bed.base_logprobs, scores, kl_coef), bed.voices
    )
    assert (np.abs(control.by_group - base.by_group)[:, 1] > 1e-3).all()
    assert control.by_group[:, [0, 2, 3]] == pytest.approx(base.by_group[:, [0, 2, 3]], abs=1e-10)
