"""Make one HTML file of slides of every notebook: the talk that slides.py chose, without a kernel.

    python notebooks/make_slides.py [--out slides] [NAME ...]

Without names it makes all lessons. A file carries its pictures, its style and its script, and asks
no network; recorded widgets work in it, panels that train or sample say how to run them. Arrow keys
turn the slides, Esc shows all of them, and printing gives one slide a page. It leaves out code; the
foot of a slide names the cell that stands behind it.
"""

import argparse
import base64
import io
import re
import time
from pathlib import Path

import frames
import make_pages
import matplotlib.pyplot as plt
import slides
from PIL import Image

WIDE = 2.05  # a picture broader than so many times its height stands below the prose
COLUMNS = 62  # so does a print of longer lines
MANY = 5  # and one of fewer lines
CARDS = 4  # of texts in one column
BROADEST = 120  # characters of a printed line that is not broken
FEW = 2  # lines of print that stand below a picture


class Deck(make_pages.Page):
    """Read one notebook as slides; `lost` lists widgets that are pictures only."""

    def __init__(self, path):
        """Read the notebook at `path`."""
        super().__init__(path, [])
        self.follow = lambda target: target if target.startswith("http") else None
        self.deck = []

    def slides(self):
        """Return the slides as the template takes them.

        Each: layout, running (the section that it belongs to), prose, shown, later, answers, cell.
        """
        for at, cell in enumerate(self.cells):
            kind = self.type_of(at)
            if cell.cell_type == "markdown":
                heads = re.findall(r"^## (.*)", cell.source, re.MULTILINE)
                section = make_pages.plain(heads[-1]) if heads else self.section
                if kind not in ("skip", "notes"):
                    self.tell(at, kind, section)
                self.section = section
            elif kind not in ("skip", "notes"):
                self.show(at, kind)
            elif cell.cell_type == "code":
                self.figures += sum("image/png" in o.get("data", {}) for o in cell.outputs)
        return self.deck

    def begin(self, at, layout="text"):
        """Begin a slide at cell `at`."""
        head = {"layout": layout, "running": "", "prose": [], "shown": "", "later": False}
        self.deck.append(head | {"answers": [], "answered": 0, "cell": at})
        return self.deck[-1]

    def html(self, source):
        """Return Markdown as HTML."""
        return make_pages.prose(source, self.follow)

    def tell(self, at, kind, section):
        """Put a Markdown cell on the slides: its answer on the one before, the rest on its own."""
        source, fresh = self.cells[at].source, kind in ("slide", "subslide")
        answer, rest = ("", source) if kind == "-" else slides.parts_of(source)
        folded = answer.startswith("<details>")
        if answer and fresh and not (rest or folded):
            answer, rest = "", answer
        if answer and (not fresh or self.wanted(at, folded)):
            self.answer(at, answer)
        rest = slides.END.split(rest)[0].strip()
        if not rest or (answer and not fresh):
            return
        if fresh:
            for part in halves(rest):
                slide = self.begin(at, "title" if at == 0 else "text")
                slide["running"] = "" if part.startswith("#") else section
                slide["prose"].append(self.html(part))
        elif self.deck[-1]["shown"]:
            self.answer(at, rest)
        else:
            self.deck[-1]["prose"].append(self.html(rest))

    def wanted(self, at, folded):
        """Whether the slides hold what cell `at` answers: the question, or the output it reads.

        folded: whether it answers a question.
        """
        above = range(at - 1, 0, -1)
        if folded:
            asked = (n for n in above if slides.ASKS.search(self.cells[n].source))
            return self.type_of(next(asked, at)) not in ("skip", "notes")
        return next(n for n in above if self.cells[n].cell_type == "code") == self.deck[-1]["cell"]

    def type_of(self, at):
        """Return the slide type of cell `at`; a cell that has none is skipped."""
        return slides.held(self.cells[at]) or "skip"

    def answer(self, at, source):
        """Put an answer below what it answers; a long one on a slide of its own."""
        bare = re.sub(r"</?details>|<summary>.*?</summary>", "", source).strip()
        above = self.deck[-1]
        room = slides.WORDS - above["answered"]
        if above["layout"] not in ("title", "widget-slide") and len(bare.split()) <= room:
            above["answers"].append(self.html(bare))
            above["answered"] += len(bare.split())
            return
        slide = self.begin(at)
        slide["running"] = self.section
        slide["prose"].append(self.html(bare))

    def show(self, at, kind):
        """Put the outputs of cell `at` on the slide."""
        cell, slide = self.cells[at], self.deck[-1]
        if kind == "slide" or slide["shown"]:
            slide = self.begin(at)
            slide["running"] = self.section
        # A result that moved on for want of height stands by its question here, and waits.
        slide["later"], slide["cell"] = kind in ("fragment", "subslide"), at
        said = [o for o in cell.outputs if o.output_type == "stream"]
        drawn = [o for o in cell.outputs if o not in said and seen(o)]
        slide["layout"] = layout_of(cell)
        # A widget says its numbers itself.
        few = slides.lines_of(cell) <= FEW and slide["layout"] not in ("widget-slide", "verdicts")
        found = [self.output(at, o) for o in drawn + said * (few or not drawn)]
        slide["shown"] = "".join(found).replace(' loading="lazy"', "")
        broadest = COLUMNS if slide["layout"] == "split" else BROADEST
        if max((len(x) for o in said for x in o.text.split("\n")), default=0) <= broadest:
            slide["shown"] = slide["shown"].replace('<pre class="said', '<pre class="whole said')
        if slides.kind_of(cell) == "html":
            many = " many" * (slide["shown"].count("<div") > CARDS)
            slide["shown"] = f'<div class="outputs-cards{many}">{slide["shown"]}</div>'
        if size := size_of(cell):
            style = f'<img style="--ratio: {size[0] / size[1]:.3f}"'
            slide["shown"] = slide["shown"].replace("<img", style)


def seen(output):
    """Whether an output is more than the plain text of a value that a plot returned."""
    data = output.get("data", {})
    return len(data) > 1 or data.get("text/plain") == make_pages.DEAD or "image/png" in data


def size_of(cell):
    """Return (width, height) of the picture that a cell drew, or None."""
    for output in cell.outputs:
        if "image/png" in output.get("data", {}):
            png = base64.b64decode(output["data"]["image/png"])
            return Image.open(io.BytesIO(png)).size
    return None


def halves(source):
    """Split a long question: what leads to it, and the question, which stands by its result."""
    blocks = re.split(r"\n\n+", source)
    at = next((n for n, b in enumerate(blocks) if slides.ASKS.search(b)), len(blocks))
    lead = "\n\n".join(blocks[:at])
    if at in (0, len(blocks)) or slides.words(source) <= slides.WORDS or len(lead.split()) < 30:
        return [source]
    return [lead, "\n\n".join(blocks[at:])]


def layout_of(cell):
    """Return "split" for what stands beside the prose, else "stack", "widget-slide", "verdicts"."""
    kind = slides.kind_of(cell)
    if kind in ("widget", "verdicts"):
        return {"widget": "widget-slide"}.get(kind, kind)
    if kind == "print":
        text = "".join(o.text for o in cell.outputs if o.output_type == "stream").split("\n")
        return "split" if max(map(len, text)) <= COLUMNS and len(text) > MANY else "stack"
    size = size_of(cell)
    return "split" if size and size[0] / size[1] < WIDE else "stack"


def deck_html(path):
    """Return (HTML of the slides of the notebook at `path`, widgets that are pictures only)."""
    deck = Deck(path)
    parts = make_pages.PARTS
    css = "".join((parts / f"{n}.css").read_text(encoding="utf-8") for n in ("page", "deck"))
    script = "".join((parts / f"{n}.js").read_text(encoding="utf-8") for n in ("page", "deck"))
    text = make_pages.ENVIRONMENT.get_template("deck.html").render(
        title=frames.html.escape(deck.title), slides=deck.slides(), css=css,
        script=script.replace('"use strict";\n', ""),
    )  # fmt: skip
    return text, deck.lost


def main(names, out):
    """Write the slides of the notebooks (all lessons if none is named) to the folder `out`."""
    known = sorted(make_pages.HERE.glob("[0-9]*.ipynb"))
    books = [Path(name).resolve() for name in names] or known
    if strange := [str(name) for name, path in zip(names, books) if path not in known]:
        raise SystemExit(f"{strange[0]} is no lesson; expected one of {make_pages.HERE}")
    plt.switch_backend("agg")
    out.mkdir(parents=True, exist_ok=True)
    for path in books:
        start, target = time.time(), out / f"{path.stem}.html"
        text, lost = deck_html(path)
        target.write_text(text, encoding="utf-8")
        print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, {time.time() - start:.0f} s")
        for line in lost:
            print(f"shown as a picture only: {line}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="notebooks; all lessons if none is named")
    parser.add_argument("--out", type=Path, default=make_pages.ROOT / "slides", help="folder")
    options = parser.parse_args()
    main(options.names, options.out)
