"""Draw reward models: how they learn, whom they favour, where in a text they make up their mind.

Used by notebook 03.
"""

from rlhf_lite.show.style import INK, KL, POLICY, REFERENCE, REWARD, WARNING

import matplotlib.pyplot as plt
import numpy as np


def plot_bands(curves, *, ax=None, looks=None):
    """Draw curves, a thin line a seed and a thick one for their mean.

    curves: {label: (x, values (seeds, X))}.
    """
    ax = ax or plt.gca()
    cycle = ((POLICY, "o", "-"), (REWARD, "s", "--"), (KL, "v", "-."), (WARNING, "^", ":"))
    for number, (label, (x, values)) in enumerate(curves.items()):
        colour, marker, style = (looks or {}).get(label, cycle[number % len(cycle)])
        values = np.asarray(values)
        ax.plot(x, values.T, color=colour, lw=0.7, alpha=0.45)
        ax.plot(x, values.mean(axis=0), color=colour, marker=marker, ls=style, ms=5, label=label)
    ax.legend()
    return ax


def plot_score_by_voice(world, voices, scores, *, ax=None):
    """Draw the scores of texts by their likeliest voice, best voice on top: dots and medians.

    voices: list of N names; scores (N,) [sd of base samples].
    """
    ax = ax or plt.gca()
    scores, voices = np.asarray(scores), np.asarray(voices)
    middle = {v: np.median(scores[voices == v]) for v in world.voices if (voices == v).any()}
    names = sorted(middle, key=middle.get)
    rng = np.random.default_rng(0)
    for row, name in enumerate(names):
        mine = scores[voices == name]
        jitter = row + rng.uniform(-0.28, 0.28, len(mine))
        ax.scatter(mine, jitter, s=7, color=world.colours[name], alpha=0.45, linewidth=0)
        ax.plot([middle[name]] * 2, [row - 0.38, row + 0.38], color=INK, lw=2)
    ax.set_yticks(range(len(names)), [f"{n} ({(voices == n).sum()})" for n in names])
    ax.set_xlabel("score [sd of base samples]")
    ax.grid(axis="y", visible=False)
    return ax


def plot_reliability(rows, *, ax=None):
    """Draw how often a confident model is right: rows of (confidence, share right, count)."""
    ax = ax or plt.gca()
    confidence, right, count = np.array(rows).T
    ax.plot([0.5, 1], [0.5, 1], color=REFERENCE, ls="--", lw=1)
    ax.plot(confidence, right, color=POLICY, lw=1.2)
    ax.scatter(confidence, right, s=20 + 180 * count / count.max(), color=POLICY)
    ax.set(xlim=(0.48, 1.02), ylim=(0.42, 1.02), aspect="equal")
    ax.set(xlabel="model's probability of its choice", ylabel="share of labels that agree")
    return ax


def plot_trace(pieces, *, ax=None):
    """Draw the score that a text would have if it ended at each token.

    pieces: list of (token text, score), as `rewards.trace` returns.
    """
    ax = ax or plt.gca()
    scores = [s for _, s in pieces]
    ax.step(range(len(scores)), scores, where="mid", color=REWARD)
    ax.axhline(0, color=REFERENCE, ls="--", lw=1)
    for at, (token, _) in enumerate(pieces):
        if token == "\n":
            ax.axvline(at, color="#DDDDDD", lw=6, zorder=0)
    labels = [t.replace("\n", "\u21b5").strip() or "\u2423" for t, _ in pieces]
    ax.set_xticks(range(len(labels)), labels, rotation=90, fontsize=7)
    ax.set_ylabel("score if it ended here")
    ax.grid(axis="x", visible=False)
    ax.set_xlim(-0.8, len(scores) - 0.2)
    return ax
