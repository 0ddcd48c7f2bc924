"""Judge two hidden policies in the notebook: pairs of their replies, by keyboard, then the truth.

`BlindTest` is the test without a screen: which pairs, who wrote what, what came of it; `BlindView`
is only its skin. It stands on the `Desk` and its `LabelStore`: each judgement is on disk before the
next pair is shown. Omits more than two policies. Notebook 09 sits down at it.
"""

import html
import random
import time

from rlhf_lite import judging
from rlhf_lite.checks import check_choice, check_texts
from rlhf_lite.feedback import FeedbackError, item_key, record_key
from rlhf_lite.show.cards import error_html
from rlhf_lite.show.desk import Desk, new_letters, pair_html
from rlhf_lite.show.style import INK, POLICY, REFERENCE
from rlhf_lite.show.view import View, spoken

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np

CLAIM = 0.55  # the win rate whose proof is priced


# ---- the test without a screen ----


class BlindTest:
    """Pairs of replies by two policies, and the judgements of one person, without a widget.

    said: {policy: {prompt: replies}}; one, other: the policies to compare, the n-th reply of one
    with the n-th of the other; store: a `LabelStore`; count: pairs at most, drawn by a fixed seed;
    clock: as in `Desk`. items: the pairs, dicts "prompt" and "responses"; alike: how many pairs
    were the same text twice and are not shown. Raises FeedbackError for an unknown policy, and
    where no two replies differ.
    """

    def __init__(self, said, one, other, store, count=40, clock=time.monotonic):
        self.one = check_choice(one, said, "policy", FeedbackError)
        self.other = check_choice(other, said, "policy", FeedbackError)
        self.items, self.authors, self.alike = [], {}, 0
        found = list(_pairs(said[one], said[other]))
        random.Random(0).shuffle(found)
        for prompt, mine, theirs in found:
            if mine.strip() == theirs.strip():
                self.alike += 1
                continue
            key = item_key("preference", prompt, [mine, theirs])
            if key not in self.authors and len(self.items) < count:
                self.items.append({"prompt": prompt, "responses": [mine, theirs]})
                self.authors[key] = mine
        if not self.items:
            raise FeedbackError(
                f"{one!r} and {other!r} say the same to all {len(found)} prompts that they share; "
                f"expected two policies whose replies differ"
            )
        self.desk = Desk(self.items, store, clock)

    def wins(self, records=None):
        """Return (wins of `one` (N,), a tie one half, and the prompt of each) of someone's records.

        records: of any person, this one's if None; the last judgement of a pair counts. Raises
        FeedbackError where none is about these pairs.
        """
        last = {}
        for record in self.desk.records if records is None else records:
            if record["kind"] == "preference" and record_key(record) in self.authors:
                last[record_key(record)] = record
        if not last:
            raise FeedbackError(
                "nobody has judged a pair of this test yet; expected at least one judgement (key "
                "a, b or t)"
            )
        won = [
            0.5 if r["tie"] else float(r["chosen"] == self.authors[key]) for key, r in last.items()
        ]
        return np.array(won), [r["prompt"] for r in last.values()]

    def result(self):
        """Return what came of it: a dict.

        rate, low, high: `judging.win_rate` of `one`, clustered by prompt; judged, ties: numbers;
        minutes: that it took; needed: comparisons that show a rate of CLAIM at 80% power, with as
        many ties; hours: that they take at this pace.
        """
        won, prompts = self.wins()
        rate, low, high = judging.win_rate(won, prompts)
        took = sum(r["seconds"] or 0.0 for r in self.desk.records if record_key(r) in self.authors)
        ties = int((won == 0.5).sum())
        needed = judging.comparisons_for(CLAIM, ties=min(ties / len(won), 0.9))
        return {
            "rate": rate, "low": max(0.0, low), "high": min(1.0, high), "judged": len(won),
            "ties": ties, "minutes": took / 60, "needed": needed,
            "hours": needed * took / len(won) / 3600,
        }  # fmt: skip

    def sentence(self):
        """Say what came of it, policies named."""
        r = self.result()
        spread = f"95% from {r['low']:.0%} to {r['high']:.0%}" if r["judged"] > 1 else "one pair"
        alike = f"; {self.alike} more pairs were the same text twice" if self.alike else ""
        return (
            f"You preferred {self.one} to {self.other} {r['rate']:.0%} of the time ({spread}): "
            f"{r['judged']} pairs, {r['ties']} ties (half a win), {r['minutes']:.1f} minutes"
            f"{alike}. A claim of {CLAIM:.0%} to {1 - CLAIM:.0%} takes {r['needed']} such pairs "
            f"(80% power): {r['hours']:.1f} hours at your pace."
        )


def _pairs(mine, theirs):
    """Yield (prompt, reply of one, reply of the other) for all prompts that both answer."""
    for prompt in mine:
        both = zip(check_texts(mine[prompt]), check_texts(theirs.get(prompt, [])))
        yield from ((prompt, a, b) for a, b in both if a.strip() and b.strip())


# ---- its skin ----


class BlindView(View):
    """The skin of a `BlindTest`; every action ends in `_draw`."""

    def __init__(self, test):
        self.test, self.desk, self.handled, self.unblinded = test, test.desk, "", False
        self.cards, self.ask = ipywidgets.HTML(), spoken(ipywidgets.HTML())
        self.progress, self.status = (spoken(ipywidgets.HTML()) for _ in range(2))
        self.key = ipywidgets.Text(description="Key", layout={"width": "150px"})
        self.key.style.description_width = "30px"
        self.key.observe(self._typed, "value")
        actions = {
            "a": ("A is better", lambda: self._judge("a")),
            "b": ("B is better", lambda: self._judge("b")),
            "t": ("Tie", lambda: self._judge("t")),
            "u": ("Undo", self._undo),
            "p": ("Pause", self._pause),
            "q": ("Unblind", self._unblind),
        }
        self.actions = {letter: action for letter, (_, action) in actions.items()}
        self.buttons = {}
        for letter, (text, action) in actions.items():
            button = ipywidgets.Button(description=text, layout={"width": "auto"})
            button.on_click(lambda _, action=action: self._do(action))
            self.buttons[letter] = button
        hint = ipywidgets.HTML(
            '<span style="opacity:.75"><b>a</b>, <b>b</b>, <b>t</b> tie, <b>u</b> undo, <b>p</b> '
            "pause, <b>q</b> unblind</span>"
        )
        who, where = (
            html.escape(str(x)) for x in (test.desk.store.annotator, test.desk.store.path)
        )
        place = ipywidgets.HTML(
            f'<span style="opacity:.75">Judgements of {who} go to {where}, each before the next '
            f"pair is shown.</span>"
        )
        row, keys = ipywidgets.HBox(list(self.buttons.values())), ipywidgets.HBox([self.key, hint])
        pair = ipywidgets.VBox([self.ask, self.cards])
        super().__init__([pair, row, keys, self.progress, self.status, place])
        self._draw()
        if self.desk.damage:
            self.status.value = error_html("Kept all but: " + "; ".join(self.desk.damage))

    def _do(self, action):
        """Act, and say in the status line what went wrong, if anything did."""
        try:
            action()
        except FeedbackError as error:
            self.status.value = error_html(error)
        else:
            self._draw()

    def _closed(self):
        """Raise FeedbackError once the policies are known."""
        if self.unblinded:
            raise FeedbackError(
                "the policies are known now, so nothing was saved; expected a new file for a new "
                "test"
            )

    def _judge(self, answer):
        self._closed()
        self.desk.label(answer)

    def _undo(self):
        self._closed()
        self.desk.undo()

    def _pause(self):
        self.desk.resume() if self.desk.paused else self.desk.pause()

    def _unblind(self):
        self.test.wins()  # says so where nothing is judged
        self.unblinded = True

    def _typed(self, change):
        """Act on each letter and empty the box; it stays where it is, so it keeps the focus."""
        if change["new"]:
            letters, self.handled = new_letters(change["new"], self.handled), change["new"]
            self.key.value = ""
            for letter in letters.lower():
                self._do(self.actions.get(letter, lambda letter=letter: _unknown(letter)))

    def _draw(self):
        """Show the current pair, or what came of all."""
        task = self.desk.current()
        self.unblinded = self.unblinded or task is None
        self.status.value, self.progress.value = "", f"<b>{self.desk.progress()}</b>"
        self.buttons["p"].description = "Go on" if self.desk.paused else "Pause"
        ask = "Which answer is better? You decide what better means."
        if self.desk.paused:
            ask = "Paused: the clock stands still. Press Go on (key p)."
        if self.unblinded:
            ask = html.escape(self.test.sentence())
        self.ask.value = f'<b style="font-size:14px">{ask}</b>'
        self.cards.value = "" if self.unblinded else pair_html(task[0], *task[1])


def _unknown(letter):
    """Raise FeedbackError for a key without a meaning."""
    raise FeedbackError(f"the key {letter!r} does nothing here; expected one named above")


def blind_test(said, one, other, store, count=40):
    """Show the blind test of two policies; arguments as in `BlindTest`.

    Works by keyboard: letters in the Key box. Opened again, it goes on at the first pair without a
    judgement. The policies are named at the end, or at the key q.
    """
    return BlindView(BlindTest(said, one, other, store, count))


# ---- figures ----


def plot_win_rates(rates, *, ax=None, colours=None):
    """Plot win rates with their intervals, one row each, beside the line of no preference.

    rates: {name: (rate, low, high)}; colours: {name: colour}, blue if not given.
    """
    ax = ax or plt.subplots(figsize=(6, 0.6 + 0.34 * len(rates)))[1]
    for row, (name, (rate, low, high)) in enumerate(rates.items()):
        colour = (colours or {}).get(name, POLICY)
        ax.plot([max(0, low), min(1, high)], [row, row], color=colour)
        ax.plot(rate, row, "o", color=colour)
    ax.axvline(0.5, color=INK, lw=0.8, ls=":")
    ax.set(yticks=range(len(rates)), yticklabels=list(rates), xlim=(0, 1))
    ax.set_xlabel("win rate, ties half (95% interval)")
    ax.invert_yaxis()
    return ax


def plot_preference(checked, curves, *, ax=None, colours=None):
    """Plot win rates over how often raters check: seeds thin, their mean thick.

    checked (Q,): probabilities; curves: {name: win rates (seeds, Q)}; colours: {name: colour}.
    """
    ax = ax or plt.subplots()[1]
    for name, table in curves.items():
        colour = (colours or {}).get(name, POLICY)
        for row in np.atleast_2d(table):
            ax.plot(checked, row, color=colour, lw=0.8, alpha=0.5)
        ax.plot(checked, np.mean(np.atleast_2d(table), 0), color=colour, label=name)
    ax.axhline(0.5, color=REFERENCE, lw=0.8, ls="--")
    ax.set_xlabel("q: how often raters check a claim [probability]")
    ax.set_ylabel("win rate, ties half")
    ax.legend()
    return ax


def plot_seeds(rows, *, ax=None, colours=None):
    """Plot a bar to the mean of each row, and a dot for each seed: rows is {name: (seeds,)}."""
    ax = ax or plt.gca()
    for place, (name, values) in enumerate(rows.items()):
        colour = (colours or {}).get(name, POLICY)
        ax.barh(place, np.mean(values), color=colour, alpha=0.45)
        ax.plot(values, np.full(np.size(values), place), "o", ms=4, color=colour)
    ax.set(yticks=range(len(rows)), yticklabels=list(rows))
    ax.invert_yaxis()
    return ax
