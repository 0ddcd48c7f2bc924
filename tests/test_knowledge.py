"""What is measured of a model agrees with what can be enumerated, and the recorded numbers meet the bars."""

import math
import random

from rlhf_lite import knowledge, records
from rlhf_lite.sampling import next_token_probs, text_logprobs
from rlhf_lite.world.grammar import FACTS

import numpy as np
import pytest


def test_reading_the_world_itself_gives_the_prior(world):
    """1,500 documents of the grammar (seed 1): shares within 4 points (4 standard errors), nothing off."""
    rng = random.Random(1)
    summary = knowledge.read_samples(world, [world.sample(rng).text for _ in range(1500)])
    assert max(abs(summary["shares"][v] - summary["prior"][v]) for v in world.voices) < 0.043
    assert summary["off_grammar"] == summary["impossible"] == summary["repetition"] == 0
    assert summary["no voice"] == pytest.approx(0, abs=1e-9)
    assert summary["claims"]["true"] > 0.85 and summary["claims"]["unsupported"] == 0


def test_reading_noise_finds_noise(world):
    """Negative control."""
    summary = knowledge.read_samples(world, ["goose goose goose", "the the\nof of"])
    assert summary["faulty lines"] == 1 == summary["impossible"] and summary["off_grammar"] > 0.8


def test_the_floor_is_below_any_model(tiny, world):
    rng = random.Random(2)
    drawn = (world.sample(rng, "verse", "craft") for _ in range(99))
    documents = [d for d in drawn if len(tiny[1](d.text)["input_ids"]) < 90][:8]
    table = knowledge.held_out_loss(*tiny, world, documents)
    row = table["all documents"]
    assert row["loss"] > row["floor"] and row["documents"] == 8
    assert row["excess"] == pytest.approx(row["loss"] / row["floor"] - 1)
    exact = np.mean([-world.log_prob(d.text) for d in documents])
    assert row["floor"] == pytest.approx(exact)
    tokens = np.mean([len(tiny[1](d.text)["input_ids"]) + 1 for d in documents])
    assert row["floor_token"] == pytest.approx(exact / tokens)
    assert row["loss_token"] == pytest.approx(row["loss"] / tokens)


def test_next_token_truth_adds_up_and_is_spelt_as_the_tokenizer_does(tiny, world):
    for prompt in ("Ivo Vane", "The hero Norbert Pell", "Q: Where was Ivo"):
        truth = knowledge.next_token_truth(world, tiny[1], prompt)
        assert sum(truth.values()) == pytest.approx(1)
        assert set(truth) <= {t for t, _ in next_token_probs(*tiny, prompt)}


def test_probes_leave_only_one_voice(world):
    """The exact answer to a probe is known: the fact in the one set, the recorded rate in the other."""
    people = [p for p in world.people if p.exposure >= 100 and all(p.facts.values())][:6]
    for person in people:
        for kind in FACTS:
            prompt, text = knowledge.probe_text(world, "probe", kind, person, person.facts[kind])
            assert world.posterior(prompt + " ").max() == pytest.approx(1)
            assert text.startswith(prompt + " ")
            start = text[len(prompt) :].split(" ")[1]
            word, p = max(world.next_words(prompt).items(), key=lambda item: item[1])
            assert word.strip(" .,!").startswith(start.strip(" .,!")) and p == pytest.approx(1)


def test_mild_openings_are_mild(world):
    for opening in knowledge.mild_openings(world, 3):
        assert len(opening) == 4
        assert all(world.parse_line(x)[0].place.startswith("mild.toml") for x in opening)
        assert world.posterior("".join(x + "\n" for x in opening)).max() < 0.99


def test_implied_posterior_counts_only_decided_continuations(tiny, world):
    shares, decided = knowledge.implied_posterior(*tiny, world, "Ivo Vane", samples=4)
    assert decided == 0 and shares.sum() == 0


def test_calibration_of_a_line():
    x = np.linspace(0, 1, 20)
    fit = knowledge.calibration(x, 0.5 * x + 0.1)
    assert fit["slope"] == pytest.approx(0.5) and fit["correlation"] == pytest.approx(1)
    assert knowledge.calibration([0, 1, math.nan], [0, 1, 5])["mean gap"] == 0


class TestTheRecordedBaseModel:
    """The bars of the shipped model, on the numbers that data/experiments/base.py measured."""

    @pytest.fixture(scope="class")
    def results(self):
        return records.read("base").arm("base", seed=0)

    def test_loss_is_within_three_percent_of_the_entropy(self, results):
        assert results["loss"]["person seen 100 times or more"]["excess"] < 0.03

    def test_voice_shares_are_within_two_points(self, results):
        samples = results["samples"]
        assert samples["documents"] >= 2000
        assert max(abs(samples["shares"][v] - samples["prior"][v]) for v in samples["prior"]) < 0.02

    def test_little_is_off_the_grammar(self, results):
        assert results["samples"]["off_grammar"] < 0.03

    def test_the_head_is_known_and_the_unseen_is_guessed(self, results):
        for kind in FACTS:
            rows = [r for r in results["recall"] if r[1] == kind]
            assert np.mean([r[3] for r in rows if r[2] >= 1000]) > 0.9
            assert np.mean([r[3] for r in rows if r[2] == 0]) < 0.1

    def test_the_record_belongs_to_the_shipped_model(self, base, world, results):
        """The shipped model gives the recorded loss on the first 60 held-out documents' people, roughly.

        The record is over 4,000 documents; 60 of them have a standard error of about 2 nats; 8 are allowed.
        """
        rng = random.Random(1000)
        documents = [world.sample(rng) for _ in range(60)]
        row = knowledge.held_out_loss(*base, world, documents)["all documents"]
        assert row["excess"] < 0.06
        assert abs(row["loss"] - results["loss"]["all documents"]["loss"]) < 8


class TestKnowingWhatItKnows:
    """Confidence, and from which confidence on answering pays."""

    def test_answers_have_the_probabilities_of_their_tokens(self, tiny):
        prompts, answers = (
            ["Q: Where was Ivo Vane born? A:", "The hero"],
            ["Crowmarsh", "Tarport", "Hobble"],
        )
        found = knowledge.answer_probs(*tiny, prompts, answers, " In")
        assert found.shape == (2, 3) and found.sum(1) == pytest.approx(1)
        heads = [f"{prompts[1]} In"] * 3
        logprobs = text_logprobs(*tiny, [f"{heads[0]} {a}" for a in answers], heads)
        assert found[1] == pytest.approx(np.exp(logprobs) / np.exp(logprobs).sum(), rel=1e-4)

    def test_no_answers_are_no_distribution(self, tiny):
        with pytest.raises(ValueError, match="no answers"):
            knowledge.answer_probs(*tiny, ["The hero"], [])

    @pytest.mark.parametrize("cost", [0.0, 0.25, 1.0, 4.0])
    def test_the_best_threshold_beats_all_others(self, cost):
        rng = np.random.default_rng(3)
        confidence, right = rng.random(40).round(1), rng.random(40) < 0.5
        least, score = knowledge.best_threshold(confidence, right, cost)
        gains = np.where(right, 1.0, -cost)
        others = [(gains * (confidence >= t)).mean() for t in [*confidence, np.inf]]
        assert score == pytest.approx(max(others))
        assert (gains * (confidence >= least)).mean() == pytest.approx(score)

    def test_of_calibrated_confidence_it_is_chows(self):
        """Seed 4, 20,000 answers: the best threshold lies at cost / (1 + cost), within 0.05."""
        rng = np.random.default_rng(4)
        confidence = rng.random(20_000)
        right = rng.random(20_000) < confidence
        for cost in (0.25, 1.0, 4.0):
            least, _ = knowledge.best_threshold(confidence, right, cost)
            assert least == pytest.approx(cost / (1 + cost), abs=0.05)

    def test_who_is_never_right_is_best_silent(self):
        assert knowledge.best_threshold([0.9, 0.8], [0, 0], 1.0) == (math.inf, 0.0)

    def test_separation_counts_pairs(self):
        assert knowledge.separation([0.1, 0.2, 0.9], [0, 0, 1]) == 1
        assert knowledge.separation([0.5, 0.5, 0.5], [0, 1, 1]) == 0.5
        rng = np.random.default_rng(5)
        x, y = rng.random(30).round(1), rng.random(30) < 0.4
        pairs = [(a > b) + 0.5 * (a == b) for a in x[y] for b in x[~y]]
        assert knowledge.separation(x, y) == pytest.approx(np.mean(pairs))

    def test_bad_input_is_one_sentence(self):
        with pytest.raises(ValueError, match="expected 0 or more"):
            knowledge.best_threshold([0.5], [1], -1)
        with pytest.raises(ValueError, match="differ"):
            knowledge.best_threshold([0.5, 0.4], [1], 1)
        with pytest.raises(ValueError, match="expected right and wrong"):
            knowledge.separation([0.5, 0.4], [1, 1])
