"""Label texts at a desk in the notebook: five tabs, one for each kind of feedback, by keyboard too.

`Desk` is the desk without a screen: what is to be labelled next, in which order, in how long.
`DeskView` is only its skin. Each label is on disk before the next text is shown. Omits several
people at one desk: give everybody a file of their own. Notebook 02 sits down at it.
"""

import html
import random
import time
from dataclasses import dataclass

from rlhf_lite.checks import check_texts
from rlhf_lite.feedback import FeedbackError, item_key, record_key
from rlhf_lite.show.cards import CARD, NOBODY, error_html
from rlhf_lite.show.controls import Area
from rlhf_lite.show.view import View, spoken
from rlhf_lite.world import FACTS

import ipywidgets

LONGEST = 120.0  # seconds that one label counts at most: longer is a phone call, not thought
CARD_STYLE = CARD.format(colour=NOBODY) + (
    ";font-size:14px;flex:1 1 0;min-width:240px;max-width:480px;padding:8px 14px;margin:0"
)
BOX = {"width": "720px", "height": "140px"}
GENERAL = (
    "missing: facts", "length: too long", "length: too short", "evasive: nobody knows",
    "garbled: text",
)  # fmt: skip


@dataclass(frozen=True)
class Page:
    """The words of one tab: its title, what is counted, what to do, which keys it has."""

    title: str
    noun: str
    ask: str
    keys: str = ""


PAGES = {
    "preference": Page(
        "Choose", "pair", "Which answer is better?", "<b>a</b>, <b>b</b>, <b>t</b> tie, "
    ),
    "rating": Page(
        "Rate", "response", "How good is it, from 1 (bad) to 7?", "<b>1</b> to <b>7</b>, "
    ),
    "correction": Page("Correct", "response", "Mend what is wrong and leave the rest, then Save."),
    "critique": Page("Criticise", "response", "Mark all that is wrong, if anything is, then Save."),
    "demonstration": Page("Show how", "prompt", "Write what should have been said, then Save."),
}


# ---- the desk without a screen ----


class Desk:
    """What is to be labelled, the order, the time and the labels, without a widget.

    items: dicts with "prompt" and "responses" (two strings), which half of the pairs show swapped;
    store: a `LabelStore`; clock: a function that returns seconds. Tasks that the store has labelled
    already are done. Raises FeedbackError where the store does, TextError for what is no text.
    """

    def __init__(self, items, store, clock=time.monotonic):
        if not items:
            raise FeedbackError("nothing to label: the list of items is empty; expected some")
        self.store, self.clock = store, clock
        labels = store.records()
        self.records, self.damage = labels.records, labels.damage
        swaps = [i % 2 == 1 for i in range(len(items))]
        random.Random(0).shuffle(swaps)
        self.tasks = {kind: {} for kind in PAGES}
        for number, (item, swap) in enumerate(zip(items, swaps)):
            check_texts([item["prompt"], *item["responses"]], f"items[{number}]: texts")
            pair = list(item["responses"])[:: -1 if swap else 1]
            self._plan("preference", item["prompt"], pair)
            for kind in ("rating", "correction", "critique"):
                for response in item["responses"]:
                    self._plan(kind, item["prompt"], [response])
            self._plan("demonstration", item["prompt"], [])
        self.since = 0.0  # a time, so not paused: the clock runs from the first task on
        self.show("preference")

    def _plan(self, kind, prompt, responses):
        self.tasks[kind].setdefault(item_key(kind, prompt, responses), (prompt, responses))

    def show(self, kind):
        """Turn to a kind of feedback and start the clock for its next task, unless paused."""
        self.kind, self.spent = kind, 0.0
        self.since = None if self.paused else self.clock()

    def current(self):
        """Return (prompt, responses) of the first task without a label, None when all are done."""
        done = {record_key(r) for r in self.records if r["kind"] == self.kind}
        return next((t for k, t in self.tasks[self.kind].items() if k not in done), None)

    @property
    def paused(self):
        """Tell whether the clock stands still."""
        return self.since is None

    def pause(self):
        """Stop the clock."""
        if not self.paused:
            self.spent, self.since = self.spent + self.clock() - self.since, None

    def resume(self):
        """Let the clock go on."""
        if self.paused:
            self.since = self.clock()

    def label(self, answer):
        """Put the answer to the current task on disk, then show the next; return the record.

        answer: "a", "b" or "t" for a pair, 1 to 7 for a rating, the text for a correction or a
        demonstration, a list of remarks for a critique. Raises FeedbackError where that makes no
        sense, while paused, and where the disk refuses; the task then stays.
        """
        task = self.current()
        if task is None:
            raise FeedbackError(
                f"every {PAGES[self.kind].noun} is labelled; expected one that is not"
            )
        if self.paused:
            raise FeedbackError("paused, so nothing was saved; press Go on (key p) first")
        seconds = round(min(LONGEST, self.spent + self.clock() - self.since), 2)
        record = {"kind": self.kind, "prompt": task[0], "seconds": seconds}
        if self.kind in ("correction", "demonstration"):
            answer = continued(task[0], answer)
        self.records.append(self.store.append(record | self._answer(task[1], answer)))
        self.show(self.kind)
        return self.records[-1]

    def _answer(self, responses, answer):
        """Return the fields that an answer fills."""
        if self.kind == "preference":
            if answer not in ("a", "b", "t"):
                raise FeedbackError(f"{answer!r} chooses nothing; expected a, b or t for a tie")
            shown = responses[::-1] if answer == "b" else responses
            first = "rejected" if answer == "b" else "chosen"
            fields = {"chosen": shown[0], "rejected": shown[1], "first": first}
            return fields | {"tie": answer == "t"}
        if self.kind == "demonstration":
            if not answer.strip():
                raise FeedbackError("nothing is written yet; expected what should have been said")
            return {"response": answer}
        name = {"rating": "rating", "correction": "corrected", "critique": "critique"}[self.kind]
        return {"response": responses[0], name: answer}

    def undo(self):
        """Take back the last label of this kind, from today or from another day."""
        mine = [r for r in self.records if r["kind"] == self.kind and "id" in r]
        if not mine:
            raise FeedbackError("nothing to undo; expected a label of this kind")
        last = mine[-1]["id"]
        if last in {r.get("id") for r in self.store.records().records}:  # no other desk was first
            self.store.undo(last)
        self.records = self.store.records().records
        self.show(self.kind)

    def progress(self):
        """Say how far one is: "12 of 60 pairs, 3.4 minutes so far, 17 s a pair"."""
        noun, total = PAGES[self.kind].noun, len(self.tasks[self.kind])
        mine = [r for r in self.records if r["kind"] == self.kind]
        done = len({record_key(r) for r in mine} & set(self.tasks[self.kind]))
        took = [r["seconds"] for r in mine if r["seconds"] is not None]
        text = f"{done} of {total} {noun}s, {sum(took) / 60:.1f} minutes so far"
        return f"{text}, {sum(took) / len(took):.0f} s a {noun}" if took else text


def continued(prompt, text):
    """Return what a person wrote as a response: with the space before its first word, if need be.

    A text is prompt + response, and few people type the space. Example: `continued("He", "sang")`.
    """
    # A tuple, because the end of an empty prompt is in every string.
    ends_word = prompt[-1:].isalnum() or prompt[-1:] in tuple(",.;:!?")
    return " " + text if ends_word and text[:1].isalnum() else text


# ---- what is shown ----


def response_html(prompt, response, letter=""):
    """Return one response as a plain card: prompt bold, lines kept, no hint of who wrote it."""
    head = (
        f'<div style="font-size:26px;font-weight:700;color:#555">{letter}</div>' if letter else ""
    )
    text = f"<b>{html.escape(prompt)}</b>{html.escape(response)}".replace("\n", "<br>")
    return f'<div style="{CARD_STYLE}">{head}{text}</div>'


def pair_html(prompt, a, b):
    """Return a pair as HTML, A and B side by side; show it with `IPython.display.HTML`."""
    cards = response_html(prompt, a, "A") + response_html(prompt, b, "B")
    return f'<div style="display:flex;gap:14px;max-width:980px">{cards}</div>'


def remarks_for(world, prompt, response):
    """List the remarks that one can make about a response: all that it says could be false.

    world: the `World`, which knows what a line claims; None gives the remarks that fit any text.
    """
    if world is None:
        return [
            "false: something",
            "unsupported: something",
            "tone: flat",
            "voice: mixed",
            *GENERAL,
        ]
    lines = world.parse(prompt + response).lines[prompt.count("\n") :]
    said = {c.kind for line in lines for c in line.claims}
    kinds = [k for k in FACTS if k in said] + sorted(said - set(FACTS))
    spoken = sorted({line.fills["epithet"] for line in lines if line.fills.get("epithet")})
    claims = [f"{aspect}: {k}" for aspect in ("false", "unsupported") for k in kinds]
    return claims + [f"tone: {e}" for e in spoken] + list(GENERAL) + [
        f"voice: {v}" for v in world.voices
    ]  # fmt: skip


def new_letters(value, handled):
    """Return the characters of `value` that are new, where those of `handled` were acted on.

    Who types fast adds to a letter before the browser has heard that the box was emptied.
    """
    grown = len(value) > len(handled) and value.startswith(handled)
    return value[len(handled) :] if grown else value


# ---- its skin ----


class DeskView(View):
    """The skin of a `Desk`: tabs, buttons, a box for keys; every action ends in `_draw`."""

    def __init__(self, desk, world=None):
        self.desk, self.world, self.handled = desk, world, ""
        self.cards, self.asks, self.drawn = {}, {}, {}
        self.tab = ipywidgets.Tab(
            [self._page(kind) for kind in PAGES], titles=[page.title for page in PAGES.values()]
        )
        self.tab.observe(lambda _: self._turn(), "selected_index")
        self.key = ipywidgets.Text(description="Key", layout={"width": "150px"})
        self.key.style.description_width = "30px"
        self.key.observe(self._typed, "value")
        self.hint, self.place = ipywidgets.HTML(), ipywidgets.HTML()
        self.status, self.progress = (spoken(ipywidgets.HTML()) for _ in range(2))
        self.undo_button = self._button("Undo", self.desk.undo)
        self.pause_button = self._button("Pause", self._pause)
        keys = ipywidgets.HBox([self.key, self.hint, self.undo_button, self.pause_button])
        super().__init__([self.tab, keys, self.progress, self.status, self.place])
        self._draw()
        if desk.damage:
            self._say("Kept all but: " + "; ".join(desk.damage))

    # ---- the pages ----

    def _page(self, kind):
        self.cards[kind], self.asks[kind] = ipywidgets.HTML(), ipywidgets.HTML()
        make = getattr(self, f"_{kind}")
        return ipywidgets.VBox([self.asks[kind], self.cards[kind], *make()])

    def _preference(self):
        self.choose = {
            key: self._button(text, lambda key=key: self.desk.label(key))
            for key, text in (("a", "A is better"), ("b", "B is better"), ("t", "Tie"))
        }
        return [ipywidgets.HBox(list(self.choose.values()))]

    def _rating(self):
        self.rate = {
            n: self._button(str(n), lambda n=n: self.desk.label(n), "44px") for n in range(1, 8)
        }
        return [ipywidgets.HBox(list(self.rate.values()))]

    def _correction(self):
        self.corrected = Area(tooltip="The response, mended", layout=BOX)
        save = self._button("Save", lambda: self.desk.label(self.corrected.value))
        self.save_correction = save
        return [self.corrected, save]

    def _critique(self):
        self.tags = ipywidgets.Box(layout={"flex_flow": "row wrap", "max_width": "760px"})
        self.save_critique = self._button("Save", lambda: self.desk.label(self.marked()))
        return [self.tags, self.save_critique]

    def _demonstration(self):
        self.shown = Area(tooltip="What should have been said", layout=BOX)
        self.save_demonstration = self._button("Save", lambda: self.desk.label(self.shown.value))
        return [self.shown, self.save_demonstration]

    def marked(self):
        """List the remarks that are switched on."""
        return [tag.description for tag in self.tags.children if tag.value]

    def _button(self, text, action, width="auto"):
        button = ipywidgets.Button(description=text, layout={"width": width, "min_width": "44px"})
        button.layout.align_self = "flex-start"  # as wide as its word, not as the page
        button.on_click(lambda _: self._do(action))
        return button

    # ---- what happens ----

    def _do(self, action):
        """Act, and say in the status line what went wrong, if anything did."""
        try:
            action()
        except FeedbackError as error:
            return self._say(str(error))
        return self._draw()

    def _say(self, text):
        self.status.value = error_html(text)

    def _pause(self):
        self.desk.resume() if self.desk.paused else self.desk.pause()

    def _turn(self):
        self.desk.show(list(PAGES)[self.tab.selected_index])
        self._draw()

    def _typed(self, change):
        """Act on each letter and empty the box; it stays where it is, so it keeps the focus."""
        if change["new"]:
            letters, self.handled = new_letters(change["new"], self.handled), change["new"]
            self.key.value = ""
            for letter in letters.lower():
                self._press(letter)

    def _press(self, letter):
        if letter in "up":
            self._do(self.desk.undo if letter == "u" else self._pause)
        elif self.desk.kind == "preference" and letter in "abt":
            self._do(lambda: self.desk.label(letter))
        elif self.desk.kind == "rating" and letter in "1234567":
            self._do(lambda: self.desk.label(int(letter)))
        else:
            self._say(f"the key {letter!r} does nothing here; expected one named above")

    def _draw(self):
        """Show the current task; what somebody is writing stays until the task changes."""
        kind, task = self.desk.kind, self.desk.current()
        page = PAGES[kind]
        self.status.value, self.progress.value = "", f"<b>{self.desk.progress()}</b>"
        self.hint.value = (
            f'<span style="opacity:.75">{page.keys}<b>u</b> undo, <b>p</b> pause</span>'
        )
        place = html.escape(self.desk.store.place())
        self.place.value = f'<span style="opacity:.75">{place}</span>'
        self.pause_button.description = "Go on" if self.desk.paused else "Pause"
        ask = (
            "Paused: the clock stands still. Press Go on (key p)." if self.desk.paused else page.ask
        )
        if task is None:
            ask = f"Every {page.noun} is labelled. Thank you! Notebook 03 trains on these labels."
        self.asks[kind].value = f'<b style="font-size:14px">{ask}</b>'
        if self.drawn.get(kind, ()) != task:
            self.drawn[kind] = task
            self.cards[kind].value = self._shown(task) if task else ""
            self._empty(kind, task)

    def _empty(self, kind, task):
        """Make what one writes or marks ready for a task."""
        if kind == "correction":
            self.corrected.value = task[1][0] if task else ""
        elif kind == "demonstration":
            self.shown.value = ""
        elif kind == "critique":
            self.tags.children = [
                ipywidgets.ToggleButton(description=remark, layout={"width": "auto"})
                for remark in (remarks_for(self.world, task[0], task[1][0]) if task else [])
            ]

    def _shown(self, task):
        prompt, responses = task
        if self.desk.kind == "preference":
            return pair_html(prompt, *responses)
        return response_html(prompt, responses[0] if responses else " ...")


def labelling_desk(items, store, world=None):
    """Show the desk for items (dicts "prompt", "responses") with the labels going to `store`.

    Works by keyboard: letters in the Key box, all else by Tab, arrows and Enter. Opened again, it
    goes on at the first text without a label. world: a `World`, for remarks that fit each text.
    """
    return DeskView(Desk(items, store), world)
