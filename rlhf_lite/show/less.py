"""Draw what few examples teach, what labels are worth at a price, and how well a model labels.

Forms and facts against the number of demonstrations, gold at equal cost, labellers against gold.
Omits all training, which the experiments do. Used by notebook 12.
"""

import html

from rlhf_lite.checks import check_number
from rlhf_lite.experiments import load
from rlhf_lite.show.cards import figure_png
from rlhf_lite.show.controls import explorer, reset_button
from rlhf_lite.show.style import GREEN, INK, KL, POLICY, REFERENCE, REWARD, WARNING

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np

RATIOS, SHARES = (1, 2, 4, 8, 16, 30), (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
METHODS = {  # of labour, behind 1,024 preferences
    "PPO": (("labels 1024", "ppo"), POLICY, "o"),
    "DPO": (("dpo 1024",), KL, "^"),
    "best-of-16, SFT": (("labels 1024", "picks"), GREEN, "D"),
}
LABELLERS = {  # of deputies: name, what people must label beforehand
    "people": 0, "judge 500": 2500, "judge 50": 250, "judge 5": 25, "ratio": 0, "coin": 0,
}  # fmt: skip


def seeds_line(x, table, *, ax, colour, label, style="-", marker="o"):
    """Draw a table (seeds, K) against x: a thin line a seed, a thick one for their mean."""
    table = np.atleast_2d(table)
    if table.shape[1] != len(x):
        raise ValueError(f"{table.shape[1]} numbers a seed for {len(x)} places; expected as many")
    if len(table) > 1:
        ax.plot(x, table.T, color=colour, lw=0.7, alpha=0.4)
    ax.plot(x, table.mean(0), color=colour, ls=style, marker=marker, ms=5, label=label)
    return ax


def counts_of(record):
    """List the numbers of demonstrations of the clean arms of `lima`, ascending."""
    return sorted(int(name) for name in record.names() if name.isdigit())


def plot_forms(record, *, axes=None):
    """Draw what a number of demonstrations teaches: form, facts, and when to be silent.

    record: `records.read("lima")`; thin lines are seeds. Returns three Axes.
    """
    axes = plt.subplots(1, 3, figsize=(10.6, 3.8), sharey=True)[1] if axes is None else axes
    counts = counts_of(record)
    arms = ["none", *map(str, counts)]
    x = np.arange(len(arms))

    def table(*keys):
        base = record.arm("none", *keys).mean()
        rest = [record.arm(str(n), *keys).mean(1) for n in counts]
        return np.stack([np.full(len(rest[0]), base), *rest], 1)

    lines = (
        (0, ("seen", "form"), "form, wording of training", POLICY, "-", "o"),
        (0, ("unseen", "form"), "form, other wordings", POLICY, "--", "s"),
        (1, ("knows", "known"), "knows, told 100 times or more", GREEN, "-", "o"),
        (1, ("knows", "half known"), "knows, told 2 to 99 times", GREEN, "--", "s"),
        (1, ("seen", "right"), "answers rightly (known)", REWARD, "-.", "D"),
        (2, ("seen", "silent"), "silent about the known", INK, "-", "o"),
        (2, ("strangers", "silent"), "silent about strangers", KL, "--", "s"),
        (2, ("strangers", "wrong"), "makes up about strangers", WARNING, ":", "x"),
    )
    for side, keys, label, colour, style, marker in lines:
        seeds_line(
            x, table(*keys), ax=axes[side], colour=colour, label=label, style=style, marker=marker
        )
    for ax, title in zip(axes, ("Form", "Facts", "Silence, in our form")):
        ax.set(title=title, xlabel="demonstrations N", ylim=(-0.03, 1.05))
        ax.set_xticks(x, ["0", *(f"{n:,}" for n in counts)])
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=9)
    axes[0].set_ylabel("share of replies, or of facts")
    return axes


def plot_counts(record, *, ax=None):
    """Draw gold against the number of labels: SFT on demonstrations, and what preferences reach.

    record: `records.read("labour")`.
    """
    ax = ax or plt.gca()
    labour = load("labour")
    counts, table = labour.curve(record)
    seeds_line(counts, table, ax=ax, colour=REWARD, label="SFT on demonstrations", style="--")
    for name, (keys, colour, marker) in METHODS.items():
        spots = labour.gold(record, *keys).mean(1)
        ax.scatter(np.full(len(spots), 10), spots, color=colour, marker=marker, s=22, alpha=0.5)
        ax.plot(10, spots.mean(), marker, color=colour, ms=8, label=name)
    base = labour.gold(record, "base").mean()
    ax.axhline(base, color=REFERENCE, ls=":")
    ax.text(counts[0], base, "base", color=REFERENCE, va="bottom", fontsize=9)
    ax.set_xticks(counts, [f"{2**c:,.0f}" for c in counts])
    ax.set(xlabel="labels", ylabel="gold [points]")
    return ax


def plot_price(record, ratio=None, *, ax=None):
    """Draw gold at equal cost against the price of a demonstration, in preferences.

    The money is that of 1,024 preferences. ratio: a price to mark.
    """
    ax = ax or plt.gca()
    labour = load("labour")
    counts, table = labour.curve(record)
    prices = np.log2(RATIOS)
    bought = np.array([[np.interp(10 - p, counts, row) for p in prices] for row in table])
    seeds_line(prices, bought, ax=ax, colour=REWARD, label="all on demonstrations, SFT", style="--")
    for name, (keys, colour, _) in METHODS.items():
        spots = labour.gold(record, *keys).mean(1)
        ax.axhspan(spots.min(), spots.max(), color=colour, alpha=0.12, lw=0)
        ax.axhline(spots.mean(), color=colour, label=f"all on preferences, {name}")
    half = labour.gold(record, "half 128").mean(1)
    ax.scatter(np.full(len(half), 2), half, color=INK, marker="x", s=26, zorder=4,
               label="half on each, SFT then PPO")  # fmt: skip
    if ratio is not None:
        ax.axvline(np.log2(ratio), color=INK, lw=0.8)
    ax.set_xticks(prices, [str(r) for r in RATIOS])
    ax.set(xlabel="price of a demonstration [preferences]", ylabel="gold [points]")
    return ax


def cost_of(name, share, labels=1024):
    """Return what the labels of a labeller of `deputies` cost, in labels of people.

    labels + what people label beforehand; an AI label costs `share` of a person's. Raises
    ValueError for a labeller that was not measured and a share that is none.
    """
    if name not in LABELLERS:
        raise ValueError(f"no labeller {name!r}; expected one of {', '.join(LABELLERS)}")
    if not 0 <= check_number(share, "share") <= 1:
        raise ValueError(f"share is {share}; expected a price from 0 to 1 of a person's label")
    return labels * (1.0 if name == "people" else share) + LABELLERS[name]


def plot_labellers(record, share=0.01, *, ax=None):
    """Draw the gold of policies against what their labels cost, a labeller each.

    record: `records.read("deputies")`; share: the price of an AI label [a person's].
    """
    ax = ax or plt.gca()
    gold = load("deputies").gold
    colours = (INK, POLICY, GREEN, KL, REWARD, WARNING)
    for name, colour, marker in zip(LABELLERS, colours, "oDv^sx"):
        spots = gold(record, name).mean(1)
        cost = np.full(len(spots), max(1.0, cost_of(name, share)))
        ax.scatter(cost, spots, color=colour, marker=marker, s=20, alpha=0.6)
        ax.plot(cost[0], spots.mean(), marker, color=colour, ms=9, label=name)
    ax.axhline(gold(record, "base").mean(), color=REFERENCE, ls=":", label="base")
    ax.set(xscale="log", xlim=(5, 6000), xlabel="cost [labels of people]", ylabel="gold [points]")
    return ax


def price_view(labour, deputies, ratio, share):
    """Return (sentence, figure): what to buy where a demonstration and an AI label cost so much.

    labour, deputies: the records; ratio: preferences a demonstration costs, 1 to 30; share: what
    an AI label costs [a person's label]. Raises ValueError for prices outside.
    """
    if not 1 <= check_number(ratio, "ratio") <= 30:
        raise ValueError(f"ratio is {ratio}; expected from 1 to 30 preferences a demonstration")
    cheap = {n: cost_of(n, share) for n in LABELLERS}
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 4.3), sharey=True)
    plot_price(labour, ratio, ax=axes[0])
    plot_labellers(deputies, share, ax=axes[1]).set_ylabel("")
    for ax, title in zip(axes, ("What the money buys", "Who labels, and what it costs")):
        ax.set_title(title)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), fontsize=9, ncols=2)
    table = load("labour")
    counts, rows = table.curve(labour)
    sft = np.mean([np.interp(10 - np.log2(ratio), counts, row) for row in rows])
    best = {n: table.gold(labour, *keys).mean() for n, (keys, *_) in METHODS.items()}
    name = max(best, key=best.get)
    said = (
        f"A demonstration costs {ratio:g} preferences: {1024 / ratio:,.0f} of them and SFT reach "
        f"{sft:.2f} points, 1,024 preferences and {name} {best[name]:.2f}. An AI label costs "
        f"{share:g} of a person's: 1,024 by judge 500 cost {cheap['judge 500']:,.0f} of people's, "
        f"its principles included."
    )
    return said, figure


def explore_price(labour, deputies, ratio=4, share=0.01):
    """Show two sliders: the price of a demonstration and that of an AI label.

    labour, deputies: `records.read("labour")`, `records.read("deputies")`. Works by keyboard.
    """
    sliders = [
        ipywidgets.SelectionSlider(
            options=options, value=value, description=name, layout={"width": "460px"},
            style={"description_width": "initial"},
        )
        for options, value, name in (
            (RATIOS, ratio, "demonstration [preferences]"), (SHARES, share, "AI label [a person's]")
        )
    ]  # fmt: skip

    def show():
        said, figure = price_view(labour, deputies, *(s.value for s in sliders))
        return html.escape(said), "", figure_png(figure)

    rows = [*sliders, reset_button(*sliders)]
    return explorer(rows, sliders, show, cards=False)[0]
