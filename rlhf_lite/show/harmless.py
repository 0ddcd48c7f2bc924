"""Draw what is helpful against what is harmless: the plane, its corners, and a weight between them.

Helpful: the share of look-alikes that are told; harmless: the share of secrets that are not. Omits
how they are measured, which the experiments do. Used by notebook 07.
"""

import html

from rlhf_lite.checks import check_alike, check_number
from rlhf_lite.show.cards import documents_html, figure_png
from rlhf_lite.show.controls import explorer, reset_button
from rlhf_lite.show.style import GREEN, INK, KL, POLICY, REFERENCE, REWARD, WARNING

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np

LOOKS = (
    (INK, "-", "s"),
    (REWARD, "--", "^"),
    (POLICY, "-", "o"),
    (GREEN, "-.", "D"),
    (KL, ":", "v"),
)
SIDES = {"trained": "crafts of training", "held out": "other crafts"}


def plot_plane(curves, *, ax=None, looks=None):
    """Draw policies on the plane of helpful and harmless, the two corners and pure luck beside.

    curves: {label: (helpful, harmless)}, both (K,) or (seeds, K), a thin line a seed and a thick
    one for their mean; looks: {label: (colour, line style, marker)}. Raises ValueError for shares
    outside 0 to 1.
    """
    ax = ax or plt.gca()
    ax.plot([0, 1], [1, 0], color=REFERENCE, lw=1, ls=(0, (2, 3)), zorder=1)
    corners = (
        ("refuses everything", 0.03, 1.05, "left"),
        ("answers everything", 0.93, -0.03, "right"),
    )
    for name, x, y, side in corners:
        ax.text(x, y, name, ha=side, va="bottom", color=REFERENCE, fontsize=8)
    ax.plot([0, 1], [1, 0], "x", color=REFERENCE, ms=7, mew=2)
    ax.plot(1, 1, "*", color=REFERENCE, ms=11)
    for number, (label, pair) in enumerate(curves.items()):
        colour, style, marker = (looks or {}).get(label, LOOKS[number % len(LOOKS)])
        helpful, harmless = _shares(label, pair)
        if len(helpful) > 1:
            ax.plot(helpful.T, harmless.T, color=colour, lw=0.7, alpha=0.35)
        ax.plot(helpful.mean(0), harmless.mean(0), color=colour, ls=style, marker=marker, ms=5,
                mec="white", mew=0.5, label=label, zorder=4)  # fmt: skip
    ax.set(xlim=(-0.05, 1.09), ylim=(-0.05, 1.14), xlabel="helpful: look-alikes told [share]")
    ax.set(ylabel="harmless: secrets not told [share]", yticks=np.linspace(0, 1, 6))
    return ax


def _shares(label, pair):
    """Return (helpful, harmless), both (seeds, K), or say which is no share."""
    named = {f"helpful of {label!r}": pair[0], f"harmless of {label!r}": pair[1]}
    pair = [np.atleast_2d(values) for values in check_alike(named, None)]
    for name, values in zip(named, pair):
        if values.min() < 0 or values.max() > 1:
            low, high = values.min(), values.max()
            raise ValueError(f"{name} goes from {low:g} to {high:g}; expected shares from 0 to 1")
    return pair


def plot_multiplier(cost, multiplier, limit, *, axes=None):
    """Draw how a multiplier holds a cost at its limit; return two Axes.

    cost, multiplier: (seeds, steps), the share of secrets told and lambda; limit: of that share.
    """
    axes = plt.subplots(1, 2, figsize=(8.4, 3.0))[1] if axes is None else axes
    cost, multiplier = (
        np.atleast_2d(v) for v in check_alike({"cost": cost, "lambda": multiplier}, None)
    )
    step = np.arange(1, cost.shape[1] + 1)
    for ax, values, colour in zip(axes, (cost, multiplier), (WARNING, KL)):
        ax.plot(step, values.T, color=colour, lw=0.8, alpha=0.5)
        ax.plot(step, values.mean(0), color=colour)
        ax.set(xlabel="step", ylim=(0, None), xticks=step[4::5])
    axes[0].axhline(limit, color=INK, lw=1, ls="--")
    axes[0].text(step[-1], limit + 0.01, "limit", ha="right", va="bottom", fontsize=9)
    axes[0].set(ylabel="secrets told [share of a batch]")
    axes[1].set(ylabel="multiplier \u03bb [sd of score]")
    return axes


# ---- the weight, over recorded runs ----


def weights_of(record):
    """List the weights w of the recorded policies, ascending."""
    return sorted(float(name.split()[1]) for name in record.names("w"))


def plane_of(record, side, names=None):
    """Return (helpful, harmless), (seeds, K) each, of recorded policies on one side.

    side: "trained", "held out" or "new verb"; names: of arms, those of all weights if None.
    """
    names = names or [f"w {w}" for w in weights_of(record)]
    told = {
        kind: np.stack([record.arm(n, side, f"told {kind}").mean(1) for n in names], 1)
        for kind in ("benign", "secret")
    }
    return told["benign"], 1 - told["secret"]


def weight_view(record, weight, side="trained", seed=0):
    """Return (sentence, figure, texts) of the recorded policy at a weight, `record` "harmless".

    Raises ValueError for a weight from outside 0 to 1, or one that no run has.
    """
    known = weights_of(record)
    if not 0 <= check_number(weight, "weight") <= 1 or weight not in known:
        raise ValueError(f"weight is {weight}; expected from 0 to 1, one of {known}")
    if side not in SIDES:
        raise ValueError(f"no side {side!r}; expected one of {', '.join(SIDES)}")
    figure, ax = plt.subplots(figsize=(5.6, 3.9))
    curves = {name: plane_of(record, key) for key, name in SIDES.items()}
    looks = dict(zip(curves, ((POLICY, "-", "o"), (KL, "--", "^"))))
    plot_plane(curves, ax=ax, looks=looks).legend(loc="lower left")
    helpful, harmless = (v[:, known.index(weight)].mean() for v in curves[SIDES[side]])
    ax.plot(helpful, harmless, "o", ms=15, mfc="none", mec=WARNING, mew=2, zorder=5)
    said = (
        f"w = {weight}, {SIDES[side]}: {helpful:.0%} of the look-alikes told, {1 - harmless:.0%} "
        f"of the secrets (mean of {len(record.seeds(f'w {weight}'))} seeds)"
    )
    return said, figure, record.arm(f"w {weight}", side, "texts", seed=seed)


def explore_weight(world, record, start=0.3):
    """Show a slider for the weight of being helpful over recorded policies, with sample replies.

    record: `records.read("harmless")`. Works by keyboard: arrows move the slider.
    """
    slider = ipywidgets.SelectionSlider(
        options=weights_of(record), value=start, description="Weight of helpful w",
        layout={"width": "460px"}, style={"description_width": "initial"},
    )  # fmt: skip
    sides = [(name, key) for key, name in SIDES.items()]
    pick = ipywidgets.Dropdown(options=sides, description="Asked for", layout={"width": "300px"})

    def show():
        said, figure, texts = weight_view(record, slider.value, pick.value)
        prompts = [t[: t.index(" A:") + 3] for t in texts]
        return html.escape(said), documents_html(world, texts, prompts), figure_png(figure)

    rows = [ipywidgets.HBox([slider, pick, reset_button(slider, pick)])]
    return explorer(rows, (slider, pick), show)[0]
