"""Draw what became of a pronoun: log-odds after against before, trade by trade, and two dials.

The law of the two dials: after = (before + tilt x corpus) / temperature, where the tilt is a / beta
of labellers who like the usual pronoun. Omits how odds are measured, which `knowledge` does. Used
by notebook 11.
"""

import html

from rlhf_lite.checks import check_alike, check_number
from rlhf_lite.show.cards import figure_png
from rlhf_lite.show.controls import explorer, reset_button
from rlhf_lite.show.style import GREEN, INK, KL, POLICY, REFERENCE, REWARD, WARNING

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit

LOOKS = ((POLICY, "o"), (WARNING, "^"), (GREEN, "s"), (REWARD, "D"), (KL, "v"))
TEMPERATURES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
TILTS = (-1.0, -0.5, 0.0, 0.5, 1.0, 2.0)


def dialled(before, corpus, tilt=0.0, temperature=1.0, bonus=0.0):
    """Return the log-odds (T,) [nats] after a tilt and a bonus, decoded at a temperature.

    (before + tilt corpus + bonus) / temperature: pi* multiplies the odds by exp(score / kl_coef)
    (Korbak et al. 2022), and a temperature divides all log-odds. Raises ValueError for a
    temperature of 0 or below, which is argmax.
    """
    before, corpus = check_alike({"before": before, "corpus": corpus})
    for name, value in (("tilt", tilt), ("bonus", bonus)):
        check_number(value, name)
    check_number(temperature, "temperature", above=0)
    return (before + tilt * corpus + bonus) / temperature


def plot_odds(before, curves, *, ax=None):
    """Draw log-odds of she after against before: {label: after}, a dot a trade, a line each.

    before (T,); after (T,) or (seeds, T), whose mean is drawn [nats]. A legend gives each slope.
    """
    ax = ax or plt.gca()
    ends = np.array([np.min(before), np.max(before)])
    ax.plot(ends, ends, color=REFERENCE, lw=1, ls=(0, (2, 3)), zorder=1)
    for (label, after), (colour, marker) in zip(curves.items(), LOOKS, strict=False):
        mean = np.atleast_2d(after).mean(0)
        check_alike({"before": before, f"after of {label!r}": mean})
        slope, start = np.polyfit(before, mean, 1)
        ax.scatter(before, mean, color=colour, marker=marker, s=20, alpha=0.75, lw=0, zorder=3)
        ax.plot(ends, start + slope * ends, color=colour, lw=1.4, label=f"{label}: {slope:.2f}")
    for place in (ax.axhline, ax.axvline):
        place(0, color=INK, lw=0.6)
    ax.set(xlabel="before: log-odds of she [nats]", ylabel="after [nats]")
    return ax


def plot_trades(trades, shares, *, ax=None):
    """Draw P(she) by trade: {label: shares (T,)}, trades ordered by the first of them."""
    ax = ax or plt.gca()
    order = np.argsort(next(iter(shares.values())), kind="stable")
    looks = ((INK, "_", 60), (REFERENCE, "o", 22), *((c, m, 26) for c, m in LOOKS))
    for (label, values), (colour, marker, size) in zip(shares.items(), looks, strict=False):
        values = np.asarray(values, dtype=float)
        if values.shape != (len(trades),) or values.min() < 0 or values.max() > 1:
            raise ValueError(f"{label!r} has shape {values.shape}; expected a share a trade")
        ax.scatter(range(len(order)), values[order], color=colour, marker=marker, s=size,
                   label=label, zorder=3)  # fmt: skip
    ax.axhline(0.5, color=INK, lw=0.6)
    ax.set_xticks(range(len(order)), [trades[i] for i in order], rotation=90, fontsize=8)
    ax.set(ylim=(-0.03, 1.03), ylabel="P(she | trade)")
    return ax


def dials_view(trades, before, corpus, tilt, temperature):
    """Return (sentence, figure) of the two dials: the line on the left, the trades on the right."""
    after = dialled(before, corpus, tilt, temperature)
    figure, axes = plt.subplots(1, 2, figsize=(10.4, 3.6), width_ratios=(1, 2.1))
    plot_odds(corpus, {"slope, before": before, "slope, after": after}, ax=axes[0])
    axes[0].set(xlabel="corpus: log-odds of she [nats]", ylabel="model [nats]")
    axes[0].legend(loc="upper left")
    shares = {"corpus": expit(corpus), "before": expit(before), "after": expit(after)}
    plot_trades(trades, shares, ax=axes[1]).legend(loc="upper left", ncols=3)
    axes[1].set(ylim=(-0.03, 1.22), yticks=np.linspace(0, 1, 6))
    usual = [expit(np.abs(odds)).mean() for odds in (before, after)]
    said = (
        f"γ = (1 + tilt) / T = {1 + tilt:.1f} / {temperature} = {(1 + tilt) / temperature:.2f}; "
        f"the likelier pronoun of a trade is written {usual[0]:.0%} of the time before and "
        f"{usual[1]:.0%} after"
    )
    return said, figure


def explore_dials(trades, before, corpus, tilt=0.0, temperature=1.0):
    """Show two sliders, what labellers like and the temperature, and what becomes of each trade.

    before, corpus (T,): log-odds of she [nats]. Works by keyboard: arrows move the sliders.
    """
    sliders = [
        ipywidgets.SelectionSlider(
            options=options, value=value, description=name, layout={"width": "380px"},
            style={"description_width": "initial"}, continuous_update=False,
        )
        for name, options, value in (
            ("labellers' tilt a/β", TILTS, tilt), ("temperature T", TEMPERATURES, temperature),
        )
    ]  # fmt: skip

    def show():
        said, figure = dials_view(trades, before, corpus, *(s.value for s in sliders))
        return html.escape(said), "", figure_png(figure)

    rows = [ipywidgets.HBox([*sliders, reset_button(*sliders)])]
    return explorer(rows, sliders, show, cards=False)[0]
