"""Choose how the cells of a notebook appear in a talk: the slide type of every cell.

    python notebooks/slides.py [--anew | --check] [NAME ...]

Writes metadata.slideshow.slide_type, which JupyterLab's property inspector edits and which
jupyterlab-deck presents. A talk takes 30 to 45 minutes: title, question, "Predict first", the
result and its answer as fragments, the widget, take-aways; setup, derivations, exercises and
references are skipped. Without --anew only cells without a type get one; with it all do, but for
those tagged slide-by-hand. --check writes nothing and lists what is wrong with a talk.
make_slides.py writes the same talks as files of their own.
"""

import argparse
import ast
import base64
import itertools
import re
import sys
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
TYPES = ("slide", "subslide", "fragment", "skip", "notes", "-")
BY_HAND = "slide-by-hand"
SETUP = 2  # cells 1 and 2 of a notebook are its setup and its notation
FEWEST, MOST = 10, 30  # slides of a talk: one and a half to three minutes each
WORDS = 100  # of a heading and a question that share a slide, or of an answer beside its result
LINES = 16  # of printed text on a slide
BETS = 9  # verdicts on a slide
SCREEN = 800  # pixels of a slide: 1280 x 720 at 90%, 1920 x 1080 at 130%
WIDGET_HEIGHT = 480
DEAD = "A widget: run the notebook to use it."  # what execute.py leaves of a widget
ASKS = re.compile(r"Predict first|\*\*?Try (it|this)?\b|\*Try\*|\*\*Before you", re.IGNORECASE)
WIDGET = re.compile(r"explore_|class_board|View\(|labelling_desk\(|blind_test\(|leash\.view")
END = re.compile(r"^## (What we left out|Exercises|References)", re.MULTILINE)
RANKS = ("widget", "figure", "html", "verdicts", "print")  # of results, the best first
DRAWN = RANKS[:4]


# ---- what a cell is ----


def held(cell):
    """Return the slide type that a cell has, None where it has none.

    "-", which goes on with the slide, is null in the file: jupyterlab-deck hides a cell marked "-".
    """
    found = cell.metadata.get("slideshow", {})
    return (found["slide_type"] or "-") if "slide_type" in found else None


def parts_of(source):
    """Return (answer, rest) of a piece of Markdown: what answers the cells above, what goes on."""
    if source.startswith("<details>"):
        answer, _, rest = source.partition("</details>")
        return answer + "</details>", rest.strip()
    if source.startswith("**What we see"):
        blocks = source.split("\n\n")
        goes_on = (n for n, b in enumerate(blocks) if b.startswith("## ") or ASKS.search(b))
        at = next(goes_on, len(blocks))
        return "\n\n".join(blocks[:at]), "\n\n".join(blocks[at:])
    return "", source


def called(source):
    """Return the names of what a code cell calls outside of the functions that it defines."""

    def below(node):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            yield node
            for child in ast.iter_child_nodes(node):
                yield from below(child)

    calls = [n.func for n in below(ast.parse(source)) if isinstance(n, ast.Call)]
    return {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls}


def kind_of(cell):
    """Return what a code cell shows: a kind of RANKS, "bets", "many verdicts", or None.

    Read off its source, so that it is known before the notebook has run; what only a helper draws
    or prints is read off the outputs.
    """
    if WIDGET.search(cell.source.rstrip().split("\n")[-1]):
        return "widget"
    names = called(cell.source)
    if "predictions_html" in names:
        if "verdict" not in cell.source:
            return "bets"
        rows = "".join(o.get("data", {}).get("text/html", "") for o in cell.outputs).count("<tr")
        return "verdicts" if rows <= BETS + 1 else "many verdicts"
    data = {key for output in cell.outputs for key in output.get("data", {"print": 0})}
    if "subplots" in names or any(n.startswith("plot_") for n in names) or "image/png" in data:
        return "figure"
    if "HTML" in names:
        return "html"
    return "print" if "print" in names or "print" in data else None


def lines_of(cell):
    """Return how many lines a code cell has printed, or its prints before it has run."""
    said = [o.text.rstrip().count("\n") + 1 for o in cell.outputs if o.output_type == "stream"]
    return sum(said) if cell.outputs else cell.source.count("print(")


# ---- acts ----


class Act:
    """Hold a question, the cells that work on it, and what answers it, as numbers of cells."""

    def __init__(self, cells, start):
        """Open an act at the Markdown cell `start`."""
        self.cells, self.start, self.rest = cells, start, parts_of(cells[start].source)[1]
        self.code, self.prose, self.joined = [], [], []

    @property
    def head(self):
        """The marks of the heading that it opens with, "" where there is none."""
        found = re.search(r"^(##+) ", self.rest, re.MULTILINE)
        return found[1] if found else ""

    @property
    def asks(self):
        """Whether it asks for a prediction, or to try something."""
        return any(ASKS.search(self.cells[n].source) for n in (self.start, *self.joined))

    @property
    def result(self):
        """The code cell whose output it shows, or None."""
        told = [n for n in self.prose if self.cells[n].source.startswith("<details>")]
        code = [n for n in self.code if not told or n < told[0]]
        for kind in RANKS if self.head or self.asks else DRAWN:
            for n in code:
                if kind_of(self.cells[n]) == kind and self.short(n, kind):
                    return n
        return None

    @property
    def closed(self):
        """Whether its result is all it wants: a print below a question waits for the answer."""
        told = any(self.cells[n].source.startswith("<details>") for n in self.prose)
        return told or not self.asks or kind_of(self.cells[self.result]) in DRAWN

    def short(self, n, kind):
        """Whether what cell `n` prints or lists fits on a slide."""
        return (
            lines_of(self.cells[n]) <= LINES if kind == "print" else height(self.cells[n]) <= SCREEN
        )

    @property
    def told(self):
        """Whether a talk has it: it shows something, or opens a section that lists no bets."""
        kinds = {kind_of(self.cells[n]) for n in self.code}
        return self.result is not None or (bool(self.head) and "bets" not in kinds)

    @property
    def weight(self):
        """How much a talk would lose without it; acts of the least weight go first."""
        kind = kind_of(self.cells[self.result]) if self.result else None
        worth = {"widget": 9, "figure": 6, "html": 3, "print": 1}.get(kind, 0)
        return worth + 4 * self.asks + len(self.head)

    def types(self):
        """Return {cell: slide type} of the cells that a talk shows."""
        found = {self.start: "slide" if self.head == "##" else "subslide"}
        found |= dict.fromkeys(self.joined, "-")
        free = (WORDS if self.result else 2 * WORDS) - words(self.rest)
        for n in self.prose[::-1]:
            count = words(self.cells[n].source)
            folded = self.cells[n].source.startswith("<details>")
            if folded or (self.result is not None and n > self.result):
                if folded or self.answers(n):
                    found[n] = "subslide" if count > WORDS else "fragment"
            elif not (self.asks and self.result):
                free -= count
                found |= {n: "-"} if free >= 0 else {}
        if self.result is not None:
            others = (n for n in self.code if kind_of(self.cells[n]) == "widget")
            found |= dict.fromkeys(others, "subslide")
            found[self.result] = "fragment" if self.asks else "-"
        return found

    def answers(self, n):
        """Whether Markdown cell `n`, below the result, speaks of it and not of what comes next."""
        between = [kind_of(self.cells[k]) for k in self.code if self.result < k < n]
        leads = self.cells[n + 1].cell_type == "code" and not parts_of(self.cells[n].source)[0]
        return not leads and not set(between) & set(DRAWN)


def acts_of(cells, end):
    """List the acts of the cells between the notation and number `end`."""
    acts = []
    for n in range(SETUP + 1, end):
        if cells[n].cell_type == "code":
            acts[-1].code.append(n)
            continue
        fresh = Act(cells, n)
        answers = cells[n].source.startswith("<details>")
        done = acts and acts[-1].result is not None and (answers or acts[-1].closed)
        further = done and leads_to_a_picture(cells, n)
        if not acts or fresh.head or (fresh.rest and fresh.asks) or further:
            acts.append(fresh)
        else:
            acts[-1].prose.append(n)
    return joined(acts)


def leads_to_a_picture(cells, n):
    """Whether something drawn follows Markdown cell `n` before the next one."""
    below = itertools.takewhile(lambda cell: cell.cell_type == "code", cells[n + 1 :])
    return bool({kind_of(cell) for cell in below} & {*DRAWN, "many verdicts"})


def words(source):
    """Return the number of words that a piece of Markdown shows, answers folded."""
    return len(re.sub(r"<details>.*?</details>", "", source, flags=re.DOTALL).split())


def joined(acts):
    """Put a question into the act of the heading above it, where both are short."""
    kept = []
    for act in acts:
        above = kept[-1] if kept else None
        free = above and above.head and not (above.result or act.head or above.asks)
        if free and words(above.rest) + words(act.rest) <= WORDS:
            above.joined.append(act.start)
            above.code += act.code
            above.prose += act.prose
        else:
            kept.append(act)
    return kept


# ---- types ----


def types_of(cells):
    """Return the slide type of each cell of a notebook, by rule."""
    types = ["skip"] * len(cells)
    away = next(n for n, c in enumerate(cells) if c.source.startswith("## Take-aways"))
    types[0] = types[away] = "slide"
    acts = [act for act in acts_of(cells, away) if act.told]
    while len(acts) > MOST - 2:
        acts.remove(min(acts, key=lambda act: act.weight))
    for act in acts:
        for n, kind in act.types().items():
            types[n] = kind
    return moved_on(cells, types)


def moved_on(cells, types):
    """Give a slide of its own to a result, or to an answer in prose, that would not fit."""
    used = 0
    for n, (cell, kind) in enumerate(zip(cells, types)):
        if kind == "skip":
            continue
        used = height(cell) + (used if kind in ("fragment", "-") else 0)
        folded = cell.source.startswith("<details>") and not parts_of(cell.source)[1]
        if kind in ("fragment", "-") and not folded and used > SCREEN:
            types[n], used = "subslide", height(cell)
    return types


# ---- what fits ----


def height(cell):
    """Return about how many pixels a cell takes in jupyterlab-deck, code and answers folded."""
    if cell.cell_type == "markdown":
        text = re.sub(r"<details>.*?</details>", "answer", cell.source, flags=re.DOTALL)
        blocks = text.split("\n\n")
        lines = sum(-(-len(line) // 150) for line in text.split("\n"))
        heads = len(re.findall(r"^#+ ", text, re.MULTILINE))
        return 8 + 22 * lines + 14 * (len(blocks) - 1) + 22 * heads + 12 * text.count("$$")
    return 20 + sum(map(output_height, cell.outputs))


def output_height(output):
    """Return about how many pixels an output takes."""
    if output.output_type == "stream":
        return 17 * (output.text.rstrip().count("\n") + 1) + 8
    if "image/png" in output.get("data", {}):
        # The height of a PNG stands in its header.
        return int.from_bytes(base64.b64decode(output.data["image/png"][:64])[20:24], "big") + 8
    if found := output.get("data", {}).get("text/html"):
        boxes, rows = found.count("<div"), found.split("<tr")[1:]
        longest = [max(len(re.sub("<[^>]+>", "", c)) for c in r.split("<t")) for r in rows]
        return sum(28 + 17 * (n // 70) for n in longest) + 19 * found.count("<br") + 32 * boxes
    return WIDGET_HEIGHT if output.get("data", {}).get("text/plain") == DEAD else 0


def slides_of(cells):
    """List the slides of a notebook that has types, each a list of numbers of cells."""
    found = []
    for n, cell in enumerate(cells):
        kind = held(cell)
        if kind in ("slide", "subslide"):
            found.append([n])
        elif kind in ("fragment", "-") and found:
            found[-1].append(n)
    return found


def faults_of(cells):
    """List what is wrong with the talk of a notebook, in sentences."""
    types = [held(cell) for cell in cells]
    found = [
        f"cell {n} has the type {kind!r}; expected one of {', '.join(TYPES)}"
        for n, kind in enumerate(types) if kind not in TYPES
    ]  # fmt: skip
    talk = slides_of(cells)
    if not FEWEST <= len(talk) <= MOST:
        found.append(f"{len(talk)} slides; expected {FEWEST} to {MOST}")
    by_hand = {n for n, cell in enumerate(cells) if BY_HAND in cell.metadata.get("tags", [])}
    for slide in (s for s in talk if not by_hand & set(s)):
        if (used := sum(height(cells[n]) for n in slide)) > SCREEN:
            found.append(f"the slide of cell {slide[0]} takes {used} px; expected {SCREEN} at most")
        above = [n for other in talk for n in other if n < slide[0]]
        prose = [n for n in (*above[-1:], *slide) if cells[n].cell_type == "markdown"]
        if not prose:
            found.append(f"cell {slide[0]} stands far from its question; expected it just above")
    away = next(n for n, c in enumerate(cells) if c.source.startswith("## Take-aways"))
    for n in (1, 2, *range(away + 1, len(cells))):
        if types[n] != "skip":
            found.append(f"cell {n} is setup or homework, and {types[n]!r}; expected 'skip'")
    return found


def write(path, anew=False):
    """Give the cells of a notebook their types; return how many changed.

    anew: also those that have one, but for cells tagged slide-by-hand.
    """
    book, changed = nbformat.read(path, as_version=4), 0
    for cell, kind in zip(book.cells, types_of(book.cells)):
        old = held(cell)
        if old == kind or (old and (not anew or BY_HAND in cell.metadata.get("tags", []))):
            continue
        cell.metadata["slideshow"] = {"slide_type": None if kind == "-" else kind}
        changed += 1
    if changed:
        nbformat.write(book, path)
    return changed


def main(names, anew, check):
    """Write the types of the notebooks (all lessons if none is named), or list their faults."""
    faults = 0
    for path in [Path(n) for n in names] or sorted(HERE.glob("[0-9]*.ipynb")):
        if not check:
            print(f"{path.name}: {write(path, anew)} types set")
        cells = nbformat.read(path, as_version=4).cells
        for fault in faults_of(cells):
            faults += 1
            print(f"{path.name}: {fault}")
    return bool(faults and check)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="notebooks; all lessons if none is named")
    parser.add_argument("--anew", action="store_true", help="also cells that have a type")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where a talk fails")
    options = parser.parse_args()
    sys.exit(main(options.names, options.anew, options.check))
