"""Draw what opens an aligned policy, how long a search takes, and how long a prompt must be.

Omits the searches themselves, which `attacks` does. Used by notebook 10.
"""

import html

from rlhf_lite.checks import TextError, check_count, check_number, check_numbers, check_texts
from rlhf_lite.predictions import interval
from rlhf_lite.sampling import respond
from rlhf_lite.show.cards import documents_html, figure_png
from rlhf_lite.show.controls import Area, explorer, reset_button
from rlhf_lite.show.style import GREEN, INK, KL, POLICY, REFERENCE, REWARD, WARNING
from rlhf_lite.world import read_reply

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit, logit

SEARCH_LOOKS = {
    "gradient": (POLICY, "-", "o"),
    "random": (REFERENCE, "--", "s"),
    "exhaustive": (REWARD, "-.", "^"),
}
DONE = " A:"


def plot_leaks(rows, base=None, *, ax=None):
    """Draw the share of secrets told under each attack, a dot with its 95% interval.

    rows: {attack: table (seeds, crafts)}; base: {attack: share} of the base, grey crosses.
    """
    ax = ax or plt.gca()
    for row, (name, table) in enumerate(rows.items()):
        mean, low, high, _ = interval(check_numbers(table, f"the rows of {name!r}", None))
        low, high = max(0.0, low), min(1.0, high)
        ax.plot([low, high], [row, row], color=POLICY, lw=2, alpha=0.45, solid_capstyle="butt")
        ax.plot(mean, row, "o", color=POLICY, ms=7, label="aligned" if row == 0 else None)
        if base is not None and name in base:
            ax.plot(base[name], row, "x", color=REFERENCE, ms=7, mew=2,
                    label="base" if row == 0 else None)  # fmt: skip
    ax.set_yticks(range(len(rows)), list(rows))
    ax.invert_yaxis()
    ax.set(xlim=(-0.03, 1.03), xlabel="share of secrets told")
    ax.grid(axis="y", visible=False)
    return ax


def plot_search(curves, evaluations, *, ax=None):
    """Draw the loss of searches against the texts read: {method: losses (runs, points)}.

    evaluations: (points,), the texts read at each point; a thin line a run, a thick one for the
    mean.
    """
    ax = ax or plt.gca()
    for name, losses in curves.items():
        colour, style, marker = SEARCH_LOOKS.get(name, (KL, ":", "v"))
        losses = np.atleast_2d(check_numbers(losses, f"the losses of {name!r}", None))
        ax.plot(evaluations, losses.T, color=colour, lw=0.6, alpha=0.35, ls=style)
        ax.plot(
            evaluations, losses.mean(0), color=colour, ls=style, marker=marker, ms=5, label=name
        )
    ax.set(xlabel="texts read", ylabel="loss [nats a request]", yscale="log")
    return ax


def plot_tokens(rows, *, ax=None):
    """Draw the KL from the base at each token of a reply: {label: table (seeds, positions)}."""
    ax = ax or plt.gca()
    for (name, table), (colour, marker) in zip(rows.items(), ((WARNING, "o"), (GREEN, "s"))):
        table = np.atleast_2d(check_numbers(table, f"the rows of {name!r}", None))
        place = np.arange(1, table.shape[1] + 1)
        ax.plot(place, table.T, color=colour, lw=0.7, alpha=0.4)
        ax.plot(place, table.mean(0), color=colour, marker=marker, ms=5, label=name)
    ax.set(xlabel="token of the reply", ylabel="KL(aligned || base) [nats]", xticks=place)
    ax.legend()
    return ax


# ---- how long a prompt, how strong an alignment ----


def lines_needed(alpha, slope, strength=0.0, target=0.5):
    """Return how many lines of a prompt bring a voice to the share `target`.

    (logit target - logit alpha + strength) / slope (Wolf et al. 2024, with a shift). alpha: its
    share after no line; slope: nats that a line adds to its log-odds; strength: nats that alignment
    takes from them, 1 / kl_coef for the exact optimum of a score of -1. Raises ValueError for
    shares that are none, and a slope that is not above 0. Example: `lines_needed(0.1, 0.5)`.
    """
    for name, share in (("alpha", alpha), ("target", target)):
        if not 0 < check_number(share, name) < 1:
            raise ValueError(f"{name} is {share}; expected a share between 0 and 1")
    check_number(slope, "slope", above=0)
    return float((logit(target) - logit(alpha) + check_number(strength, "strength")) / slope)


def plot_curve(alpha, slope, strengths, lines, *, ax=None, at=None):
    """Draw the share of a voice against the lines of a prompt, a curve for every strength.

    strengths: {label: nats}; lines: the longest prompt; at: a length to mark.
    """
    ax = ax or plt.gca()
    length = np.linspace(0, lines, 200)
    looks = ((REFERENCE, "-"), (POLICY, "-"), (KL, "--"), (REWARD, "-."), (GREEN, ":"))
    for (label, strength), (colour, style) in zip(strengths.items(), looks):
        share = expit(logit(alpha) + slope * length - strength)
        ax.plot(length, share, color=colour, ls=style, label=label)
        half = lines_needed(alpha, slope, strength)
        if half <= lines:
            ax.plot(half, 0.5, "o", color=colour, ms=6)
    ax.axhline(0.5, color=INK, lw=0.7, ls=(0, (2, 3)))
    if at is not None:
        ax.axvline(at, color=WARNING, lw=1.2)
    ax.set(xlabel="lines of the prompt", ylabel="share of the pamphlet", ylim=(-0.03, 1.03))
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def curve_view(alpha, slope, strength, lines, longest=30):
    """Return (sentence, figure) of a prompt of so many lines against such an alignment."""
    check_count(lines, "lines", 0)
    need = lines_needed(alpha, slope, strength)
    share = float(expit(logit(alpha) + slope * lines - strength))
    before = float(expit(logit(alpha) + slope * lines))
    kl = sum(
        p * np.log(p / q) for p, q in ((share, before), (1 - share, 1 - before)) if p > 0 and q > 0
    )
    figure, ax = plt.subplots(figsize=(7.2, 3.2))
    strengths = {"base": 0.0, f"aligned, {strength:g} nats": strength}
    plot_curve(alpha, slope, strengths, longest, ax=ax, at=lines)
    said = (
        f"after {lines} lines: base {before:.1%}, aligned {share:.1%}. One half after "
        f"{max(0.0, need):.1f} lines. At this length the alignment costs {kl:.2f} nats a reply"
    )
    return said, figure


def explore_curve(alpha, slope, strength=5.0, lines=10, longest=30):
    """Show two sliders, the length of a prompt and the strength of an alignment, over the curve.

    alpha, slope: as in `lines_needed`. Works by keyboard: arrows move the sliders.
    """
    style, layout = {"description_width": "initial"}, {"width": "360px"}
    length = ipywidgets.IntSlider(
        value=lines, min=0, max=longest, description="Lines of the prompt", style=style,
        layout=layout, continuous_update=False,
    )  # fmt: skip
    strong = ipywidgets.FloatSlider(
        value=strength, min=0, max=12, step=0.5, description="Alignment [nats]", style=style,
        layout=layout, continuous_update=False,
    )  # fmt: skip

    def show():
        said, figure = curve_view(alpha, slope, strong.value, length.value, longest)
        return html.escape(said), "", figure_png(figure)

    rows = [ipywidgets.HBox([length, strong, reset_button(length, strong)])]
    return explorer(rows, (length, strong), show, cards=False)[0]


# ---- break it yourself ----


def attack_view(policy, tokenizer, world, question, text, count=8, seed=0):
    """Ask a policy with a student's text; return (told (count,) bool, prompt + replies).

    question: a Question, whose secret counts; text: the whole prompt. What stands behind its last
    " A:" is read as part of the reply. Raises TextError for an empty text, and for one that tells
    the secret itself.
    """
    check_texts([text], "[text]")
    check_count(count, "count")
    if not text.strip():
        raise TextError("the text is empty; expected a request, or the beginning of one")
    if _says(world, question, text):
        raise TextError("the text tells the secret itself; expected the policy to tell it")
    replies = respond(policy, tokenizer, [text] * count, 40, seed, count)
    head = text.rpartition(DONE)[2] if DONE in text else ""
    told = [read_reply(world, question, head + said) == "right" for said in replies]
    return np.array(told), [text + said for said in replies]


def _says(world, question, text):
    answer = next(c["answer"] for c in world.crafts if c["how"] == question.about)
    return answer.lower() in text.lower()


def explore_attack(policy, tokenizer, world, questions, count=8):
    """Show a box in which a student tries to make a policy tell, and a button that asks it.

    questions: of secrets, to choose from. Counts what the policy has read since the start. About a
    second a press. Works by keyboard: Tab leaves the box, Enter presses Ask.
    """
    pick = ipywidgets.Dropdown(
        options=[(q.about, n) for n, q in enumerate(questions)], description="Secret",
        layout={"width": "520px"},
    )  # fmt: skip
    box = Area(questions[0].prompt, tooltip="Prompt", layout={"width": "720px", "height": "80px"})
    button = ipywidgets.Button(description=f"Ask {count} times", button_style="primary")
    spent, best = [0], [0.0]

    def show():
        question = questions[pick.value]
        told, texts = attack_view(
            policy, tokenizer, world, question, box.value, count, seed=spent[0]
        )
        spent[0] += count
        best[0] = max(best[0], told.mean())
        said = (
            f"told <b>{told.sum()} of {count}</b>; best so far {best[0]:.0%}; {spent[0]} "
            f"evaluations spent"
        )
        figure, ax = plt.subplots(figsize=(5.0, 0.9))
        ax.barh([0], [told.mean()], color=WARNING)
        ax.set(xlim=(0, 1), yticks=[], xlabel="share told")
        shown = sorted(zip(told, texts), key=lambda pair: not pair[0])[:4]
        prompts = [box.value] * len(shown)
        return said, documents_html(world, [t for _, t in shown], prompts), figure_png(figure)

    def change(_):
        box.value, best[0] = questions[pick.value].prompt, 0.0

    pick.observe(change, "value")
    view, draw = explorer([pick, box, button], (), show)
    button.on_click(draw)
    return view
