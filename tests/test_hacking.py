"""Test rlhf_lite.hacking: hasty labellers, small proxies, curves of gold, and what length explains."""

import json
from itertools import combinations

from rlhf_lite import annotators, hacking, knowledge, models, rewards
from rlhf_lite.annotators import Reader
from rlhf_lite.feedback import FeedbackError
from rlhf_lite.models import ModelError
from rlhf_lite.optimum import OptimumError
from rlhf_lite.runtime import DATA

import numpy as np
import pytest
import torch
from scipy.stats import linregress


@pytest.fixture(name="said", scope="module")
def said_fixture(world):
    """Say a true thing of somebody, a false thing, and nothing that could be checked: texts."""
    person = next(p for p in world.people if p.exposure >= 500 and p.facts["town"])
    known = (None, person.facts["town"], person.tabloid)
    other = next(p.facts["town"] for p in world.people if p.facts["town"] not in known)
    true, false = (
        f"{knowledge.probe_text(world, 'probe', 'town', person, town)[1]}."
        for town in (person.facts["town"], other)
    )
    pool, read = (
        json.loads((DATA / "feedback" / "held_out.json").read_text(encoding="utf-8")),
        Reader(world),
    )
    texts = (p + r for p, rows in pool["responses"].items() for r in rows)
    mild = (t for t in texts if (r := read(t)).words > 8 and not r.garbled and not r.kinds["true"])
    nothing = next(t for t in mild if not read(t).false + read(t).unsupported)
    return true, false, nothing


@pytest.fixture(name="reading", scope="module")
def reading_fixture(world, said):
    """Read a text with a true claim and a text with a false one."""
    return [Reader(world)(text) for text in said[:2]]


# ---- people who do not check ----


def test_gold_is_what_it_says(world, reading):
    gold = annotators.auditor(world)
    true, false = reading
    assert (true.true, true.false, false.true, false.false) == (1, 0, 0, 1)
    short = 0.8 * ((true.words - 32) / 32) ** 2
    assert gold.utility(true) == pytest.approx(1 - short - 2 * true.garbled)
    assert gold.utility(true) - gold.utility(false) == pytest.approx(
        3 + 0.8 * (((false.words - 32) / 32) ** 2) - short
    )


def test_who_checks_everything_sees_everything(reading):
    rng = np.random.default_rng(0)
    for one in reading:
        assert annotators.glance(one, 1.0, rng) == one


def test_who_checks_nothing_believes_everything(reading):
    seen = annotators.glance(reading[1], 0.0, np.random.default_rng(0))
    assert (seen.true, seen.false, seen.unsupported) == (1, 0, 0)


def test_a_glance_catches_as_many_as_it_checks(reading):
    rng = np.random.default_rng(0)
    seen = [annotators.glance(reading[1], 0.25, rng) for _ in range(4000)]
    # Four standard errors: one failure in 16,000 seeds.
    assert np.mean([s.false for s in seen]) == pytest.approx(0.25, abs=4 * 0.433 / 4000**0.5)
    assert {s.true + s.false + s.unsupported for s in seen} == {1}


def test_a_share_of_checks_must_be_a_probability(reading):
    with pytest.raises(FeedbackError, match="checked is 2; expected a probability from 0 to 1"):
        annotators.glance(reading[0], 2, np.random.default_rng(0))


def test_hasty_people_prefer_a_lie_to_nothing(world, said):
    """Whoever checks nothing takes the lie for a fact; whoever checks everything does not."""
    gold = annotators.auditor(world, rationality=50.0)
    _, lie, nothing = said
    for checked, better in ((0.0, lie), (1.0, nothing)):
        record = annotators.HastyLabeller(world, gold, checked=checked).prefer("", lie, nothing)
        assert record["chosen"] == better and not record["tie"]


def test_love_of_length_is_a_sum(world):
    gold = annotators.auditor(world)
    plain = annotators.HastyLabeller(world, gold, checked=1.0)
    long = annotators.HastyLabeller(world, gold, checked=1.0, per_word=0.5)
    text = ("Ivo Vane", " was here.")
    words = Reader(world)("".join(text)).words
    assert long.utility(*text) - plain.utility(*text) == pytest.approx(0.5 * words)


# ---- proxies ----


def test_first_layers_are_those_of_the_base():
    base, tokenizer = models.load(DATA / "models" / "base")
    short = models.first_layers(base, 1)
    tokens = torch.tensor([tokenizer("Ivo Vane was born in Oxbow.")["input_ids"]])
    with torch.no_grad():
        after_one = base.transformer(tokens, output_hidden_states=True).hidden_states[1]
        ours = short.transformer(tokens).last_hidden_state
        torch.testing.assert_close(ours, base.transformer.ln_f(after_one))
    assert models.first_layers(base, base.config.n_layer).num_parameters() == base.num_parameters()
    assert short.num_parameters() < base.num_parameters()
    with pytest.raises(ModelError, match="layers is 9; expected 1 to"):
        models.first_layers(base, 9)


def pairs(weights, count, seed):
    """Draw Bradley-Terry preferences of bags of words with known weights."""
    rng, words, rows = np.random.default_rng(seed), list(weights), []
    for _ in range(count):
        a, b = (" ".join(rng.choice(words, 5)) for _ in range(2))
        gap = sum(weights[w] for w in a.split()) - sum(weights[w] for w in b.split())
        texts = (a, b) if rng.random() < 1 / (1 + np.exp(-gap)) else (b, a)
        rows.append((texts, False))
    return rows


def test_a_bag_of_words_finds_the_weights():
    truth = {"good": 1.0, "fair": 0.4, "dull": -0.4, "bad": -1.0}
    bag = rewards.BagOfWords(pairs(truth, 4000, 0))
    found = {w: bag.weights[i] for w, i in bag.words.items()}
    # Only differences are seen: every text has five words. 0.15 is over four standard errors.
    for word, weight in truth.items():
        assert found[word] - found["fair"] == pytest.approx(weight - 0.4, abs=0.15)
    assert bag(["good good", "bad unknown"])[1] == pytest.approx(found["bad"], abs=1e-6)


def test_a_bag_of_words_stands_where_its_gradient_is_zero():
    rows = pairs({"a": 1.0, "b": 0.0, "c": -1.0}, 50, 1)
    rows += [((a, b), True) for (a, b), _ in pairs({"a": 0.0, "c": 0.0}, 20, 2)]
    bag = rewards.BagOfWords(rows)
    weights = torch.tensor(bag.weights, requires_grad=True)
    loss = (weights**2).sum() / 2
    for (chosen, rejected), tie in rows:
        gap = sum(weights[bag.words[w]] for w in chosen.split())
        gap = gap - sum(weights[bag.words[w]] for w in rejected.split())
        sides = torch.nn.functional.logsigmoid(torch.stack([gap, -gap]))
        loss = loss - (sides.mean() if tie else sides[0])
    loss.backward()
    assert weights.grad.abs().max() < 1e-2


def test_a_bag_of_words_needs_labels():
    with pytest.raises(FeedbackError, match="no preferences"):
        rewards.BagOfWords([])


def test_ensembles_are_what_they_say():
    scores = torch.tensor([[0.0, 1.0, 4.0], [2.0, 1.0, -2.0]])
    assert rewards.ensemble(scores, "mean").tolist() == [1, 1, 1]
    assert rewards.ensemble(scores, "worst").tolist() == [0, 1, -2]
    assert rewards.ensemble(scores, "uncertainty", 0.5).tolist() == [0.5, 1, -3.5]
    with pytest.raises(FeedbackError, match="no ensemble 'vote'"):
        rewards.ensemble(scores, "vote")
    with pytest.raises(FeedbackError, match=r"shape \(3,\)"):
        rewards.ensemble(scores[0])


def test_preferences_give_back_the_weights_that_made_them():
    """20,000 Bradley-Terry labels, seed 0: three weights to 0.1, about five standard errors."""
    rng, weights = np.random.default_rng(0), np.array([1.0, -2.0, 0.3])
    gaps = rng.normal(size=(20_000, 3))
    won = rng.random(20_000) < 1 / (1 + np.exp(-gaps @ weights))
    found = rewards.fit_preferences(np.where(won[:, None], gaps, -gaps), np.zeros(20_000, bool))
    assert found == pytest.approx(weights, abs=0.1)
    # Ties alone say that no gap matters.
    assert rewards.fit_preferences(gaps, np.ones(20_000, bool)) == pytest.approx(0, abs=1e-6)


# ---- how hard to push ----


def test_pushing_is_the_mean_over_all_subsets():
    rng = np.random.default_rng(0)
    proxy, gold = rng.normal(size=(2, 3, 7))
    found = hacking.push(proxy, gold, (1, 3, 7))
    for p in range(3):
        for k, n in enumerate((1, 3, 7)):
            best = [gold[p, max(s, key=lambda i: proxy[p, i])] for s in combinations(range(7), n)]
            assert found[p, k] == pytest.approx(np.mean(best))
    with pytest.raises(OptimumError, match="expected both"):
        hacking.push(proxy, gold[:2], (1,))


def test_a_fall_is_sought_on_the_others():
    curves = np.array([[0.0, 2.0, 1.0], [0.0, 3.0, 1.0], [5.0, 0.0, 4.0]])
    # Without itself: peaks of the means of the two others stand at 0 or 2, at 0 or 2, and at 1.
    others = [np.delete(curves, i, 0).mean(0).argmax() for i in range(3)]
    expected = [curves[i, k] - curves[i, -1] for i, k in enumerate(others)]
    assert hacking.fall(curves).tolist() == expected
    assert hacking.fall([[0, 1, 2], [0, 1, 2]]).tolist() == [0, 0]
    with pytest.raises(OptimumError, match="two or more"):
        hacking.fall(curves[:1])


def test_luck_alone_makes_no_fall():
    """A noise without a peak: the naive fall is positive for every seed, ours is 0 on average."""
    rng = np.random.default_rng(0)
    naive, ours = [], []
    for _ in range(200):
        curves = rng.normal(size=(20, 6))
        naive.append(curves.mean(0).max() - curves.mean(0)[-1])
        ours.append(hacking.fall(curves).mean())
    assert np.mean(naive) > 0.2
    assert abs(np.mean(ours)) < 4 * np.std(ours) / 200**0.5


def test_light_noise_never_turns_the_curve_but_an_overrated_trait_does():
    """The control of notebook 06, and the cause that it names, on numbers alone."""
    rng = np.random.default_rng(0)
    ns = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    gold = rng.normal(size=(20, 1024))
    light = hacking.push(gold + 2 * rng.normal(size=gold.shape), gold, ns).mean(0)
    assert light[-1] > light[:-2].max()
    trait = rng.normal(size=(20, 1024))
    overrated = hacking.push(trait, trait - 0.4 * trait**2, ns).mean(0)
    assert overrated.argmax() < 8 and overrated[-1] < overrated.max() - 0.3


@pytest.mark.parametrize("form", ["best-of-n", "RL"])
def test_the_fit_finds_what_was_put_in(form):
    d = hacking.root_kl((2, 4, 8, 64))
    gain = hacking.predict_gold(d, 0.7, 0.2, form)
    assert hacking.fit_gold(d, gain, form) == pytest.approx([0.7, 0.2])


def test_the_two_forms_are_those_of_the_paper():
    d = np.array([0.5, 2.0])
    assert hacking.predict_gold(d, 3.0, 1.0) == pytest.approx(d * (3 - d))
    assert hacking.predict_gold(d, 3.0, 1.0, "RL") == pytest.approx(d * (3 - np.log(d)))
    with pytest.raises(OptimumError, match="no form 'cubic'"):
        hacking.predict_gold(d, 1, 1, "cubic")
    with pytest.raises(OptimumError, match="expected KL above 0"):
        hacking.fit_gold([0.0, 1.0], [0, 1])


def test_distance_is_the_bound_of_best_of_n():
    assert hacking.root_kl((1, 2)) == pytest.approx([0, np.sqrt(np.log(2) - 0.5)])


# ---- length ----


def test_length_explains_what_a_line_explains():
    rng = np.random.default_rng(0)
    words = rng.integers(10, 50, (3, 40))
    scores = 0.1 * words + rng.normal(size=(3, 40))
    lines = [linregress(w, s).rvalue ** 2 for w, s in zip(words, scores)]
    assert hacking.length_r2(scores, words) == pytest.approx(np.mean(lines))
    assert hacking.length_r2(np.ones((1, 4)), words[:1, :4]) == 0


def test_without_length_nothing_of_it_is_left():
    rng = np.random.default_rng(0)
    words = rng.integers(10, 50, (3, 40))
    left = hacking.without_length(0.1 * words + rng.normal(size=(3, 40)), words)
    assert np.corrcoef(left.ravel(), words.ravel())[0, 1] == pytest.approx(0, abs=1e-9)


def test_matched_wins_leave_out_unlike_lengths():
    share, count = hacking.matched_wins(
        [1, 0, 5, 2], [0, 1, 0, 2], [10, 10, 40, 12], [11, 9, 10, 12]
    )
    assert (share, count) == (pytest.approx(0.5), 3)
    assert np.isnan(hacking.matched_wins([1], [0], [10], [40])[0])


def test_a_proxy_from_hasty_labels_overrates_claims(world, said):
    """The whole chain on 400 labels: who checks nothing teaches a bag of words to like claims."""
    gold, worth = annotators.auditor(world, rationality=2.0), {}
    _, lie, nothing = said
    for checked in (0.0, 1.0):
        panel = annotators.HastyLabeller(world, gold, seed=1, checked=checked)
        records = [panel.prefer("", lie, nothing) for _ in range(400)]
        a, b = rewards.BagOfWords(rewards.examples("preference", records))([lie, nothing])
        worth[checked] = float(a - b)
    assert worth[0.0] > 0 > worth[1.0]


def test_pairs_of_like_length_by_hand():
    """Gaps of 0, 2 and 3 words: the first two are alike; one is won, one is a tie."""
    wins, number = hacking.matched_wins(
        [1.0, 5.0, 9.0], [0.0, 5.0, 0.0], [10, 12, 20], [10, 10, 17]
    )
    assert (wins, number) == (0.75, 2)
