"""The estimated optimum equals closed forms and loops; what it cannot know it refuses."""

import itertools
import math

from rlhf_lite import optimum
from rlhf_lite.optimum import OptimumError

import numpy as np
import pytest
from scipy.special import logsumexp


def normal_scores(prompts, samples, seed, mean=0.0, sd=1.0):
    rng = np.random.default_rng(seed)
    return mean + sd * rng.normal(size=(prompts, samples))


# ---- closed forms ----


@pytest.mark.parametrize("kl_coef", [1.0, 2.5])
def test_normal_scores_have_a_closed_form(kl_coef):
    """log Z = mu / beta + sigma^2 / (2 beta^2), KL = sigma^2 / (2 beta^2), E* = mu + sigma^2 /
    beta, and E*[score^2] follows. 40 prompts, 3,000 samples (seed 0).

    Five numbers within four of their errors, twice: a chance of about 1 in 1,500 to fail by luck.
    """
    rng = np.random.default_rng(0)
    mean, sd = rng.normal(size=(40, 1)), rng.uniform(0.5, 1.2, (40, 1))
    scores = normal_scores(40, 3000, 1, mean, sd)
    found = optimum.optimum(scores, kl_coef, features=np.stack([scores, scores**2], 2))
    z = (mean / kl_coef + sd**2 / (2 * kl_coef**2)).mean()
    shifted = mean + sd**2 / kl_coef
    kl = (sd**2 / (2 * kl_coef**2)).mean()
    assert abs(found.objective - kl_coef * z) < 4 * found.objective_se
    assert abs(found.kl - kl) < 4 * found.kl_se
    assert abs(found.score - shifted.mean()) < 4 * found.score_se
    error = np.sqrt((found.features_se**2).sum(0)) / 40
    second = [shifted.mean(), (shifted**2 + sd**2).mean()]
    assert (np.abs(found.features.mean(0) - second) < 4 * error).all()
    assert found.kl_se < 0.1 * kl and found.score_se < 0.05
    assert found.base_score == pytest.approx(scores.mean())


def test_the_stated_errors_are_those_of_repetition():
    """2,000 repetitions of one prompt with 1,000 samples (seed 2): the spread of the estimates is
    known to 1.6 in 100 and the stated errors stray by more than that, so 10 in 100 is generous.
    """
    rows = normal_scores(2000, 1000, 2)
    found = [optimum.optimum(row[None], 1.5) for row in rows]
    for name in ("objective", "kl", "score"):
        values = [getattr(one, name) for one in found]
        stated = math.sqrt(np.mean([getattr(one, name + "_se") ** 2 for one in found]))
        assert stated == pytest.approx(np.std(values), rel=0.1)


def test_the_value_and_its_parts_belong_together():
    """J* = E*[score] - kl_coef KL holds to the last digit, bias correction included."""
    scores = normal_scores(5, 400, 3)
    found = optimum.optimum(scores, 0.8)
    assert found.objective == pytest.approx(found.score - 0.8 * found.kl, abs=1e-10)
    assert found.objective == pytest.approx(0.8 * found.log_z.mean(), abs=1e-10)


def test_a_shift_moves_the_value_alone_and_a_scale_goes_with_the_coefficient():
    scores = normal_scores(4, 500, 4)
    first, moved = optimum.optimum(scores, 0.9), optimum.optimum(scores + 1e4, 0.9)
    assert moved.objective == pytest.approx(first.objective + 1e4, abs=1e-6)
    assert moved.kl == pytest.approx(first.kl, abs=1e-7)
    assert moved.objective_se == pytest.approx(first.objective_se, rel=1e-5)
    scaled = optimum.optimum(7 * scores, 6.3)
    assert scaled.kl == pytest.approx(first.kl) and scaled.ess == pytest.approx(first.ess)


def test_prompts_have_a_normaliser_of_their_own():
    """Two prompts far apart: the pooled Z would give the better one all the weight."""
    scores = normal_scores(2, 3000, 5, mean=np.array([[0.0], [20.0]]))
    found = optimum.optimum(scores, 1.0)
    assert found.kl == pytest.approx(0.5, abs=0.1)
    pooled = optimum.optimum(scores.reshape(1, -1), 1.0)
    assert pooled.kl > 1.0


def test_constant_scores_leave_the_base_as_it_is():
    found = optimum.optimum(np.full((3, 50), 2.0), 0.1)
    assert (found.objective, found.score, found.kl) == pytest.approx((2, 2, 0), abs=1e-9)
    assert found.ess == pytest.approx(50)
    assert max(found.objective_se, found.score_se, found.kl_se) < 1e-9


# ---- weights and the jackknife ----


def test_weights_equal_the_formula_and_survive_large_scores():
    scores = np.array([[0.0, 1.0, 3.0], [5.0, 5.0, 4.0]])
    naive = np.exp(scores / 2)
    naive /= naive.sum(1, keepdims=True)
    assert optimum.weights(scores, 2) == pytest.approx(naive)
    assert optimum.weights(scores + 1e6, 2) == pytest.approx(naive)
    assert optimum.ess(scores, 2) == pytest.approx(1 / (naive**2).sum(1))
    assert optimum.ess(scores, 1e-4) == pytest.approx([1, 2])
    assert optimum.ess(scores, 1e9) == pytest.approx([3, 3])


def naive_numbers(scores, features, kl_coef):
    """log Z, E*, KL and the means of features of one prompt, as the formulas say."""
    w = np.exp(scores / kl_coef)
    log_z, mean = math.log(w.mean()), (w * scores).sum() / w.sum()
    shares = (w[:, None] * features).sum(0) / w.sum()
    return np.array([log_z, mean, mean / kl_coef - log_z, *shares])


def test_the_fast_jackknife_equals_leaving_out_one_by_one():
    rng = np.random.default_rng(6)
    scores, features = rng.normal(0, 2, (3, 60)), rng.random((3, 60, 2))
    found = optimum.optimum(scores, 1.7, features, least=2)
    values, errors = [], []
    for row, table in zip(scores, features):
        parts = np.array(
            [naive_numbers(np.delete(row, i), np.delete(table, i, 0), 1.7) for i in range(60)]
        )
        values.append(60 * naive_numbers(row, table, 1.7) - 59 * parts.mean(0))
        errors.append(np.sqrt(59 / 60 * ((parts - parts.mean(0)) ** 2).sum(0)))
    value, error = np.mean(values, 0), np.sqrt(np.square(errors).sum(0)) / 3
    assert found.log_z == pytest.approx(np.array(values)[:, 0])
    assert (found.objective, found.objective_se) == pytest.approx((1.7 * value[0], 1.7 * error[0]))
    assert (found.score, found.score_se) == pytest.approx((value[1], error[1]))
    assert (found.kl, found.kl_se) == pytest.approx((value[2], error[2]))
    assert found.features == pytest.approx(np.array(values)[:, 3:])
    assert found.features_se == pytest.approx(np.array(errors)[:, 3:])


def test_the_jackknife_takes_the_bias_away():
    """20,000 repetitions of 40 samples (seed 7), each a prompt: the plain log-mean is 8 errors too
    low, the corrected one within 4 of them (1 in 16,000 by luck).
    """
    scores = normal_scores(20_000, 40, 7)
    truth = 1 / (2 * 1.5**2)
    found = optimum.optimum(scores, 1.5, least=2)
    plain = logsumexp(scores / 1.5, axis=1) - math.log(40)
    error = plain.std() / math.sqrt(20_000)
    assert plain.mean() < truth - 6 * error
    assert abs(found.log_z.mean() - truth) < 4 * error


# ---- the frontier ----


def test_the_frontier_leaves_out_what_the_samples_cannot_carry():
    scores = normal_scores(4, 500, 8)
    kl_coefs = [3.0, 1.0, 0.5, 0.05]
    points = optimum.frontier(scores, kl_coefs)
    kept = [c for c in kl_coefs if optimum.ess(scores, c).min() >= 30]
    assert [p.kl_coef for p in points] == kept and 0 < len(kept) < 4
    assert points[0].kl < points[1].kl
    assert points[0].score < points[1].score
    assert len(optimum.frontier(scores, kl_coefs, least=499)) < len(points)


def test_distance_and_share_at_both_ends():
    """At pi* the distance is 0 and the share 1; at the base they are KL(pi0 || pi*) and 0."""
    scores = normal_scores(3, 1000, 10)
    found = optimum.optimum(scores, 1.2)
    assert optimum.distance(found.objective, found) == pytest.approx(0, abs=1e-12)
    assert optimum.share(found.objective, found) == pytest.approx(1)
    assert optimum.share(found.base_score, found) == 0
    assert optimum.distance(found.base_score, found) == pytest.approx(1 / (2 * 1.2**2), abs=0.1)
    assert optimum.distance(found.objective - 0.6, found) == pytest.approx(0.5)


# ---- refusals ----


def refused(function, *args, **kwargs):
    with pytest.raises(OptimumError) as caught:
        function(*args, **kwargs)
    return str(caught.value)


def test_too_few_effective_samples_are_refused_with_a_way_out():
    scores = normal_scores(4, 400, 11)
    message = refused(optimum.optimum, scores, 0.2)
    worst = optimum.ess(scores, 0.2).min()
    assert message.startswith(f"at kl_coef 0.2 the worst prompt has {worst:.1f} effective samples")
    assert "expected at least 30: take more samples" in message
    advised = float(message.split("a kl_coef of ")[1].split(" ")[0])
    trusted = float(message.split("to a KL of ")[1].split(" ")[0])
    assert optimum.optimum(scores, advised).kl == pytest.approx(trusted, abs=0.02)
    assert optimum.ess(scores, 0.98 * advised).min() < 30 <= optimum.ess(scores, advised).min()
    assert optimum.optimum(scores, 0.95 * advised, least=2).kl > trusted


def test_the_advised_coefficient_is_accepted_as_printed():
    for seed in range(20):
        scores = normal_scores(3, 200, 100 + seed)
        message = refused(optimum.optimum, scores, 0.1)
        advised = float(message.split("a kl_coef of ")[1].split(" ")[0])
        assert optimum.ess(scores, advised).min() >= 30


def test_one_bad_prompt_is_enough_to_refuse():
    scores = np.concatenate([normal_scores(5, 400, 12, sd=0.1), normal_scores(1, 400, 13, sd=9)])
    assert "the worst prompt has" in refused(optimum.optimum, scores, 1.0)
    assert optimum.optimum(scores[:5], 1.0).kl < 0.02


@pytest.mark.parametrize("kl_coef", [0, -1.0, math.nan, math.inf])
def test_impossible_coefficients_are_refused(kl_coef):
    scores = normal_scores(2, 100, 14)
    for function in (optimum.optimum, optimum.weights, optimum.ess):
        assert "expected a finite number above 0" in refused(function, scores, kl_coef)
    assert "expected a finite number above 0" in refused(optimum.frontier, scores, [1.0, kl_coef])


def test_impossible_scores_are_refused():
    scores = normal_scores(2, 100, 15)
    for shape in ((0, 100), (2, 0), (100,)):
        message = refused(optimum.optimum, np.zeros(shape), 1.0)
        assert f"scores (prompts, samples) have the shape {shape}; expected finite" in message
    for wrong in (math.nan, math.inf):
        scores[1, 7] = wrong
        message = refused(optimum.optimum, scores, 1.0)
        assert message.startswith(f"scores (prompts, samples)[1, 7] is {wrong}; expected finite")
        assert "[1, 7] is" in refused(optimum.best_of_n_curve, scores, [2])


def test_other_impossible_requests_are_refused():
    scores = normal_scores(2, 100, 16)
    assert "30 samples a prompt with least=30" in refused(optimum.optimum, scores[:, :30], 1.0)
    assert "expected least to be 2" in refused(optimum.optimum, scores, 1.0, least=1)
    message = refused(optimum.optimum, scores, 5.0, features=np.zeros((2, 99, 3)))
    assert message.startswith("features have shape (2, 99, 3); expected (2, 100, 'K')")
    flat = optimum.optimum(np.ones((2, 100)), 1.0)
    assert "expected scores that differ" in refused(optimum.share, 1.0, flat)


def test_many_ties_at_the_top_can_be_trusted_to_any_coefficient():
    """Half of the samples share the top score: pi* tends to that half, at KL log 2."""
    scores = np.tile([0.0, 1.0], (3, 100))
    found = optimum.optimum(scores, 1e-5)
    assert found.kl == pytest.approx(math.log(2), abs=0.01) and found.score == pytest.approx(1)


# ---- best of n ----


def naive_best_kl(probabilities, scores, n):
    """List all n-tuples; among equal scores each of the tied draws is as likely to win."""
    best = np.zeros(len(scores))
    for draws in itertools.product(range(len(scores)), repeat=n):
        p = math.prod(probabilities[i] for i in draws)
        top = [i for i in draws if scores[i] == max(scores[j] for j in draws)]
        for i in top:
            best[i] += p / len(top)
    return sum(b * math.log(b / p) for b, p in zip(best, probabilities) if b > 0)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_kl_of_best_of_n_equals_all_tuples(n):
    rng = np.random.default_rng(17)
    for levels in (2, 3, 100):
        p, scores = rng.dirichlet(np.ones(6)), rng.integers(levels, size=6)
        expected = naive_best_kl(p, scores, n)
        assert optimum.best_of_n_kl(p, scores, n) == pytest.approx(expected, abs=1e-12)


def test_the_bound_bounds_and_is_met_without_ties():
    rng = np.random.default_rng(18)
    for n in (2, 5, 16, 300):
        bound = math.log(n) - (n - 1) / n
        assert optimum.best_of_n_bound(n) == pytest.approx(bound)
        for outcomes in (2, 7, 1000):
            p, scores = rng.dirichlet(np.ones(outcomes)), rng.normal(size=outcomes)
            assert 0 < optimum.best_of_n_kl(p, scores, n) < bound
        flat = np.full(100_000, 1e-5)
        assert optimum.best_of_n_kl(flat, np.arange(100_000), n) == pytest.approx(bound, abs=2e-3)
        assert optimum.best_of_n_kl(flat, np.zeros(100_000), n) == pytest.approx(0, abs=1e-9)


def test_seven_outcomes_show_how_the_bound_overstates():
    """The best of 7 modes has 1 in 20 under the base: no selection can pass log 20 = 3.0 nats."""
    p = np.array([0.30, 0.25, 0.15, 0.10, 0.08, 0.07, 0.05])
    true = optimum.best_of_n_kl(p, np.arange(7), 64)
    assert true < math.log(20) < optimum.best_of_n_bound(64)
    assert optimum.best_of_n_bound(64) - true > 0.3
    assert optimum.best_of_n_kl(p, np.arange(7), 10_000) == pytest.approx(math.log(20))


def test_the_curve_equals_all_subsets_and_keeps_ties_apart():
    rng = np.random.default_rng(19)
    scores = np.stack([rng.normal(size=9), np.round(rng.normal(size=9))])
    for row in optimum.best_of_n_curve(scores, [1, 3, 9]):
        subsets = itertools.combinations(range(9), row["n"])
        picks = [[max(s[i] for i in group) for s in scores] for group in subsets]
        assert row["score"] == pytest.approx(np.mean(picks))
        tied = [optimum.best_of_n_kl(np.full(9, 1 / 9), s, row["n"]) for s in scores]
        assert row["kl"] == pytest.approx(np.mean(tied)) and tied[1] <= tied[0]
        assert row["bound"] == optimum.best_of_n_bound(row["n"])


def test_the_curve_of_normal_scores_nears_the_closed_form():
    """The mean of the larger of two normals is 1 / sqrt(pi); 200,000 samples (seed 20) know it to
    0.002, and 0.01 is five of that. The KL of their own distribution is the bound.
    """
    (row,) = optimum.best_of_n_curve(normal_scores(10, 20_000, 20), [2])
    assert row["score"] == pytest.approx(1 / math.sqrt(math.pi), abs=0.01)
    assert row["kl"] == pytest.approx(row["bound"], abs=1e-3)


def test_impossible_selections_are_refused():
    for p, n in (([0.5, 0.6], 2), ([1.2, -0.2], 2), ([0.5, 0.5], 0)):
        assert "expected shares of 1 and an n" in refused(optimum.best_of_n_kl, p, [1, 2], n)
    with pytest.raises(ValueError, match="expected 1 to 5"):
        optimum.best_of_n_curve(np.zeros((2, 5)), [6])


@pytest.mark.parametrize("n", range(1, 8))
def test_best_of_n_equals_all_subsets(n):
    rng = np.random.default_rng(4)
    scores, values = rng.normal(size=7), rng.normal(size=7)
    picks = [
        values[max(group, key=lambda i: scores[i])] for group in itertools.combinations(range(7), n)
    ]
    assert optimum.best_of_n(scores, values, n) == pytest.approx(np.mean(picks))


def test_best_of_n_at_its_ends():
    scores, values = np.array([3.0, 1.0, 2.0]), np.array([10.0, -4.0, 7.0])
    assert optimum.best_of_n(scores, values, 1) == pytest.approx(values.mean())
    assert optimum.best_of_n(scores, values, 3) == pytest.approx(10)
    assert optimum.best_of_n(-scores, values, 3) == pytest.approx(-4)
    assert optimum.best_of_n([0.3], [5.0], 1) == pytest.approx(5)


def test_best_of_n_stays_exact_for_many_samples():
    """Values 1..N scored by themselves: the mean of the largest of n is n (N + 1) / (n + 1)."""
    values = np.arange(1, 2001)
    for n in (2, 16, 500):
        assert optimum.best_of_n(values, values, n) == pytest.approx(n * 2001 / (n + 1), rel=1e-6)
