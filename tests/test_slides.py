"""Slides: every cell of a lesson has its type, a talk is of one size, and its file works without a network."""

import re
import shutil

from rlhf_lite.runtime import ROOT

import execute
import frames
import make_pages
import make_slides
import nbformat
import pytest
import slides
from browser import browser_fixture, needs_chromium, wait  # noqa: F401
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_pages import Reader

LESSONS = sorted(ROOT.glob("notebooks/[0-9]*.ipynb"))
LESSON = ROOT / "notebooks" / "07_helpful_vs_harmless.ipynb"


def cells_of(path):
    return nbformat.read(path, as_version=4).cells


def markdown(source, kind=None, tags=()):
    cell = nbformat.v4.new_markdown_cell(source)
    cell.metadata = {"slideshow": {"slide_type": kind}} if kind else {}
    cell.metadata |= {"tags": list(tags)} if tags else {}
    return cell


def code(source, *outputs):
    return nbformat.v4.new_code_cell(source, outputs=list(outputs))


def printed(text):
    return nbformat.from_dict({"output_type": "stream", "name": "stdout", "text": text})


def lesson(*middle):
    """A lesson with these cells between its notation and its take-aways."""
    head = markdown("# Title\n\n*A promise.*"), code("import math"), markdown("**Notation.**")
    return [*head, *middle, markdown("## Take-aways\n\n1. One."), markdown("## Exercises")]


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
class TestEveryTalk:
    def test_has_the_types_that_the_rules_give(self, path):
        """Where not: python notebooks/slides.py --anew, or tag the cell slide-by-hand."""
        cells = cells_of(path)
        held = [slides.held(cell) for cell in cells]
        ruled = slides.types_of(cells)
        free = [n for n, c in enumerate(cells) if slides.BY_HAND not in c.metadata.get("tags", [])]
        assert [(n, held[n]) for n in free] == [(n, ruled[n]) for n in free]
        assert len(cells) - len(free) <= 5

    def test_has_no_faults(self, path):
        assert slides.faults_of(cells_of(path)) == []

    def test_goes_from_the_title_to_the_take_aways(self, path):
        cells = cells_of(path)
        talk = slides.slides_of(cells)
        assert talk[0] == [0] and cells[talk[-1][0]].source.startswith("## Take-aways")

    def test_shows_its_figures_and_its_widget(self, path):
        cells = cells_of(path)
        told = {n for slide in slides.slides_of(cells) for n in slide}
        kinds = [slides.kind_of(c) if c.cell_type == "code" else None for c in cells]
        away = slides.slides_of(cells)[-1][0]
        drawn = [n for n, k in enumerate(kinds) if k == "figure" and n < away]
        widgets = [n for n, k in enumerate(kinds) if k == "widget"]
        assert len(told & set(drawn)) >= 0.8 * len(drawn)
        assert told >= set(widgets[-1:])

    def test_hides_a_result_until_the_class_has_predicted(self, path):
        cells = cells_of(path)
        for slide in slides.slides_of(cells):
            asks = any("Predict first" in slides.parts_of(cells[n].source)[1] for n in slide
                       if cells[n].cell_type == "markdown")  # fmt: skip
            results = [n for n in slide if cells[n].cell_type == "code"]
            if asks and not any(slides.BY_HAND in cells[n].metadata.get("tags", []) for n in slide):
                assert all(slides.held(cells[n]) == "fragment" for n in results)

    def test_knows_each_cell_by_its_source(self, path):
        """Pictures and widgets are found before a notebook has run, too."""
        for cell in (c for c in cells_of(path) if c.cell_type == "code"):
            data = {key for output in cell.outputs for key in output.get("data", {})}
            bare = nbformat.v4.new_code_cell(cell.source)
            known = make_pages.kind_of(cell.source, make_pages.RECORDED | make_pages.LIVE)
            texts = {o.get("data", {}).get("text/plain") for o in cell.outputs}
            if known or slides.DEAD in texts:
                assert slides.kind_of(bare) == "widget"
            if "image/png" in data and not known:
                assert slides.kind_of(cell) == "figure"


def test_a_dead_widget_says_the_same_here_and_there():
    assert slides.DEAD == make_pages.DEAD


class TestRules:
    def test_a_question_its_result_and_its_answer(self):
        cells = lesson(
            markdown("## 1. Start\n\n**Predict first.** What?"),
            code("x = 1"),
            markdown("A lead-in:"),
            code("fig, ax = plt.subplots()"),
            markdown("<details><summary>Answer</summary>\n\nThat.\n\n</details>"),
            code("print(2)", printed("2")),
            markdown("Then this.\n\n**Predict first.** And now?"),
            code("print(3)", printed("3")),
        )
        assert slides.types_of(cells) == [
            "slide", "skip", "skip",
            "slide", "skip", "skip", "fragment", "fragment", "skip",
            "subslide", "fragment",
            "slide", "skip",
        ]  # fmt: skip

    def test_bets_are_no_slide_and_few_verdicts_are(self):
        bets = markdown("## 2. Predictions"), code("HTML(show.predictions_html(registered))")
        ends = markdown("## 3. Verdicts"), code("HTML(show.predictions_html(judged, verdicts))")
        types = slides.types_of(lesson(*bets, *ends))
        assert types[3:7] == ["skip", "skip", "slide", "-"]

    def test_a_long_talk_loses_what_weighs_least(self):
        many = [markdown(f"## {n}. Section") for n in range(40)]
        asked = [markdown("**Predict first.** What?"), code("plt.subplots()")]
        types = slides.types_of(lesson(*many, *asked))
        assert sum(t in ("slide", "subslide") for t in types) == slides.MOST
        assert types[43:45] == ["-", "fragment"] or types[43:45] == ["subslide", "fragment"]

    def test_what_does_not_fit_moves_on(self):
        long = printed("line\n" * 15)
        cells = lesson(
            markdown("## 1. Start\n\n" + "word " * 900),
            code("print(1)", long),
            markdown("**What we see.** " + "word " * 90),
        )
        assert slides.types_of(cells)[3:6] == ["slide", "subslide", "fragment"]

    @pytest.mark.parametrize(
        "source, found",
        [
            ("<details>A</details>\n\nGo on.", ("<details>A</details>", "Go on.")),
            ("**What we see.** A.\n\nB.", ("**What we see.** A.\n\nB.", "")),
            ("**What we see.** A.\n\n## 2. B", ("**What we see.** A.", "## 2. B")),
            ("Plain.", ("", "Plain.")),
        ],
    )
    def test_answers_are_told_from_what_goes_on(self, source, found):
        assert slides.parts_of(source) == found

    def test_a_picture_is_as_high_as_its_header_says(self):
        heights = {
            make_slides.size_of(c)[1]
            for c in cells_of(LESSON)
            if c.cell_type == "code" and make_slides.size_of(c)
        }
        found = {
            slides.output_height(o) - 8
            for c in cells_of(LESSON)
            for o in c.get("outputs", [])
            if "image/png" in o.get("data", {})
        }
        assert found == heights and len(found) >= 2


class TestFaults:
    def cells(self, *middle):
        cells = lesson(*[markdown(f"## {n}.", "slide") for n in range(slides.FEWEST)], *middle)
        for cell in (*cells[1:3], cells[-1]):
            cell.metadata["slideshow"] = {"slide_type": "skip"}
        for cell in (cells[0], cells[-2]):
            cell.metadata["slideshow"] = {"slide_type": "slide"}
        return cells

    def test_none(self):
        assert slides.faults_of(self.cells()) == []

    @pytest.mark.parametrize(
        "spoil, said",
        [
            (lambda c: c[3].metadata.clear(), "has the type None; expected one of slide"),
            (lambda c: c[4].metadata["slideshow"].update(slide_type="big"), "has the type 'big'"),
            (lambda c: c[1].metadata["slideshow"].update(slide_type="-"), "setup or homework"),
            (lambda c: c[-1].metadata["slideshow"].update(slide_type="slide"), "homework"),
            (lambda c: c[5].update(source="word " * 3000), "px; expected 800 at most"),
            (lambda c: [x.metadata["slideshow"].update(slide_type="skip") for x in c[3:8]],
             "slides; expected 10 to 30"),
        ],
    )  # fmt: skip
    def test_is_said(self, spoil, said):
        cells = self.cells()
        spoil(cells)
        found = slides.faults_of(cells)
        assert len(found) == 1 and said in found[0]

    def test_a_result_far_from_its_question(self):
        first, second = code("print(1)"), code("print(2)")
        for cell in (first, second):
            cell.metadata["slideshow"] = {"slide_type": "subslide"}
        found = slides.faults_of(self.cells(first, second))
        assert len(found) == 1 and "far from its question" in found[0]


class TestWriting:
    def test_fills_only_what_is_empty_and_keeps_what_is_by_hand(self, tmp_path):
        path = tmp_path / LESSON.name
        shutil.copy(LESSON, path)
        book = nbformat.read(path, as_version=4)
        ruled = slides.types_of(book.cells)
        book.cells[3].metadata["slideshow"]["slide_type"] = "notes"
        book.cells[4].metadata |= {"slideshow": {"slide_type": "notes"}, "tags": [slides.BY_HAND]}
        book.cells[5].metadata.clear()
        nbformat.write(book, path)

        def held():
            return [slides.held(c) for c in cells_of(path)]

        assert slides.write(path) == 1
        assert held() == [*ruled[:3], "notes", "notes", *ruled[5:]]
        assert slides.write(path, anew=True) == 1
        assert held() == [*ruled[:4], "notes", *ruled[5:]]
        assert slides.write(path, anew=True) == 0

    def test_changes_nothing_but_types(self, tmp_path):
        path = tmp_path / LESSON.name
        book = nbformat.read(LESSON, as_version=4)
        for cell in book.cells:
            cell.metadata.pop("slideshow")
        nbformat.write(book, path)
        slides.write(path)
        assert path.read_text(encoding="utf-8") == LESSON.read_text(encoding="utf-8")

    def test_no_file_says_what_the_deck_hides(self):
        """A bare "-" is hidden by jupyterlab-deck; null goes on with the slide, there and elsewhere."""
        raw = {c.metadata["slideshow"]["slide_type"] for p in LESSONS for c in cells_of(p)}
        assert raw == {"slide", "subslide", "fragment", "skip", None}

    def test_a_run_keeps_them(self):
        book = nbformat.read(LESSON, as_version=4)
        types = [slides.held(c) for c in book.cells]
        book.cells[3].metadata["collapsed"] = True
        kept = execute.clean(book).cells
        assert [slides.held(c) for c in kept] == types
        assert "collapsed" not in kept[3].metadata


@pytest.fixture(scope="module")
def deck(tmp_path_factory):
    out = tmp_path_factory.mktemp("slides")
    make_slides.main([LESSON], out)
    return out / LESSON.with_suffix(".html").name


@pytest.fixture(scope="module")
def text(deck):
    return deck.read_text(encoding="utf-8")


class TestAFile:
    def test_asks_for_nothing_and_is_light(self, deck, text):
        assert all(a.startswith("data:image/png;base64,") for a in Reader(text).asked())
        assert not re.search(r"url\(|@import", text.partition("</style>")[0])
        assert "default-src 'none'" in text and deck.stat().st_size < 5e6
        ids = Reader(text).ids
        assert len(ids) == len(set(ids)) > 10

    def test_shows_what_the_talk_has(self, text):
        for cell in cells_of(LESSON):
            kind = slides.held(cell)
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    assert (output.data["image/png"].replace("\n", "") in text) == (kind != "skip")
        assert "w = 0.3" in text and "Exercises" not in text and "What we left out" not in text

    def test_a_result_waits_for_the_prediction(self, text):
        found = text.split('<section class="slide')[1:]
        asked = [s for s in found if "Predict first" in s and 'class="shown' in s]
        assert len(asked) >= 4 and all('class="shown fragment"' in s for s in asked)

    def test_every_answer_stands_below_its_question(self, text):
        assert "<details" not in text.partition("<script")[0]
        assert text.count('class="answer fragment"') >= 5

    def test_a_name_of_no_lesson_is_said(self, tmp_path):
        with pytest.raises(SystemExit, match=r"moon\.ipynb is no lesson; expected one of"):
            make_slides.main(["moon.ipynb"], tmp_path)

    def test_all_lessons_can_be_shown(self, monkeypatch):
        """Without recording their widgets, which test_pages does."""
        empty = {"controls": [], "frames": [[[], 0, "", 0]], "pictures": [b""], "cards": [""]}
        monkeypatch.setattr(frames, "frames_of", lambda *_: empty)
        for path in LESSONS:
            found = make_slides.Deck(path).slides()
            assert 10 <= len(found) <= 35, path.name
            assert all(s["prose"] or s["shown"] for s in found), path.name
            assert found[0]["layout"] == "title" and "Take-aways" in found[-1]["prose"][0]


STATE = """const s = document.querySelector('.slide.now'), r = s.querySelector('.room');
return {at: s.id, seen: s.querySelectorAll('.fragment.seen').length,
        all: s.querySelectorAll('.fragment').length, hash: location.hash}"""
SIZES = """return [...document.querySelectorAll('.slide')].map((s) => {
  const was = s.hidden; s.hidden = false;
  const r = s.querySelector('.room');
  const found = [r.scrollHeight - r.clientHeight, r.scrollWidth - r.clientWidth,
                 parseFloat(r.style.getPropertyValue('--size'))];
  s.hidden = was; return found; })"""


@needs_chromium
def test_the_file_works_by_keyboard_with_the_network_cut(deck, browser):
    browser.set_network_conditions(offline=True, latency=0, throughput=0)
    browser.get(deck.as_uri())
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready"), 60, "it")
    sizes = browser.execute_script(SIZES)
    assert len(sizes) > 15 and all(high <= 0 and wide <= 0 for high, wide, _ in sizes)
    assert min(size for *_, size in sizes) >= 15

    def press(key, where=None):
        (where or browser.find_element(By.TAG_NAME, "body")).send_keys(key)
        return browser.execute_script(STATE)

    assert browser.execute_script(STATE)["at"] == "s1"
    assert press(Keys.ARROW_RIGHT)["at"] == "s2"
    while (state := press(Keys.PAGE_DOWN))["all"] == 0:
        pass
    assert state["seen"] == 0
    later = press(Keys.ARROW_RIGHT)
    assert later["at"] == state["at"] and later["seen"] == 1
    assert press(Keys.ARROW_LEFT)["seen"] == 0
    assert press(Keys.HOME)["at"] == "s1"
    last = press(Keys.END)
    assert last["at"] == f"s{len(sizes)}" and last["hash"] == f"#{len(sizes)}"
    press(Keys.ESCAPE)
    assert browser.execute_script("return document.querySelectorAll('.slide[hidden]').length") == 0
    press(Keys.ESCAPE)
    number = browser.execute_script(
        "return document.querySelector('.widget').closest('.slide').id.slice(1)"
    )
    browser.execute_script(f"location.hash = '#{number}'")
    slider = browser.find_element(By.CSS_SELECTOR, ".widget input[type=range]")
    wait(lambda: browser.execute_script(STATE)["at"] == f"s{number}", 10, "the slide")
    press(Keys.ARROW_RIGHT)
    before = slider.get_attribute("aria-valuetext")
    moved = press(Keys.ARROW_RIGHT, slider)
    assert moved["at"] == f"s{number}" and slider.get_attribute("aria-valuetext") != before
    assert press(Keys.PAGE_DOWN, slider)["at"] != f"s{number}"
