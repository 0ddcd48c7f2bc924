"""Draw the figures of the series in one look: `plot_*` takes data and Axes and returns the Axes.

Each section serves one notebook first, in their order. Omits files and windows: the notebook shows
a figure, and saves it if it wants to. Used by every notebook.
"""

from rlhf_lite.diversity import diversity_of
from rlhf_lite.knowledge import bin_exposures
from rlhf_lite.show.style import GREEN, INK, KL, POLICY, REFERENCE, REWARD, WARNING
from rlhf_lite.world import FACTS

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch

# ---- the base model ----


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
    shades = plt.cm.viridis(np.linspace(0.1, 0.85, len(curves)))
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
                ax.text(left + share / 2, at, voice, color="white", fontsize=7.5, **middle)
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
            at[-1] + 0.08, low, end[1], color=world.colours[end[1]], va="center", fontsize="small"
        )
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


# ---- people and their labels ----

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
    shades = plt.cm.tab10(np.arange(len(aspects)))
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
        ax.imshow(values, cmap="Blues", vmin=low, vmax=high)
    else:
        reach = max(high - centre, centre - low)
        ax.imshow(values, cmap="RdBu", vmin=centre - reach, vmax=centre + reach)
    middle, reach = (low + high) / 2 if centre is None else centre, (high - low) / 2
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            strong = value > middle if centre is None else abs(value - middle) > 0.6 * reach
            text = "" if np.isnan(value) else f"{value:z.2f}".replace("0.", ".")
            ink = "white" if strong else INK
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


# ---- reward models ----


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


# ---- PPO ----


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
        shades = [colour, INK, REFERENCE, "#56B4E9", "#CC79A7", "#8C564B"]
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


# ---- what is lost on the way ----


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


# ---- how hard to push ----


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
