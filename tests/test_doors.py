"""Whatever is wrong with what a function gets, it says so in one sentence, at its door.

The table holds (function, bad input, words of the message). A plain text where a list of texts is
meant would be read letter by letter, a NaN would pass for a tie, and `zip` would drop what is too
many: none of these may give an answer.
"""

import math
import random
from types import SimpleNamespace

from rlhf_lite import (
    annotators,
    diversity,
    edits,
    experiments,
    hacking,
    judging,
    knowledge,
    labellers,
    optimum,
    pools,
    predictions,
    proxies,
    records,
    testbed,
)
from rlhf_lite.checks import check_count
from rlhf_lite.show import cards, explorers
from rlhf_lite.world import World, asking

import numpy as np
import pytest

NAN, HALF, LETTERS = math.nan, "Ivo \ud800", "Ivo Vane"
TABLE = [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
BROKEN = [[0.0, 1.0, NAN], [3.0, 4.0, 5.0]]
RAGGED = [[0.0, 1.0], [2.0]]
VOICES = np.full((2, 3, 4), 0.25)
GUESS = next(p for p in predictions.load_predictions() if p.kind == "EXACT")


@pytest.fixture(scope="module")
def own(world):
    """What the calls of the table are about; no model, for none of them may get that far."""
    people = annotators.load_annotators(world)
    return SimpleNamespace(
        world=world,
        rng=random.Random(0),
        ivo=world.by_name["Ivo Vane"],
        scholar=people["scholar"],
        panel=labellers.Labeller(world, people["scholar"]),
        blind=labellers.Labeller(world, annotators.auditor(world)),
        bed=testbed.new_testbed(words=1),
        bag=proxies.BagOfWords([(("a b", "a c"), False)]),
        proxies=records.read("proxies"),
        remedies=records.read("remedies"),
        ppo=records.read("ppo"),
        pool=pools.Pool(["a"], np.zeros((1, 4)), np.zeros((1, 4)), np.ones((1, 4, 1))),
    )


TEXTS = {  # function of texts -> what it calls them, and how many it needs
    "knowledge.read_samples": (lambda o, x: knowledge.read_samples(o.world, x), "texts", 1),
    "knowledge.posterior_curve": (
        lambda o, x: knowledge.posterior_curve(None, None, o.world, x), "opening", 1,
    ),
    "diversity.self_bleu": (lambda o, x: diversity.self_bleu(x), "texts", 0),
    "diversity.vendi": (lambda o, x: diversity.vendi(x), "texts", 1),
    "diversity.coverage": (lambda o, x: diversity.coverage(x, o.world), "texts", 0),
    "testbed.score": (lambda o, x: o.bed.score(x), "texts", 0),
    "proxies.BagOfWords": (lambda o, x: o.bag(x), "texts", 0),
    "Labeller.demonstrate": (lambda o, x: o.panel.demonstrate("Ivo Vane", x), "responses", 1),
    "asking.draw_prompts": (
        lambda o, x: asking.draw_prompts(o.world, 3, wordings=x), "wordings", 1,
    ),
    "cards.documents_html": (lambda o, x: cards.documents_html(o.world, x), "texts", 0),
    "cards.documents_html, prompts": (
        lambda o, x: cards.documents_html(o.world, ["a"], x), "prompts", 0,
    ),
    "explorers.explore_score": (
        lambda o, x: explorers.explore_score(None, None, "a", tries=x), "tries", 0,
    ),
    "World, leave_out": (lambda o, x: World(leave_out=x), "leave_out", 0),
}  # fmt: skip


def texts_rows():
    for name, (call, what, least) in TEXTS.items():
        yield name, call, LETTERS, [f"{what} is one string", "list of texts"]
        yield name, call, ["a", 7], [f"{what}[1] is a int", "text"]
        yield name, call, 7, [f"{what} is a int", "list of texts"]
        yield name, call, ["a", HALF], [f"{what}[1]", "half a character"]
        if least:
            yield name, call, [], [f"no {what}"]


# One text: None, a list of texts, a number.
TEXT = {
    "World.parse": lambda o, x: o.world.parse(x),
    "World.parse_line": lambda o, x: o.world.parse_line(x),
    "World.log_prob": lambda o, x: o.world.log_prob(x),
    "World.posterior": lambda o, x: o.world.posterior(x),
    "World.next_words": lambda o, x: o.world.next_words(x),
    "annotators.Reader": lambda o, x: o.panel.read(x),
    "edits.edits": lambda o, x: edits.edits(o.world, "Ivo", x, o.rng),
    "Labeller.prefer": lambda o, x: o.panel.prefer("Ivo Vane", " was.", x),
    "Labeller.rate": lambda o, x: o.panel.rate("Ivo Vane", x),
    "Labeller.correct": lambda o, x: o.panel.correct(x, " was."),
    "Labeller.criticise": lambda o, x: o.panel.criticise("Ivo Vane", x),
    "HastyLabeller.rate": lambda o, x: labellers.HastyLabeller(o.world, o.scholar).rate(
        "Ivo Vane", x
    ),
    "knowledge.implied_posterior": lambda o, x: knowledge.implied_posterior(None, None, o.world, x),
    "cards.document_html": lambda o, x: cards.document_html(o.world, x),
    "cards.claims_html": lambda o, x: cards.claims_html(o.world, "a", x),
    "explorers.parrot_view": lambda o, x: explorers.parrot_view(None, None, o.world, x, 1.0),
    "explorers.score_view": lambda o, x: explorers.score_view(None, None, x),
}


def text_rows():
    for name, call in TEXT.items():
        for bad, kind in ((None, "NoneType"), (["a"], "list"), (3.5, "float")):
            yield name, call, bad, [kind, "expected", "text"]


NUMBERS = {  # function of two arrays of one shape: axes, the call
    "judging.pair_accuracy": (1, lambda o, x, y: judging.pair_accuracy(x, y, 1.0)),
    "optimum.best_of_n": (1, lambda o, x, y: optimum.best_of_n(x, y, 2)),
    "judging.reliability": (1, lambda o, x, y: judging.reliability(x, y)),
    "hacking.fit_gold": (1, lambda o, x, y: hacking.fit_gold(x, y)),
    "hacking.matched_wins": (1, lambda o, x, y: hacking.matched_wins(x, y, x, y)),
    "optimum.best_of_n_kl": (1, lambda o, x, y: optimum.best_of_n_kl(x, y, 2)),
    "hacking.push": (2, lambda o, x, y: hacking.push(x, y, [1, 2])),
    "hacking.length_r2": (2, lambda o, x, y: hacking.length_r2(x, y)),
    "hacking.without_length": (2, lambda o, x, y: hacking.without_length(x, y)),
}


def numbers_rows():
    for name, (axes, function) in NUMBERS.items():
        good = [[0.5, 0.25, 0.25]] * 2 if axes == 2 else [0.5, 0.25, 0.25]
        broken = [[0.5, 0.5, NAN]] * 2 if axes == 2 else [0.5, 0.5, NAN]
        short = good[:1] if axes == 2 else [0.5, 0.5]
        words = [["a", "b", "c"]] * 2 if axes == 2 else ["a", "b", "c"]
        for bad in (None, {"a": 1}, broken, words, [], short, RAGGED):
            yield name, lambda o, x, f=function, g=good: f(o, x, g), bad, ["expected"]
            yield name, lambda o, x, f=function, g=good: f(o, g, x), bad, ["expected"]


SCORES = {
    "optimum.optimum": lambda o, x: optimum.optimum(x, 1.0),
    "optimum.weights": lambda o, x: optimum.weights(x, 1.0),
    "optimum.ess": lambda o, x: optimum.ess(x, 1.0),
    "optimum.frontier": lambda o, x: optimum.frontier(x, [1.0]),
    "optimum.best_of_n_curve": lambda o, x: optimum.best_of_n_curve(x, [1]),
    "testbed.exact": lambda o, x: testbed.exact(o.bed.base_logprobs, o.bed.base_logprobs, x, 1.0),
    "hacking.fall": lambda o, x: hacking.fall(x),
    "proxies.ensemble": lambda o, x: proxies.ensemble(x),
    "diversity.mode_entropy": lambda o, x: diversity.mode_entropy(x),
    "diversity.voice_entropy": lambda o, x: diversity.voice_entropy(x),
    "diversity.sequence_entropy": lambda o, x: diversity.sequence_entropy(x, VOICES),
    "annotators.information": lambda o, x: annotators.information(x),
    "annotators.calibrate": lambda o, x: annotators.calibrate(o.scholar, x, 0.7),
}


def scores_rows():
    for name, call in SCORES.items():
        for bad in ({"a": 1}, BROKEN, [["a", "b"]], [], 3.0):
            yield name, call, bad, ["expected"]


CASES = [
    # ---- the world ----
    ("check_count", lambda o, x: check_count(x, "samples"), True, ["samples is True", "whole"]),
    ("World.sample, rng", lambda o, x: o.world.sample(x), 0, ["rng is a int", "random.Random"]),
    ("World.sample, rng", lambda o, x: o.world.sample(x), np.random.default_rng(0), ["Generator"]),
    ("World.sample, subject", lambda o, x: o.world.sample(o.rng, topic="person", subject=x),
     "Ivo Vane", ["subject is a str", "'person'"]),
    ("World.sample, subject", lambda o, x: o.world.sample(o.rng, subject=o.ivo), None, ["topic None"]),
    ("World.entropies", lambda o, x: o.world.entropies(x), 0, ["samples is 0", "at least 1"]),
    ("World.exposures", lambda o, x: o.world.exposures(x), ["a text"], ["a str", "Document"]),
    ("World, leave_out", lambda o, x: World(leave_out=x(o)), lambda o: o.world.voices, ["all are left out"]),
    # ---- annotators ----
    ("rating without anchors", lambda o, x: o.blind.rate("Ivo", x), " was.", ["auditor", "anchors", "calibrate"]),
    ("choice of nothing", lambda o, x: o.scholar.choice_probs(x), [], ["(0,)"]),
    ("calibrate, agreement", lambda o, x: annotators.calibrate(o.scholar, [np.arange(3.0)], x), 0.4, ["0.4", "0.5"]),
    ("calibrate, no prompts", lambda o, x: annotators.calibrate(o.scholar, x, 0.7), [], ["one array"]),
    ("calibrate, words", lambda o, x: annotators.calibrate(o.scholar, x, 0.7), [["a"]], ["finite"]),
    ("draw_prompts, count", lambda o, x: asking.draw_prompts(o.world, x), -5, ["count is -5"]),
    ("draw_prompts, count", lambda o, x: asking.draw_prompts(o.world, x), None, ["count is None"]),
    ("draw_prompts, wording", lambda o, x: asking.draw_prompts(o.world, 3, wordings=x), ["rude"], ["'rude'", "plain"]),
    ("remark", lambda o, x: labellers.remark(x, o.panel.read("a"), o.scholar), "taste", ["'taste'", "voice"]),
    ("load_annotators, folder", lambda o, x: annotators.load_annotators(o.world, x), "/nowhere", ["annotators.toml"]),
    # ---- metrics ----
    ("held_out_loss", lambda o, x: knowledge.held_out_loss(None, None, o.world, x), ["text"], ["a str", "Document"]),
    ("held_out_loss", lambda o, x: knowledge.held_out_loss(None, None, o.world, x), [], ["no documents"]),
    ("probe_text, table", lambda o, x: knowledge.probe_text(o.world, x, "town", o.ivo, "Oxbow"), "quiz", ["'quiz'"]),
    ("probe_text, kind", lambda o, x: knowledge.probe_text(o.world, "probe", x, o.ivo, "Oxbow"), "hat", ["'hat'", "town"]),
    ("probe_text, value", lambda o, x: knowledge.probe_text(o.world, "probe", "town", o.ivo, x), None, ["None", "known"]),
    ("recall, people", lambda o, x: knowledge.recall(None, None, o.world, x, {}), ["Ivo Vane"], ["Ivo Vane", "people of the world"]),
    ("recall, exposures", lambda o, x: knowledge.recall(None, None, o.world, [o.ivo], x), {}, ["no exposures"]),
    ("mild_openings, lines", lambda o, x: knowledge.mild_openings(o.world, 1, x), 7, ["lines is 7", "at most 6"]),
    ("mild_openings, count", lambda o, x: knowledge.mild_openings(o.world, x), None, ["count is None"]),
    ("implied_posterior, samples", lambda o, x: knowledge.implied_posterior(None, None, o.world, "a", x), 0, ["samples is 0"]),
    ("next_token_truth", lambda o, x: knowledge.next_token_truth(o.world, None, x), "Dear Sir", ["'Dear Sir'"]),
    ("calibration, lengths", lambda o, x: knowledge.calibration([0, 1], x), [0, 1, 2], ["2 exact and 3 measured"]),
    ("calibration, words", lambda o, x: knowledge.calibration([0, 1], x), ["a", "b"], ["numbers"]),
    ("calibration, one", lambda o, x: knowledge.calibration(x, x), [NAN, 1.0], ["two different"]),
    ("pair_accuracy, one", lambda o, x: judging.pair_accuracy(x, x, 1.0), [1.0], ["no pair"]),
    ("best_of_n, half", lambda o, x: optimum.best_of_n([1.0, 2.0], [1.0, 2.0], x), 1.5, ["best of 1.5"]),
    ("reliability, range", lambda o, x: judging.reliability(x, [1, 0]), [0.5, 1.5], ["0.5 to 1.5"]),
    ("reliability, bins", lambda o, x: judging.reliability([0.5], [1], x), 0, ["bins is 0"]),
    # ---- diversity ----
    ("ngrams", lambda o, x: diversity.ngrams(["a"], x), 0, ["n is 0"]),
    ("ead, a text", lambda o, x: diversity.ead(x, 99), LETTERS, ["tokens_lists is one string", "list of lists"]),
    ("ead, texts", lambda o, x: diversity.ead(x, 99), [LETTERS], ["tokens_lists[0] is one string"]),
    ("ead, none", lambda o, x: diversity.ead(x, 99), [], ["no tokens_lists"]),
    ("ead, vocabulary", lambda o, x: diversity.ead([[1]], x), None, ["vocabulary is None"]),
    ("self_bleu, limit", lambda o, x: diversity.self_bleu(["a", "b", "c"], x), -1, ["limit is -1"]),
    ("vendi, n", lambda o, x: diversity.vendi(["a"], x), 0, ["n is 0"]),
    ("coverage, limit", lambda o, x: diversity.coverage(["a"], o.world, x), -1, ["limit is -1"]),
    ("per_prompt, flat", lambda o, x: diversity.per_prompt(len, x), ["abc", "xyz"], ["texts[0] is one string", "list of samples"]),
    ("per_prompt, none", lambda o, x: diversity.per_prompt(len, x), [], ["no texts"]),
    ("across_prompts, flat", lambda o, x: diversity.across_prompts(len, x), ["abc", "xyz"], ["texts[0] is one string", "list of samples"]),
    ("cut_to, texts", lambda o, x: diversity.cut_to(x, 2), ["abc"], ["tokens_lists[0] is one string"]),
    ("cut_to, length", lambda o, x: diversity.cut_to([[1, 2]], x), -1, ["length is -1"]),
    ("voice_entropy, no prompts", lambda o, x: diversity.voice_entropy(x), np.zeros((0, 3, 4)), ["(0, 3, 4)"]),
    ("voice_entropy, no samples", lambda o, x: diversity.voice_entropy(x), np.zeros((2, 0, 4)), ["(2, 0, 4)"]),
    ("within_voice_entropy, shares", lambda o, x: diversity.within_voice_entropy(np.zeros((2, 3)), VOICES, shares=x),
     np.full((1, 5), 0.2), ["(1, 5)", "(2, 5)"]),
    # ---- the optimum and the testbed ----
    ("kl_coef", lambda o, x: optimum.weights(TABLE, x), "a", ["kl_coef is 'a'"]),
    ("kl_coef", lambda o, x: optimum.weights(TABLE, x), None, ["kl_coef is None"]),
    ("kl_coefs", lambda o, x: optimum.frontier(TABLE, x), 0.5, ["kl_coefs is 0.5", "list"]),
    ("Pool.tilted", lambda o, x: o.pool.tilted(x), 0, ["kl_coef is 0"]),
    ("share", lambda o, x: optimum.share(x, optimum.optimum(np.arange(99.0)[None], 99.0)), NAN, ["nan"]),
    ("distance", lambda o, x: optimum.distance(x, optimum.optimum(np.arange(99.0)[None], 99.0)), NAN, ["nan"]),
    ("features", lambda o, x: optimum.optimum(np.arange(99.0)[None], 99.0, x), np.full((1, 99, 1), NAN), ["features"]),
    ("best_of_n_bound", lambda o, x: optimum.best_of_n_bound(x), 0, ["n is 0"]),
    ("best_of_n_curve, ns", lambda o, x: optimum.best_of_n_curve(TABLE, x), 2, ["ns is 2", "list"]),
    ("new_testbed", lambda o, x: testbed.new_testbed(words=x), 2.5, ["words is 2.5"]),
    ("optimal_logprobs, shapes", lambda o, x: testbed.optimal_logprobs(o.bed.base_logprobs, x, 1.0),
     np.zeros((1, 64)), ["(1, 64)", "(4, 64)"]),
    ("exact, shapes", lambda o, x: testbed.exact(o.bed.base_logprobs[x], o.bed.base_logprobs, o.bed.scores, 1.0),
     slice(0, 1), ["(1, 64)", "(4, 64)"]),
    ("exact, logprobs", lambda o, x: testbed.exact(x, o.bed.base_logprobs, o.bed.scores, 1.0), None, ["NoneType"]),
    ("entropy_split, length", lambda o, x: testbed.entropy_split(o.bed.base_logprobs, x), [0, 1], ["(2,)", "(64,)"]),
    ("entropy_split, gap", lambda o, x: testbed.entropy_split(o.bed.base_logprobs, o.bed.voices * x), 2, ["left out"]),
    # ---- hacking ----
    ("checked", lambda o, x: labellers.glance(o.panel.read("a"), x, o.rng), None, ["checked is None"]),
    ("HastyLabeller, checked", lambda o, x: labellers.HastyLabeller(o.world, o.scholar, checked=x), 2, ["checked is 2"]),
    ("fit_preferences", lambda o, x: proxies.fit_preferences(np.ones((3, 2)), x), [False], ["(3, 2)", "(1,)"]),
    ("fit_preferences", lambda o, x: proxies.fit_preferences(x, [False]), [[NAN]], ["gaps[0, 0]"]),
    ("push, ns", lambda o, x: hacking.push(TABLE, TABLE, x), 2, ["ns 2"]),
    ("root_kl, ns", lambda o, x: hacking.root_kl(x), 2, ["ns is 2"]),
    ("root_kl, n", lambda o, x: hacking.root_kl(x), [0], ["n is 0"]),
    ("fit_gold, one", lambda o, x: hacking.fit_gold(x, x), [1.0], ["one point"]),
    # ---- predictions and records ----
    ("interval", lambda o, x: predictions.interval(x), None, ["None"]),
    ("interval", lambda o, x: predictions.interval(x), 0.5, ["0.5"]),
    ("interval", lambda o, x: predictions.interval(x), ["a"], ["'a'"]),
    ("verdict_on", lambda o, x: predictions.verdict_on(GUESS, {GUESS.statistic: x}), {"value": 1}, ["expected finite numbers"]),
    ("interval", lambda o, x: predictions.interval(x), [[1, 2], [3]], ["expected finite numbers"]),
    ("seeds_for", lambda o, x: predictions.seeds_for(x, 1), NAN, ["sd nan", "above 0"]),
    ("predictions_html", lambda o, x: cards.predictions_html([GUESS] * 2, x), [predictions.verdict_on(GUESS, {GUESS.statistic: [0.5]})],
     ["1 verdicts for 2 predictions"]),
    ("Record.arm", lambda o, x: o.ppo.arm(x), "sweep 7", ["no arm 'sweep 7'"]),
    ("Record.arm, key", lambda o, x: o.ppo.arm("base", x), "klo", ["nothing under"]),
    ("Record[]", lambda o, x: o.ppo[x], "claims", ["no entry 'claims'"]),
    ("experiments.load", lambda o, x: experiments.load(x), "nobody", ["no experiment 'nobody'"]),
    ("records.read", lambda o, x: records.read(x), None, ["no recorded run"]),
    ("records.write", lambda o, x: records.write("x", x, "", 0, "/nowhere"), {"a": {1, 2}}, ["results of x", "set"]),
    # ---- widgets ----
    ("documents_html, lengths", lambda o, x: cards.documents_html(o.world, ["a", "b"], x), ["a"], ["1 prompts for 2 texts"]),
    ("parrot_view, count", lambda o, x: explorers.parrot_view(None, None, o.world, "a", 1.0, x), 0, ["count is 0"]),
    ("run_of, prompt", lambda o, x: explorers.run_of(o.ppo, 0.54, x), 3, ["prompt is 3", "0 to 2"]),
    ("run_of, the record", lambda o, x: explorers.run_of(x, 0.54), {"results": {}}, ["lacks 'arms'", "records.read('ppo')"]),
    ("run_of, another record", lambda o, x: explorers.run_of(x(o), 0.54), lambda o: o.remedies, ["remedies", "'coefs'"]),
    ("explore_runs, start", lambda o, x: explorers.explore_runs(o.world, o.ppo, {}, x), 0.55, ["no run at kl_coef 0.55"]),
    ("push_view, place", lambda o, x: explorers.push_view(o.proxies, "whole", 300, x), -1, ["place -1"]),
    ("push_view, size", lambda o, x: explorers.push_view(o.proxies, x, 300, 0), "huge", ["'huge'"]),
    ("push_view, the record", lambda o, x: explorers.push_view(x, "whole", 300, 0), None, ["records.read('proxies')"]),
    ("policy_view, place", lambda o, x: explorers.policy_view(o.remedies, x), 99, ["place is 99"]),
    ("explore_push", lambda o, x: explorers.explore_push(o.world, x, o.remedies), {}, ["records.read('proxies')"]),
    ("explore_push", lambda o, x: explorers.explore_push(o.world, o.proxies, x), [], ["records.read('remedies')"]),
]  # fmt: skip
ROWS = [*texts_rows(), *text_rows(), *numbers_rows(), *scores_rows(), *CASES]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("row", ROWS, ids=[f"{number}-{r[0]}" for number, r in enumerate(ROWS)])
def test_a_bad_input_gets_one_sentence(own, row):
    _, call, bad, words = row
    with pytest.raises(ValueError) as caught:
        call(own, bad)
    said = str(caught.value)
    raised = type(caught.value)
    assert raised is ValueError or raised.__module__.startswith("rlhf_lite"), repr(caught.value)
    assert all(word in said for word in words) and "expected" in said and "\n" not in said, said


def test_half_a_character_is_off_the_grammar(own):
    """The parser takes any text; what it says of half a character is that it fits no frame."""
    parse = own.world.parse(HALF)
    assert not parse.possible and parse.off_grammar > 0


def test_a_box_takes_half_a_character_and_says_so(own, monkeypatch):
    """The student's text stays in the box, nothing is sent back, the sentence says why."""
    monkeypatch.setattr(explorers, "trace", lambda model, tokenizer, text: [(text, 0.0)])
    box = explorers.explore_score(None, None, "Ivo Vane.")
    area, buttons, status, _ = box.children
    area.value = HALF
    buttons.children[0].click()
    assert "half a character" in status.value and area.value == HALF
    assert not area.traits()["value"].metadata["echo_update"]


def test_good_input_passes_all_doors(own):
    """Positive control: what the table damages works undamaged."""
    bed = own.bed
    split = testbed.entropy_split(bed.base_logprobs, bed.voices)
    assert split.shares.sum(1) == pytest.approx(1)
    assert judging.pair_accuracy([1.0, 2.0], [1.0, 2.0], 1.0)[0] > 0.5
    assert judging.pair_accuracy((1, 2), np.array([2, 1]), 1.0)[0] < 0.5
    assert diversity.vendi(iter(["a b", "c d"])) == pytest.approx(2)
    assert hacking.push(TABLE, TABLE, (1, 3)).tolist() == [[1, 2], [4, 5]]
    assert record_is_shown(own)


def record_is_shown(own):
    said, figure = explorers.push_view(own.proxies, "whole", 300, 0)
    explorers.plt.close(figure)
    return "best of 1:" in said
