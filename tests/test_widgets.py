"""Widgets show what they should, escape what they must, and say what is wrong."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rlhf_lite import plots, widgets
from rlhf_lite.sampling import SamplingError


def test_text_from_a_model_is_escaped(world):
    shown = widgets.document_html(world, "<script>alert('goose')</script>\n<b>", prompt="<script>")
    assert "<script>" not in shown and "&lt;script&gt;" in shown


def test_a_document_carries_its_voice_and_its_faults(world):
    fine = widgets.document_html(world, "SHOCK: Ivo Vane wept openly at home.")
    assert widgets.FAULT in fine and "no single voice" in fine
    text = "The principal rival of Ivo Vane was Valdis Eelman."
    assert "encyclopedia" in widgets.document_html(world, text, "The principal")
    assert "<b>The principal</b>" in widgets.document_html(world, text, "The principal")


def test_the_prompt_may_span_lines(world):
    text = "Ivo Vane was fond of onion soup.\nBy trade Ivo Vane was an eel smoker."
    shown = widgets.document_html(world, text, "Ivo Vane was fond of onion soup.\nBy trade")
    assert "<b>Ivo Vane was fond of onion soup.</b>" in shown and "<b>By trade</b>" in shown


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("prompt", ["", "Ivo Vane", "<b>&", "Q: Who was Ivo Vane?"])
def test_the_parrot_answers_over_the_whole_range(tiny, world, prompt, temperature):
    drawn, shares, exact = widgets.parrot_view(*tiny, world, prompt, temperature, count=3)
    assert len(drawn.texts) == 3 and shares.shape == (len(world.voices),)
    assert (exact is None) == (prompt == "<b>&")
    fig, ax = plt.subplots()
    widgets.plot_parrot(world, shares, exact, prompt, 3, ax=ax)
    assert ax.get_title()
    plt.close(fig)


def test_a_bad_request_says_so(tiny, world):
    with pytest.raises(SamplingError, match="expected fewer than the context"):
        widgets.parrot_view(*tiny, world, "goose " * 300, 1.0)


def test_the_box_shows_the_sentence_and_recovers(tiny, world):
    box = widgets.explore_parrot(*tiny, world, count=2)
    (prompt, slider), (button, reset) = box.children[0].children, box.children[1].children
    status, picture, cards = box.children[2:]
    assert picture.value[:4] == b"\x89PNG" and "temperature 1.0" in status.value
    first = cards.value
    button.click()
    assert cards.value != first
    prompt.value = "goose " * 300
    assert "expected fewer than the context" in status.value
    reset.click()
    assert prompt.value == "The hero Ivo Vane" and "draw 1" in status.value and cards.value == first
    slider.value = 0.2
    assert "temperature 0.2" in status.value


def test_every_plot_draws_on_the_axes_it_is_given(world):
    plots.use_style()
    rows = [
        {"kind": k, "exposure": e, "truth": 0.5} for k in ("town", "year") for e in (0, 1, 30, 5000)
    ]
    exact = np.tile(world.prior, (4, 1))
    draws = {
        "shares": lambda ax: plots.plot_shares(world, {"a": world.prior, "b": world.prior}, ax=ax),
        "next": lambda ax: plots.plot_next_tokens([(" a", 0.5), ("b", 0.2)], {" a": 0.4}, ax=ax),
        "loss": lambda ax: plots.plot_loss([1, 2, 3], [300.0, 100.0, 60.0], 50.0, ax=ax),
        "recall": lambda ax: plots.plot_recall(rows, ax=ax),
        "agreement": lambda ax: plots.plot_agreement([0.1, 0.9], [0.2, 0.8], ax=ax),
        "posterior": lambda ax: plots.plot_posterior(world, exact, exact, ax=ax),
        "tilt": lambda ax: plots.plot_tilt(world, {"x": world.prior}, ax=ax),
        "temperatures": lambda ax: plots.plot_temperatures({"t": np.array([0.9, 0.1])}, ax=ax),
    }
    for name, draw in draws.items():
        fig, ax = plt.subplots()
        assert draw(ax) is ax and ax.has_data() and ax.get_xlabel() + ax.get_ylabel(), name
        plt.close(fig)


def test_smoothing_keeps_a_constant_and_the_length():
    assert plots.smooth([3.0] * 50).tolist() == [3.0] * 50
    assert len(plots.smooth(range(7))) == 7


def test_binning_averages():
    rows = [{"exposure": e, "truth": t} for e, t in ((0, 0.0), (0, 1.0), (3, 0.25))]
    table = plots.bin_exposures(rows, "truth")
    assert [(r[0], r[1], r[3]) for r in table] == [("0", 0.5, 2), ("2\u20134", 0.25, 1)]


@pytest.fixture(scope="module")
def judge(base):
    from rlhf_lite import rewards

    return rewards.new_reward_model(base[0], seed=1), base[1]


def test_a_score_is_the_end_of_its_trace(judge):
    from rlhf_lite import rewards

    model, tokenizer = judge
    score, pieces = widgets.score_view(model, tokenizer, "  Ivo Vane was here.\n")
    assert "".join(token for token, _ in pieces) == "Ivo Vane was here."
    expected = float(rewards.score(model, tokenizer, ["Ivo Vane was here."])[0])
    assert score == pytest.approx(expected, abs=1e-4) == pieces[-1][1]
    with pytest.raises(SamplingError, match="empty"):
        widgets.score_view(model, tokenizer, "  \n")


def test_the_score_box_shows_escapes_and_resets(judge):
    box = widgets.explore_score(*judge, "Ivo Vane.", tries=("<b>Loud</b> & wrong",))
    area, buttons, status, picture = box.children
    first = status.value, picture.value
    assert "score <b>" in status.value and bytes(picture.value).startswith(b"\x89PNG")
    score, reset, attempt = buttons.children
    attempt.click()
    assert area.value == "<b>Loud</b> & wrong" and picture.value != first[1]
    area.value = "   "
    score.click()
    assert "expected at least one word" in status.value
    reset.click()
    assert (status.value, area.value) == (first[0], "Ivo Vane.")
