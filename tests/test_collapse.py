"""The experiment collapse on made-up arms, and the figures of voices that it is drawn by."""

from types import SimpleNamespace

from rlhf_lite import experiments, rulers, show
from rlhf_lite.optimum import OptimumError
from rlhf_lite.pools import Pool
from rlhf_lite.records import Record
from rlhf_lite.show import figures_diversity as figures

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

COLLAPSE = experiments.load("collapse")
HELPER = COLLAPSE.collapse
VOICES = ["encyclopedia", "tabloid"]


@pytest.fixture(autouse=True)
def no_figure_stays():
    """Close what a test has drawn, or the next one that asks for the current axes gets them."""
    yield
    plt.close("all")


def arm(inside=20.0, kl=1.0, score=1.0, voice=1.0, coef=0.54, **changes):
    """All that the statistics read of one seed."""
    return {
        "kl_coef": coef, "kl": kl, "score": score, "within": [[inside, 7.0], [9.0, 9.0]],
        "entropies": {"H(voice)": [voice, 9.0]}, "self-BLEU": [0.5, 0.5],
        "even shares": [0.9, 0.1], "otherwise": [0.8, 0.2],
    } | changes  # fmt: skip


def made(**changes):
    """A Record in which pi* loses 4 nats inside for each nat of KL, and 5 for each sd of score."""
    path = {"kl_coef": [1e9, 2.0, 0.54, 0.24], "kl": [0.0, 0.25, 1.0, 2.0],
            "score": [0.0, 0.2, 0.8, 1.6], "inside": [24.0, 23.0, 20.0, 16.0],
            "H(voice)": [2.0, 1.5, 0.5, 0.1]}  # fmt: skip
    arms = {f"ppo {c}": {str(s): arm(coef=c, voice=c) for s in (0, 1)} for c in COLLAPSE.COEFS}
    arms |= {f"random {c}": {str(s): arm(coef=c) for s in (0, 1)} for c in COLLAPSE.RANDOM}
    arms |= {"base": {str(s): arm(inside=24.0 + s, voice=2.0) for s in (0, 1)}}
    paths = dict.fromkeys(("reward", "random 0", "random 1"), path)
    return Record("made", {"arms": arms | changes, "paths": paths, "voices": VOICES}, {})


def judged(name, **changes):
    return np.asarray(COLLAPSE.STATISTICS[name](made(**changes)))


@pytest.mark.parametrize(("same", "changes", "there"), [
    ("beta", {}, 20.0), ("KL", {"kl": 1.5}, 18.0), ("score", {"score": 1.2}, 18.0),
])  # fmt: skip
def test_the_excess_is_what_the_policy_has_less_than_its_peer(same, changes, there):
    """Positive where PPO has less, negative where it has more."""
    arms = {"ppo 0.54": {"0": arm(inside=17.0, **changes), "1": arm(inside=21.0, **changes)}}
    found = judged(f"excess at 0.54, equal {same}", **arms)
    assert found == pytest.approx([there - 17.0, there - 21.0])


def test_a_random_score_has_an_optimum_of_its_own():
    record = made()
    record["paths"]["random 1"] = {k: np.array(v) / 2 for k, v in record["paths"]["reward"].items()}
    found = COLLAPSE.STATISTICS["excess at 0.9, random score"](record)
    # A score of 1 lies between 0.8 and 1.6 there, and beyond the end of the other path.
    assert found[0] == pytest.approx(19.0 - 20.0) and np.isnan(found[1])


def test_the_control_is_the_base_read_again():
    assert judged("base, fresh draws - pool") == pytest.approx([0.0, 1.0])


def test_the_order_and_the_ratio_have_their_signs():
    assert judged("order of H(voice), 0 in full") == pytest.approx([1, 1])
    up = {f"ppo {c}": {"0": arm(voice=-c)} for c in COLLAPSE.COEFS}
    assert judged("order of H(voice), 0 in full", **up) == pytest.approx([-1])
    arms = {"random 0.1": {"0": arm(voice=1.5)}, "ppo 0.1": {"0": arm(voice=0.5)}}
    assert judged("H(voice) lost at 0.1, random / reward", **arms) == pytest.approx([1 / 3])


def test_likeness_is_lost_more_per_prompt_where_bleu_rises_there():
    """From 0.5 to 0.25 of unlikeness per prompt, a half; across prompts a fifth."""
    arms = {"ppo 0.24": {"0": arm(**{"self-BLEU": [0.75, 0.6]})}}
    assert judged("1 - BLEU lost at 0.24, per prompt - across", **arms) == pytest.approx([0.3])


@pytest.mark.parametrize(("where", "share"), [("even prompts", 0.9), ("other wording", 0.8)])
def test_the_share_of_the_encyclopedia_is_read_where_it_says(where, share):
    assert judged(f"encyclopedia at 0.24, {where}") == pytest.approx([share, share])


def test_every_arm_and_seed_has_draws_of_its_own():
    """Also its later batches of 504, whose seeds count on, and the other wording behind them."""
    arms = experiments.arms_of(COLLAPSE).values()
    starts = sorted(COLLAPSE.fresh_seed(arm["draw"], s) for arm in arms for s in COLLAPSE.DRAWN)
    assert len(set(starts)) == len(arms) * len(COLLAPSE.DRAWN)
    batches = max(arm.get("count", COLLAPSE.READ) for arm in arms) * 84 / 504
    assert batches < 50 and np.diff(starts).min() >= 50 + HELPER.ASKED * 84 / 252


def test_the_path_starts_at_the_base_and_ends_where_samples_end(monkeypatch):
    rng = np.random.default_rng(0)
    voices = np.eye(3)[rng.integers(0, 2, (4, 200))]
    monkeypatch.setattr(rulers, "base_shares", lambda: voices.mean(1))
    pool = Pool(list("abcd"), rng.normal(size=(4, 200)), np.full((4, 200), -20.0), voices)
    path = HELPER.path(pool, (4.0, 1.0, 0.02))
    assert path["kl_coef"] == [1e9, 4.0, 1.0] and path["kl"][0] == 0
    assert np.diff(path["kl"]).min() > 0 and np.diff(path["score"]).min() > 0
    with pytest.raises(OptimumError):
        pool.at(0.02)


def test_a_random_score_reads_the_text_and_differs_by_seed(base, world, tmp_path):
    lab = COLLAPSE.LAB(tmp_path)
    lab.__dict__ |= {"_loaded": base, "prompts": ["Ivo Vane", "Edda Moss"], "world": world}
    lab.__dict__["reward"] = lambda texts: torch.zeros(len(texts))
    one, other = lab.random_score(0), lab.random_score(1)
    assert float(one(lab.usual).std()) == pytest.approx(1, abs=1e-3)
    assert not torch.allclose(one(lab.usual), other(lab.usual), atol=0.1)


# ---- the figures ----


def test_names_are_moved_apart_and_stay_inside():
    moved = figures._apart([0.0, 0.01, 0.5, 0.99, 1.0], 0.07)
    assert np.diff(moved).min() >= 0.07 - 1e-9 and min(moved) >= 0 and max(moved) <= 1
    assert moved[2] == 0.5


@pytest.mark.parametrize("plot", [show.plot_voice_areas, show.plot_voice_lines])
def test_every_voice_is_named(world, plot):
    shares = np.full((3, len(world.voices)), 1 / len(world.voices))
    ax = plot(world, [0, 1, 2], shares, ax=plt.subplots()[1])
    assert {t.get_text() for t in ax.texts} == set(world.voices)


def test_silence_is_drawn_at_the_edge(world):
    shares = np.zeros((2, 3, len(world.voices)))
    ax = show.plot_voice_lines(world, [0, 1, 2], shares, ax=plt.subplots()[1])
    assert min(line.get_ydata().min() for line in ax.lines) == figures.FLOOR
    assert len(ax.lines) == 3 * len(world.voices)


def test_the_excess_has_three_panels_and_the_first_leaves_out_no_price():
    best = made()["paths"]["reward"]
    runs = [{"kl_coef": c, "kl": 1.0, "score": 1.0, "inside": 20.0} for c in (0.54, 0.0)]
    axes = show.plot_excess(best, runs)
    assert [len(ax.lines[1].get_xdata()) for ax in axes] == [1, 2, 2]
    assert [len(ax.lines[0].get_xdata()) for ax in axes] == [3, 4, 4]


def test_an_arm_is_measured_on_other_prompts_too(world, monkeypatch):
    """What `look` reads of two prompts, the second of them even."""
    text = "Ivo Vane was born in Oxbow, as the parish roll confirms."
    scores = torch.ones(2, 3)
    drawn = SimpleNamespace(texts=[[text] * 3] * 2, scores=scores, kl=lambda: 0.5)
    lab = SimpleNamespace(world=world, tokenizer=None, draw=lambda *asked: drawn)
    monkeypatch.setattr(HELPER, "even_prompts", lambda: [1])
    monkeypatch.setattr(HELPER, "otherwise", lambda *asked: np.zeros((1, 2, len(world.voices))))
    monkeypatch.setattr(rulers, "FIXED", (0, 1))
    monkeypatch.setattr(rulers, "spread", lambda *asked: {"EAD": [1, 1]})
    found = HELPER.look(lab, "policy", "score", 3, 7)[0]
    assert found["drawn from"] == 7 and found["n"] == 6 and found["score"] == 1
    assert found["even shares"][0] == 1 and found["otherwise"][-1] == 1
