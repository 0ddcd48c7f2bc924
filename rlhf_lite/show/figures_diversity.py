"""Draw what is lost on the way: the voices that go silent, the diversity that is left.

Used by notebook 05.
"""

from rlhf_lite.diversity import diversity_of
from rlhf_lite.show.figures_policies import plot_frontier
from rlhf_lite.show.style import INK, POLICY, REFERENCE, WARNING, ink_of

import matplotlib.pyplot as plt
import numpy as np


def plot_voice_areas(world, x, shares, *, ax=None, label="KL to the base [nats]"):
    """Draw how the shares of voices change along x as stacked areas, every voice named on the left.

    x (X,) ascending; shares (X, V), the voices' in the world's order; what is missing to 1 has no
    single voice and stays white.
    """
    ax = ax or plt.gca()
    shares = np.asarray(shares)
    colours = [world.colours[v] for v in world.voices]
    ax.stackplot(x, shares.T, colors=colours, alpha=0.85, lw=0.4, edgecolor="white")
    ax.set(xlim=(min(x), max(x)), ylim=(0, 1), xlabel=label, ylabel="share of voices")
    ax.yaxis.tick_right()
    ax.yaxis.set_label_position("right")
    _name_voices(ax, world, shares[0].cumsum() - shares[0] / 2, 0.07, (-0.015, "right"))
    ax.grid(visible=False)
    return ax


FLOOR = 5e-4  # what few samples cannot tell from silence


def plot_voice_lines(world, x, shares, *, ax=None, label="KL to the base [nats]"):
    """Draw the shares of voices along x on a logarithmic scale, every voice named on the right.

    x (X,) ascending; shares (X, V) or, a thin line a seed, (S, X, V); below FLOOR a line runs along
    the edge.
    """
    ax = ax or plt.gca()
    shares = np.maximum(np.asarray(shares), FLOOR)
    seeds = shares if shares.ndim == 3 else shares[None]
    for number, voice in enumerate(world.voices):
        colour, rows = world.colours[voice], seeds[..., number]
        if len(rows) > 1:
            ax.plot(x, rows.T, color=colour, lw=0.6, alpha=0.5)
        ax.plot(x, rows.mean(0), color=colour)
    ax.set(yscale="log", ylim=(FLOOR, 1), xlim=(min(x), max(x)), xlabel=label)
    ax.set_yticks([0.001, 0.01, 0.1, 1], ["0.1%", "1%", "10%", "100%"])
    ends = np.log(seeds.mean(0)[-1] / FLOOR) / -np.log(FLOOR)
    _name_voices(ax, world, ends, 0.075, (1.015, "left"))
    return ax


def _name_voices(ax, world, heights, least, side):
    """Write every voice beside the Axes near its height, in its colour, `least` apart.

    heights (V,) [share of the Axes]; side: (x, alignment).
    """
    for at, number in zip(_apart(np.sort(heights), least), np.argsort(heights)):
        voice = world.voices[number]
        ax.text(side[0], at, voice, transform=ax.transAxes, ha=side[1], va="center",
                color=ink_of(world.colours[voice]), fontsize="small", weight="bold")  # fmt: skip


def _apart(heights, least):
    """Move ascending heights in 0..1 apart by `least`, up where there is room, else down."""
    moved = [heights[0]]
    for height in heights[1:]:
        moved.append(max(height, moved[-1] + least))
    for number in range(len(moved) - 1, -1, -1):
        moved[number] = min(moved[number], 1 - least * (len(moved) - 1 - number))
    return moved


SAME = {
    "kl_coef": "same \u03b2: KL coefficient",
    "kl": "same KL to the base [nats]",
    "score": "same score [sd of base samples]",
}


def plot_excess(best, policies, *, axes=None):
    """Draw what a policy has left inside a voice beside pi* of the same coefficient, KL and score.

    best: {"kl_coef", "kl", "score", "inside"}, lists from the base on, whose coefficient is left
    out of the first panel; policies: list of dicts with the same keys, one a run and a dot each.
    Makes a figure unless given three Axes; returns them.
    """
    if axes is None:
        axes = plt.subplots(1, 3, figsize=(9.6, 3.3), sharey=True)[1]
    for ax, (key, label) in zip(axes, SAME.items()):
        skip = int(key == "kl_coef")
        ax.plot(best[key][skip:], best["inside"][skip:], "--", color=INK, label="optimum \u03c0*")
        dots = [[run[k] for run in policies if run[key] or not skip] for k in (key, "inside")]
        ax.plot(*dots, "o", color=POLICY, ms=5, mec="white", mew=0.5, label="PPO, a dot a seed")
        ax.axhline(best["inside"][0], color=REFERENCE, lw=1.2, label="base")
        ax.set(xlabel=label)
    axes[0].set(xscale="log", ylabel="H(text | encyclopedia) [nats]")
    axes[0].invert_xaxis()
    axes[2].legend(loc="lower left")
    return axes


DIVERSITY = {
    "H(voice)": "which voice [nats]",
    "H(text | voice)": "what it says [nats]",
    "EAD": "distinct n-grams (EAD)",
    "self-BLEU": "unlike each other (1 - BLEU)",
    "Vendi": "number of texts (Vendi)",
}


def plot_run(world, base, trained, best, curves):
    """Draw policies trained at one kl_coef: voices, place on the frontier, diversity left.

    base: the measured base model; trained: list of measured policies, one a seed; best: pi* at the
    same coefficient, None where it is not known; curves: as in `plot_frontier`. Makes a figure and
    returns its three Axes.
    """
    figure = plt.figure(figsize=(11.4, 3.1), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1.2, 1.1, 1.1))
    _voices(axes[0], world, base, trained, best)
    plot_frontier(curves, ax=axes[1])
    here = [[arm[k] for arm in trained] for k in ("kl", "score")]
    ring = {"ms": 10, "mfc": "none", "mec": WARNING, "mew": 1.5, "zorder": 5}
    axes[1].plot(*here, "o", label="these seeds", **ring)
    axes[1].legend(loc="lower right")
    _diversity_left(axes[2], base, trained)
    for ax in (axes[0], axes[2]):
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
    return axes


def _voices(ax, world, base, trained, best):
    """Draw mean shares of voices as bars on a logarithmic scale, seeds as ticks, base and pi*."""
    at, colours = np.arange(len(world.voices)), [world.colours[v] for v in world.voices]
    shares = np.array([arm["shares"][: len(at)] for arm in trained])
    ax.barh(at, shares.mean(0), 0.62, color=colours)
    for row in shares:
        ax.plot(np.maximum(row, FLOOR), at, "|", color=INK, ms=8)
    marks = [("base", base, "o", REFERENCE)] + ([("\u03c0*", best, "D", INK)] if best else [])
    for label, found, marker, colour in marks:
        look = {"ms": 6, "mfc": "white", "mec": colour, "label": label}
        ax.plot(np.maximum(found["shares"][: len(at)], FLOOR), at, marker, clip_on=False, **look)
    ax.set_yticks(at, world.voices)
    ax.set(xscale="log", xlim=(FLOOR, 1), xlabel="share of voices, log scale")
    ax.set_xticks([0.001, 0.01, 0.1, 1], ["0.1%", "1%", "10%", "100%"])
    ax.legend(ncol=2, loc="lower right", bbox_to_anchor=(1, 1))


def _diversity_left(ax, base, trained):
    """Draw each diversity as a share of the base model's: bars, one tick a seed."""
    left, full = [diversity_of(arm) for arm in trained], diversity_of(base)
    for row, name in enumerate(DIVERSITY):
        kept = [d[name] / full[name] for d in left]
        ax.barh(row, np.mean(kept), 0.62, color=POLICY)
        ax.plot(kept, [row] * len(kept), "|", color=INK, ms=8)
    ax.set_yticks(range(len(DIVERSITY)), DIVERSITY.values())
    ax.axvline(1, color=REFERENCE, ls="--", lw=1.2)
    ax.set(xlim=(0, 1.3), xlabel="share of the base model's")
