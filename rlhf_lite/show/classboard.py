"""Show a class its own labels as they come in: counts, agreement, favourite voices, reward model.

`Board` is the board without a screen, which prints as text; `BoardView` is only its skin. It reads
the class's folder every few seconds, and what it has read stays on it while the folder is away.
Omits who labelled what: only pseudonyms and counts are shown. The notebook of the class, 02b, hangs
it up.
"""

import asyncio
import html
import textwrap
import time

from rlhf_lite import classroom
from rlhf_lite.feedback import FeedbackError
from rlhf_lite.show.cards import AS_DRAWN, error_html, figure_png
from rlhf_lite.show.style import INK, REFERENCE, REWARD
from rlhf_lite.show.view import View, spoken

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

SIZE = 11.4, 3.6  # of the picture [inches]
NAMED = 15  # of more students the bars bear no names
WIDTH = 110  # of the board as text [characters]
SILENT = 300  # seconds after which a desk counts as silent


class Board:
    """What a class has said so far; `print(board)` shows it as text.

    folder: the class's; read: a Reader; features: `proxies.Features`; world: a `fingerprint`, of
    this world if None; clock: a function that returns seconds.
    """

    def __init__(self, folder, read, features, world=None, clock=time.monotonic):
        self.folder, self.read, self.features = folder, read, features
        self.stamp, self.clock = world, clock
        self.records, self.told, self.heard = [], set(), {}
        self.wishes, self.curve, self.news = classroom.wishes([], read, features), [], []
        self.refresh()

    def refresh(self):
        """Read the folder again; tell whether any label came or went.

        Damage, and a folder that is away, go to `news`: a line is named once.
        """
        try:
            labels = classroom.gather(self.folder, self.stamp)
        except FeedbackError as error:
            self.news = [f"{error}; what came before stays here"]
            return False
        if self.records and not labels.records:
            self.news = [f"nothing is left in {self.folder}; what came before stays here"]
            return False
        self.news = [line for line in labels.damage if line not in self.told]
        self.told |= set(labels.damage)
        same = {r.get("id") for r in labels.records} == {r.get("id") for r in self.records}
        if same:
            return False
        before = self.wishes.counts
        self.records = labels.records
        self.wishes = classroom.wishes(self.records, self.read, self.features)
        for name, count in self.wishes.counts.items():
            if count != before.get(name):
                self.heard[name] = self.clock()
        if self.wishes.accuracy:
            point = sum(self.wishes.counts.values()), self.wishes.accuracy, self.wishes.shuffled
            self.curve.append(point)
        return True

    def silent(self):
        """List the annotators of whom nothing came for SILENT seconds."""
        return [n for n in self.wishes.counts if self.clock() - self.heard[n] > SILENT]

    def lines(self):
        """List what the board says, a line a subject."""
        w = self.wishes
        names = classroom.nicknames(w.counts)
        found = [f"{sum(w.counts.values())} labels by {len(w.counts)} students on {w.items} pairs"]
        found += [_agreement(w.agreement)] if w.agreement["items"] else []
        if w.voices:
            rows = sorted(w.voices.items(), key=lambda row: -row[1][0])
            told = (f"{v} {_range(row[:3])} of {row[3]}" for v, row in rows)
            found.append("chosen over another voice: " + ", ".join(told))
        if w.accuracy:
            right, luck = _range(w.accuracy), _range(w.shuffled)
            found.append(f"the class's reward model is right about {right} of held-out choices,")
            found[-1] += f" with shuffled sides {luck}, a coin 50%"
        found.append("labels: " + ", ".join(f"{names[n]} {c}" for n, c in w.counts.items()))
        if self.silent():
            found.append("silent: " + ", ".join(names[n] for n in self.silent()))
        return found + self.news

    def __str__(self):
        """Return the board as text."""
        return "\n".join(textwrap.fill(x, WIDTH, subsequent_indent="    ") for x in self.lines())


def _range(row):
    """Write a share with its interval: 62% [55%, 69%]."""
    share, low, high = row
    return f"{share:.0%} [{max(low, 0):.0%}, {min(high, 1):.0%}]"


def _agreement(found):
    if np.isnan(found["alpha"]):
        return f"{found['items']} pairs seen twice or more, too few to tell how far students agree"
    return (
        f"two students agree on {found['share']:.0%} of the pairs that both saw, by chance on "
        f"{found['chance']:.0%}: alpha {found['alpha']:z.2f} [{found['low']:z.2f}, "
        f"{found['high']:z.2f}], {found['items']} pairs, {found['seen']:.1f} students a pair"
    )


def plot_class(board, *, figure=None):
    """Draw labels a student, how often each voice is chosen, and the reward model as labels came.

    board: a Board; figure: an empty one, a new one for None. Returns its three Axes.
    """
    figure = plt.figure(figsize=SIZE) if figure is None else figure
    axes, w = figure.subplots(1, 3, width_ratios=(1, 1.1, 1)), board.wishes
    names = classroom.nicknames(w.counts)
    at = np.arange(len(names))
    axes[0].bar(at, w.counts.values(), color=REFERENCE)
    named = len(names) <= NAMED
    axes[0].set_xticks(at if named else [], names.values() if named else [], rotation=90)
    axes[0].set(title="labels a student", ylabel="pairs", xlabel=f"{len(names)} students")
    axes[0].grid(axis="x", visible=False)
    world, rows = board.read.world, sorted(w.voices.items(), key=lambda row: row[1][0])
    for number, (voice, (share, low, high, _)) in enumerate(rows):
        low, high = max(low, 0), min(high, 1)
        axes[1].plot([low, high], [number] * 2, color=world.colours[voice])
        axes[1].plot(share, number, "o", color=world.colours[voice])
    axes[1].axvline(0.5, color=INK, lw=0.8, ls=":")
    axes[1].set_yticks(range(len(rows)), [voice for voice, _ in rows])
    axes[1].set(title="chosen over another voice", xlabel="share of such pairs", xlim=(0, 1))
    curves = ((1, REWARD, "o", "class"), (2, REFERENCE, "x", "sides shuffled"))
    for part, colour, marker, label in curves if board.curve else ():
        labels, values = [p[0] for p in board.curve], np.array([p[part] for p in board.curve])
        axes[2].vlines(labels, *values[:, 1:].clip(0, 1).T, color=colour, lw=1)
        axes[2].plot(labels, values[:, 0], color=colour, marker=marker, label=label)
        axes[2].legend(loc="lower right")
    axes[2].axhline(0.5, color=INK, lw=0.8, ls=":")
    axes[2].set(title="the class's reward model", xlabel="labels", ylim=(0.3, 1))
    axes[2].set_ylabel("held-out choices it gets right")
    return axes


class BoardView:
    """The skin of a Board, shown by its `view`: what it says as text, the picture, two buttons.

    seconds: between two looks at the folder while it watches. Other cells can run meanwhile; the
    board looks again when they are done.
    """

    def __init__(self, board, seconds=5.0):
        self.board, self.seconds, self.task = board, seconds, None
        self.watch_button = ipywidgets.Button(description="Watch", button_style="primary")
        self.refresh_button = ipywidgets.Button(description="Refresh")
        self.watch_button.on_click(lambda _: self.stop() if self.watching else self.watch())
        self.refresh_button.on_click(lambda _: self.look())
        self.said = spoken(ipywidgets.HTML())
        self.picture = ipywidgets.Image(format="png", layout=dict(AS_DRAWN))
        buttons = ipywidgets.HBox([self.watch_button, self.refresh_button])
        self.view = View([buttons, self.said, self.picture])
        self.draw()

    @property
    def watching(self):
        """Tell whether the board looks at the folder by itself."""
        return self.task is not None and not self.task.done()

    def watch(self):
        """Look at the folder every few seconds until `stop`."""
        if not self.watching:
            self.task = asyncio.get_event_loop().create_task(self._watch())
            self.watch_button.description = "Hold"

    def stop(self):
        """Look no more until `watch`."""
        if self.watching:
            self.task.cancel()
        self.task, self.watch_button.description = None, "Watch"

    async def _watch(self):
        while True:
            self.look()
            await asyncio.sleep(self.seconds)

    def look(self):
        """Read the folder, and draw what is new; what goes wrong is said, and watching goes on."""
        try:
            new = self.board.refresh()
            self.draw(new)
        except Exception as error:
            self.said.value = error_html(f"{type(error).__name__}: {error}")

    def draw(self, new=True):
        """Show the board; the picture anew only where labels came or went."""
        rows = (f"<li>{html.escape(line)}</li>" for line in self.board.lines())
        self.said.value = f'<ul style="line-height:1.5;max-width:1000px">{"".join(rows)}</ul>'
        if new:
            figure = Figure(figsize=SIZE)
            plot_class(self.board, figure=figure)
            self.picture.value = figure_png(figure)


def class_board(board, seconds=5.0):
    """Show a Board that looks at the class's folder every few seconds once Watch is pressed."""
    return BoardView(board, seconds).view
