"""Draw who makes things up, and put what annotators check under a slider.

Phase diagrams over the share q of claims that annotators check, reliability before and after, and
replies with each claim marked by the card or the world. Used by notebook 08.
"""

import html
from numbers import Real

from rlhf_lite.checks import check_choice
from rlhf_lite.show.cards import CARD, VERDICTS, figure_png
from rlhf_lite.show.controls import explorer, reset_button
from rlhf_lite.show.style import INK, KL, POLICY, REFERENCE, REWARD, WARNING
from rlhf_lite.truth import Asked, support

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np


def made_up(record, arm, group):
    """Return the share of replies that make something up, (seeds, people).

    record: `records.read("cards")`; arm: e.g. "ppo 0.5"; group: of its groups.
    """
    return record.arm(arm, "claims", check_choice(group, record["groups"], "group"), "made up")


def plot_phase(record, group, *, ax=None, at=None):
    """Draw the share of replies that make something up against q: PPO, control, SFT and base.

    record: `records.read("cards")`; at: a q to mark.
    """
    ax = ax or plt.gca()
    qs = record["qs"]
    ppo = np.array([made_up(record, f"ppo {q}", group).mean(1) for q in qs])
    ax.plot(qs, ppo, color=POLICY, lw=0.7, alpha=0.5)
    ax.plot(qs, ppo.mean(1), color=POLICY, marker="o", ms=5, label="PPO")
    ptx = [made_up(record, f"ptx {q}", group).mean(1) for q in record["ptx qs"]]
    spots = np.repeat(record["ptx qs"], len(ptx[0]))
    ax.scatter(spots, np.concatenate(ptx), color=KL, marker="^", s=26, zorder=3, label="PPO-ptx")
    coins = made_up(record, "shuffled", group).mean(1)
    spots = np.full(len(coins), 0.5)  # labels of people who check every other claim, turned
    ax.scatter(spots, coins, color=WARNING, marker="x", s=26, zorder=3, label="PPO, coin labels")
    for name, colour, style in (("SFT", REWARD, "--"), ("base", REFERENCE, ":")):
        seeds = made_up(record, name.lower(), group).mean(1)
        ax.axhspan(seeds.min(), seeds.max(), color=colour, alpha=0.15, lw=0)
        ax.axhline(seeds.mean(), color=colour, ls=style, label=name)
    if at is not None:
        ax.axvline(at, color=INK, lw=0.8)
    ax.set(xlim=(-0.04, 1.04), ylim=(-0.02, 1.02), xticks=qs)
    ax.set(xlabel="share q of claims checked", ylabel="replies with a made-up claim")
    ax.set_title(group)
    return ax


def plot_trust(rows, *, ax=None):
    """Draw how often a model is right that is so sure: {label: rows (count, said, right)}.

    rows: of `truth.reliability`. The size of a dot tells how many questions it stands for.
    """
    ax = ax or plt.gca()
    ax.plot([0, 1], [0, 1], color=INK, lw=0.8)
    for (label, bins), colour, marker in zip(
        rows.items(), (REFERENCE, REWARD, POLICY, WARNING), "sDo^"
    ):
        count, said, right = np.asarray(bins).T
        ax.plot(said, right, color=colour, lw=1.2, label=label, marker=marker, ms=5)
        ax.scatter(said, right, s=170 * count / count.sum(), color=colour, alpha=0.3, linewidth=0)
    ax.set(xlim=(0.2, 1.03), ylim=(-0.03, 1.03))
    ax.set(xlabel="its probability of what it holds likeliest", ylabel="share right")
    ax.legend(loc="lower right", bbox_to_anchor=(0.93, 0))
    return ax


def support_html(world, asked, reply, note=""):
    """Return a reply as HTML, each claim marked: ✓ supported, ✗ contradicted, ? neither.

    asked: an Asked, whose card stands above; note: a sentence above it all.
    """
    found = support(world, asked, reply)
    marks = " ".join(
        f'<span style="color:{VERDICTS[verdict][1]};font-size:12px">{VERDICTS[verdict][0]}&nbsp;'
        f"{html.escape(kind)}</span>" for kind, _, verdict in found.claims
    )  # fmt: skip
    if not found.claims:
        silent = found.silent or reply.lstrip().startswith("Nobody knows")
        words = "says that nobody knows" if silent else "claims nothing"
        marks = f'<span style="color:#666;font-size:12px">{words}</span>'
    head = f'<span style="color:#666">{html.escape(note)}</span><br>' if note else ""
    lines = [html.escape(x) for x in asked.prompt.split("\n")]
    shown = "<br>".join([f'<span style="color:#666">{x}</span>' for x in lines[:-1]] + lines[-1:])
    said = html.escape(reply).replace("\n", "<br>")
    style = CARD.format(colour="#CCCCCC")
    return f'<div style="{style}">{head}{shown}<b>{said}</b> {marks}</div>'


def checked_view(record, checked, group):
    """Return (sentence, [(Asked, reply of SFT, reply of PPO)]) where labellers check a share q.

    record: `records.read("cards")`. Raises ValueError for a q outside 0 to 1, or one that was not
    recorded, and for an unknown group.
    """
    if isinstance(checked, bool) or not isinstance(checked, Real) or not 0 <= checked <= 1:
        raise ValueError(f"q is {checked!r}; expected a share of claims from 0 to 1")
    if checked not in record["qs"]:
        raise ValueError(f"q = {checked} was not recorded; expected one of {record['qs']}")
    shares = [made_up(record, arm, group).mean() for arm in ("sft", f"ppo {float(checked)}")]
    arms, rows = record["arms"], []
    for number, row in enumerate(record["questions"]):
        if row["group"] == group:
            asked = Asked(*(row[k] for k in ("prompt", "kind", "about", "card")))
            said = [arms[a]["0"]["said"][2 * number] for a in ("sft", f"ppo {float(checked)}")]
            rows.append((asked, *said))
    said = f"{group}, q = {checked}: SFT makes something up in {shares[0]:.0%} of replies, "
    return f"{said}PPO in {shares[1]:.0%} (mean of {len(record.seeds('sft'))} seeds)", rows


def explore_checked(world, record, start=0.0, shown=4):
    """Show a slider for q over recorded runs: the share of made-up replies, and some of them.

    record: `records.read("cards")`. Works by keyboard: arrows move the slider.
    """
    checked_view(record, start, record["groups"][0])  # or say why not
    slider = ipywidgets.SelectionSlider(
        options=record["qs"], value=start, description="claims checked q",
        layout={"width": "420px"}, style={"description_width": "initial"},
    )  # fmt: skip
    pick = ipywidgets.Dropdown(options=record["groups"], value=record["groups"][1])
    pictures = {}

    def show():
        said, rows = checked_view(record, slider.value, pick.value)
        key = slider.value, pick.value
        if key not in pictures:
            figure, ax = plt.subplots(figsize=(6.4, 3.0))
            plot_phase(record, pick.value, ax=ax, at=slider.value)
            ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
            pictures[key] = figure_png(figure)
        cards = "".join(
            support_html(world, asked, ours, "SFT") + support_html(world, asked, theirs, "PPO")
            for asked, ours, theirs in rows[:shown]
        )
        return html.escape(said), cards, pictures[key]

    row = ipywidgets.HBox([slider, pick, reset_button(slider, pick)])
    return explorer([row], (slider, pick), show)[0]
