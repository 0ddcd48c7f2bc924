"""Draw what a step of PPO or GRPO needs on paper: memory by term, seconds by stage.

Omits the arithmetic, which `budget` does. Used by notebook 14.
"""

import html
from dataclasses import replace

from rlhf_lite import budget
from rlhf_lite.budget import RESOURCES, STAGES, Plan
from rlhf_lite.checks import TextError, check_list
from rlhf_lite.show.cards import figure_png
from rlhf_lite.show.controls import explorer, reset_button
from rlhf_lite.show.style import GREEN, INK, KL, POLICY, REFERENCE, REWARD, SKY, WARNING

import ipywidgets
import matplotlib.pyplot as plt

SIZES, COUNTS = ("124M", "1.5B", "7B", "70B"), (1, 8, 64)
LENGTHS, BATCHES = (64, 256, 1024, 4096), (64, 256, 1024)
TERMS = dict(zip(
    (*budget.STATES, "activations", "copy", "KV cache"),
    (POLICY, POLICY, POLICY, SKY, GREEN, REFERENCE, REWARD, WARNING, KL, KL),
))  # fmt: skip
HATCHES = {"gradients": "///", "master weights": "...", "copy": "///"}
STAGE_COLOURS = dict(zip(STAGES, (KL, REFERENCE, POLICY)))
MARKS = dict(zip(RESOURCES, ("C", "M", "N")))


def plans(**settings):
    """Return the plans of the figure: every size on every number of GPUs."""
    return [Plan(model, gpus, **settings) for model in SIZES for gpus in COUNTS]


def name_of(plan):
    """Return what a plan is called at an axis, such as "7B, 8 GPUs"."""
    model = plan.model if isinstance(plan.model, str) else f"{plan.sizes[0]:,} parameters"
    return f"{model}, {plan.gpus} GPU{'s' * (plan.gpus > 1)}"


def shown_terms(plan):
    """Return {term: GB} of the moment at which a GPU is fullest: its update or its sampling."""
    terms = {name: size / 1e9 for name, size in budget.memory(plan).items()}
    sampling = terms["copy"] + terms["KV cache"]
    gone = ("copy", "KV cache") if terms["activations"] >= sampling else ("activations",)
    return {name: size for name, size in terms.items() if name not in gone}


def _look(term):
    """Return how a term of memory is drawn."""
    return {"color": TERMS[term], "hatch": HATCHES.get(term), "edgecolor": "white", "lw": 0.4}


def _rows(found, ax):
    """Name the plans at the vertical axis, the first on top, over a legend below."""
    ax.set_yticks(range(len(found)), [name_of(p) for p in found])
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    return {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "borderaxespad": 4.2,
            "fontsize": 8.5, "title_fontsize": 8.5}  # fmt: skip


def plot_memory(found, *, ax=None):
    """Draw the memory of a GPU by term, a bar a plan, against what there is; returns Axes.

    found: plans with one kind of GPU. Bars end at twice the GPU's memory, with their number.
    """
    ax = ax or plt.gca()
    limit = check_list(found, "plans", "plan", 1)[0].device.memory / 1e9
    for row, plan in enumerate(found):
        left = 0
        for name, size in shown_terms(plan).items():
            ax.barh(row, size, left=left, **_look(name))
            left += size
        at, side = (left + 0.02 * limit, "left") if left < 1.7 * limit else (1.97 * limit, "right")
        box = {"fc": "white", "ec": "none", "pad": 1.2}
        ax.text(at, row, f"{left:,.{int(left < 10)}f}", va="center", ha=side, fontsize=9, bbox=box)
    ax.axvline(limit, color=INK, ls="--", lw=1.2)
    for name in TERMS:
        ax.barh(0, 0, label=name, **_look(name))
    ax.set(xlim=(0, 2 * limit), title="Does it fit?")
    ax.set_xlabel("one GPU when it is fullest [GB]; dashed: what it has")
    ax.legend(ncols=4, **_rows(found, ax))
    return ax


def plot_seconds(found, *, ax=None):
    """Draw the share of a step that each stage takes, a bar a plan, its seconds behind; an Axes.

    A letter in a bar is the resource that bounds the stage. What does not fit has no bar.
    """
    ax = ax or plt.gca()
    for row, plan in enumerate(check_list(found, "plans", "plan", 1)):
        if not budget.fits(plan):
            ax.text(0.01, row, "does not fit", va="center", color=WARNING, fontsize=9)
            continue
        left, whole, price = 0, budget.total(plan), budget.cost(plan)
        for stage, (taken, bound) in budget.step(plan).items():
            share = taken / whole
            ax.barh(row, share, left=left, color=STAGE_COLOURS[stage], edgecolor="white")
            mark = MARKS[bound] if share > 0.05 else ""
            ax.text(left + share / 2, row, mark, va="center", ha="center", fontsize=9,
                    color="white", weight="bold")  # fmt: skip
            left += share
        said = f"{whole:,.1f} s, ${price:.{2 if price >= 0.1 else 3}f}"
        ax.text(1.02, row, said, va="center", fontsize=9)
    for stage, colour in STAGE_COLOURS.items():
        ax.barh(0, 0, color=colour, label=stage)
    ax.set(xlim=(0, 1.42), xlabel="share of a step", title="Where does the time go?")
    ax.set_xticks([0, 0.25, 0.5, 0.75, 1])
    letters = ", ".join(f"{mark} {name}" for name, mark in MARKS.items())
    ax.legend(ncols=3, title=f"bound by {letters}", **_rows(found, ax))
    return ax


def plot_budget(found, *, axes=None):
    """Draw memory by term and seconds by stage side by side; returns two Axes."""
    if axes is None:
        size = (10.4, 1.75 + 0.3 * len(check_list(found, "plans", "plan", 1)))
        axes = plt.subplots(1, 2, figsize=size, sharey=True)[1]
    return plot_memory(found, ax=axes[0]), plot_seconds(found, ax=axes[1])


def budget_view(plan):
    """Return (sentence, figure) for one plan, in bold beside the same on other numbers of GPUs.

    The sentence names the largest term of memory and, for each stage, what bounds it.
    """
    counts = sorted({*COUNTS, plan.gpus})
    axes = plot_budget([replace(plan, gpus=n) for n in counts])
    axes[0].get_yticklabels()[counts.index(plan.gpus)].set_weight("bold")
    terms, limit = shown_terms(plan), plan.usable * plan.device.memory / 1e9
    most = max(terms, key=terms.get)
    said = f"{name_of(plan)}: {sum(terms.values()):,.1f} GB a GPU, most of it {most}. "
    if budget.fits(plan):
        parts = [f"{stage} {s:,.1f} s ({why})" for stage, (s, why) in budget.step(plan).items()]
        price = f"${budget.cost(plan):,.3f} at ${plan.price:g} a GPU and hour"
        return said + f"A step: {', '.join(parts)}; {price}.", axes[0].figure
    return said + f"It does not fit into the {limit:,.0f} GB to be filled.", axes[0].figure


def explore_budget(plan=None):
    """Show four sliders: the policy's size, GPUs, tokens of a response, responses a step.

    plan: what they do not set. Works by keyboard.
    """
    plan = Plan("7B", 8, responses=256) if plan is None else plan
    if not isinstance(plan, Plan):
        raise TextError(f"plan is a {type(plan).__name__}; expected a Plan")
    sliders = [
        ipywidgets.SelectionSlider(
            options=options if value in options else (*options, value), value=value,
            description=name, layout={"width": "460px"}, style={"description_width": "initial"},
        )
        for options, value, name in (
            (SIZES, plan.model, "policy"), (COUNTS, plan.gpus, "GPUs"),
            (LENGTHS, plan.response, "response [tokens]"), (BATCHES, plan.responses, "responses"),
        )
    ]  # fmt: skip

    def show():
        values = dict(zip(("model", "gpus", "response", "responses"), (s.value for s in sliders)))
        said, figure = budget_view(replace(plan, **values))
        return html.escape(said), "", figure_png(figure)

    return explorer([*sliders, reset_button(*sliders)], sliders, show, cards=False)[0]
