"""Draw what a share of the achievable gain costs: the law of the gap, and where the gap goes.

Omits the law itself, which the experiment `price` fits. Used by notebook 04b.
"""

import html

from rlhf_lite.checks import TextError, check_number
from rlhf_lite.experiments import load
from rlhf_lite.show.cards import figure_png
from rlhf_lite.show.controls import explorer, reset_button
from rlhf_lite.show.style import INK, POLICY, REFERENCE, REWARD, WARNING

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np

RESPONSES = (1_000, 2_000, 4_000, 7_560, 15_000, 30_000, 60_000, 130_000, 250_000, 1_000_000)
SHARES = (0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.95, 0.99)


def sizes_of(record):
    """Return {name of the arm: responses} of the record `price`, from the smallest on."""
    return {f"PPO x {n}": count for n, count in record["responses"].items()}


def expected_share(record, responses):
    """Return the share of the gain that the law expects of so many responses, a number a seed."""
    check_number(responses, "responses", TextError, above=0)
    power, start = load("_price").law(record)
    return 1 - np.exp(start - power * np.log(responses))


def responses_for(record, share):
    """Return how many responses the law asks for a share of the gain, a number a seed."""
    if not 0 < check_number(share, "share", TextError) < 1:
        raise TextError(f"share is {share}; expected a share of the gain between 0 and 1")
    power, start = load("_price").law(record)
    # Rounding to 10^15 and more says "never" well enough, and does not overflow.
    return np.exp(np.minimum((start - np.log(1 - share)) / power, 700))


def seconds_each(record):
    """Return what a response costs on one core, drawn, scored and learned from [seconds]."""
    taken = record.arm("PPO x 1", "training").mean()
    return float(taken / record["responses"]["1"])


def plot_law(record, responses=None, *, ax=None):
    """Draw the gap to the optimum against responses: seeds, law, what it foretold; returns Axes.

    record: `records.read("price")`; responses: a number to mark.
    """
    ax, price = ax or plt.gca(), load("_price")
    sizes, fitted = sizes_of(record), [str(n) for n in record["fitted"]]
    known = [record["responses"][n] for n in fitted]
    x = np.geomspace(min(known), max(RESPONSES))
    gap = np.array([1 - expected_share(record, n).mean() for n in x])
    inside = x <= max(known)
    ax.plot(x[inside], gap[inside], color=POLICY, label="law, fitted here")
    ax.plot(x, gap, color=POLICY, ls=":", label="law, extrapolated")
    for name, count in sizes.items():
        told = name.removeprefix("PPO x ") in fitted
        found = 1 - price.share(record, name)
        ax.plot([count] * len(found), found, "o" if told else "D", ms=5, mec="white", mew=0.5,
                color=POLICY if told else WARNING)  # fmt: skip
    ax.plot([], [], "o", color=POLICY, label="a run that it was fitted to")
    ax.plot([], [], "D", color=WARNING, label="a run that it foretells")
    if responses is not None:
        ax.axvline(responses, color=INK, lw=0.8)
    ax.set(xscale="log", yscale="log", xlabel="responses", ylabel="gap to J* (1 - share)")
    ticks = (0.02, 0.05, 0.1, 0.2, 0.3)
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.legend(loc="lower left")
    return ax


def plot_where(record, responses=None, *, ax=None):
    """Draw the nats that are unlearned and those that drift, against responses; returns Axes."""
    ax = ax or plt.gca()
    sizes = sizes_of(record)
    looks = {"unlearned": (REWARD, "s--"), "drift": (INK, "o-")}
    for part, (colour, look) in looks.items():
        rows = [record.arm(name, part) for name in sizes]
        for count, row in zip(sizes.values(), rows):
            ax.plot([count] * len(row), row, ".", color=colour, alpha=0.5)
        ax.plot(
            list(sizes.values()), [r.mean() for r in rows], look, ms=4, color=colour, label=part
        )
    if responses is not None:
        ax.axvline(responses, color=INK, lw=0.8)
    ax.axhline(0, color=REFERENCE, lw=0.8)
    ax.set(xscale="log", xlabel="responses", ylabel="part of KL(π || π*) [nats]")
    ax.legend()
    return ax


def beyond_the_fit(record):
    """Return a sentence on the runs that the law was not fitted to, or an empty one."""
    price, sizes = load("_price"), record["responses"]
    fitted = [str(n) for n in record["fitted"]]
    off = [gap for n in sizes if n not in fitted for gap in price.beyond(record, n)]
    if not off:
        return ""
    return (
        f" The law is fitted up to {max(sizes[n] for n in fitted):,} responses; of {len(off)} "
        f"larger runs {sum(gap > 1 for gap in off)} left a larger gap than it says, the largest "
        f"run {off[-1]:.2f} times as large."
    )


def law_view(record, responses, wanted):
    """Return (sentence, figure): what so many responses buy, and what a share would cost.

    record: `records.read("price")`; wanted: a share of the gain. Raises TextError for what is none.
    """
    share, needed = expected_share(record, responses), responses_for(record, wanted)
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6))
    plot_law(record, responses, ax=axes[0]).set_title("What do responses buy?")
    axes[0].axhline(1 - wanted, color=INK, lw=0.8, ls="--")
    plot_where(record, responses, ax=axes[1]).set_title("Where is the rest?")
    sizes, each = sizes_of(record), seconds_each(record)
    near = min(sizes, key=lambda name: abs(np.log(sizes[name] / responses)))
    unlearned, drift = (record.arm(near, part).mean() for part in ("unlearned", "drift"))
    largest = max(sizes.values())
    beyond = " (beyond every run that was made)" if responses > largest else ""
    price = "more than 10^12" if needed.mean() > 1e12 else f"{needed.mean():,.0f}"
    said = (
        f"{responses:,} responses{beyond}: a share of {share.mean():.2f} by the law "
        f"({share.min():.2f} to {share.max():.2f} by seed), {responses * each / 60:,.1f} minutes "
        f"on one core. The nearest runs ({sizes[near]:,}) leave {unlearned:.2f} nats unlearned and "
        f"{drift:.2f} to drift. For a share of {wanted:g} the law asks for {price} responses"
    )
    if needed.mean() <= 1e12:
        said += f", {needed.mean() * each / 60:,.1f} minutes"
    return said + "." + beyond_the_fit(record), figure


def explore_law(record, responses=7_560, wanted=0.9):
    """Show two sliders: how many responses one has, and which share of the gain one wants.

    record: `records.read("price")`. Works by keyboard.
    """
    sliders = [
        ipywidgets.SelectionSlider(
            options=[(f"{option:,}", option) for option in options], value=value, description=name,
            layout={"width": "460px"}, style={"description_width": "initial"},
            continuous_update=False,
        )
        for options, value, name in (
            (RESPONSES, responses, "responses"), (SHARES, wanted, "share wanted")
        )
    ]  # fmt: skip

    def show():
        said, figure = law_view(record, *(s.value for s in sliders))
        return html.escape(said), "", figure_png(figure)

    return explorer([*sliders, reset_button(*sliders)], sliders, show, cards=False)[0]
