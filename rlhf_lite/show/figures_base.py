"""Draw the base model: the voices it mixes, its next tokens, its loss, what it recalls.

A `plot_*` takes data and Axes and returns the Axes; nothing is shown or saved. Used by notebook 01.
"""

from rlhf_lite.knowledge import bin_exposures
from rlhf_lite.show.style import (
    GREEN,
    INK,
    KL,
    POLICY,
    REFERENCE,
    REWARD,
    WARNING,
    ink_of,
    ink_on,
)
from rlhf_lite.world import FACTS

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch


def plot_shares(world, rows, *, ax=None):
    """Draw voice shares as bars, one group a voice.

    rows: {label: shares (V,)}; the last is drawn in grey with hatching, as the exact one beside the
    measured.
    """
    ax = ax or plt.gca()
    width, last, handles = 0.8 / len(rows), len(rows) - 1, []
    colours = [world.colours[v] for v in world.voices]
    for number, (label, shares) in enumerate(rows.items()):
        at = np.arange(len(world.voices)) + (number - last / 2) * width
        if number == last and last:
            look = {"facecolor": "#D9D9D9", "hatch": "////", "edgecolor": REFERENCE}
        else:
            look = {"facecolor": INK, "alpha": 1.0 if number == max(0, last - 1) else 0.5}
        ax.bar(at, shares, width, **(look if "hatch" in look else look | {"facecolor": colours}))
        handles.append(Patch(**look, label=label))
    ax.set_xticks(range(len(world.voices)), world.voices, rotation=25, ha="right")
    ax.set_ylabel("share of documents")
    ax.grid(axis="x", visible=False)
    if last:
        ax.legend(handles=handles)
    return ax


def plot_next_tokens(model_probs, truth, *, ax=None):
    """Draw the model's twelve likeliest next tokens as bars, the exact probabilities as diamonds.

    model_probs: list of (text, probability); truth: {text: probability}, or None.
    """
    ax = ax or plt.gca()
    shown = model_probs[:12]
    names = [repr(t)[1:-1].replace(" ", "\u2423") for t, _ in shown]
    ax.barh(range(len(shown)), [p for _, p in shown], color=POLICY, label="model", height=0.7)
    if truth is not None:
        exact = [truth.get(t, 0.0) for t, _ in shown]
        ax.plot(exact, range(len(shown)), "D", color=INK, ms=5, label="exact", clip_on=False)
    ax.set_yticks(range(len(shown)), names, family="monospace")
    ax.invert_yaxis()
    ax.set_xlabel("probability of the next token")
    ax.grid(axis="y", visible=False)
    ax.legend(loc="lower right")
    return ax


def plot_temperatures(curves, *, ax=None):
    """Draw sorted next-token probabilities on a log scale: curves is {label: probabilities}."""
    ax = ax or plt.gca()
    shades = plt.cm.viridis(np.linspace(0.0, 0.55, len(curves)))
    for (label, probs), colour, style in zip(curves.items(), shades, ("-", "--", "-.", ":") * 3):
        ax.plot(np.arange(1, len(probs) + 1), probs, label=label, color=colour, ls=style)
    ax.set(yscale="log", xlabel="rank of the token", ylabel="probability", ylim=(1e-4, 1.2))
    ax.legend()
    return ax


def plot_loss(steps, losses, floor, *, ax=None):
    """Draw a training loss [nats a document] that falls towards the entropy of the grammar."""
    ax = ax or plt.gca()
    ax.plot(steps, losses, color=POLICY)
    ax.axhline(floor, color=REFERENCE, ls="--")
    ax.annotate(
        f"entropy of the grammar {floor:.1f}", (0.99, floor), xycoords=("axes fraction", "data"),
        xytext=(0, -4), textcoords="offset points", ha="right", va="top",
        color=REFERENCE, fontsize="small",
    )  # fmt: skip
    ax.annotate(
        f"model {losses[-1]:.1f}", (steps[-1], losses[-1]), xytext=(-4, 16),
        textcoords="offset points", ha="right", color=POLICY, fontsize="small",
    )  # fmt: skip
    ax.set(yscale="log", xlabel="step", ylabel="loss [nats a document]")
    ticks = [t for t in (40, 50, 70, 100, 150, 200, 300, 500, 700) if t >= 0.8 * floor]
    ax.set_yticks(ticks, [str(t) for t in ticks])
    ax.set_yticks([], minor=True)
    ax.set_ylim(0.8 * floor, 1.1 * max(losses))
    return ax


def plot_tilt(world, rows, *, ax=None):
    """Draw stacked bars of voice shares, one bar a prompt.

    rows: {label: shares (V,)}, first on top.
    """
    ax = ax or plt.gca()
    for at, shares in enumerate(rows.values()):
        left = 0.0
        for voice, share in zip(world.voices, shares):
            colour = world.colours[voice]
            ax.barh(at, share, left=left, color=colour, height=0.72, edgecolor="white")
            if share > 0.11:
                middle = {"ha": "center", "va": "center"}
                ax.text(left + share / 2, at, voice, color=ink_on(colour), fontsize=7.5, **middle)
            left += share
    ax.set_yticks(range(len(rows)), rows)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of voices")
    ax.grid(visible=False)
    return ax


def plot_posterior(world, exact, implied=None, *, ax=None):
    """Draw the posterior over voices as the prompt grows: lines exact, dots from the model.

    exact, implied (L, V): after 1, 2, ... lines; implied may be None. Voices below 0.08 throughout
    are drawn thin and without a label.
    """
    ax = ax or plt.gca()
    at = np.arange(1, len(exact) + 1)
    ends = []
    for number, voice in enumerate(world.voices):
        strong = exact[:, number].max() >= 0.08
        colour = world.colours[voice]
        ax.plot(at, exact[:, number], color=colour, lw=2 if strong else 0.8)
        if implied is not None and strong:
            ax.plot(at, implied[:, number], "o", color=colour, ms=6, mec="white", clip_on=False)
        if strong:
            ends.append([exact[-1, number], voice])
    low = -1.0
    for end in sorted(ends):
        low = max(end[0], low + 0.065)
        ax.text(
            at[-1] + 0.08, low, end[1], color=ink_of(world.colours[end[1]]), va="center",
            fontsize="small",
        )  # fmt: skip
    ax.set_xticks(at)
    ax.set(xlabel="sentences in the prompt", ylabel="P(voice | prompt)", ylim=(-0.03, 1.03))
    ax.set_xlim(0.8, at[-1] + 0.9)
    return ax


def plot_agreement(exact, measured, *, ax=None, colours=POLICY, sizes=22):
    """Draw measured against exact probabilities, with the line on which they agree."""
    ax = ax or plt.gca()
    ax.plot([0, 1], [0, 1], color=REFERENCE, ls="--", lw=1)
    ax.scatter(exact, measured, s=sizes, c=colours, alpha=0.75, edgecolor="white", linewidth=0.4)
    ax.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
    ax.set(xlabel="exact probability", ylabel="the model's")
    return ax


def plot_recall(rows, *, ax=None):
    """Draw recall against exposure, one line a kind of fact.

    rows: dicts with kind, exposure (documents that tell the fact) and truth, the probability of the
    true answer.
    """
    ax = ax or plt.gca()
    labels = [t[0] for t in bin_exposures(rows, "truth")]
    for kind, marker, colour in zip(FACTS, "osD^v", (POLICY, REWARD, GREEN, KL, WARNING)):
        table = bin_exposures([r for r in rows if r["kind"] == kind], "truth")
        at = [labels.index(t[0]) for t in table]
        values, errors = [t[1] for t in table], [t[2] for t in table]
        ax.errorbar(
            at, values, errors, marker=marker, ms=5, color=colour, label=kind, capsize=2, lw=1.4
        )
    ax.set_xticks(range(len(labels)), labels, rotation=35, ha="right")
    ax.set(xlabel="how often the corpus tells the fact", ylabel="probability of the true answer")
    ax.set_ylim(-0.03, 1.03)
    ax.legend(title="kind of fact", title_fontsize="small")
    return ax
