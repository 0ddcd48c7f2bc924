"""Pages for readers: whole without a network, equal to their notebooks, sliders that work without a kernel."""

import base64
import json
import re
from html.parser import HTMLParser

from rlhf_lite.runtime import ROOT

import frames
import ipywidgets
import make_pages
import nbformat
import pytest
import yaml
from browser import browser_fixture, needs_chromium, wait  # noqa: F401
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

LESSON = ROOT / "notebooks" / "07_helpful_vs_harmless.ipynb"
SOLUTION = ROOT / "notebooks" / "solutions" / LESSON.name
LESSONS = sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))
SHOWN = """const w = document.querySelector('.widget');
return {picture: w.querySelector('img').src, said: w.querySelector('[role=status]').textContent,
        alt: w.querySelector('img').alt, cards: w.querySelector('.cards').textContent}"""


def cells_of(*sources):
    """Cells as a notebook has them: a title, a setup cell, and these."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return [nbformat.v4.new_markdown_cell("# Title"), *cells]


class Reader(HTMLParser):
    """What a page asks for, and where its links lead."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.ids += [attrs["id"]] if "id" in attrs else []

    def asked(self):
        """All that a browser would load by itself."""
        for tag, attrs in self.tags:
            if tag != "a":
                yield from (attrs[k] for k in ("src", "srcset", "href", "data") if k in attrs)


def widgets_of(page):
    return [json.loads(text) for text in re.findall(
        r'<script type="application/json">(.*?)</script>', page, re.DOTALL)]  # fmt: skip


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    out = tmp_path_factory.mktemp("pages")
    make_pages.main([LESSON, SOLUTION], out, None)
    return out


@pytest.fixture(scope="module")
def page(pages):
    return (pages / LESSON.with_suffix(".html").name).read_text(encoding="utf-8")


class TestAPage:
    def test_asks_for_nothing(self, pages):
        for path in pages.rglob("*.html"):
            text = path.read_text(encoding="utf-8")
            assert all(a.startswith("data:image/png;base64,") for a in Reader(text).asked())
            assert not re.search(r"url\(|@import", text.partition("</style>")[0])
            assert "default-src 'none'" in text

    def test_a_resource_of_the_network_is_seen(self):
        """Negative control."""
        asked = Reader('<a href="https://a.org">x</a><img src="https://b.org/x.png">').asked()
        assert list(asked) == ["https://b.org/x.png"]

    def test_is_light(self, pages):
        assert all(p.stat().st_size < 5e6 for p in pages.rglob("*.html"))

    def test_links_lead_somewhere(self, pages):
        for path in pages.rglob("*.html"):
            read = Reader(path.read_text(encoding="utf-8"))
            targets = [a["href"] for tag, a in read.tags if tag == "a"]
            for target in (t for t in targets if not t.startswith("http")):
                name, _, anchor = target.partition("#")
                assert (path.parent / name).exists() if name else anchor in read.ids, target

    def test_leads_to_its_slides_where_there_are_some(self):
        link = "Slides", f"slides/{LESSON.stem}.html"
        assert link in make_pages.links_of(LESSON, [LESSON, SOLUTION], {LESSON.stem})
        assert link not in make_pages.links_of(LESSON, [LESSON, SOLUTION], {"05_mode_collapse"})

    def test_has_each_id_once(self, page):
        ids = Reader(page).ids
        assert len(ids) == len(set(ids)) > 10

    def test_shows_the_outputs_of_its_notebook(self, page):
        """What the pages are kept equal by: every picture and line of the notebook stands there."""
        for cell in nbformat.read(LESSON, as_version=4).cells:
            for output in cell.get("outputs", []):
                if output.output_type == "stream":
                    assert make_pages.html.escape(output.text.rstrip()) in page
                elif "image/png" in output.data:
                    assert output.data["image/png"].replace("\n", "") in page

    def test_every_picture_says_what_it_is(self, page):
        alts = [attrs.get("alt", "") for tag, attrs in Reader(page).tags if tag == "img"]
        assert len(alts) >= 5 and all(len(alt) > 20 for alt in alts)

    def test_a_picture_says_what_its_figure_says(self):
        said = make_pages.caption(cells_of("plot()"), 1, 3, "How far?", "x: KL, 0 to 1.")
        assert said == "Figure 3, in “How far?”. x: KL, 0 to 1."

    def test_math_needs_no_library(self, page):
        prose = re.sub(r"<(script|style|code|pre)\b.*?</\1>", "", page, flags=re.DOTALL)
        assert "$" not in prose and page.count("<math") > 10

    def test_answers_and_code_are_folded(self, page):
        folded = [attrs for tag, attrs in Reader(page).tags if tag == "details"]
        assert len(folded) > 20 and not any("open" in attrs for attrs in folded)


class TestAWidget:
    def test_every_position_has_its_picture_and_its_text(self, page):
        [found] = widgets_of(page)
        slider, side = found["controls"]
        places = {tuple(f[0]) for f in found["frames"]}
        assert len(places) == len(slider["options"]) * len(side["options"]) == len(found["frames"])
        for (weight, _), picture, said, cards in found["frames"]:
            assert f"w = {slider['options'][weight]}" in said and "%" in said
            assert base64.b64decode(found["pictures"][picture]).startswith(b"\x89PNG")
            assert found["cards"][cards].startswith("<div")
        assert len({f[2] for f in found["frames"]}) == len(found["frames"])
        assert len(found["pictures"]) == len(found["frames"])

    def test_the_page_says_the_sentences_of_the_widget(self, page):
        """The numbers come from the record, by the function that the notebook's widget calls."""
        from rlhf_lite import records
        from rlhf_lite.show.harmless import weight_view

        import matplotlib.pyplot as plt

        [found] = widgets_of(page)
        said = weight_view(records.read("harmless"), 0.3, "held out")[0]
        plt.close("all")
        names = [c["options"].index(v) for c, v in zip(found["controls"], ("0.3", "other crafts"))]
        assert [f[2] for f in found["frames"] if f[0] == names] == [said]

    def test_controls_are_native_and_named(self, page):
        tags = Reader(page).tags
        labels = {a["for"] for tag, a in tags if tag == "label"}
        boxes = [a for tag, a in tags if tag in ("select", "input")]
        assert len(boxes) == 2 and {a["id"] for a in boxes} == labels

    def test_all_widgets_of_the_notebooks_are_known(self):
        tables = make_pages.RECORDED | make_pages.LIVE
        sources = [cell.source for path in LESSONS for cell in nbformat.read(path, 4).cells
                   if cell.cell_type == "code"]  # fmt: skip
        used = {make_pages.kind_of(source, tables) for source in sources} - {None}
        assert used == set(tables)
        for path in LESSONS:
            page = make_pages.Page(path, [])
            for cell in page.cells:
                texts = [o.get("data", {}).get("text/plain") for o in cell.get("outputs", [])]
                assert make_pages.DEAD not in texts or make_pages.kind_of(cell.source, tables)

    def test_one_that_is_not_known_becomes_a_note(self, tmp_path):
        dead = nbformat.v4.new_output("display_data", {"text/plain": make_pages.DEAD})
        cells = cells_of("import this", "show.explore_moon()")
        cells[2].outputs = [dead]
        path = make_pages.HERE / "99_moon.ipynb"
        page = make_pages.Page.__new__(make_pages.Page)
        page.__dict__.update(path=path, cells=cells, section="", figures=0, lost=[], widgets=0)
        assert "needs a kernel" in page.output(2, dead)
        assert page.lost == ["99_moon.ipynb, cell 2: show.explore_moon()"]


SLIDER = """import ipywidgets
from rlhf_lite import show
import matplotlib.pyplot as plt
how = ipywidgets.ToggleButtons(options=["low", "high"])
low = ipywidgets.IntSlider(value=2, min=1, max=3, description="small")
high = ipywidgets.FloatSlider(value=0.5, min=0, max=1, step=0.25, description="big")
picture = ipywidgets.Image(format="png")
said = ipywidgets.HTML()
def draw(_=None):
    low.layout.display = "" if how.value == "low" else "none"
    high.layout.display = "none" if how.value == "low" else ""
    value = (low if how.value == "low" else high).value
    figure, ax = plt.subplots(figsize=(1, 1))
    ax.set_title(f"{unit} {value}")
    picture.value = show.figure_png(figure)
    SAID
for control in (how, low, high):
    control.observe(draw, "value")
draw()
ipywidgets.VBox([how, low, high, SHOWN picture])"""


class TestFrames:
    def test_only_what_a_cell_rests_on_runs(self):
        cells = cells_of(
            "import math", "a = 1\nb = 1 / 0", "def f(x):\n    return x + a\nprint(b)",
            "c = {}\nc['k'] = f(2)\na = b", "a = 5\nfor i in range(2):\n    c[i] = i", "c",
        )  # fmt: skip
        assert frames.sources_for(cells, 6) == [
            "import math",
            "a = 1",
            "def f(x):\n    return x + a",
            "c = {}",
            "c['k'] = f(2)",
            "for i in range(2):\n    c[i] = i",
        ]

    def test_a_function_may_read_what_is_bound_below_it(self):
        cells = cells_of(
            "import math", "def f(x):\n    return x + a\na = 1", "a = 2\nb = 3", "f(1)"
        )
        assert frames.sources_for(cells, 4) == [
            "import math",
            "def f(x):\n    return x + a",
            "a = 1",
            "a = 2",
        ]

    def test_names_of_a_statement(self):
        given, changed, used = frames.names_of("x[0] = [y for y in z if f(lambda q: q + w)]")
        assert (given, changed, used) == (set(), {"x"}, {"x", "z", "f", "w"})

    @pytest.mark.parametrize("spoken", [True, False])
    def test_hidden_controls_are_left_alone(self, spoken):
        """With a sentence, and without, where the title of the figure stands in."""
        source = SLIDER.replace("SAID", "said.value = f'<b>{unit} &amp; {value}</b>'" * spoken)
        source = source.replace("SHOWN ", "said, " * spoken)
        found = frames.frames_of(cells_of("unit = 'km'", source), 2, "a notebook")
        low = "km & {}" if spoken else "low, small {0}: km {0}"
        high = "km & {}" if spoken else "high, big {0:g}: km {0}"
        assert [(f[0], f[2]) for f in found["frames"]] == [
            *(([0, k, None], low.format(k + 1)) for k in range(3)),
            *(([1, None, k], high.format(k / 4)) for k in range(5)),
        ]
        assert [c["kind"] for c in found["controls"]] == ["radio", "range", "range"]
        assert [c["start"] for c in found["controls"]] == [0, 1, 2]
        assert len(found["pictures"]) == 8

    def test_some_positions_can_be_left_out(self):
        source = SLIDER.replace("SAID", "").replace("SHOWN ", "")
        cells = cells_of("unit = 'km'", source)
        found = frames.frames_of(cells, 2, "a notebook", {"big": 2})
        assert found["controls"][2]["options"] == ["0", "0.5", "1"]
        assert found["controls"][2]["start"] == 1 and found["controls"][2]["step"] == 2

    def test_what_is_no_widget_is_said(self):
        with pytest.raises(
            ValueError, match="a notebook, cell 2: it ends in int; expected a widget"
        ):
            frames.frames_of(cells_of("import math", "1 + 1"), 2, "a notebook")
        with pytest.raises(ValueError, match="not one picture under bounded controls"):
            frames.record(ipywidgets.VBox([ipywidgets.Text()]))

    def test_a_name_of_no_notebook_is_said(self, tmp_path):
        with pytest.raises(
            SystemExit, match=r"moon\.ipynb is no notebook of the course; expected one"
        ):
            make_pages.main(["moon.ipynb"], tmp_path, None)
        assert not list(tmp_path.iterdir())

    def test_all_formulas_of_the_series_have_mathml(self):
        count = 0
        for path in ROOT.glob("notebooks/**/*.ipynb"):
            for cell in nbformat.read(path, as_version=4).cells:
                if cell.cell_type == "markdown" and "$" in cell.source:
                    count += make_pages.prose(cell.source, str).count("<math")
        assert count > 700

    @pytest.mark.parametrize("latex", [r"\left( x", "x_", r"\unheardof{x}"])
    def test_latex_that_has_no_mathml_is_said(self, latex):
        with pytest.raises(ValueError, match=r"no MathML for .*; expected LaTeX"):
            make_pages.mathml(latex, "inline")


@needs_chromium
def test_a_slider_moves_by_keyboard_with_the_network_cut(pages, browser):
    browser.set_network_conditions(offline=True, latency=0, throughput=0)
    browser.get((pages / LESSON.with_suffix(".html").name).as_uri())
    before = browser.execute_script(SHOWN)
    slider = browser.find_element(By.CSS_SELECTOR, ".widget input[type=range]")
    slider.send_keys(Keys.ARROW_RIGHT)
    moved = browser.execute_script(SHOWN)
    assert all(moved[k] != before[k] for k in ("picture", "said", "alt", "cards"))
    assert moved["alt"] == moved["said"]
    assert f"w = {slider.get_attribute('aria-valuetext')}" in moved["said"]
    browser.find_element(By.CSS_SELECTOR, ".widget select").send_keys(Keys.ARROW_DOWN)
    other = wait(
        lambda: (v := browser.execute_script(SHOWN))["said"] != moved["said"] and v, 10,
        "another sentence",
    )  # fmt: skip
    assert "other crafts" in other["said"] and other["picture"] != moved["picture"]
    browser.find_element(By.CSS_SELECTOR, ".widget button").send_keys(Keys.ENTER)
    assert browser.execute_script(SHOWN) == before
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert not [name for name in loaded if name.startswith("http")]
    assert browser.execute_script("return document.querySelector('.widget img').naturalWidth > 300")
    assert browser.execute_script(
        "return document.documentElement.scrollWidth <= window.innerWidth"
    )


def test_the_workflow_runs_what_is_there():
    text = (ROOT / ".github" / "workflows" / "pages.yml").read_text(encoding="utf-8")
    steps = [s for job in yaml.safe_load(text)["jobs"].values() for s in job["steps"]]
    commands = [s["run"] for s in steps if "run" in s]
    files = re.findall(r"(?:-r|python) ([\w/]+\.\w+)", " ".join(commands))
    made = ["notebooks/make_slides.py", "notebooks/make_pages.py"]
    assert files == ["binder/requirements.txt", "requirements.txt", *made]
    assert all((ROOT / name).is_file() for name in files)
    [path] = [s["with"]["path"] for s in steps if "upload-pages-artifact" in s.get("uses", "")]
    assert f"--out {path}/slides" in commands[-2] and f"--out {path} " in commands[-1]
    assert f"/{path}/" in (ROOT / ".gitignore").read_text(encoding="utf-8")
