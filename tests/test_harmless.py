"""Helpful against harmless: the plane, the weight, the labellers and the exact fronts behind them."""

from rlhf_lite import experiments, show
from rlhf_lite.records import Record
from rlhf_lite.show import harmless
from rlhf_lite.world import craft_pairs, requests

import matplotlib.pyplot as plt
import numpy as np
import pytest

ambiguity, sweep, guild = (experiments.load(n) for n in ("ambiguity", "harmless", "_guild"))


@pytest.fixture
def record():
    """A record of two weights, two seeds, two crafts of each class."""
    told = {"told secret": [0.0, 0.5], "told benign": [1.0, 0.5], "texts": ["Q: Tell me. A: No."]}
    arm = dict.fromkeys(("trained", "held out", "new verb"), told)
    arms = {"w 0.3": {"0": arm, "1": arm}, "w 1.0": {"0": arm, "1": arm}}
    return Record("harmless", {"arms": arms, "statistics": {}}, {})


# ---- the plane ----


def test_the_plane_has_two_corners_and_a_legend_entry_a_curve():
    ax = show.plot_plane({"PPO": ([[0.2, 0.9], [0.4, 0.7]], [[0.9, 0.1], [0.7, 0.3]])})
    said = [t.get_text() for t in ax.texts]
    assert said == ["refuses everything", "answers everything"]
    assert ax.get_legend_handles_labels()[1] == ["PPO"]
    thick = next(x for x in ax.lines if x.get_label() == "PPO")
    np.testing.assert_allclose(thick.get_xydata(), [[0.3, 0.8], [0.8, 0.2]])
    plt.close()


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (([0.5], [1.2]), "expected shares from 0 to 1"),
        (([0.5], [-0.1]), "expected shares from 0 to 1"),
        (([0.5], [0.1, 0.2]), "shapes"),
        (([0.5], [float("nan")]), "finite"),
    ],
)
def test_what_is_no_share_is_not_drawn(pair, message):
    with pytest.raises(ValueError, match=message):
        show.plot_plane({"PPO": pair})
    plt.close()


def test_the_plane_of_a_record(record):
    helpful, kept = show.plane_of(record, "trained")
    assert helpful.shape == kept.shape == (2, 2)
    np.testing.assert_allclose([helpful, kept], 0.75)
    assert show.weights_of(record) == [0.3, 1.0]


def test_the_view_of_a_weight(record):
    said, figure, texts = harmless.weight_view(record, 0.3, "held out")
    assert "75% of the look-alikes" in said and "25% of the secrets" in said
    assert "2 seeds" in said and texts == ["Q: Tell me. A: No."]
    plt.close(figure)


@pytest.mark.parametrize("weight", [-0.1, 1.2, 0.5, float("nan"), "much"])
def test_a_weight_that_no_run_has(record, weight):
    with pytest.raises(ValueError, match=r"weight is .*; expected"):
        harmless.weight_view(record, weight)


def test_a_side_that_no_run_has(record):
    with pytest.raises(ValueError, match="no side 'both'; expected one of trained"):
        harmless.weight_view(record, 0.3, "both")


def test_the_explorer_moves(world, record):
    view = show.explore_weight(world, record)
    slider = view.children[0].children[0]
    before = view.children[1].value
    slider.value = 1.0
    assert "w = 0.3" in before and "w = 1.0" in view.children[1].value


def test_the_multiplier_is_drawn_beside_its_limit():
    left, right = show.plot_multiplier(np.ones((3, 5)), np.ones((3, 5)), 0.2)
    assert any(np.allclose(x.get_ydata(), 0.2) for x in left.lines) and len(right.lines) == 4
    plt.close()


# ---- labellers and chances ----


def test_who_likes_what(world):
    secret, benign = requests(world)[:2]
    assert [guild.liking("helpful", q, 1.0, 0) for q in (secret, benign)] == [1, 1]
    assert [guild.liking("harmless", q, 1.0, 0) for q in (secret, benign)] == [-1, 0]
    cautious = [guild.liking("cautious", benign, 1.0, n) for n in range(4)]
    assert cautious == [-1, 0, 0, -1]
    assert guild.liking("helpful", secret, 0.0, 0) == guild.liking("harmless", secret, 0.0, 0) == 0


@pytest.mark.parametrize(("kind", "low", "high"), [("helpful", 0.9, 1), ("shuffled", 0.3, 0.7)])
def test_labels_say_what_is_liked(world, kind, low, high):
    said = [(q, [" yes", " no"], np.array([1.0, 0.0])) for q in requests(world)[:4]]
    lab = guild.GuildLab(None)
    rows = guild.label(lab, kind, said, 200, 3)
    share = np.mean([chosen.endswith("yes") for (chosen, _), _ in rows])
    assert low <= share <= high


def test_a_red_team_sees_secrets_alone(world):
    said = [(q, [" yes", " no"], np.array([1.0, 0.0])) for q in requests(world)[:4]]
    rows = guild.label(guild.GuildLab(None), "red team", said, 50, 3)
    secrets = {q.prompt for q, _, _ in said if q.kind == "secret"}
    assert {chosen[: chosen.index(" A:") + 3] for (chosen, _), _ in rows} <= secrets


@pytest.mark.parametrize(("share", "unknown"), [(0.0, 0), (0.5, 18), (1.0, 36)])
def test_a_share_of_the_crafts_is_open(world, share, unknown):
    risk = ambiguity.risks(craft_pairs(world), share)
    assert sum(p == 0.5 for p in risk.values()) == unknown
    known = [p for p in risk.values() if p != 0.5]
    assert sum(known) == len(known) / 2 and len(risk) == 36


@pytest.mark.parametrize(("cue", "own"), [(0.0, 0.5), (0.5, 0.75), (1.0, 1.0)])
def test_a_cue_tells_what_it_says(world, cue, own):
    questions = ambiguity.cued(requests(world, None, None, guild.FRAMINGS), cue)
    for kind, framing in zip(("secret", "benign"), guild.FRAMINGS):
        mine = [q.framing == framing for q in questions if q.kind == kind]
        assert np.mean(mine) == own


# ---- the exact fronts ----


def test_gold_is_taken_to_the_kl_that_is_asked_for():
    scores = np.random.default_rng(0).normal(size=(3, 64))
    coef = sweep.coef_at(scores, 0.3)
    assert sweep.kl_of(scores, coef) == pytest.approx(0.3, abs=1e-6)
    assert sweep.coef_at(np.sign(scores), 50.0) == 0.05  # further than a choice of two can go


def test_the_kl_of_equal_scores_is_nothing():
    assert sweep.kl_of(np.ones((2, 8)), 0.1) == pytest.approx(0, abs=1e-12)


def test_the_optimum_of_two_outcomes_moves_the_odds():
    told = np.array([[1.0] * 7 + [0.0] * 3])
    odds = 0.7 / 0.3 * np.exp(0.2 / 0.1)
    share = (sweep.weights(0.2 * told, 0.1) * told).sum()
    np.testing.assert_allclose(share, odds / (1 + odds))
