"""Make one HTML page of every notebook, in which the sliders over recorded runs work.

    python notebooks/make_pages.py [--out pages] [--source URL] [NAME ...]

Without names it makes all, solutions and an index included. A page carries its pictures, its style
and its script, asks no network, and needs no kernel. --source: where the files of the course lie,
for links to what has no page. A page shows the outputs that stand in its notebook and runs only the
cells that a widget rests on (frames.py); panels that train or sample say how to run them. Where
make_slides.py has written to the folder's `slides` before, the pages link to the talks.
"""

import argparse
import base64
import html
import json
import re
import time
from pathlib import Path

import frames
import jinja2
import matplotlib.pyplot as plt
import nbformat
from latex2mathml.converter import convert
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PARTS = HERE / "page"
COURSE = "RLHF, measured"
DEAD = "A widget: run the notebook to use it."  # what execute.py leaves of a widget
# What the last line of a widget's cell calls, and of which controls not all positions are kept.
RECORDED = {
    "[distance, picture])": {},
    "explore_runs(": {},
    "explore_push(": {},
    "explore_weight(": {},
    "explore_checked(": {},
    "explore_curve(": {"Lines of the prompt": 2, "Alignment [nats]": 2},
    "explore_dials(": {},
    "explore_price(": {},
    "explore_budget(": {},
    "explore_law(": {},
}
LIVE = {
    "explore_parrot(": "Here a box takes a prompt of yours, and the model goes on with it.",
    "labelling_desk(": "Here stands the desk at which you label pairs of texts.",
    "class_board(": "Here hangs the live board of a class.",
    "explore_score(": "Here a box takes a text of yours, and the reward model scores it.",
    "leash.view": "Here a policy is trained while you move the price of KL.",
    "blind_test(": "Here you judge two policies without knowing which is which.",
    "explore_attack(": "Here you try to make the live policy tell a secret.",
    "[slider, image])": "Here a slider runs over the live run of the cells above.",
}
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(PARTS), trim_blocks=True, keep_trailing_newline=False
)


# ---- prose ----


def mathml(latex, display):
    """Return LaTeX as MathML, which browsers draw by themselves; display: "inline" or "block".

    Raises ValueError for what the converter does not know.
    """
    try:
        found = convert(latex.strip(), display=display).replace(r"\_", "_")
    except Exception as error:
        raise ValueError(f"no MathML for {latex!r}: {error!r}; expected LaTeX") from error
    if "\\" in found:
        raise ValueError(f"no MathML for {latex!r}: an unknown command; expected LaTeX")
    # As operators, names of functions stand off from their neighbours.
    return re.sub(
        r"<mi>(log|ln|exp|max|min)</mi>", r'<mo lspace="0.17em" rspace="0.17em">\1</mo>', found
    )


class Renderer(IPythonRenderer):
    """Write Markdown as HTML with MathML, ids on headings, and links from page to page."""

    def __init__(self, follow):
        """Write links by `follow(target)`, which returns an address, or None for no link."""
        super().__init__(escape=False)
        self.follow = follow

    def block_math(self, body):
        """Write display math."""
        return mathml(body, "block")

    def inline_math(self, body):
        """Write math within a line."""
        return mathml(body, "inline")

    def latex_environment(self, name, body):
        """Write an environment as display math."""
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

    def heading(self, text, level, **attrs):
        """Write a heading with an id."""
        return f'<h{level} id="{slug(text)}">{text}</h{level}>\n'

    def link(self, text, url, title=None):
        """Write a link, or its text alone where it leads to nothing that can be read here."""
        address = self.follow(url)
        return f'<a href="{html.escape(address)}">{text}</a>' if address else text


def slug(text):
    """Return the id of a heading: its words, joined by dashes."""
    return "-".join(re.findall(r"\w+", frames.text_of(text).lower()))


def follower(folder, made, source):
    """Return what turns a link of a notebook into one of its page.

    folder: of the notebook; made: paths of the notebooks that get a page; source: the address
    before the path of a file, or None.
    """

    def follow(target):
        if re.match(r"https?:|#|mailto:", target):
            return target
        path, _, anchor = target.partition("#")
        found = (folder / path).resolve()
        if found in made:
            return path.removesuffix(".ipynb") + ".html" + (f"#{slug(anchor)}" if anchor else "")
        return f"{source}/{found.relative_to(ROOT).as_posix()}" if source else None

    return follow


def prose(source, follow):
    """Return Markdown as HTML, tables in boxes that scroll."""
    return scrolling(MarkdownWithMath(renderer=Renderer(follow)).render(source))


def scrolling(markup):
    """Put every table of a piece of HTML into a box that scrolls, by keyboard too."""
    box = '<div class="wide" tabindex="0" role="region" aria-label="table">'
    return re.sub(r"<table.*?</table>", lambda m: f"{box}{m[0]}</div>", markup, flags=re.DOTALL)


# ---- outputs ----


def plain(source):
    """Return a line of Markdown as plain text, of its math the letters."""
    source = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", source)
    source = re.sub(r"\\[td]?frac\{([^}]*)\}\{([^}]*)\}", r"(\1) / (\2)", source)
    text = re.sub(r"\\(text|mathbb|mathrm|[Bb]ig[lr]?)\b|\\[,;]|[*`#${}\\]", "", source)
    return " ".join(text.split())


def sentences(paragraph, least=40):
    """Return the first sentences of a paragraph of Markdown, `least` characters or more."""
    leads = r"^(What we see|Predict first|How to read it|Try (it|this))[.:]\s*"
    said = ""
    for part in re.split(r"(?<=[.!?:])\s", re.sub(leads, "", plain(paragraph))):
        if len(said) >= least:
            break
        said = f"{said} {part}".strip()
    return said


def caption(cells, at, number, section, alt=None):
    """Return the alt text of a figure: its number, its section, and what it shows, its `alt`.

    Without one, as a notebook stores it that another front end ran, its title, read off the code,
    and what is said of it in the prose below, else above.
    """
    if alt:
        return f"Figure {number}, in “{section}”. {alt}"
    said = re.findall(r"(?<!legend\()title(?:=|\(|=\()\s*\"([^\"{]+)\"", cells[at].source)[:1]
    for near, part in ((at + 1, 0), (at - 1, -1)):
        cell = cells[near] if near < len(cells) else cells[at]
        prose = cell.source.partition("<details>")[0] if cell.cell_type == "markdown" else ""
        if paragraphs := [p for p in prose.split("\n\n") if p.strip() and p[0] != "#"]:
            said.append(sentences(paragraphs[part]))
            break
    parts = [f"Figure {number}, in “{section}”", *filter(None, said)]
    return " ".join(part if part[-1] in ".!?" else f"{part.rstrip(':')}." for part in parts)


def output_html(output, alt):
    """Return one output of a cell as HTML; alt: the text for its picture."""
    if output.output_type == "stream":
        return f'<pre class="said">{html.escape(output.text.rstrip())}</pre>'
    data = output.data
    if "image/png" in data:
        png = data["image/png"].replace("\n", "")
        return (
            f'<figure><img loading="lazy" src="data:image/png;base64,{png}" '
            f'alt="{html.escape(alt)}"></figure>'
        )
    if "text/html" in data:
        return scrolling(data["text/html"])
    if "text/markdown" in data:
        return prose(data["text/markdown"], lambda target: target)
    return f'<pre class="said">{html.escape(data.get("text/plain", ""))}</pre>'


def code_html(source):
    """Return code, coloured, behind a line that opens it."""
    lines = source.strip().count("\n") + 1
    shown = Highlight2HTML()(source.strip())
    return (
        f'<details class="code"><summary>code, {lines} line{"s" * (lines > 1)}</summary>'
        f"{shown}</details>"
    )


# ---- widgets ----


def widget_html(found, name, key):
    """Return a recorded widget as HTML: controls, sentence, picture, cards, and its data.

    found: of `frames.record`; name: what a screen reader calls it; key: of its ids.
    """
    pictures = [base64.b64encode(p).decode() for p in found["pictures"]]
    starts = [c["start"] for c in found["controls"]]
    first = next(f for f in found["frames"]
                 if all(p is None or p == s for p, s in zip(f[0], starts)))  # fmt: skip
    thin = [f"{c['label']}, one in {c['step']}" for c in found["controls"] if c["step"] > 1]
    note = f"Recorded: {len(found['frames']):,} positions, each as the notebook draws it."
    if thin:
        note += f" Not all that the notebook has: {'; '.join(thin)}."
    data = json.dumps(found | {"pictures": pictures}, ensure_ascii=False, separators=(",", ":"))
    return ENVIRONMENT.get_template("widget.html").render(
        found | {"pictures": pictures}, first=first, name=name, key=key, note=note,
        data=data.replace("<", "\\u003c"),
    )  # fmt: skip


def live_html(sentence, path):
    """Return what stands in the place of a panel that needs a kernel."""
    command = f"jupyter lab {path.relative_to(ROOT).as_posix()}"
    return (
        f'<p class="live">{html.escape(sentence)} It needs a kernel: <code>{command}</code> '
        "opens it. What a page can show of it stands above.</p>"
    )


def kind_of(source, table):
    """Return the key of a table that the last line of a widget's cell holds, or None."""
    return next((key for key in table if key in source.rstrip().split("\n")[-1]), None)


# ---- pages ----


def contents(body):
    """Return the sections of a page as links, and the button that opens all code."""
    rows = "".join(
        f'<li><a href="#{name}">{html.escape(frames.text_of(text))}</a></li>'
        for name, text in re.findall(r'<h2 id="([^"]*)">(.*?)</h2>', body)
    )
    return (
        f'<details class="contents"><summary>Contents</summary><ol>{rows}</ol></details>\n'
        '<button type="button" class="all" aria-pressed="false" hidden>Show all code</button>'
    )


class Page:
    """Read one notebook and write its body; `lost` lists widgets that are pictures only."""

    def __init__(self, path, made, source=None):
        """Read the notebook at `path`; made, source: as in `follower`."""
        self.path, self.cells = path, nbformat.read(path, as_version=4).cells
        self.follow = follower(path.parent, made, source)
        self.section, self.figures, self.lost, self.widgets = "", 0, [], 0
        self.title = self.cells[0].source.split("\n")[0].lstrip("# ")

    def body(self):
        """Return the notebook as HTML."""
        parts = []
        for at, cell in enumerate(self.cells):
            if cell.cell_type == "markdown":
                parts.append(prose(cell.source, self.follow))
                heads = re.findall(r"^##? (.*)", cell.source, re.MULTILINE)
                self.section = plain(heads[-1]) if heads else self.section
            elif cell.cell_type == "code":
                parts.append(code_html(cell.source))
                parts += [f'<div class="outputs">{self.output(at, o)}</div>' for o in cell.outputs]
        return "\n".join([parts[0], contents("".join(parts)), *parts[1:]])

    def output(self, at, output):
        """Return one output of cell `at`; a widget as its recording, or as a note."""
        if output.get("data", {}).get("text/plain") != DEAD:
            self.figures += "image/png" in output.get("data", {})
            picture = output.get("metadata", {}).get("image/png", {})
            alt = caption(self.cells, at, self.figures, self.section, picture.get("alt"))
            return output_html(output, alt)
        source, name = self.cells[at].source, self.path.name
        if key := kind_of(source, LIVE):
            return live_html(LIVE[key], self.path)
        if (key := kind_of(source, RECORDED)) is None:
            self.lost.append(f"{name}, cell {at}: {source.rstrip().splitlines()[-1]}")
            return live_html("Here stands a widget.", self.path)
        self.widgets += 1
        found = frames.frames_of(self.cells, at, name, RECORDED[key])
        return widget_html(found, f"widget of “{self.section}”", f"w{self.widgets}")


def page_html(title, body, links, foot, index=False):
    """Return a whole page. links: (label, address) pairs; foot: a sentence of HTML."""
    styles = [HtmlFormatter(style=s).get_style_defs(".highlight") for s in ("default", "monokai")]
    css = (PARTS / "page.css").read_text(encoding="utf-8") + styles[0]
    css += f"\n@media (prefers-color-scheme: dark) {{\n{styles[1]}\n}}"
    css += "\n.highlight, .highlight pre { background: var(--box); }"
    return ENVIRONMENT.get_template("page.html").render(
        title=html.escape(title), body=body, links=links, foot=foot, css=css, index=index,
        script=(PARTS / "page.js").read_text(encoding="utf-8"),
    )  # fmt: skip


def links_of(path, made, decks=()):
    """Return the links of a page: index, neighbours, slides, solutions and back.

    made: all notebooks; decks: names of those that have slides.
    """
    if path.parent.name == "solutions":
        lesson = [("The notebook", f"../{path.stem}.html")] * (HERE / path.name in made)
        return [(COURSE, "../index.html"), *lesson]
    links, books = [(COURSE, "index.html")], [b for b in made if b.parent == HERE]
    place = books.index(path)
    for label, near in (("Before", place - 1), ("Next", place + 1)):
        if 0 <= near < len(books):
            links.append((f"{label}: {books[near].stem}", f"{books[near].stem}.html"))
    if path.stem in decks:
        links.append(("Slides", f"slides/{path.stem}.html"))
    if HERE / "solutions" / path.name in made:
        links.append(("Solutions", f"solutions/{path.stem}.html"))
    return links


def gallery(readme):
    """Return the pictures of the README's gallery with their captions, as HTML."""
    shown = []
    for alt, name, text in re.findall(
        r"!\[([^\]]*)\]\(notebooks/figures/([\w.]+)\)([^|\n]*)", readme
    ):
        png = base64.b64encode((HERE / "figures" / name).read_bytes()).decode()
        said = re.sub(r"</?p>", "", prose(text.strip() or f"{alt}.", lambda target: None))
        shown.append(
            f'<figure><img loading="lazy" src="data:image/png;base64,{png}" '
            f'alt="{html.escape(alt)}"><figcaption>{said}</figcaption></figure>'
        )
    return f'<div class="gallery">{"".join(shown)}</div>'


def index_html(pages):
    """Return the index: every notebook with its promise, and the gallery. pages: of lessons."""
    rows = []
    for page in pages:
        promise = prose(page.cells[0].source.split("\n\n")[1].strip("*"), lambda target: None)
        works = ' <span class="works">sliders work</span>' if page.widgets else ""
        rows.append(
            f'<li><a href="{page.path.stem}.html">{html.escape(page.title)}</a>{works}<br>'
            f"<span>{re.sub('</?p>', '', promise)}</span></li>"
        )
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    body = (
        f"<h1>{COURSE}</h1><p>A course in Jupyter notebooks: RLHF from end to end on a tiny GPT-2, "
        "every policy measured against an exact optimum. These pages are for reading: the sliders "
        "over recorded runs work as they are; to train something, run the notebooks.</p>"
        f'<h2>Notebooks</h2><ol class="books">{"".join(rows)}</ol>'
        f"<h2>What it finds</h2>{gallery(readme)}"
    )
    foot = "Every page is one file: it carries its pictures and asks no network."
    return page_html(COURSE, body, [], foot, index=True)


def main(names, out, source):
    """Write the pages of the notebooks (all if none is named) to the folder `out`.

    source: the address before the path of a file, or None. Ends where a name is of no notebook.
    """
    known = [*sorted(HERE.glob("[0-9]*.ipynb")), *sorted(HERE.glob("solutions/*.ipynb"))]
    books = [Path(name).resolve() for name in names] or known
    if strange := [str(name) for name, path in zip(names, books) if path not in known]:
        raise SystemExit(f"{strange[0]} is no notebook of the course; expected one of {HERE}")
    plt.switch_backend("agg")
    pages, decks = [], {p.stem for p in (out / "slides").glob("*.html")}
    for path in books:
        start, page = time.time(), Page(path, books, source)
        command = f"jupyter lab {path.relative_to(ROOT).as_posix()}"
        foot = f"Made from {path.name}. To run it: <code>{command}</code>."
        text = page_html(page.title, page.body(), links_of(path, books, decks), foot)
        target = out / path.relative_to(HERE).with_suffix(".html")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        pages.append(page)
        print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, {time.time() - start:.0f} s")
    index = out / "index.html"
    index.write_text(index_html([p for p in pages if p.path.parent == HERE]), encoding="utf-8")
    for lost in (x for page in pages for x in page.lost):
        print(f"shown as a picture only: {lost}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="notebooks; all if none is named")
    parser.add_argument("--out", type=Path, default=ROOT / "pages", help="folder for the pages")
    parser.add_argument("--source", help="address before the path of a file of the course")
    options = parser.parse_args()
    main(options.names, options.out, options.source)
