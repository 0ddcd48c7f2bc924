"""For those who cannot see a figure or tell its colours: texts, names of controls, contrasts."""

import base64
import importlib.util
import io
import re
from types import SimpleNamespace

from rlhf_lite import show
from rlhf_lite.predictions import COLOURS, load_predictions
from rlhf_lite.runtime import ROOT
from rlhf_lite.show import alt, cards, style

import ipywidgets
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from IPython.core.pylabtools import select_figure_formats
from matplotlib.figure import Figure
from PIL import Image

VOICES = re.findall(
    r'colour = "(#\w+)"',
    "".join(p.read_text(encoding="utf-8") for p in ROOT.glob("data/world/voices/*.toml")),
)


@pytest.fixture
def figure():
    with plt.rc_context():
        style.use_style()
        figure, axes = plt.subplots(1, 2)
        axes[0].plot([0, 1, 2], [0, 3, 1], label="gold")
        axes[0].plot([0, 2], [9, 9], lw=0.5)
        axes[0].axhline(2000, label="base")
        axes[0].text(1, 1, "half-way")
        axes[0].set(title="How far?", xlabel="KL [nats]", ylabel="gold [points]", ylim=(0, 10))
        axes[1].barh([0, 1], [0.25, 0.75], label="share")
        axes[1].set_yticks([0, 1], ["verse", "forum"])
        axes[1].set(xlabel="share of voices", xlim=(0, 1))
        yield figure
    plt.close("all")


TEXT = (
    "How far? x: KL [nats], -0.1 to 2.1; y: gold [points], 0 to 10. gold: 0 at 0, highest 3 at 1, "
    "1 at 2. base: 2,000 throughout. Written: half-way. x: share of voices, 0 to 1; y: verse, "
    "forum. share: verse 0.25, forum 0.75."
)


class TestTheTextOfAFigure:
    def test_says_what_is_drawn(self, figure):
        assert show.alt_text(figure) == TEXT

    def test_a_text_by_hand_goes_before(self, figure):
        figure.set_label("Gold falls.")
        assert show.alt_text(figure) == "Gold falls."

    def test_maps_dots_and_error_bars(self):
        figure = Figure()
        ax = figure.subplots()
        ax.imshow([[0.0, np.nan], [0.5, 1.0]])
        ax.scatter([0, 1], [0, 1], label="runs")
        ax.errorbar([0, 1], [1, 2], [0.1, 0.1], label="recall")
        ax.plot([0, 1, 2], [5, 7, 6], "o", label="seeds")
        assert show.alt_text(figure) == (
            "seeds: 5 at 0, 7 at 1, 6 at 2. recall: 1 at 0, 2 at 1. runs: 2 marked. A map of 2 by 2, 0 to 1."
        )

    def test_of_nothing_is_said(self):
        assert show.alt_text(Figure()) == "An empty figure."

    def test_never_raises_and_never_runs_on(self, figure, monkeypatch):
        figure.axes[0].set_title("word " * 1000)
        assert len(show.alt_text(figure)) <= alt.LONGEST + 2
        monkeypatch.setattr(alt, "_panel", lambda ax: 1 / 0)
        assert "ZeroDivisionError" in show.alt_text(figure)

    def test_goes_along_whenever_a_notebook_shows_a_figure(self, figure, monkeypatch):
        shell = SimpleNamespace(display_formatter=DisplayFormatter())
        monkeypatch.setattr(alt, "get_ipython", lambda: shell)
        alt.describe_figures()
        select_figure_formats(shell, {"png"})  # the inline backend may come later and forget others
        data, metadata = shell.display_formatter.format(figure)
        assert metadata["image/png"] == {"alt": TEXT} and data["text/plain"].startswith("<Figure")
        assert f'<img alt="{TEXT}" src="data:image/png;base64,iVBOR' in data["text/html"]
        assert data["image/png"].startswith("iVBOR")

    def test_stands_in_the_stored_notebook(self):
        spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
        execute = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(execute)
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4)).save(buffer, "PNG")
        data = {"image/png": base64.b64encode(buffer.getvalue()).decode(), "text/html": "<img>"}
        shown = nbformat.v4.new_output(
            "display_data", data, metadata={"image/png": {"alt": "a map", "width": 4}}
        )
        table = nbformat.v4.new_output("execute_result", {"text/html": "<table>"})
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[shown, table])])
        shown, table = execute.clean(book).cells[0].outputs
        assert shown.metadata == {"image/png": {"alt": "a map"}} and set(shown.data) == {
            "image/png"
        }
        assert table.data == {"text/html": "<table>"} and table.metadata == {}


class TestAWidget:
    def test_its_picture_says_what_it_shows(self, figure):
        picture = ipywidgets.Image(value=cards.figure_png(figure), format="png")
        told = show.view._alt(picture, ipywidgets.HTML())
        assert told.value == TEXT
        figure = Figure()
        figure.subplots().set(title="<b>Now</b>")
        picture.value = cards.figure_png(figure)
        assert told.value == "&lt;b&gt;Now&lt;/b&gt;."

    def test_is_shown_with_the_texts_of_its_pictures_and_the_script(self, figure):
        picture = ipywidgets.Image(value=cards.figure_png(figure), format="png")
        view = show.View([ipywidgets.HBox([picture]), show.spoken(ipywidgets.HTML())])
        inside, text, script = view.dressed().children
        assert inside is view and len(view.children) == 2 and text.value == TEXT
        assert script.outputs[0]["data"] == {"application/javascript": show.view.SCRIPT}
        named = [view.dressed(), text, view.children[1]]
        for name in (c for widget in named for c in widget._dom_classes):
            assert f".{name}" in show.view.SCRIPT
        assert view._repr_mimebundle_()["text/plain"].startswith("VBox(children=(View(")


# ---- contrasts ----


def colours_of(markup):
    return re.findall(r"(?<![-\w])color:(#\w+)", markup)


def test_contrast_is_that_of_wcag():
    assert style.contrast("black", "white") == pytest.approx(21)
    assert style.contrast("white", "#777777") == pytest.approx(4.48, abs=0.005)


def test_what_is_drawn_stands_out_from_white():
    roles = (show.REFERENCE, show.POLICY, show.REWARD, show.KL, show.WARNING, show.INK, show.GREEN)
    assert all(style.contrast(c, "white") >= style.PARTS for c in (*roles, style.SKY))
    assert style.contrast("#E69F00", "white") < style.PARTS, "the REWARD of before"


def test_what_is_written_is_read():
    roles = (show.REFERENCE, show.POLICY, show.KL, show.WARNING, show.INK, show.GREEN)
    inks = (*roles, *COLOURS.values(), *map(style.ink_of, (show.REWARD, *VOICES)))
    assert all(style.contrast(c, cards.CARD_GROUND) >= style.TEXT for c in inks)
    assert all(style.contrast(style.ink_on(c), c) >= style.TEXT for c in (*VOICES, *roles))
    assert len(VOICES) == 8 and min(style.contrast(c, "white") for c in VOICES) < 3


def test_cards_bring_the_ground_of_their_colours_along(world):
    """In a dark theme too; and what stands on the page itself has the page's own colour."""
    prompt = "Ivo Vane was born in 1720."
    chosen = load_predictions(notebook="07_helpful_vs_harmless")[:2]
    made = [
        cards.documents_html(world, [prompt, "goose"], [prompt, ""]),
        cards.claims_html(world, prompt, "a note"), show.pair_html(prompt, " a", " b"),
        cards.error_html("no such file"),
    ]  # fmt: skip
    for markup in made:
        assert markup.count(f"background:{cards.CARD_GROUND}") >= 1
        found = colours_of(markup)
        assert found and all(style.contrast(c, cards.CARD_GROUND) >= style.TEXT for c in found)
    assert colours_of(cards.predictions_html(chosen)) == []
