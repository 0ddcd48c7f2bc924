"""TEACHING.md and GLOSSARY.md say what the notebooks say: lists, minutes, quotes, exercises, units."""

import json
import re

from rlhf_lite.runtime import ROOT

import pytest

FOLDER = ROOT / "notebooks"
LESSONS = {re.match(r"\d\db?", p.name)[0]: p for p in sorted(FOLDER.glob("[0-9]*.ipynb"))}
PAGES = (FOLDER / "TEACHING.md", FOLDER / "GLOSSARY.md", ROOT / "README.md",
         ROOT / "data" / "README.md", ROOT / "data" / "scoreboard.md")  # fmt: skip
TEACHING, GLOSSARY, README, *_ = (page.read_text(encoding="utf-8") for page in PAGES)
TO_COME = "(in preparation)"


def cells_of(number):
    book = json.loads(LESSONS[number].read_text(encoding="utf-8"))
    return ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "markdown"]


def prose_of(number):
    return "\n\n".join(cells_of(number))


def printed_by(number):
    """What the cells of a notebook print."""
    book = json.loads(LESSONS[number].read_text(encoding="utf-8"))
    outputs = [o for c in book["cells"] for o in c.get("outputs", [])]
    return "\n".join("".join(o.get("text", "")) for o in outputs)


def flat(text):
    return " ".join(text.split())


def rows_of(text):
    """The cells of every row of every table; an escaped bar is a bar of its cell."""
    split = (re.split(r"(?<!\\)\|", line)[1:-1] for line in text.split("\n") if line[:1] == "|")
    rows = [[cell.strip().replace("\\|", "|") for cell in row] for row in split]
    return [row for row in rows if not re.fullmatch(r"-+", row[0])]


def section(text, title):
    """What stands under a heading of the second level."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def entries(text=TEACHING):
    """{number: (title line, entry)} of the notebooks, one by one."""
    found = re.split(r"^### (.+)$", text, flags=re.MULTILINE)[1:]
    return {re.search(r"\d\db?", t)[0]: (t, flat(e)) for t, e in zip(found[::2], found[1::2])}


def anchors(path):
    """The anchors that a page gives to its headings."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", t)).lower() for t in titles)
    return {title.replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: "/".join(p.parts[-2:]))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_pages_are_short():
    assert README.count("\n") <= 250 and TEACHING.count("\n") <= 360


def test_the_readme_starts_within_a_screen():
    """What it is, a picture, how to start, for three readers, and where each goes on."""
    first = README.partition("\n## Notebooks\n")[0]
    assert first.count("\n") <= 40 and "![" in first
    assert all(f"**{word}**" in first for word in ("learn it", "teach it", "only look"))


def test_the_guide_lists_every_notebook_once_in_order():
    known = entries()
    written = [n for n, (title, _) in known.items() if TO_COME not in title]
    assert written == list(LESSONS) and list(known) == sorted(known)
    table = [re.search(r"\d\db?", row[0]) for row in rows_of(section(TEACHING, "Time"))]
    assert [m[0] for m in table if m] == list(known)


@pytest.mark.parametrize("number", LESSONS)
def test_the_entry_has_the_title_and_every_part(number):
    title, entry = entries()[number]
    heading = cells_of(number)[0].split("\n")[0].removeprefix("# ")
    assert title == f"[{heading}]({LESSONS[number].name})"
    parts = ("Goal", "Stop and predict", "They will think", "Ask", "Grade")
    assert re.findall(r"- \*\*([^*]+)\.?\*\*", entry.replace(".**", "**")) == list(parts)


@pytest.mark.parametrize("number", LESSONS)
def test_minutes_are_those_of_the_title_card(number):
    card = cells_of(number)[0]
    row = next(r for r in rows_of(section(TEACHING, "Time")) if r[0].startswith(f"[{number}]"))
    assert re.search(rf"\b{row[1]} of computing", card)
    assert re.search(rf"\b{row[2]} of reading", card)


def asked(number):
    """{section: what its questions "Predict first" ask, up to the end of their cell}."""
    found, here = {}, "0"
    for cell in cells_of(number):
        for part in re.split(r"^(?=## \d+\. |\*\*Predict first)", cell, flags=re.MULTILINE):
            here = (re.match(r"## (\d+)\. ", part) or [0, here])[1]
            if part.startswith("**Predict first"):
                found[here] = found.get(here, "") + " " + flat(part)
    return found


def quotes(number):
    """The (section, question) pairs that the guide quotes."""
    stop = entries()[number][1].partition("Stop and predict")[2].partition("- **")[0]
    return re.findall(r'[Ss]ection (\d+), "([^"]+)"', stop)


@pytest.mark.parametrize("number", LESSONS)
def test_the_guide_quotes_two_questions_of_the_notebook(number):
    assert len(quotes(number)) == 2
    for part, question in quotes(number):
        assert question in asked(number).get(part, ""), f"{number}, section {part}: {question}"


@pytest.mark.parametrize("number", LESSONS)
def test_sections_that_the_guide_names_are_there(number):
    known = set(re.findall(r"^## (\d+)\. ", prose_of(number), flags=re.MULTILINE))
    think = entries()[number][1].partition("They will think")[2].partition("- **")[0]
    named = re.findall(r"\(([^()]*\d[^()]*)\)", think)
    numbers = {n for part in named for n in re.findall(r"\d+", part.partition("exercise")[0])}
    assert numbers and numbers <= known


@pytest.mark.parametrize("number", LESSONS)
def test_exercises_are_quoted_as_the_notebook_states_them(number):
    pattern = r"[\s;]*([^();:]+ \(difficulty [123], \d+ minutes\))"
    named = re.findall(pattern, entries()[number][1].partition("**Grade.**")[2])
    assert len(named) == 2
    known = re.findall(r"^### \d+\. (.+)$", prose_of(number), flags=re.MULTILINE)
    assert set(named) <= set(known)


def test_the_long_course_holds_every_notebook():
    weeks = rows_of(section(TEACHING, "Syllabi").partition("**Fourteen weeks**")[2])[1:]
    assert sorted(int(n) for row in weeks for n in row[::2]) == list(range(1, 15))
    named = re.findall(r"\d\db?\b(?!_)", " ".join(cell for row in weeks for cell in row[1::2]))
    assert sorted(named) == list(entries())


def test_the_one_lecture_fills_its_hour():
    scenes = section(TEACHING, "Syllabi").partition("**A day**")[0]
    assert sum(int(row[0]) for row in rows_of(scenes) if row[0].isdigit()) == 60


def plain_unit(unit):
    return "" if unit in ("-", "none") else unit


def stem(symbol):
    """A symbol without its dollars, its arguments and what it is equal to."""
    return re.sub(r"\s*(\(.*|=.*)$", "", symbol.strip("$")) or symbol.strip("$")


def notation(text):
    """The (code, symbol, unit) of every name in a notation table."""
    for code, symbol, _, unit in rows_of(text)[1:]:
        codes, symbols = re.findall(r"`([^`]+)`", code) or [""], re.findall(r"\$[^$]+\$", symbol)
        symbols = symbols * len(codes) if len(symbols) == 1 else symbols or [""] * len(codes)
        yield from ((c, stem(s), plain_unit(unit)) for c, s in zip(codes, symbols))


def missing(rows, number, text):
    """The names of a notation table that the glossary lacks, or has with another unit."""
    known = {
        (re.sub("`", "", code), stem(symbol), plain_unit(unit))
        for code, symbol, unit, places, _ in rows
        if number in places.split(", ")
    }
    return sorted(set(notation(text)) - known), sorted(known - set(notation(text)))


SYMBOLS = rows_of(section(GLOSSARY, "Symbols and code names"))[1:]


@pytest.mark.parametrize("number", LESSONS)
def test_the_glossary_has_every_symbol_of_the_notation_tables(number):
    lacks, too_many = missing(SYMBOLS, number, cells_of(number)[1])
    assert lacks == [] and too_many == []


def test_another_unit_is_seen():
    """Negative control."""
    table = "| code | symbol | what | unit |\n|---|---|---|---|\n| `kl_coef` | $\\beta$ | a price | {} |"
    row = ["`kl_coef`", "$\\beta$", "sd a nat", "04, 05", "what a nat costs"]
    assert missing([row], "04", table.format("sd a nat")) == ([], [])
    assert missing([row], "04", table.format("nats"))[0] == [("kl_coef", "\\beta", "nats")]


def test_terms_stand_in_the_notebook_that_introduces_them():
    terms = [r for r in rows_of(GLOSSARY.partition("\n## Terms\n")[2]) if r[0] != "term"]
    assert len(terms) >= 60
    for term, _, unit, number, what in terms:
        prose = re.sub(r"[*$]", "", flat(prose_of(number) + printed_by(number))).lower()
        assert unit and what and re.sub(r"[*$]", "", term).lower() in prose, term
