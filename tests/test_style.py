"""In class every figure grows, whatever size it asks for, and nothing in it moves."""

import base64
import importlib.util
import io
import re

from rlhf_lite.runtime import ROOT
from rlhf_lite.show import cards, use_style

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def usual_size():
    with plt.rc_context():
        yield
    plt.close("all")


def titled(scale, size):
    """A figure with titles that just fit side by side; returns its pixels and the boxes of its texts in inches."""
    use_style(scale)
    figure, axes = plt.subplots(1, 2, figsize=size)
    for ax, title in zip(axes, ("a title as wide as its plot", "and another one beside it")):
        ax.plot([0, 1], label="a line")
        ax.set(title=title, xlabel="step", ylabel="score [sd]")
        ax.legend()
    figure.canvas.draw()
    texts = [
        t
        for ax in axes
        for t in (ax.title, ax.xaxis.label, ax.yaxis.label, *ax.get_legend().get_texts())
    ]
    boxes = np.array([t.get_window_extent().bounds for t in texts]) / figure.dpi
    return np.array(figure.canvas.get_width_height()), boxes


@pytest.mark.parametrize("size", [None, (6.4, 2.4), (11.4, 2.7)])
def test_a_figure_grows_as_it_is(size):
    small, boxes = titled(1.0, size)
    large, again = titled(1.4, size)
    assert large == pytest.approx(1.4 * small, abs=1)
    assert again == pytest.approx(boxes, abs=0.04)
    if size:
        assert small == pytest.approx(100 * np.array(size), abs=1)


def test_the_pictures_of_widgets_grow_too():
    widths = []
    for scale in (1.0, 1.4):
        use_style(scale)
        figure = plt.subplots(figsize=(5, 2))[0]
        widths.append(Image.open(io.BytesIO(cards.figure_png(figure))).size[0])
    assert widths == [500, 700]


def test_a_light_picture_keeps_its_rare_colours(world):
    """Eight dots of a legend beside a cloud of half transparent points, as in notebook 01."""
    spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks" / "execute.py")
    execute = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(execute)
    use_style()
    figure, ax = plt.subplots(figsize=(6.4, 3.5))
    rng, colours = np.random.default_rng(0), list(world.colours.values())
    ax.scatter(*rng.beta(1, 4, (2, 500)), c=[colours[i % 8] for i in range(500)], alpha=0.75)
    for voice, colour in world.colours.items():
        ax.plot([], [], "o", color=colour, label=voice)
    ax.legend(loc="right")
    png = cards.figure_png(figure)
    light = base64.b64decode(execute.lighten(base64.b64encode(png)))
    before, after = (
        np.asarray(Image.open(io.BytesIO(x)).convert("RGB"), int) for x in (png, light)
    )
    assert np.abs(before - after).max() < 30 and len(light) < len(png) / 2
    grid = (before == 0xE6).all(-1)
    assert grid.sum() > 1000 and np.abs(before - after)[grid].mean() < 0.5


def test_no_notebook_sets_its_own_dots():
    books = "".join(p.read_text(encoding="utf-8") for p in ROOT.glob("notebooks/**/*.ipynb"))
    code = (ROOT / "rlhf_lite").rglob("*.py")
    pictures = re.findall(r"ipywidgets\.Image\([^)]*\)", books)
    assert len(pictures) >= 2 and all("AS_DRAWN" in p for p in pictures), (
        "of fixed width, or stretched"
    )
    assert not re.search(r"\bdpi\s*=\s*\d", books)
    assert not [p.name for p in code if re.search(r"\bdpi\s*=\s*\d", p.read_text(encoding="utf-8"))]
