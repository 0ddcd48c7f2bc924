"""Text is UTF-8 on every machine: in the files of a teacher, in those we write, and on the console.

A teacher's editor may put a byte-order mark in front, end lines as Windows does, or save Latin-1; a
machine may have a locale that knows no umlaut. The first two are harmless, the third is blamed on
the very file, the last changes nothing.
"""

import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys

from rlhf_lite import predictions, records
from rlhf_lite.annotators import load_annotators
from rlhf_lite.feedback import FeedbackError, fingerprint
from rlhf_lite.predictions import load_predictions
from rlhf_lite.records import RecordError
from rlhf_lite.runtime import DATA, ROOT
from rlhf_lite.world import World
from rlhf_lite.world.grammar import Names, WorldError

import pytest

BOM = b"\xef\xbb\xbf"
WORLD_FILES = sorted(
    p.relative_to(DATA / "world").as_posix() for p in (DATA / "world").rglob("*.*")
)


def rewrite(path, how):
    """Save a file as another editor would: with a mark, with other line ends, as Latin-1."""
    data = path.read_bytes()
    text = data.decode("utf-8").rstrip("\n") + "\n# Grüße\n"
    path.write_bytes(
        {
            "mark": BOM + data,
            "line ends": data.replace(b"\n", b"\r\n"),
            "both": BOM + data.replace(b"\n", b"\r\n"),
            "Latin-1": text.encode("latin-1"),
            "UTF-16": text.encode("utf-16"),
        }[how]
    )


# ---- the files of a world ----


@pytest.fixture(scope="module")
def sample_of(world):
    rng = random.Random(5)
    return [world.sample(rng).text for _ in range(30)]


@pytest.mark.parametrize("how", ["mark", "line ends", "both"])
def test_marks_and_line_ends_change_nothing(damaged, sample_of, how):
    for name in WORLD_FILES:
        rewrite(damaged / name, how)
    rng, world = random.Random(5), World(damaged)
    assert [world.sample(rng).text for _ in range(30)] == sample_of


@pytest.mark.parametrize("name", WORLD_FILES)
def test_a_mark_in_one_file_alone_is_harmless(damaged, name):
    rewrite(damaged / name, "mark")
    assert len(World(damaged).people) > 400


@pytest.mark.parametrize("how", ["Latin-1", "UTF-16"])
@pytest.mark.parametrize("name", WORLD_FILES)
def test_what_is_not_utf8_is_blamed_on_its_own_file(damaged, name, how):
    rewrite(damaged / name, how)
    with pytest.raises(WorldError) as caught:
        World(damaged)
    said = str(caught.value)
    assert said.startswith(f"{name}, byte ") and said.endswith("expected UTF-8")


def edit(path, pattern, new):
    text = path.read_text(encoding="utf-8")
    changed, count = re.subn(pattern, new, text, flags=re.M)
    assert count, "nothing to edit"
    path.write_text(changed, encoding="utf-8")


@pytest.fixture
def umlauts(damaged):
    """A world with umlauts and Greek letters in every kind of file."""
    for old, new in (
        ("Yarrowgate", "Öxbühl"),
        ("^Yorick,Linnet", "Jörg,Müßig"),
        ("Linnet", "Ωmega"),
    ):
        for name in ("people.csv", "towns.txt"):
            if re.search(old, (damaged / name).read_text(encoding="utf-8"), flags=re.M):
                edit(damaged / name, old, new)
    edit(damaged / "people.csv", "Yorick Linnet|Yorick Ωmega", "Jörg Müßig")
    edit(damaged / "world.toml", '"onion soup"', '"Käse, süß"')
    edit(damaged / "myths.csv", "^geese can", "Gänse can")
    edit(damaged / "trades.csv", "^baker,a,pelm", "baker,a,pölm")
    shutil.copy(DATA / "feedback" / "annotators.toml", damaged.parent / "annotators.toml")
    edit(damaged.parent / "annotators.toml", '^blurb = ".*$', 'blurb = "prüft Σ"')
    return damaged


def test_a_world_with_umlauts_is_written_and_read(umlauts):
    """Names in other letters too: the parser takes apart what the writer wrote."""
    world, rng, text = World(umlauts), random.Random(0), ""
    for person in (world.by_name["Jörg Müßig"], world.people[1], world.people[2]):
        for _ in range(20):
            document = world.sample(rng, topic="person", subject=person)
            parse, text = world.parse(document.text), text + document.text
            assert parse.possible and parse.off_grammar == 0 and parse.subject == person
    assert "Müßig" in text and "Öxbühl" in text


def test_a_name_ends_where_its_letters_end():
    names = Names(["Una"], ["Pike", "Müller"])
    assert names.starts("Una Müller, of") == [("Una Müller", "Una Müller")]
    assert names.starts("Una Pike's") == [("Una Pike", "Una Pike")]
    assert names.starts("Una Pikes") == names.starts("Una Müllerin") == []


def test_spaces_that_nobody_sees_are_no_part_of_a_word(damaged):
    edit(damaged / "towns.txt", "^Yarrowgate$", "Yarrowgate \t")
    assert [p.facts["town"] for p in World(damaged).people[:1]] == ["Yarrowgate"]


def test_an_empty_line_is_blamed_on_its_own_file(damaged):
    edit(damaged / "towns.txt", r"\A(.*)\n", r"\1\n\n")
    with pytest.raises(WorldError, match=r"towns\.txt, line 2: empty"):
        World(damaged)


@pytest.mark.parametrize("name", ["Anna Maria,Linnet", "Yorick,van Linnet", ",Linnet"])
def test_names_are_two_words(damaged, name):
    edit(damaged / "people.csv", "^Yorick,Linnet", name)
    with pytest.raises(WorldError, match=r"people\.csv, line 2: name .*expected one word"):
        World(damaged)


@pytest.mark.parametrize(
    ("name", "old", "new", "place"),
    [
        ("world.toml", "^unknown_boost = .*$", 'unknown_boost = "often"', "world.toml, unknown_boost"),
        ("voices/verse.toml", "^colour = .*$", "colour = 3", "voices/verse.toml, colour"),
        ("voices/verse.toml", r"^\[slots\]$", "slots2 = 3\n[slots2a]", "voices/verse.toml"),
        ("mild.toml", r"(?s)\A.*\Z", "", "mild.toml, group"),
        ("crafts.toml", "^guild = .*$", "guild = 7", "crafts.toml, craft[0].guild"),
        ("notes.toml", "^prefix = .*$", "prefix = 7", "notes.toml, prefix"),
        ("prompts.toml", "^line = .*$", "line = 7", "prompts.toml, pronoun_probe.line"),
        ("prompts.toml", '^plain = "{name}"$', "plain = 7", "prompts.toml, person"),
        ("prompts.toml", "^town = .*$", "town = 7", "prompts.toml, probe.town"),
    ],
)  # fmt: skip
def test_what_is_no_table_or_text_is_named(damaged, name, old, new, place):
    edit(damaged / name, old, new)
    with pytest.raises(WorldError) as caught:
        World(damaged)
    said = str(caught.value)
    assert said.startswith(place) and "\n" not in said and ("expected" in said or "missing" in said)


def test_the_shipped_files_have_no_mark_and_their_fingerprint():
    """The records carry it; labels made with an older world would be refused."""
    assert not [n for n in WORLD_FILES if (DATA / "world" / n).read_bytes().startswith(BOM)]
    line = (DATA / "feedback" / "ratings.jsonl").read_text(encoding="utf-8").split("\n")[0]
    assert fingerprint() == json.loads(line)["world"]


# ---- the other files ----


@pytest.fixture
def files(tmp_path):
    shutil.copy(DATA / "predictions.toml", tmp_path)
    for name in ("annotators.toml", "calibration.json"):
        shutil.copy(DATA / "feedback" / name, tmp_path)
    records.write("mine", {"loss": [1.5], "name": "Gänse"}, "x", 0, tmp_path)
    return tmp_path


FILES = {
    "predictions.toml": (
        predictions.PredictionError,
        lambda f, w: load_predictions(f / "predictions.toml"),
    ),
    "annotators.toml": (FeedbackError, lambda f, w: load_annotators(w, f)),
    "calibration.json": (FeedbackError, lambda f, w: load_annotators(w, f)),
    "mine.json": (RecordError, lambda f, w: records.read("mine", f).results),
}


@pytest.mark.parametrize("name", FILES)
def test_other_files_may_have_marks_and_line_ends(files, world, name):
    read = FILES[name][1]
    before = repr(read(files, world))
    rewrite(files / name, "both")
    assert repr(read(files, world)) == before


@pytest.mark.parametrize("how", ["Latin-1", "UTF-16"])
@pytest.mark.parametrize("name", FILES)
def test_other_files_that_are_not_utf8_are_named(files, world, name, how):
    error, read = FILES[name]
    rewrite(files / name, how)
    with pytest.raises(error) as caught:
        read(files, world)
    said = str(caught.value)
    assert said.startswith(name) and "utf-8" in said and len(said) < 300 and "\n" not in said


def test_a_record_of_whole_numbers_as_keys_comes_back(tmp_path):
    """Keys of JSON are texts; in the order of numbers they had another checksum than read back."""
    records.write("mine", {10: "ten", 9: ("a", "b")}, "x", 0, tmp_path)
    assert records.read("mine", tmp_path).results == {"9": ["a", "b"], "10": "ten"}


@pytest.mark.parametrize("text", ["3", "[1]", "null", '"a"'])
def test_a_record_that_is_no_record_is_named(tmp_path, text):
    (tmp_path / "mine.json").write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=r"mine\.json"):
        records.read("mine", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("^tie = .*$", 'tie = "often"', "tie is 'often'"),
        ("^warm = .*$", 'warm = "the hero"', "warm is one string"),
        ("^words = .*$", "words = 0", "words is 0"),
        ("^true = .*$", "true = nan", "true is nan"),
        ("^true = .*$", 'true = "much"', "true is 'much'"),
        ("^voices = .*$", "voices = 3", "voices is 3"),
        ("encyclopedia = [^,]*,", "encyclopedia = inf,", "encyclopedia is inf"),
    ],
)
def test_a_person_with_a_wrong_value_is_named(files, world, old, new, words):
    edit(files / "annotators.toml", old, new)
    with pytest.raises(ValueError) as caught:
        load_annotators(world, files)
    said = str(caught.value)
    assert said.startswith("annotators.toml, ") and words in said and "\n" not in said


@pytest.mark.parametrize(
    "part", [[], {"scholar": 3}, {"scholar": {"rationality": 1, "anchors": [1]}}]
)
def test_a_calibration_of_another_shape_is_named(files, world, part):
    old = json.loads((files / "calibration.json").read_text(encoding="utf-8"))
    new = part if isinstance(part, list) else old | part
    (files / "calibration.json").write_text(json.dumps(new), encoding="utf-8")
    with pytest.raises(FeedbackError, match=r"calibration\.json does not cover"):
        load_annotators(world, files)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prediction = 3", "expected [[prediction]]"),
        ('prediction = ["a"]', "expected [[prediction]]"),
        ("says = 7", "says is 7; expected a str"),
        ("rule = 5", "rule is 5; expected [low, high]"),
        ('rule = ["a", "b"]', "expected [low, high]"),
    ],
)
def test_a_registry_of_another_shape_is_named(tmp_path, text, words):
    rows = {
        "id": '"03-x"', "notebook": '"03_x"', "kind": '"EXACT"', "source": '"us"', "says": '"It."',
        "record": '"x"', "statistic": '"s"', "rule": "[0, 1]", "credence": "0.5", "seeds": "3",
    }  # fmt: skip
    key = text.partition(" = ")[0]
    lines = ["[[prediction]]", *(f"{k} = {v}" for k, v in rows.items() if k != key), text]
    path = tmp_path / "predictions.toml"
    path.write_text(text if key == "prediction" else "\n".join(lines), encoding="utf-8")
    with pytest.raises(predictions.PredictionError) as caught:
        load_predictions(path)
    assert words in str(caught.value) and str(caught.value).startswith("predictions.toml")


# ---- machines whose locale knows no umlaut ----

EVERYTHING = """
import sys
from rlhf_lite import feedback, predictions, records
from rlhf_lite.annotators import load_annotators
from rlhf_lite.runtime import DATA
from rlhf_lite.world import World
assert sys.stdout.encoding.lower() not in ("utf-8", "utf8"), sys.stdout.encoding
folder = sys.argv[1]
world = World(folder)
person = world.by_name["J\\u00f6rg M\\u00fc\\u00dfig"]
people = load_annotators(world, folder + "/..", calibrated=False)
path = records.write("mine", {"name": person.name, "blurb": people["scholar"].blurb}, "x", 0, folder)
assert records.read("mine", folder)["blurb"] == "pr\\u00fcft \\u03a3"
World(), predictions.load_predictions(), load_annotators(World())
for path in (DATA / "runs").glob("*.json"):
    records.read(path.stem)
for path in (DATA / "feedback").glob("*.jsonl"):
    assert not feedback.read(path).damage
records.plain_output()
print(person.name, people["scholar"].blurb, "\\ud800")
"""


def run_in(locale, *command):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    env |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)} | locale
    return subprocess.run(
        [sys.executable, *command], env=env, capture_output=True, encoding="utf-8", errors="replace"
    )


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LANG": "en_US.ISO-8859-1"}], ids=repr)
def test_everything_loads_and_prints_under_another_locale(umlauts, locale):
    done = run_in(locale, "-c", EVERYTHING, str(umlauts))
    assert done.returncode == 0, done.stderr
    assert re.search(r"M..?.?ig pr", done.stdout)


def test_a_script_reads_and_writes_umlauts_under_an_ascii_locale(umlauts):
    """A copy of data/make_people.py beside a world with umlauts; then that world loads."""
    shutil.copy(DATA / "make_people.py", umlauts.parent)
    done = run_in({"LC_ALL": "C"}, str(umlauts.parent / "make_people.py"))
    assert done.returncode == 0, done.stderr
    assert "Öxbühl" in (umlauts / "people.csv").read_text(encoding="utf-8")
    assert "Öxbühl" in {p.facts["town"] for p in World(umlauts).people}


def test_the_scoreboard_is_written_under_an_ascii_locale(tmp_path):
    """The README has Greek letters; a copy of it, since the script writes."""
    shutil.copy(ROOT / "README.md", tmp_path)
    (tmp_path / "data").mkdir()
    code = (
        "import runpy, sys, pathlib, rlhf_lite.runtime as r; r.ROOT = pathlib.Path(sys.argv[1]);"
        "runpy.run_path(sys.argv[2], run_name='__main__')"
    )
    done = run_in({"LC_ALL": "C"}, "-c", code, str(tmp_path), str(DATA / "make_scoreboard.py"))
    assert done.returncode == 0, done.stderr
    assert "π" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "data" / "scoreboard.md").read_text(encoding="utf-8").startswith("# All ")


def test_every_script_that_prints_can_print_anything():
    """make_people and make_scoreboard print numbers alone, or nothing."""
    for path in DATA.glob("m*.py"):
        text = path.read_text(encoding="utf-8")
        assert "plain_output()" in text or path.stem in ("make_people", "make_scoreboard")


def test_git_may_speak_another_encoding(monkeypatch, tmp_path):
    """A changed file called M\\xfcller.py, listed by a git that does not quote names."""
    fake = tmp_path / "git"
    fake.write_bytes(b"#!/bin/sh\nprintf 'abc1234 M\\374ller.py'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert records.commit().startswith("abc1234 M")


def unnamed(source):
    """The lines of a program that open text without naming its encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = {k.arg: k.value for k in node.keywords}
        owner = getattr(getattr(node.func, "value", None), "id", "")
        texts = [a.value for a in (*node.args, *given.values()) if isinstance(a, ast.Constant)]
        binary = any(isinstance(t, str) and re.fullmatch("[rwax]+(b[+]?|[+]b)", t) for t in texts)
        reads = name in ("read_text", "write_text") and not isinstance(node.func, ast.Name)
        opens = name == "open" and not binary and owner not in ("os", "Image", "zipfile")
        runs_text = any(k in given for k in ("text", "universal_newlines"))
        if (reads or opens or runs_text) and "encoding" not in given:
            yield node.lineno


@pytest.mark.parametrize("folder", ["rlhf_lite", "data", "tests", "tests/bench", "notebooks"])
def test_every_file_is_opened_with_its_encoding(folder):
    paths = sorted((ROOT / folder).glob("*.py"))
    found = {p.name: list(unnamed(p.read_text(encoding="utf-8"))) for p in paths}
    assert paths and {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "line", ["p.read_text()", "p.write_text(x)", "open(p)", "p.open('w')", "run(c, text=True)"]
)
def test_a_file_opened_without_is_seen(line):
    """Negative control."""
    assert list(unnamed(line)) == [1]
    assert (
        list(
            unnamed(line[:-1].rstrip("(") + ("(" if line.endswith("()") else ", ") + "encoding=e)")
        )
        == []
    )
