"""Draw people and their labels: what they value, how they agree, what a label tells.

Used by notebook 02.
"""

from rlhf_lite.show.style import GREEN, INK, KL, POLICY, REFERENCE, REWARD, SKY, WARNING, ink_on

import matplotlib.pyplot as plt
import numpy as np

KIND_LOOKS = {
    "preference": (POLICY, "o", "-"),
    "rating": (REWARD, "s", "--"),
    "demonstration": (GREEN, "D", "-."),
    "correction": (WARNING, "^", ":"),
    "critique": (KL, "v", (0, (5, 1))),
}


def plot_points(people, points, aspects, *, ax=None):
    """Draw what each aspect of one text is worth to each person: stacked bars, a dot at the sum.

    points (people, aspects) [points].
    """
    ax = ax or plt.gca()
    shades = (POLICY, REWARD, GREEN, WARNING, KL, REFERENCE, SKY, INK) * (1 + len(aspects) // 8)
    for row, values in enumerate(points):
        ends = [0.0, 0.0]
        for aspect, value in enumerate(values):
            side = int(value < 0)
            ax.barh(row, value, left=ends[side], color=shades[aspect], height=0.66,
                    edgecolor="white", label=aspects[aspect] if row == 0 else None)  # fmt: skip
            ends[side] += value
        ax.plot(values.sum(), row, "D", color=INK, ms=6, mec="white", zorder=5)
    ax.axvline(0, color=INK, lw=0.8)
    ax.set_yticks(range(len(people)), people)
    ax.set_ylim(len(people) - 0.5, -0.5)
    ax.set_xlabel("points (diamond: their sum, the utility)")
    ax.grid(axis="y", visible=False)
    return ax


def plot_matrix(names, values, *, ax=None, low=0.0, high=1.0, centre=None):
    """Draw a square matrix with its numbers; colours diverge around `centre` where it is given."""
    ax = ax or plt.gca()
    if centre is None:
        image = ax.imshow(values, cmap="Blues", vmin=low, vmax=high)
    else:
        reach = max(high - centre, centre - low)
        image = ax.imshow(values, cmap="RdBu", vmin=centre - reach, vmax=centre + reach)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            text = "" if np.isnan(value) else f"{value:z.2f}".replace("0.", ".")
            ink = ink_on(image.cmap(image.norm(value)))
            ax.text(j, i, text, ha="center", va="center", fontsize="small", color=ink)
    ax.set_xticks(range(len(names)), names, rotation=35, ha="right")
    ax.set_yticks(range(len(names)), names)
    ax.grid(visible=False)
    ax.tick_params(length=0)
    return ax


def plot_bits(bits, *, ax=None):
    """Draw bits a label by kind with standard errors: bits is {kind: (mean, standard error)}."""
    ax = ax or plt.gca()
    for row, (kind, (mean, error)) in enumerate(bits.items()):
        ax.barh(row, mean, xerr=2 * error, color=KIND_LOOKS[kind][0], height=0.66, ecolor=INK)
        ax.text(mean + 2 * error + 0.03, row, f"{mean:.2f}", va="center", fontsize="small")
    ax.set_yticks(range(len(bits)), bits)
    ax.invert_yaxis()
    ax.set_xlabel("bits a label about whose values these are")
    ax.grid(axis="y", visible=False)
    return ax
