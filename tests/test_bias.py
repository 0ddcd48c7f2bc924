"""Bias: places and readings of a translation, the law of the two dials, and what the runs measure."""

from rlhf_lite import experiments, knowledge, optimum
from rlhf_lite.sampling import filter_logits, text_logprobs
from rlhf_lite.show import bias

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from scipy.special import expit, logit

runs, judges = experiments.load("bias"), experiments.load("_bias_judges")
KNOWS = 'Q: And "ze tor pelm"? A: '


@pytest.fixture
def lab(tmp_path):
    return runs.LAB(tmp_path)


# ---- where a pronoun is chosen ----


def test_lines_of_the_phrasebook_go_on_from_its_places(world):
    for voice, index in ((v, i) for v in world.voices for i in world.weights[v].get("phrases", {})):
        frame = world.frames[index]
        if "pronoun" not in frame.bound:
            continue
        fills = {s.key: "" for s in frame.segments if not isinstance(s, str)}
        fills |= {k: world.slots[k][0] for k in fills if k in world.slots}
        fills |= {"oword": "pelm", "trade": "baker", "pronoun": "she"}
        line = world.render(frame, fills)
        starts = [
            text.replace("{oword}", "pelm") + ("She" if form == "capital" else "she")
            for text, form in knowledge.pronoun_places(world, voice)
        ]
        early = line[: line.lower().index("she ", line.index("pelm"))].lower()
        free = [k for k in fills if k in world.slots and fills[k].lower() in early]
        assert free or any(line.startswith(start) for start in starts), line


def test_an_unknown_voice_has_no_places(world):
    with pytest.raises(ValueError, match="no voice 'opera'; expected one of encyclopedia"):
        knowledge.pronoun_places(world, "opera")


def test_the_odds_are_those_of_two_texts(tiny, world):
    place = knowledge.pronoun_places(world)[0]
    found = knowledge.pronoun_logprobs(*tiny, world, place, ("she", "he", "they"))
    assert found.shape == (32, 3)
    head = place[0].replace("{oword}", "pelm")
    twin = text_logprobs(*tiny, [head + w for w in ("She", "He", "They")], [head] * 3)
    np.testing.assert_allclose(found[0], twin, atol=1e-4)


def test_the_base_knows_the_corpus(base, world):
    place = knowledge.pronoun_places(world, "encyclopedia")[0]
    she, he = knowledge.pronoun_logprobs(*base, world, place).T
    odds = logit([float(row["p_she"]) for row in world.trades.values()])
    assert knowledge.calibration(odds, she - he)["correlation"] > 0.95


# ---- reading a translation ----


@pytest.mark.parametrize(
    ("said", "pronoun"),
    [
        ('"She knows a baker." Do ask again.', "she"),
        ('"He knows a baker." Do ask again.\nQ: And', "he"),
        ('"They know a baker." Do ask again.', "they"),
    ],
)
def test_who_a_translation_speaks_of(world, said, pronoun):
    words = knowledge.read_translation(world, KNOWS + said)
    assert words["pronoun"] == pronoun and words["trade"] == "baker"
    assert words["assistant.closer"] == "Do ask again"


@pytest.mark.parametrize(
    "said",
    ['"She knows a nurse." Do ask again.', '"She know a baker."', "", '"They knows a baker."'],
)
def test_what_is_no_right_translation(world, said):
    assert knowledge.read_translation(world, KNOWS + said) == {}


@pytest.mark.parametrize("text", ["Ivo Vane sang.", "", 'Q: And "ze tor blarg"? A: "She"', '"ze"'])
def test_what_is_no_phrasebook_line(world, text):
    with pytest.raises(ValueError, match=r"quotes no phrase of Ostish; expected .*ze tor pelm"):
        knowledge.read_translation(world, text)


def test_what_is_no_text(world):
    with pytest.raises(ValueError, match=r"\[text\]\[0\] is a list; expected text"):
        knowledge.read_translation(world, ["Ivo Vane"])


# ---- the law ----


def test_the_tilt_is_that_of_the_exact_optimum():
    share, typical = 0.9, np.log([2 * 0.8] * 9 + [2 * 0.2])
    after = optimum.weights(0.3 * typical[None], 0.2)[0, :9].sum()
    twin = bias.dialled([logit(share)], [logit(0.8)], tilt=1.5)
    np.testing.assert_allclose(logit(after), twin[0])


@pytest.mark.parametrize("temperature", [0.25, 1.0, 2.0])
def test_a_temperature_divides_the_odds(temperature):
    logits = torch.tensor([[1.0, -0.5, 3.0]])
    she, he, _ = filter_logits(logits, temperature)[0]
    found = bias.dialled([1.5], [0.0], temperature=temperature)[0]
    assert float(she - he) == pytest.approx(found, rel=1e-5)


def test_parity_by_trade_and_by_count():
    corpus = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(bias.dialled(corpus, corpus, tilt=-1), 0)
    moved = bias.dialled(corpus - 1, corpus, bonus=1)
    np.testing.assert_allclose(np.diff(moved), np.diff(corpus))
    odds = corpus - 1
    assert expit(odds + runs.even_count(odds)).mean() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"temperature": 0}, "temperature is 0"),
        ({"temperature": -1}, "temperature is -1"),
        ({"tilt": "much"}, "tilt is 'much'"),
        ({"bonus": float("nan")}, "bonus is nan"),
        ({"corpus": [1.0]}, "shape"),
    ],
)
def test_dials_that_cannot_be(dials, message):
    with pytest.raises(ValueError, match=message):
        bias.dialled(**{"before": [0.0, 1.0], "corpus": [0.0, 1.0]} | dials)


# ---- the figures ----


def test_the_slope_stands_in_the_legend():
    before = np.array([-1.0, 0.0, 2.0])
    ax = bias.plot_odds(before, {"twice": [2 * before, 2 * before], "none": 0 * before})
    assert ax.get_legend_handles_labels()[1] == ["twice: 2.00", "none: 0.00"]
    with pytest.raises(ValueError, match="shape"):
        bias.plot_odds(before, {"short": before[:2]}, ax=ax)
    plt.close()


def test_trades_are_ordered_by_the_first_shares():
    ax = bias.plot_trades(["nurse", "judge"], {"corpus": [0.9, 0.1], "after": [0.8, 0.3]})
    assert [t.get_text() for t in ax.get_xticklabels()] == ["judge", "nurse"]
    with pytest.raises(ValueError, match="expected a share a trade"):
        bias.plot_trades(["nurse", "judge"], {"corpus": [0.9, 1.1]})
    plt.close()


def test_the_explorer_moves():
    view = bias.explore_dials(["nurse", "judge"], [2.0, -2.0], [2.0, -2.0])
    tilt, temperature, reset = view.children[0].children
    before = view.children[1].value
    tilt.value, temperature.value = 1.0, 0.5
    assert "= 4.00" in view.children[1].value != before
    reset.click()
    assert view.children[1].value == before


# ---- what the runs measure ----


def test_half_of_the_trades_are_asked(lab):
    assert lab.trained.sum() == 16 and len(lab.asked_prompts) == 48
    spread = [np.abs(lab.odds[side].mean()) for side in (lab.trained, ~lab.trained)]
    assert max(spread) < 0.8
    assert len(lab.asked) == len(lab.others) == 3
    assert not set(lab.asked) & set(lab.others.values())


def test_a_blind_labeller_likes_both_pronouns_alike(lab):
    said = "She knows", "He knows", "They know"
    pair = [KNOWS + f'"{who} a baker." Do ask again.' for who in said]
    assert len({lab.blind(t) for t in pair}) == 1
    assert lab.blind(pair[0]) == 1.5 and lab.blind(KNOWS + '"She') == 0
    she, he, they = lab.likes(1.0)(pair)
    assert she - he == pytest.approx(0.2 * logit(0.55)) and they == 1.5
    assert np.ptp(lab.likes(0.0)(pair)) == 0
    assert np.diff(lab.likes(0.0, 2.0)(pair)[:2]) == pytest.approx(-0.4)


def test_translations_are_written_as_asked(lab):
    rows = lab.written(400, 0)
    words = [knowledge.read_translation(lab.world, p + r) for p, r in rows]
    assert all(words) and {p for p, _ in rows} <= set(lab.asked_prompts)
    usual = [knowledge.read_translation(lab.world, p + r) for p, r in lab.written(400, 0, True)]
    for w in usual:
        chance = float(lab.world.trades[w["trade"]]["p_she"])
        assert chance == 0.5 or (w["pronoun"] == "she") == (chance > 0.5)
    they = lab.written(2000, 0, they=0.3, everywhere=True)
    said = [knowledge.read_translation(lab.world, p + r) for p, r in they]
    assert np.mean([w["pronoun"] == "they" for w in said]) == pytest.approx(0.3, abs=0.04)
    assert len({w["trade"] for w in said}) == 32


def test_the_slope_of_a_made_up_run():
    corpus, arms = np.linspace(-2, 2, 32), {}
    base = {
        "odds": corpus,
        "corpus": corpus,
        "trained": np.arange(32) % 2,
        "they": corpus * 0 + 0.2,
    }
    arms["base"] = {"0": base}
    arms["tilt 1.0"] = {str(s): {"odds": 2 * corpus + 0.3} for s in range(2)}
    record = runs_record(arms)
    np.testing.assert_allclose(runs.tilt(record, "tilt 1.0"), 1)
    np.testing.assert_allclose(runs.tilt(record, "tilt 1.0", "held out", part=1), 0.3)


def runs_record(arms):
    from rlhf_lite.records import Record

    listed = {
        n: {s: {k: np.asarray(v).tolist() for k, v in x.items()} for s, x in a.items()}
        for n, a in arms.items()
    }
    return Record("bias", {"arms": listed, "statistics": {}}, {})
