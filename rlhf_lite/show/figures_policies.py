"""Draw policies in training: what a token earns, the curves of a run, what is bought with KL.

Used by notebooks 04 to 06.
"""

from rlhf_lite.show.style import GREEN, INK, KL, POLICY, REFERENCE, REWARD, SKY, WARNING

import matplotlib.pyplot as plt
import numpy as np


def plot_rewards(tokens, penalties, score, kl_coef, *, ax=None):
    """Draw the reward of each token of one response: minus its KL charge, and the score at the end.

    tokens: list of R str; penalties (R,) log pi - log ref [nats].
    """
    ax = ax or plt.gca()
    charge = -kl_coef * np.asarray(penalties)
    at = np.arange(len(tokens))
    ax.bar(at, charge, color=KL, width=0.8, label="KL charge of the token")
    ax.bar(at[-1] + 1, score, color=REWARD, width=0.8, label="score of the response")
    total = score + charge.sum()
    ax.bar(at[-1] + 2, total, color=POLICY, width=0.8, label="sum: the return")
    names = [t.replace("\n", "\u21b5").strip() or "\u2423" for t in tokens]
    ax.set_xticks([*at, at[-1] + 1, at[-1] + 2], [*names, "score", "sum"], rotation=90, fontsize=7)
    ax.axhline(0, color=INK, lw=0.8)
    ax.set(ylabel="reward [sd]", xlim=(-0.8, at[-1] + 2.8))
    ax.grid(axis="x", visible=False)
    ax.legend(loc="upper left")
    return ax


PANELS = {
    "score": ("score [sd]", REWARD),
    "kl": ("KL to reference [nats]", KL),
    "objective": ("objective J [sd]", POLICY),
    "entropy": ("entropy [nats a response]", INK),
    "clip_fraction": ("clipped tokens [share]", WARNING),
    "explained_variance": ("explained variance", GREEN),
}


def plot_dashboard(histories, panels=tuple(PANELS), *, axes=None, ceiling=None, floor=None):
    """Draw what runs of PPO did, one panel for each measured curve; return the array of Axes.

    histories: {label: list of dicts such as `PolicyStep.numbers()`}; panels: keys of PANELS;
    ceiling: J*, floor: J0, drawn into the panel of the objective.
    """
    if axes is None:
        rows = -(-len(panels) // 3)
        axes = plt.subplots(rows, 3, figsize=(9.2, 2.5 * rows))[1]
    styles = ("-", "--", ":", "-.", (0, (4, 1, 1, 1)), (0, (1, 1)))
    for ax, panel in zip(np.ravel(axes), panels):
        title, colour = PANELS[panel]
        shades = [colour, INK, REFERENCE, SKY, "#CC79A7", "#8C564B"]
        if len(histories) > 1:
            shades[0] = POLICY
        for number, (name, history) in enumerate(histories.items()):
            x = [row["step"] for row in history]
            y = [row[panel] for row in history]
            ax.plot(x, y, color=shades[number % 6], ls=styles[number % 6], label=name)
        ax.set(xlabel="step", title=title)
        if panel == "objective":
            _levels(ax, {"J*": ceiling, "J0": floor})
    if len(histories) > 1:
        np.ravel(axes)[0].legend()
    return axes


def _levels(ax, levels):
    """Draw named horizontal lines, where they are known."""
    for name, level in levels.items():
        if level is not None:
            ax.axhline(level, color=REFERENCE, ls="--", lw=1.2)
            ax.annotate(
                name, (1, level), xycoords=("axes fraction", "data"), xytext=(-2, 3),
                textcoords="offset points", ha="right", color=REFERENCE, fontsize="small",
            )  # fmt: skip


def plot_frontier(curves, *, ax=None):
    """Draw mean score against KL to the base: {label: (kl, score)}.

    A label that starts with "PPO" is drawn as dots, all others as lines.
    """
    ax = ax or plt.gca()
    cycle = [(INK, "-"), (REWARD, "--"), (KL, ":"), (GREEN, "-.")]
    for number, (label, (kl, score)) in enumerate(curves.items()):
        if label.startswith("PPO"):
            ax.plot(kl, score, "o", color=POLICY, ms=5, mec="white", mew=0.5, label=label, zorder=4)
        else:
            colour, style = cycle[number % 4]
            ax.plot(kl, score, color=colour, ls=style, label=label)
    ax.set(xlabel="KL to the base [nats a response]", ylabel="mean score [sd of base samples]")
    ax.legend()
    return ax


def plot_push(d, curves, *, ax=None, looks=None, at=None):
    """Draw what is gained by pushing harder, with a dot on each mean curve's peak.

    d (K,): sqrt of KL; curves: {label: values (seeds, K)}, a thin line a seed and a thick one for
    their mean; at: a place to mark.
    """
    ax = ax or plt.gca()
    cycle = ((POLICY, "-"), (REWARD, "--"), (KL, "-."), (GREEN, (0, (4, 1, 1, 1))), (INK, ":"))
    for number, (label, values) in enumerate(curves.items()):
        colour, style = (looks or {}).get(label, cycle[number % 5])
        values = np.atleast_2d(values)
        mean = values.mean(0)
        ax.plot(d, values.T, color=colour, lw=0.6, alpha=0.35)
        ax.plot(d, mean, color=colour, ls=style, label=label)
        ax.plot(d[mean.argmax()], mean.max(), "o", color=colour, ms=6, mec="white", zorder=4)
    if at is not None:
        ax.axvline(at, color=INK, lw=1)
    ax.legend()
    return ax
