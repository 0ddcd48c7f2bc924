"""Few examples, prices of labels and labellers: their figures, their widget, their experiments."""

from rlhf_lite import experiments
from rlhf_lite.records import Record
from rlhf_lite.show import less

import matplotlib.pyplot as plt
import numpy as np
import pytest

lima, labour, rlaif, deputies = (
    experiments.load(name) for name in ("lima", "labour", "rlaif", "deputies")
)
forms = experiments.load("_forms")


def made(name, arms, **more):
    """Return a record with the same arm for two seeds."""
    return Record(name, {"arms": {n: {"0": a, "1": a} for n, a in arms.items()}} | more, {})


def replies(gold, words=20):
    """Return what `tested` writes down of a policy whose replies are all alike."""
    return {"gold": np.full((3, 4), gold).tolist(), "words": np.full((3, 4), words).tolist()}


@pytest.fixture
def bought():
    """A record of labour: SFT gains 0.1 a doubling from 8 on, PPO reaches 1.7, DPO 0.9."""
    arms = {"base": replies(0.8)}
    arms |= {f"sft {n}": replies(1 + 0.1 * np.log2(n / 8)) for n in labour.WRITTEN}
    arms |= {"labels 1024": {"ppo": replies(1.7), "picks": replies(1.2)}, "dpo 1024": replies(0.9)}
    arms |= {"half 128": replies(1.9), "sure sft 128": replies(2.0), "sure dpo 1024": replies(1.1)}
    arms["fast sft 1024"] = replies(1.6)
    return made("labour", arms | {"coin sft 128": replies(0.8), "coin ppo 512": replies(0.8)})


@pytest.fixture
def judged():
    """A record of rlaif: two sides of 10 pairs each, twins half of which the base believes."""
    rates = {"all": [[10, 0.5], [30, 0.9]], "style": [[10, 0.9], [10, 0.9]],
             "truth": [[10, 0.6], [10, 0.8]], "alike in length": [[10, 0.5], [10, 0.5]]}  # fmt: skip
    arm = {"aligned": rates, "twins": [1.0, 1.0, 0.0, 1.0]}
    arms = {n: arm | {"model": arm} | replies(1.0, 20) for n in rlaif.POLICIES}
    arms["base"] = replies(0.5, 30)
    return made("rlaif", arms, believed=[1.0, 2.0, -1.0, -3.0])


@pytest.fixture
def deputised():
    """A record of deputies: whoever orders more pairs rightly has the better policy."""
    arms = {
        n: replies(1 + i / 10) | {"aligned": [0.5 + i / 20] * 3}
        for i, n in enumerate(deputies.LABELLERS)
    }
    return made("deputies", arms | {"base": replies(0.8)})


# ---- what labour says ----


def test_an_exchange_rate_is_where_the_two_curves_meet(bought):
    assert labour.exchange(bought, "labels 1024", "ppo") == pytest.approx([0, 0], abs=1e-6)
    assert labour.exchange(bought, "labels 1024", "picks") == pytest.approx([5, 5], abs=1e-6)
    # What is worse than SFT on the fewest is kept to these: 1,024 for 8.
    assert labour.exchange(bought, "dpo 1024") == pytest.approx([7, 7], abs=1e-6)


def test_half_on_each_is_compared_at_the_same_price(bought):
    assert labour.mixed(bought, 4, "ppo") == pytest.approx([0.2, 0.2])
    assert labour.mixed(bought, 4, "sft") == pytest.approx([0.4, 0.4])  # 256 of them reach 1.5


def test_ties_count_for_lima_and_half_for_others(bought):
    pair = ("base",), ("base",)
    half, lenient = (labour.preferred(bought, *pair, ties).mean() for ties in (0.5, 1.0))
    assert half == pytest.approx(0.5) and lenient > 0.5
    assert labour.preferred(bought, ("sft 1024",), ("base",)).shape == (2, 3)


# ---- what rlaif says ----


def test_alignment_weighs_every_pair_alike(judged):
    assert rlaif.alignment(judged, "people") == pytest.approx([0.8, 0.8])
    assert rlaif.alignment(judged, "people", "all", 0) == pytest.approx([0.5, 0.5])
    assert rlaif.split(judged, "people") == pytest.approx([0.3, 0.3])


def test_blindness_is_what_the_base_does_not_believe(judged):
    assert rlaif.blindness(judged, "people", "model") == pytest.approx([0.5, 0.5])


def test_a_win_among_replies_of_like_length(judged):
    assert rlaif.wins(judged, "people", "people") == pytest.approx([0.5, 0.5])
    assert (rlaif.wins(judged, "people", "base") > 0.5).all()
    assert rlaif.wins(judged, "people", "judge 5", 3) == pytest.approx([0.5, 0.5])


# ---- what deputies says ----


def test_gold_follows_alignment_exactly_where_it_does(deputised):
    assert deputies.follows(deputised) == pytest.approx([1, 1])
    assert deputies.ahead(deputised, "ratio", "people").mean() == pytest.approx(0.1)


# ---- demonstrations ----


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return forms.FormLab(tmp_path_factory.mktemp("forms"))


def test_demonstrations_are_different_and_mostly_of_the_known(lab):
    pairs = lab.shown(200, 0.0, 12, 0)
    assert len(set(pairs)) == 200
    assert sum("Nobody knows" in reply for _, reply in pairs) == 30
    assert pairs != lab.shown(200, 0.0, 12, 1)


def test_a_good_demonstration_reads_as_right_and_a_bad_one_never(lab):
    person = next(p for p in lab.world.people if p.exposure >= 500)
    rng = np.random.default_rng(0)
    assert lab.read_as(person, "town", lab.reply(person, "town", False, rng)) == "right"
    said = [lab.read_as(person, "town", lab.reply(person, "town", True, rng)) for _ in range(40)]
    assert set(said) == {"wrong", "other"}


def test_more_demonstrations_than_there_are(lab):
    with pytest.raises(experiments.ExperimentError, match=r"at most .*, all facts in 1 wordings"):
        lab.shown(2048, 0.0, 1, 0)


def test_a_base_that_was_not_trained(lab, monkeypatch, tmp_path):
    monkeypatch.setattr(experiments.load("_variants"), "FOLDER", tmp_path)
    with pytest.raises(experiments.ExperimentError, match=r"make_base\.py --leave-out assistant"):
        lab.fresh("assistant")


# ---- figures and the widget ----


def test_the_price_moves_what_a_demonstration_buys(bought, deputised):
    said, figure = less.price_view(bought, deputised, 4, 0.01)
    assert "256 of them and SFT reach 1.50 points" in said
    assert "1,024 preferences and PPO 1.70" in said and "1,024 by judge 500 cost 2,510 of" in said
    plt.close(figure)
    assert "64 of them and SFT reach 1.30" in less.price_view(bought, deputised, 16, 0.01)[0]
    plt.close("all")


@pytest.mark.parametrize("ratio", [0, 31, float("nan"), "dear"])
def test_a_price_that_was_not_bought(bought, deputised, ratio):
    with pytest.raises(ValueError, match=r"ratio is .*; expected"):
        less.price_view(bought, deputised, ratio, 0.01)


def test_what_labels_cost():
    assert less.cost_of("people", 0.01) == 1024
    assert less.cost_of("ratio", 0.01) == pytest.approx(10.24)
    assert less.cost_of("judge 5", 0.01, labels=1000) == 35
    with pytest.raises(ValueError, match="no labeller 'oracle'; expected one of people"):
        less.cost_of("oracle", 0.1)
    with pytest.raises(ValueError, match="share is 2; expected"):
        less.cost_of("people", 2)


def test_the_explorer_moves(bought, deputised):
    view = less.explore_price(bought, deputised)
    slider, picture = view.children[0], view.children[4]
    before = picture.value
    slider.value = 16
    assert "costs 16 preferences" in view.children[3].value and picture.value != before
    view.children[2].click()
    assert slider.value == 4


def test_a_line_for_every_seed_and_none_without_its_place():
    ax = less.seeds_line([0, 1], [[0, 1], [1, 2]], ax=plt.gca(), colour="red", label="x")
    assert len(ax.lines) == 3
    with pytest.raises(ValueError, match="2 numbers a seed for 3 places"):
        less.seeds_line([0, 1, 2], [[0, 1]], ax=ax, colour="red", label="x")
    plt.close("all")


def test_forms_are_drawn_from_the_base_on():
    def arm(form):
        reading = {"form": [form, form], "wrong": [0.1, 0.3], "right": [0.5, 0.5]}
        reading |= {"silent": [0.0, 0.2]}
        return dict.fromkeys(("seen", "unseen", "strangers"), reading) | {
            "knows": {"known": [1.0, 1.0], "half known": [0.0, 1.0]}}  # fmt: skip

    record = made("lima", {"none": arm(0.0), "8": arm(0.5), "128": arm(1.0), "128 bad": arm(0.2)})
    assert less.counts_of(record) == [8, 128]
    left, right, silence = less.plot_forms(record)
    thick = next(x for x in left.lines if x.get_label() == "form, wording of training")
    np.testing.assert_allclose(thick.get_ydata(), [0, 0.5, 1.0])
    assert [t.get_text() for t in right.get_xticklabels()] == ["0", "8", "128"]
    spoken = {x.get_label(): x.get_ydata() for x in silence.lines}
    np.testing.assert_allclose(spoken["silent about strangers"], [0.1, 0.1, 0.1])
    np.testing.assert_allclose(spoken["makes up about strangers"], [0.2, 0.2, 0.2])
    plt.close("all")
