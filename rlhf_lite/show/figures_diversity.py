"""Draw what is lost on the way: the voices that go silent, the diversity that is left.

Used by notebook 05.
"""

from rlhf_lite.diversity import diversity_of
from rlhf_lite.show.figures_policies import plot_frontier
from rlhf_lite.show.style import INK, POLICY, REFERENCE, WARNING

import matplotlib.pyplot as plt
import numpy as np


def plot_voice_areas(world, x, shares, *, ax=None, label="KL to the base [nats]"):
    """Draw how the shares of voices change along x as stacked areas, each voice by its name.

    x (X,) ascending; shares (X, V), the voices' in the world's order; what is missing to 1 has no
    single voice and stays white.
    """
    ax = ax or plt.gca()
    shares = np.asarray(shares)
    colours = [world.colours[v] for v in world.voices]
    ax.stackplot(x, shares.T, colors=colours, alpha=0.85, lw=0.4, edgecolor="white")
    tops, span = shares.cumsum(1), max(x) - min(x)
    for number, voice in enumerate(world.voices):
        at = int(shares[:, number].argmax())
        if shares[at, number] > 0.09:
            side = "left" if at == 0 else "right" if at == len(x) - 1 else "center"
            shift = {"left": 0.01, "right": -0.01, "center": 0}[side] * span
            ax.text(x[at] + shift, tops[at, number] - shares[at, number] / 2, voice, ha=side,
                    va="center", color="white", fontsize="small", weight="bold")  # fmt: skip
    ax.set(xlim=(min(x), max(x)), ylim=(0, 1), xlabel=label, ylabel="share of voices")
    ax.grid(visible=False)
    return ax


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
    axes[1].plot(*here, "o", ms=9, mfc="none", mec=WARNING, mew=2, zorder=5)
    _diversity_left(axes[2], base, trained)
    for ax in (axes[0], axes[2]):
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
    return axes


def _voices(ax, world, base, trained, best):
    """Draw mean shares of voices as bars, one tick a seed, the base model and pi* as marks."""
    at, colours = np.arange(len(world.voices)), [world.colours[v] for v in world.voices]
    shares = np.array([arm["shares"][: len(at)] for arm in trained])
    ax.barh(at, shares.mean(0), 0.62, color=colours)
    for row in shares:
        ax.plot(row, at, "|", color=INK, ms=8)
    marks = [("base", base, "o", REFERENCE)] + ([("\u03c0*", best, "D", INK)] if best else [])
    for label, found, marker, colour in marks:
        look = {"ms": 6, "mfc": "white", "mec": colour, "label": label}
        ax.plot(found["shares"][: len(at)], at, marker, **look)
    ax.set_yticks(at, world.voices)
    ax.set(xlim=(-0.02, 1.02), xlabel="share of voices")
    ax.legend(loc="lower right")


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
