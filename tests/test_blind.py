"""The blind test hides who wrote what, keeps every judgement, and counts as a loop does."""

import subprocess
import sys
import textwrap

from rlhf_lite.feedback import FeedbackError, LabelStore
from rlhf_lite.judging import win_rate
from rlhf_lite.show.blind import (
    BlindTest,
    blind_test,
    plot_preference,
    plot_seeds,
    plot_win_rates,
)

import matplotlib.pyplot as plt
import numpy as np
import pytest

WORLD = "0123456789ab"
PROMPTS = [f"Q: Who was {n}? A:" for n in range(8)]
SAID = {
    "sft": {p: [f" A dull {n}.", " The same."] for n, p in enumerate(PROMPTS)},
    "ppo": {p: [f" A bright {n}.", " The same."] for n, p in enumerate(PROMPTS)},
}


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def store(tmp_path):
    return LabelStore(tmp_path / "ada.jsonl", "ada", WORLD)


def choose(test, policy):
    """Judge the current pair for a policy; return the side it stood on."""
    prompt, shown = test.desk.current()
    side = next(s for s, text in zip("ab", shown) if text in SAID[policy][prompt])
    test.desk.label(side)
    return side


def judge_all(test, policy="ppo"):
    return [choose(test, policy) for _ in test.items]


def test_pairs_are_one_reply_of_each_and_those_alike_are_counted(store):
    test = BlindTest(SAID, "ppo", "sft", store)
    assert len(test.items) == 8 and test.alike == 8
    for item in test.items:
        mine, theirs = item["responses"]
        assert mine in SAID["ppo"][item["prompt"]] and theirs in SAID["sft"][item["prompt"]]


def test_sides_are_mixed_and_the_same_every_time(store, tmp_path):
    other = LabelStore(tmp_path / "bob.jsonl", "bob", WORLD)
    sides, again = (judge_all(BlindTest(SAID, "ppo", "sft", s)) for s in (store, other))
    assert sides == again and sorted(sides) == list("aaaabbbb")


def test_count_takes_fewer(store):
    assert len(BlindTest(SAID, "ppo", "sft", store, count=3).items) == 3


def test_a_pair_that_stands_both_ways_round_is_asked_once(store):
    said = {"x": {"Q": [" one.", " two."]}, "y": {"Q": [" two.", " one."]}}
    assert len(BlindTest(said, "x", "y", store).items) == 1


def test_wins_and_result_equal_a_loop(store):
    clock = Clock()
    test = BlindTest(SAID, "ppo", "sft", store, clock=clock)
    expected = []
    for number in range(8):
        clock.now += 9.0
        if number % 4 == 3:
            test.desk.label("t")
            expected.append(0.5)
        else:
            choose(test, "ppo" if number % 2 else "sft")
            expected.append(float(number % 2))
    wins, prompts = test.wins()
    assert sorted(wins) == sorted(expected) and sorted(prompts) == PROMPTS
    found = test.result()
    assert found["rate"] == pytest.approx(np.mean(expected))
    assert found["low"] == pytest.approx(max(0, win_rate(wins, prompts)[1]))
    assert (found["judged"], found["ties"]) == (8, 2) and found["minutes"] == pytest.approx(1.2)
    assert found["hours"] == pytest.approx(found["needed"] * 9 / 3600)
    assert "ppo" in test.sentence() and "hours at your pace" in test.sentence()


def test_the_other_way_round_is_one_minus_it(store):
    judge_all(BlindTest(SAID, "ppo", "sft", store))
    assert BlindTest(SAID, "ppo", "sft", store).result()["rate"] == 1
    assert BlindTest(SAID, "sft", "ppo", store).result()["rate"] == 0


def test_wins_of_somebody_elses_records(store, tmp_path):
    other = LabelStore(tmp_path / "bob.jsonl", "bob", WORLD)
    judge_all(BlindTest(SAID, "ppo", "sft", other), "sft")
    test = BlindTest(SAID, "ppo", "sft", store)
    assert test.wins(other.records().records)[0].tolist() == [0.0] * 8


def test_undo_and_coming_back(store):
    test = BlindTest(SAID, "ppo", "sft", store)
    choose(test, "ppo")
    choose(test, "ppo")
    test.desk.undo()
    again = BlindTest(SAID, "ppo", "sft", store)
    assert len(again.wins()[0]) == 1 and again.desk.current() == test.desk.current()


# ---- nothing is lost ----


def test_two_kernels_lose_none_and_the_last_word_counts(store, tmp_path):
    twin = LabelStore(tmp_path / "ada.jsonl", "ada", WORLD)
    one, two = (BlindTest(SAID, "ppo", "sft", s) for s in (store, twin))
    choose(one, "ppo")
    choose(two, "sft")  # the same pair: neither has seen the other's label
    choose(two, "sft")
    assert len(store.records().records) == 3
    assert BlindTest(SAID, "ppo", "sft", store).wins()[0].tolist() == [0.0, 0.0]


def test_a_killed_kernel_loses_none(tmp_path):
    path = tmp_path / "ada.jsonl"
    code = textwrap.dedent(f"""
        import os, signal
        from rlhf_lite.feedback import LabelStore
        from rlhf_lite.show.blind import BlindTest
        store = LabelStore({str(path)!r}, "ada", {WORLD!r})
        test = BlindTest({SAID!r}, "ppo", "sft", store)
        for _ in range(5):
            test.desk.label("a")
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    test = BlindTest(SAID, "ppo", "sft", LabelStore(path, "ada", WORLD))
    assert len(test.wins()[0]) == 5


# ---- one clear sentence ----


def test_nobody_has_judged_yet(store):
    with pytest.raises(FeedbackError, match=r"nobody has judged .*; expected at least one"):
        BlindTest(SAID, "ppo", "sft", store).result()


def test_an_empty_label_file(store):
    store.path.write_text("", encoding="utf-8")
    with pytest.raises(FeedbackError, match="nobody has judged"):
        BlindTest(SAID, "ppo", "sft", store).sentence()


def test_unknown_policy(store):
    with pytest.raises(FeedbackError, match="no policy 'pop'; expected one of sft, ppo"):
        BlindTest(SAID, "pop", "sft", store)


def test_policies_that_say_the_same(store):
    with pytest.raises(FeedbackError, match=r"say the same to all 16 prompts .*; expected two"):
        BlindTest(SAID, "sft", "sft", store)


# ---- the skin ----


def test_nobody_is_named_before_the_end(store):
    view = blind_test(SAID, "ppo", "sft", store)
    shown = " ".join(w.value for w in (view.ask, view.cards, view.progress, view.status))
    assert "ppo" not in shown and "sft" not in shown
    for _ in view.test.items:
        view.key.value = "a"
    assert "You preferred ppo to sft" in view.ask.value and view.cards.value == ""


def test_keys_judge_pause_undo_and_unblind(store):
    view = blind_test(SAID, "ppo", "sft", store)
    view.key.value = "q"
    assert "nobody has judged" in view.status.value and not view.unblinded
    view.key.value = "abt"
    assert len(store.records().records) == 3 and view.key.value == ""
    view.key.value = "u"
    assert len(store.records().records) == 2
    view.key.value = "p"
    view.key.value = "a"
    assert "paused" in view.status.value and len(store.records().records) == 2
    view.key.value = "p"
    view.key.value = "x"
    assert "does nothing here" in view.status.value
    view.buttons["q"].click()
    assert "2 pairs" in view.ask.value
    view.buttons["a"].click()
    assert "the policies are known now" in view.status.value
    assert len(store.records().records) == 2


def test_texts_are_escaped(store):
    said = {"x": {"Q": [" <b>one</b>."]}, "y": {"Q": [" <script>."]}}
    view = blind_test(said, "x", "y", store)
    assert "<script>" not in view.cards.value and "&lt;script&gt;" in view.cards.value


# ---- figures ----


def test_win_rates_are_drawn_inside_0_and_1():
    ax = plot_win_rates({"you": (0.6, -0.2, 1.4), "ada": (0.4, 0.3, 0.5)})
    assert [t.get_text() for t in ax.get_yticklabels()] == ["you", "ada"]
    assert ax.lines[0].get_xdata().tolist() == [0, 1] and ax.lines[1].get_xdata() == [0.6]


def test_preference_draws_each_seed_and_the_mean():
    table = np.array([[0.6, 0.5, 0.4], [0.8, 0.5, 0.2]])
    ax = plot_preference([0, 0.5, 1], {"ppo": table})
    assert np.allclose(ax.lines[2].get_ydata(), table.mean(0)) and len(ax.lines) == 4


def test_seeds_are_dots_on_the_bar_of_their_mean():
    ax = plot_seeds({"a": [0.2, 0.4], "b": [0.1]}, ax=plt.figure().gca())
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0.3, 0.1])
    assert ax.lines[0].get_xdata().tolist() == [0.2, 0.4]
