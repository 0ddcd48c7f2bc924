"""The law of the gap is drawn as it was fitted, and the explorer says what it says."""

import json

from rlhf_lite import experiments, optimum, show
from rlhf_lite.checks import TextError
from rlhf_lite.pools import Pool
from rlhf_lite.records import Record

import matplotlib.pyplot as plt
import numpy as np
import pytest

SIZES = {"0.25": 1890, "0.5": 3780, "1": 7560, "2": 15120, "4": 30240}


@pytest.fixture(scope="module")
def record():
    """Gaps of 1.2 n^-0.2, on which two seeds differ by a factor; one size is not fitted."""
    best, arms = Pool.read("training").at(0.54), {}
    for name, count in SIZES.items():
        for seed, factor in enumerate((1.0, 0.9)):
            share = 1 - 1.2 * factor * count**-0.2
            reached = best.base_score + share * (best.objective - best.base_score)
            arms.setdefault(f"PPO x {name}", {})[str(seed)] = {
                "objective": float(reached), "training": 0.01 * count,
                "unlearned": 100 / count, "drift": 0.2,
            }  # fmt: skip
    assert 0 < optimum.share(reached, best) < 1
    found = {"arms": arms, "responses": SIZES, "fitted": [0.25, 0.5, 1, 2]}
    return Record("price", json.loads(json.dumps(found)), {})


def test_the_law_comes_back_and_is_turned_around(record):
    power, _ = experiments.load("_price").law(record)
    assert power == pytest.approx([0.2, 0.2])
    assert show.expected_share(record, 1e5) == pytest.approx([0.88, 0.892])
    assert show.responses_for(record, 0.88) == pytest.approx([1e5, 1e5 * 0.9**5])
    back = show.expected_share(record, float(show.responses_for(record, 0.9)[0]))
    assert back[0] == pytest.approx(0.9)


def test_the_view_names_shares_minutes_parts_and_what_is_beyond(record):
    said, figure = show.law_view(record, 100_000, 0.88)
    assert "100,000 responses (beyond every run that was made): a share of 0.89 by" in said
    assert "0.88 to 0.89 by seed" in said and "16.7 minutes on one core" in said
    assert "The nearest runs (30,240) leave 0.00 nats unlearned and 0.20 to drift" in said
    assert "fitted up to 15,120 responses; of 2 larger runs" in said
    assert len(figure.axes) == 2
    told, _ = show.law_view(record, 1890, 1 - 1e-9)
    assert "beyond" not in told and "more than 10^12 responses." in told
    plt.close("all")


def test_dots_are_the_runs_and_the_unfitted_have_another_shape(record):
    ax = show.plot_law(record)
    markers = [line.get_marker() for line in ax.lines if len(line.get_xdata()) == 2]
    assert markers.count("o") == 4 and markers.count("D") == 1
    heights = next(line.get_ydata() for line in ax.lines if line.get_marker() == "D")
    assert np.allclose(heights, 1.2 * np.array([1, 0.9]) * 30240**-0.2)
    plt.close("all")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda r: show.expected_share(r, 0), "responses is 0; expected"),
        (lambda r: show.responses_for(r, 1), "share is 1; expected"),
        (lambda r: show.expected_share(r, "many"), "responses is 'many'; expected a finite number"),
    ],
)
def test_bad_input_is_named(record, ask, message):
    with pytest.raises(TextError, match=message):
        ask(record)


def test_the_explorer_draws_again(record):
    view = show.explore_law(record)
    sliders = view.children[:2]
    before = view.children[3].value
    sliders[0].value = 1_000_000
    assert "1,000,000 responses" in view.children[3].value != before
    view.children[2].click()
    assert view.children[3].value == before
