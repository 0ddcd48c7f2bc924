"""Steer a run of PPO by hand while it trains: the live KL panel.

One step at a time, in an asyncio task that lets the notebook breathe between steps, so a moved
slider is obeyed at the next step and every button answers. What is drawn comes from plain functions
that the tests call. Omits threads: the policy is never touched by two hands at once. Used by
notebook 04.
"""

import asyncio
import html
from itertools import pairwise

from rlhf_lite.diversity import batch_voices
from rlhf_lite.policies import PolicyError
from rlhf_lite.show.cards import documents_html, error_html, figure_png
from rlhf_lite.show.style import INK, KL, POLICY, REFERENCE, REWARD, WARNING
from rlhf_lite.show.view import View, spoken

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

LOWEST, HIGHEST = 0.02, 5.0
SIZE = 11.4, 2.7  # of the picture [inches]


def plot_panel(world, history, shares, start, ceilings, *, figure=None):
    """Draw four panels of a run: score, KL, objective with J*, voices now beside the start.

    history: list of PolicyStep, empty before the first; shares, start (V,): voices now and at the
    start; ceilings: J* at each step's kl_coef, before the first step at the one that is set, None
    where it is not known; figure: an empty one, a new one for None. Returns its four Axes.
    """
    figure = plt.figure(figsize=SIZE) if figure is None else figure
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.5))
    steps = [s.step for s in history]
    last = steps[-1] if steps else 0
    curves = (
        ("score", REWARD, "score [sd]"),
        ("kl", KL, "KL [nats]"),
        ("objective", POLICY, "J [sd]"),
    )
    for ax, (name, colour, label) in zip(axes, curves):
        ax.plot(steps, [getattr(s, name) for s in history], color=colour, marker="o", ms=2.5)
        ax.set(title=label, xlabel="step", xlim=(0.5, max(10, last) + 0.5))
        for at in _moves(history):
            ax.axvline(at, color=WARNING, lw=0.8, ls=":")
    # Before the first step one height all along.
    known = [(s, c) for s, c in zip(steps or (0, 11), ceilings if steps else 2 * ceilings)]
    known = [(s, c) for s, c in known if c is not None]
    if known:
        axes[2].plot(*zip(*known), color=REFERENCE, ls="--", drawstyle="steps-mid", label="J*")
        axes[2].legend(loc="lower right")
    if not steps:
        for ax in axes[:3]:
            ax.set_ylim(0, 1)
        axes[2].set_ylim(0, max([1.2 * c for _, c in known if c > 0], default=1))
    at, colours = np.arange(len(world.voices)), [world.colours[v] for v in world.voices]
    axes[3].barh(at, start, 0.8, facecolor="none", edgecolor=INK, lw=1, label="base")
    axes[3].barh(at, shares, 0.55, color=colours, label="now")
    axes[3].set_yticks(at, world.voices)
    axes[3].set(title=f"voices at step {last}" if steps else "voices before", xlim=(0, 1))
    axes[3].invert_yaxis()
    axes[3].grid(axis="y", visible=False)
    axes[3].legend(loc="lower right")
    return axes


def _moves(history):
    """List the steps at which kl_coef changed."""
    return [b.step - 0.5 for a, b in pairwise(history) if a.kl_coef != b.kl_coef]


class KLPanel:
    """The live panel: Start, Pause, Stop, Reset, a slider for kl_coef, curves, voices, samples.

    new_run: a function without arguments that returns a fresh PPORun; ceiling: a function from
    kl_coef to J* or None; base: responses of the base model, whose voices the first picture shows,
    with J* at the slider's place, before anything is pressed. `panel.run` is the run,
    `panel.run.policy` the policy it leaves behind. Show `panel.view`. Keyboard: Tab moves on, Space
    or Enter presses a button, arrows move the slider. `panel.state` is "ready", "running", "paused"
    or "stopped"; a single task takes the steps while it is "running". What goes wrong is said and
    pauses the run.
    """

    def __init__(self, world, new_run, ceiling=lambda kl_coef: None, base=()):
        self.world, self.new_run, self.ceiling = world, new_run, ceiling
        self.base = batch_voices(world, base) if len(base) else None
        wide = {"description_width": "initial"}
        self.slider = ipywidgets.FloatLogSlider(
            value=0.5, base=10, min=np.log10(LOWEST), max=np.log10(HIGHEST), step=0.05,
            description="KL coefficient \u03b2", readout_format=".2f", style=wide,
            layout={"width": "420px"},
        )  # fmt: skip
        self.buttons = {}
        actions = {"Start": self.start, "Pause": self.pause, "Stop": self.stop, "Reset": self.reset}
        for name, action in actions.items():
            self.buttons[name] = ipywidgets.Button(description=name, layout={"width": "90px"})
            self.buttons[name].on_click(lambda _, action=action: action())
        self.buttons["Start"].button_style = "primary"
        self.status, self.cards = spoken(ipywidgets.HTML()), ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png")
        self.view = View([
            ipywidgets.HBox([self.slider, *self.buttons.values()]),
            self.status, self.picture, self.cards,
        ])  # fmt: skip
        self.task = None
        self.slider.observe(lambda _: self.preview(), "value")
        self._begin(new_run())

    def start(self):
        """Train on, from wherever the run is."""
        if self.state == "stopped":
            return self.say("Stopped. Reset begins a new run.")
        # A task that still sleeps over a pause or a reset wakes up and goes on: never a second one.
        if self.task is None or self.task.done():
            self.task = asyncio.get_event_loop().create_task(self.train())
            self.task.add_done_callback(self._ended)
        self.state = "running"
        self.say(f"Training from step {self.run.step + 1} on.")

    def pause(self):
        """Hold after the step in progress; Start goes on."""
        if self.state == "running":
            self._hold()

    def stop(self):
        """End the run; its policy stays in `panel.run.policy`."""
        self.state = "stopped"
        self.say(f"Stopped after step {self.run.step}. The policy is panel.run.policy.")

    def reset(self):
        """Throw the run away and begin with the base model again."""
        try:
            self._begin(self.new_run())
        except (Exception, KeyboardInterrupt) as error:
            self._hold(error, "The run is the old one; Reset tries again.")

    def _begin(self, run):
        self.state, self.run = "ready", run
        self.first, self.ceilings = self.base, []
        self.picture.layout.visibility, self.cards.value = "hidden", ""
        self.say("Ready. Start trains; move the slider whenever you like.")
        self.preview()

    def preview(self):
        """Show what there is before the first step: the base's voices, J* at the slider."""
        if self.state != "ready" or self.run.step or self.base is None:
            return
        kl_coef = float(self.slider.value)
        try:
            best = self.ceiling(kl_coef)
            self._show([], self.base, [best])
        except Exception as error:
            return self._hold(error, "Start trains all the same.")
        if best is not None:
            best = f"At \u03b2 = {kl_coef:.2f} no policy has more J than {best:.2f}."
        self.say(f"Ready. Start trains; move the slider whenever you like. {best or ''}")

    async def train(self):
        """Step while the state is "running", breathing between steps."""
        while self.state == "running":
            self.step()
            # Widget messages are handled while we sleep: twice, so that what they ask for is drawn.
            await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)

    def step(self):
        """Take one step at the slider's coefficient and draw it; after the last, stop.

        A step that fails leaves the run as it was before it.
        """
        run = self.run
        try:
            if run.step < run.config.steps:
                run.kl_coef = float(self.slider.value)
                self.draw(run.advance())
            if run.step >= run.config.steps:
                self.stop()
        except KeyboardInterrupt:  # the kernel's; in a task it would end the kernel's loop
            self._hold()
        except Exception as error:
            self._hold(error, f"Start goes on after step {run.step}; Reset begins a new run.")

    def _ended(self, task):
        """Hold where something else than a button has ended the task, such as an interrupt."""
        if task is self.task and self.state == "running":
            self._hold(None if task.cancelled() else task.exception())

    def _hold(self, error=None, advice=""):
        """Stay where the run is and say why, so that no button is dead and no error lost."""
        if self.state == "running":
            self.state = "paused"
        if error is None:
            return self.say(f"Paused after step {self.run.step}. Start goes on.")
        name = "" if isinstance(error, PolicyError) else type(error).__name__
        self.say(f"{error_html(': '.join(filter(None, (name, str(error)))))} {advice}")

    def draw(self, done):
        """Show a PolicyStep: curves, voices, samples."""
        history, shares = self.run.history, batch_voices(self.world, done.texts)
        if self.first is None:
            self.first = batch_voices(self.world, history[0].texts)
        # All that are missing: the drawing of the step before may have failed.
        self.ceilings += [self.ceiling(s.kl_coef) for s in history[len(self.ceilings) :]]
        self._show(history, shares, self.ceilings)
        self.cards.value = documents_html(self.world, done.texts[:3], done.prompts[:3])
        loudest = html.escape(self.world.voices[int(shares.argmax())])
        loudest = f"<b>{loudest}</b> ({shares.max():.0%})" if shares.any() else "none"
        self.say(
            f"Step {done.step} of {done.of} at \u03b2 = {done.kl_coef:.2f}: score "
            f"{done.score:+z.2f}, KL {done.kl:z.2f} nats, J {done.objective:+z.2f}. "
            f"Loudest voice: {loudest}."
        )

    def _show(self, history, shares, ceilings):
        """Put a picture under the buttons."""
        figure = Figure(figsize=SIZE)  # unknown to pyplot, which would show what a failure leaves
        plot_panel(self.world, history, shares, self.first, ceilings, figure=figure)
        self.picture.layout.max_width = f"{figure.bbox.width:.0f}px"  # more in class mode
        self.picture.value = figure_png(figure)
        self.picture.layout.visibility = "visible"

    def say(self, text):
        """Put a sentence under the buttons."""
        self.status.value = text
