"""Record what a widget of a notebook shows at every position of its controls.

The widget is made by the notebook's own cells: its cell and, of the cells above, the statements
that give it its names. So nothing is drawn twice, and a page can show what the notebook would.
Omits boxes for text: what a reader may type cannot be recorded. Used by make_pages.py.
"""

import ast
import contextlib
import html
import io
import re
import symtable
from unittest import mock

from rlhf_lite import show

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

SETUP = 1  # the cell in which every notebook imports and seeds
SCALES = (ipywidgets.IntSlider, ipywidgets.FloatSlider)
CHOICES = (ipywidgets.SelectionSlider, ipywidgets.Dropdown, ipywidgets.ToggleButtons)


# ---- the cells that make it ----


def names_of(source):
    """Return (given, changed, used) names of a statement: bound, assigned into, and read."""
    table = symtable.symtable(source, "<statement>", "exec")
    symbols = table.get_symbols()
    given = {s.get_name() for s in symbols if s.is_assigned() or s.is_imported()}
    used = {s.get_name() for s in symbols if s.is_referenced()}
    below = table.get_children()
    while below:
        inner = below.pop()
        below += inner.get_children()
        used |= {s.get_name() for s in inner.get_symbols() if s.is_global()}
    changed = {
        node.value.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Subscript | ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
    }
    return given, changed, used


def statements_of(cells):
    """List (source, given, changed, used) of every statement of the code cells, in order."""
    return [
        (part, *names_of(part))
        for cell in cells
        if cell.cell_type == "code"
        for node in ast.parse(cell.source).body
        for part in [ast.get_source_segment(cell.source, node)]
    ]


def sources_for(cells, at):
    """List what must run before cell `at`: the setup cell, and the statements that it rests on.

    cells: of a notebook, as nbformat reads them.
    """
    above = statements_of(cells[SETUP + 1 : at])
    # A function reads its names when it is called, so they may be bound below it.
    reads = {
        name: used for part, given, _, used in above if part.startswith("def ") for name in given
    }

    def widened(names):
        more = set().union(names, *(reads.get(name, ()) for name in names))
        return names if more == names else widened(more)

    needed, kept = widened(names_of(cells[at].source)[2]), []
    for part, given, changed, used in above[::-1]:
        if (given | changed) & needed:
            kept.append(part)
            needed = widened((needed - given) | used)
    return [cells[SETUP].source, *kept[::-1]]


def frames_of(cells, at, name, steps=None):
    """Run cell `at` behind what it rests on, and return all that its widget can show.

    name: of the notebook, for messages; steps: as in `record`, which says what comes back. Raises
    ValueError where the cell does not end in a widget.
    """
    *body, last = ast.parse(cells[at].source).body
    space, titles, plain = {"display": lambda *_: None}, {}, show.figure_png

    def titled(figure):
        said = [ax.get_title(side) for ax in figure.axes for side in ("left", "center")]
        png = plain(figure)
        titles[png] = "; ".join(filter(None, said))
        return png

    # A cell that draws by itself has no sentence; the titles of its figures stand in for one.
    caught = mock.patch.object(show, "figure_png", titled)
    with caught, plt.rc_context(), contextlib.redirect_stdout(io.StringIO()):
        for source in sources_for(cells, at):
            exec(compile(source, name, "exec"), space)
        exec(compile(ast.Module(body, []), name, "exec"), space)
        view = eval(compile(ast.Expression(last.value), name, "eval"), space)
        plt.close("all")
        if not isinstance(view, ipywidgets.Widget):
            kind = type(view).__name__
            raise ValueError(f"{name}, cell {at}: it ends in {kind}; expected a widget")
        return record(view, titles, steps)


# ---- its controls ----


def parts_of(view, kinds):
    """List the widgets of some kinds in a view, in the order in which they stand."""
    inside = [p for child in getattr(view, "children", ()) for p in parts_of(child, kinds)]
    return [view, *inside] if isinstance(view, kinds) else inside


def positions_of(control):
    """Return (values, labels, index of the value that it has now) of a bounded control."""
    if isinstance(control, SCALES):
        count = round((control.max - control.min) / control.step) + 1
        values = [control.min + k * control.step for k in range(count)]
        if isinstance(control, ipywidgets.FloatSlider):
            values = [round(value, 9) for value in values]
        start = int(np.argmin([abs(v - control.value) for v in values]))
        return values, [f"{v:g}" for v in values], start
    pairs = [o if isinstance(o, tuple) else (str(o), o) for o in control.options]
    return [v for _, v in pairs], [str(label) for label, _ in pairs], control.index


def described(control):
    """Return a control as the page is to draw it, without its positions."""
    kind = {ipywidgets.Dropdown: "select", ipywidgets.ToggleButtons: "radio"}
    return {"kind": kind.get(type(control), "range"), "label": control.description or "show"}


# ---- what it shows ----


def text_of(markup):
    """Return what a reader sees of a piece of HTML, as one line."""
    broken = re.sub(r"<br>|</(p|div|li|td)>", " ", markup)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", broken)).split())


def lighter(png, colours=64):
    """Return a PNG with so few colours, about a quarter of its size."""
    image, buffer = Image.open(io.BytesIO(png)).convert("RGB"), io.BytesIO()
    few = image.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=1)
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


class Recorder:
    """Move a view through all positions, and keep pictures, texts and cards, each once."""

    def __init__(self, view, titles, steps):
        """Find the controls of a view.

        titles: {picture: what its axes say}; steps: {label: keep every so many positions}.
        """
        self.view, self.titles = view, titles
        self.controls = parts_of(view, (*SCALES, *CHOICES))
        self.said = parts_of(view, ipywidgets.HTML)
        [self.picture] = parts_of(view, ipywidgets.Image)
        self.plans = [self._plan(c, steps.get(c.description, 1)) for c in self.controls]
        self.frames, self.pictures, self.cards = [], {}, {}

    def _plan(self, control, step):
        values, labels, start = positions_of(control)
        kept = [k for k in range(len(values)) if (k - start) % step == 0]
        return [values[k] for k in kept], [labels[k] for k in kept], kept.index(start), step

    def walk(self, number=0, places=()):
        """Set the controls from `number` on to each of their positions, the hidden ones to none."""
        if number == len(self.controls):
            self.frames.append(self.frame(places))
            return
        control, (values, *_) = self.controls[number], self.plans[number]
        if control.layout.display == "none":
            self.walk(number + 1, (*places, None))
            return
        for place, value in enumerate(values):
            control.value = value
            self.walk(number + 1, (*places, place))

    def frame(self, places):
        """Return [places, picture, text, cards] of what is shown now, pictures as numbers."""
        png = bytes(self.picture.value)
        picture = self.pictures.setdefault(png, len(self.pictures))
        below = self.said[1].value if len(self.said) > 1 else ""
        cards = self.cards.setdefault(below, len(self.cards))
        said = text_of(self.said[0].value) if self.said else self.named(places, png)
        return [list(places), picture, said, cards]

    def named(self, places, png):
        """Return what the controls say and the title of the picture, for want of a sentence."""
        settings = [
            f"{control.description} {labels[place]}".strip()
            for control, (_, labels, *_), place in zip(self.controls, self.plans, places)
            if place is not None
        ]
        return ": ".join(filter(None, (", ".join(settings), self.titles.get(png))))


def record(view, titles=None, steps=None):
    """Return all that a view can show, as JSON would have it.

    controls: kind, label, options, start, step (1 where every position is kept); frames: [places of
    the controls, None for a hidden one; number of its picture, sentence, number of its cards];
    pictures: PNG, cards: HTML. Raises ValueError where a view has no bounded control or not one
    picture.
    """
    if len(parts_of(view, ipywidgets.Image)) != 1 or not parts_of(view, (*SCALES, *CHOICES)):
        raise ValueError("the widget has not one picture under bounded controls; expected that")
    recorder = Recorder(view, titles or {}, steps or {})
    recorder.walk()
    controls = [
        described(control) | {"options": labels, "start": start, "step": step}
        for control, (_, labels, start, step) in zip(recorder.controls, recorder.plans)
    ]
    return {
        "controls": controls,
        "frames": recorder.frames,
        "pictures": [lighter(png) for png in recorder.pictures],
        "cards": list(recorder.cards),
    }
