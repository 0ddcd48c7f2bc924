"""Put figures under sliders, boxes and buttons: `explore_*`.

Each widget wraps a figure that stands above it in its notebook, and shows what a plain function
returns that the tests call (`*_view`, `run_of`). Text from a model or a student is data: it is
escaped before it becomes HTML. Used by notebooks 01 and 03 to 06.
"""

import html

from rlhf_lite.annotators import Reader, auditor
from rlhf_lite.checks import check_count, check_texts
from rlhf_lite.hacking import root_kl
from rlhf_lite.rewards import trace
from rlhf_lite.sampling import SamplingError, sample
from rlhf_lite.show.cards import claims_html, documents_html, figure_png
from rlhf_lite.show.controls import Area, Line, explorer, reset_button
from rlhf_lite.show.figures_base import plot_shares
from rlhf_lite.show.figures_diversity import plot_run
from rlhf_lite.show.figures_policies import plot_push
from rlhf_lite.show.figures_rewards import plot_trace
from rlhf_lite.show.style import POLICY, REWARD

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np

# ---- a prompt and its completions ----


def parrot_view(model, tokenizer, world, prompt, temperature, count=8, seed=0):
    """Sample completions and read their voices: (samples, shares (V,), exact posterior (V,)).

    prompt: str, empty for documents from nothing. The exact posterior is None where the world could
    not have written the prompt. Raises SamplingError where the request makes no sense.
    """
    check_texts([prompt], "[prompt]")
    check_count(count, "count")
    prompts = [prompt] * count if prompt.strip() else count
    drawn = sample(model, tokenizer, prompts, temperature=temperature, seed=seed, batch=count)
    shares = np.mean([world.parse(text).voices for text in drawn.texts], axis=0)
    try:
        exact = world.posterior(prompt)
    except ValueError:
        exact = None
    return drawn, shares, exact


def plot_parrot(world, shares, exact, prompt, count, *, ax=None):
    """Draw the voices of a few completions, the exact posterior of the prompt beside them."""
    rows = {f"{count} completions": shares}
    if exact is not None:
        rows["exact"] = exact
    ax = plot_shares(world, rows, ax=ax)
    shown = prompt if len(prompt) < 48 else prompt[:45] + "..."
    ax.set(ylim=(0, 1), ylabel="share of voices")
    title = f"Who speaks after \u201c{shown}\u201d?" if shown.strip() else "Who speaks first?"
    ax.set_title(title, parse_math=False)
    return ax


def explore_parrot(model, tokenizer, world, prompt="The hero Ivo Vane", count=8):
    """Show a box for a prompt, a temperature slider and a Sample button over coloured completions.

    Costs about a second a press. Works by keyboard: Tab moves on, Enter in the box or on the button
    samples.
    """
    wide = {"description_width": "90px"}
    box = Line(
        prompt, description="Prompt", continuous_update=False, layout={"width": "520px"}, style=wide
    )
    slider = ipywidgets.FloatSlider(
        value=1.0, min=0.1, max=2.0, step=0.1, description="Temperature", continuous_update=False,
        layout={"width": "360px"}, style=wide,
    )  # fmt: skip
    button = ipywidgets.Button(description="Sample", button_style="primary")
    reset = ipywidgets.Button(description="Reset")
    presses = [0]

    def show():
        ask = (model, tokenizer, world, box.value, slider.value, count)
        drawn, shares, exact = parrot_view(*ask, seed=presses[0])
        presses[0] += 1
        figure, ax = plt.subplots(figsize=(6.4, 3.0))
        plot_parrot(world, shares, exact, box.value, count, ax=ax)
        said = (
            f"{count} completions at temperature {slider.value:.1f}, draw {presses[0]}. Most "
            f"frequent voice: <b>{html.escape(world.voices[int(np.argmax(shares))])}</b> "
            f"({shares.max():.0%}); in no single voice: {1 - shares.sum():z.0%}."
        )
        return said, documents_html(world, drawn.texts, drawn.prompts), figure_png(figure)

    def start_over(_):
        box.value, slider.value, presses[0] = prompt, 1.0, 0
        draw()

    rows = [ipywidgets.HBox([box, slider]), ipywidgets.HBox([button, reset])]
    view, draw = explorer(rows, (box, slider), show)
    button.on_click(draw)
    reset.on_click(start_over)
    return view


# ---- a text and its score ----


def score_view(model, tokenizer, text):
    """Return (score, pieces) of a text, the pieces as `rewards.trace` returns them.

    Raises SamplingError for a text without words.
    """
    check_texts([text], "[text]")
    if not text.strip():
        raise SamplingError("the text is empty; expected at least one word to score")
    pieces = trace(model, tokenizer, text.strip())
    return pieces[-1][1], pieces


def explore_score(model, tokenizer, text, tries=()):
    """Show a box for a text and its score, token by token; `tries` are texts to start from.

    Costs a tenth of a second a press. Works by keyboard: Tab leaves the box, Enter presses Score.
    """
    check_texts([text, *check_texts(tries, "tries")], "[text, *tries]")
    box = Area(text, tooltip="The text to score", layout={"width": "720px", "height": "90px"})
    button = ipywidgets.Button(description="Score", button_style="primary")
    reset = ipywidgets.Button(description="Reset")
    picks = [ipywidgets.Button(description=f"Try {n}") for n in range(1, len(tries) + 1)]

    def show():
        score, pieces = score_view(model, tokenizer, box.value)
        figure, ax = plt.subplots(figsize=(9.2, 3.0))
        plot_trace(pieces, ax=ax)
        last = f"ends on {html.escape(repr(pieces[-1][0]))} after {len(pieces)} tokens"
        said = f"score <b>{score:+z.2f}</b> sd of base samples; {last}"
        return said, "", figure_png(figure)

    def put(new):
        box.value = new
        draw()

    rows = [box, ipywidgets.HBox([button, reset, *picks])]
    view, draw = explorer(rows, (), show, cards=False)
    button.on_click(draw)
    reset.on_click(lambda _: put(text))
    for pick, new in zip(picks, tries):
        pick.on_click(lambda _, new=new: put(new))
    return view


# ---- recorded runs of PPO ----


def _check_record(record, name, *keys):
    """Raise ValueError where a record is not one of recorded runs, or lacks an entry."""
    for key in keys:
        try:
            record[key]
        except (KeyError, IndexError, TypeError):
            raise ValueError(f"the record lacks {key!r}; expected records.read({name!r})") from None


def _arms(record, name):
    """List the numbers of an arm, one dict a seed."""
    return list(record["arms"][name].values())


def run_of(record, coef, prompt=0):
    """Return (sentence, policies, pi* or None, texts) of recorded runs at one kl_coef.

    record: `records.read("ppo")`; prompt: which of its fixed prompts the texts answer.
    """
    _check_record(record, "ppo", "arms", "coefs", "best", "fixed prompts")
    if f"sweep {coef}" not in record["arms"]:
        raise ValueError(f"no run at kl_coef {coef}; expected one of {record['coefs']}")
    seeds, names = _arms(record, f"sweep {coef}"), record["fixed prompts"]
    if prompt not in range(len(names)):
        raise ValueError(f"prompt is {prompt!r}; expected 0 to {len(names) - 1}")
    best = record["best"].get(str(coef))
    score, kl = (np.mean([arm[k] for arm in seeds]) for k in ("score", "kl"))
    value = score - coef * kl
    said = f"\u03b2 = {coef}: score {score:+z.2f} sd, KL {kl:z.2f} nats, J {value:+z.2f}"
    if best:
        said += f" where {best['objective']:+z.2f} can be had"
    texts = [arm["fixed prompts"][2 * prompt + k] for arm in seeds for k in (0, 1)]
    return said + f" (mean of {len(seeds)} seeds)", seeds, best, texts


def explore_runs(world, record, curves, start=0.54):
    """Show a slider for the KL coefficient over recorded runs: voices, frontier, diversity, texts.

    record: `records.read("ppo")`; curves: as in `plot_frontier`. Every picture is drawn once, when
    the widget is made, so that a move costs nothing. Works by keyboard: arrows move the slider.
    """
    run_of(record, start)  # or say why not
    coefs, names = record["coefs"], record["fixed prompts"]
    pictures = {}
    for coef in coefs:
        _, seeds, best, _ = run_of(record, coef)
        axes = plot_run(world, _arms(record, "base")[0], seeds, best, curves)
        pictures[coef] = figure_png(axes[0].figure)
    slider = ipywidgets.SelectionSlider(
        options=coefs, value=start, description="KL coefficient \u03b2",
        layout={"width": "520px"}, style={"description_width": "initial"},
    )  # fmt: skip
    pick = ipywidgets.Dropdown(
        options=[(name, number) for number, name in enumerate(names)], description="Prompt",
        layout={"width": "300px"},
    )  # fmt: skip

    def show():
        said, _, _, texts = run_of(record, slider.value, pick.value)
        cards = documents_html(world, texts, [names[pick.value]] * len(texts))
        return html.escape(said), cards, pictures[slider.value]

    rows = [ipywidgets.HBox([slider, pick, reset_button(slider, pick)])]
    return explorer(rows, (slider, pick), show)[0]


# ---- how hard to push ----

SHOWN = "single 0.0"  # the arm of PPO on one proxy, without a KL charge


def _pushed(x, proxy, gold, at):
    """Draw proxy and gold over x, with a line at x = `at`; return (figure, Axes)."""
    figure, ax = plt.subplots(figsize=(7.2, 3.2))
    looks = {"proxy": (REWARD, "--"), "gold": (POLICY, "-")}
    plot_push(x, {"proxy": proxy, "gold": gold}, ax=ax, looks=looks, at=at)
    ax.set(ylabel="gain [sd]")
    return figure, ax


def push_view(proxies, size, count, place):
    """Return (sentence, figure) of best-of-n by a recorded proxy, at ns[place].

    proxies: `records.read("proxies")`. The figure shows proxy and gold in sd of base samples.
    """
    _check_record(proxies, "proxies", "arms", "ns", "gold sd")
    ns = proxies["ns"]
    if place not in range(len(ns)) or f"{size} {count}" not in proxies["arms"]:
        raise ValueError(
            f"no {size!r} with {count!r} labels at place {place!r}; expected what the record holds"
        )
    arms = _arms(proxies, f"{size} {count}")
    gold = np.mean([a["gold"] for a in arms], axis=1)
    gain = (gold - gold[:, :1]) / proxies["gold sd"]
    proxy = np.array([a["proxy"] for a in arms])
    d = root_kl(ns)
    figure, ax = _pushed(d, proxy, gain, d[place])
    ax.set(xticks=d, xticklabels=ns, xlabel="best of n", ylim=(-0.3, 3.6))
    said = (
        f"{size}, {count:,} labels, best of {ns[place]}: proxy {proxy.mean(0)[place]:+z.2f} sd, "
        f"gold {gain.mean(0)[place]:+z.2f} sd (mean of {len(arms)} seeds); gold is highest at "
        f"n = {ns[gain.mean(0).argmax()]}"
    )
    return said, figure


def policy_view(remedies, place):
    """Return (sentence, figure) of the recorded run of PPO on a proxy, after step `place` + 1.

    remedies: `records.read("remedies")`, of which the first seed of one proxy alone is shown.
    """
    _check_record(remedies, "remedies", "arms", "gold sd")
    history = _arms(remedies, SHOWN)[0]["history"]
    if place not in range(len(history)):
        raise ValueError(f"place is {place!r}; expected 0 to {len(history) - 1}")
    step = np.arange(1, len(history) + 1)
    gold, proxy = (np.array([h[k] for h in history]) for k in ("gold", "score"))
    gain = (gold - gold[0]) / remedies["gold sd"]
    figure, ax = _pushed(step, proxy - proxy[0], gain, step[place])
    ax.set(xlabel="step of PPO")
    said = (
        f"step {place + 1}, KL {history[place]['kl']:z.1f} nats: proxy "
        f"{proxy[place] - proxy[0]:+z.2f} sd, gold {gain[place]:+z.2f} sd; gold was highest at "
        f"step {gain.argmax() + 1}"
    )
    return said, figure


def _keeper():
    """Return drawn(view, record, *key) -> (sentence as HTML, PNG), which draws each key once."""
    kept = {}

    def drawn(view, record, *key):
        if key not in kept:
            said, figure = view(record, *key)
            kept[key] = html.escape(said), figure_png(figure)
        return kept[key]

    return drawn


def explore_push(world, proxies, remedies):
    """Show how hard to push: best-of-n or PPO, on a proxy of some size and number of labels.

    proxies, remedies: `records.read` of both names. Below the curves stands the sample at that
    point, its claims checked. Works by keyboard: arrows move the sliders.
    """
    _check_record(proxies, "proxies", "arms", "ns", "sizes", "counts", "gold sd")
    _check_record(remedies, "remedies", "arms", "fixed prompts", "gold sd")
    sizes, counts, prompts = proxies["sizes"], proxies["counts"], remedies["fixed prompts"]
    examples = _arms(remedies, SHOWN)[0]["examples"]
    wide = {"layout": {"width": "420px"}, "style": {"description_width": "initial"}}
    how = ipywidgets.ToggleButtons(options=["best of n", "PPO"], description="Push by")
    ns = ipywidgets.SelectionSlider(options=proxies["ns"], value=64, description="n", **wide)
    step = ipywidgets.IntSlider(value=8, min=1, max=len(examples), description="step", **wide)
    size = ipywidgets.Dropdown(options=sizes, value="whole", description="Model")
    count = ipywidgets.Dropdown(options=counts, value=300, description="Labels")
    picks = {n: _arms(proxies, n)[0]["picks"] for n in (f"{s} {c}" for s in sizes for c in counts)}
    who = ipywidgets.Dropdown(options=list(next(iter(picks.values()))), description="Prompt")
    asked = ipywidgets.Dropdown(options=prompts, description="Prompt")
    gold, read, drawn = auditor(world), Reader(world), _keeper()

    def show():
        best = how.value == "best of n"
        for box in (ns, size, count, who, step, asked):
            box.layout.display = "none" if best == (box in (step, asked)) else ""
        if best:
            place = proxies["ns"].index(ns.value)
            said, png = drawn(push_view, proxies, size.value, count.value, place)
            text, _ = picks[f"{size.value} {count.value}"][who.value][place]
        else:
            said, png = drawn(policy_view, remedies, step.value - 1)
            text = examples[step.value - 1][1 + prompts.index(asked.value)]
        card = claims_html(world, text, f"gold {gold.utility(read(text)):+z.2f} points")
        return said, card, png

    watched = (how, ns, step, size, count, who, asked)
    choices = ipywidgets.HBox([size, count, who, asked, reset_button(*watched)])
    rows = [ipywidgets.HBox([how, ns, step]), choices]
    return explorer(rows, watched, show)[0]
