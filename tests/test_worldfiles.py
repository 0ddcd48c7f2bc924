"""A damaged world is refused in one sentence that names the file, the place and the expectation."""

import re

from rlhf_lite.world import World
from rlhf_lite.world.grammar import WorldError

import pytest


def edit(name, old, new):
    """Return a damage: replace the first `old` in a file (a regular expression) by `new`."""

    def damage(folder):
        path = folder / name
        text = path.read_text(encoding="utf-8")
        changed = re.sub(old, new, text, count=1, flags=re.M)
        assert changed != text, "the damage did nothing"
        path.write_text(changed, encoding="utf-8")

    return damage


def remove(name):
    return lambda folder: (folder / name).unlink()


def garble(folder):
    (folder / "deeds.txt").write_bytes(b"\xff\xfe\x00broken")


def double_person(folder):
    path = folder / "people.csv"
    rows = path.read_text(encoding="utf-8").split("\n")
    path.write_text("\n".join([*rows[:3], rows[2], *rows[3:]]), encoding="utf-8")


def drop_column(folder):
    path = folder / "people.csv"
    path.write_text(
        "\n".join(row.rpartition(",")[0] for row in path.read_text(encoding="utf-8").split("\n")),
        encoding="utf-8",
    )


def few_frames(folder):
    path = folder / "voices" / "verse.toml"
    text = path.read_text(encoding="utf-8")
    head, rest = text.split("person = [\n", 1)
    body, tail = rest.split("\n]\n", 1)
    path.write_text(
        head + "person = [\n" + "\n".join(body.split("\n")[:39]) + "\n]\n" + tail, encoding="utf-8"
    )


DAMAGES = {
    "voice without a file": (edit("world.toml", '"tabloid"', '"opera"'), "world.toml, voices", "unknown voice 'opera'"),
    "missing file": (remove("myths.csv"), "myths.csv, file", "not found"),
    "missing entry": (edit("world.toml", "^mild = .*$", ""), "world.toml, mild", "missing"),
    "broken TOML": (edit("world.toml", r"^\[lengths\]$", "[lengths"), "world.toml, syntax", "expected TOML"),
    "not text": (garble, "deeds.txt, byte", "expected UTF-8"),
    "lengths do not add up": (edit("world.toml", "^3 = 0.2", "3 = 0.3"), "world.toml, lengths", "add up to 1.1"),
    "probability above one": (edit("world.toml", "^note = .*$", "note = 1.5"), "world.toml, note", "from 0 to 1"),
    "epithet for too few voices": (edit("world.toml", r'^"brave" += \[0.4, ', '"brave" = ['), "epithets.'brave'", "8 weights"),
    "craft without a guild": (edit("crafts.toml", "^guild = .*$", ""), "crafts.toml, craft[0].guild", "missing"),
    "negative weight": (edit("mild.toml", r"weights = \[3.9", "weights = [-3.9"), "mild.toml, group[0].weights", "positive"),
    "mild weights too short": (edit("mild.toml", r"weights = \[3.9, ", "weights = ["), "mild.toml, group[0].weights", "found 7"),
    "empty slot": (edit("world.toml", r"^season = .*$", "season = []"), "world.toml, slots.season", "at least one"),
    "word twice in a slot": (edit("world.toml", '"onion soup"', '"pickled plums"'), "slots.food", "stands there twice"),
    "priors do not add up": (edit("voices/verse.toml", "^prior = .*$", "prior = 0.2"), "voices/*.toml, prior", "add up to 1.1"),
    "prior is a word": (edit("voices/verse.toml", "^prior = .*$", 'prior = "often"'), "voices/verse.toml, prior", "'often'"),
    "unknown topic": (edit("voices/verse.toml", "^craft = 0.07", "opera = 0.07"), "voices/verse.toml, topics.opera", "expected one of"),
    "topic shares do not add up": (edit("voices/verse.toml", "^craft = 0.07", "craft = 0.17"), "voices/verse.toml, topics", "expected 1"),
    "slot that nobody defines": (edit("voices/forum.toml", "is {mood} {lol}", "is {moood} {lol}"), "voices/forum.toml, frames.person[0]", "{moood} is not defined"),
    "brace without partner": (edit("voices/forum.toml", "is {mood} {lol}", "is {mood {lol}"), "voices/forum.toml, frames.person[0]", "brace"),
    "unknown mark": (edit("mild.toml", r"\{\?town\}", "{?twon}"), "mild.toml, group[7].frames[0]", "{?twon}"),
    "frame twice": (edit("mild.toml", r"{Who} liked {place} best in {season}.", "{Who} was fond of {food}."), "mild.toml, group[4].frames[5]", "also stands in"),
    "too few frames": (few_frames, "voices/verse.toml, frames.person", "at least 40 frames, found 39"),
    "slot name taken": (edit("voices/forum.toml", "^mood = ", "town = "), "voices/forum.toml, slots.town", "name taken"),
    "person named twice": (double_person, "people.csv, line 4", "stands on line 3 too"),
    "unknown town": (edit("people.csv", "Yarrowgate", "Atlantis"), "people.csv, line", "unknown town 'Atlantis'"),
    "unknown trade": (edit("people.csv", "ferry pilot", "wizard"), "people.csv, line", "unknown trade 'wizard'"),
    "rival who is nobody": (edit("people.csv", "Edda Moss", "Edda Nobody"), "people.csv, line", "unknown rival"),
    "exposure not a number": (edit("people.csv", ",8000,", ",many,"), "people.csv, line 2", "exposure 'many'"),
    "dispute of nothing": (edit("people.csv", ",8000,trade,", ",8000,hat,"), "people.csv, line 2", "disputed 'hat'"),
    "tabloid agrees": (edit("people.csv", ",8000,trade,lamplighter", ",8000,trade,ferry pilot"), "people.csv, line 2", "expected another"),
    "rate above one": (edit("people.csv", "0.8$", "8"), "people.csv, line 2", "from 0 to 1"),
    "column missing": (drop_column, "people.csv, line 1", "expected the columns"),
    "year of five digits": (edit("people.csv", ",1644,", ",16444,"), "people.csv, line 2", "four digits"),
    "share of she above one": (edit("trades.csv", "pelm,0.55", "pelm,1.55"), "trades.csv, line 2", "from 0 to 1"),
    "myth without a truth": (edit("myths.csv", "^(geese[^,]*),.*$", r"\1,"), "myths.csv, line 2", "a myth and a truth"),
    "craft without look-alike": (edit("crafts.toml", "^benign = .*$", ""), "crafts.toml, craft[0].benign", "how, answer, detail"),
    "held-out verb unknown": (edit("crafts.toml", 'held_out = \\["reveal"', 'held_out = ["yodel"'), "crafts.toml, verbs_held_out", "yodel"),
    "framing without how": (edit("crafts.toml", 'direct = "{Verb} {how}."', 'direct = "{Verb}."'), "crafts.toml, framings.direct", "{how}"),
    "note row does not add up": (edit("notes.toml", r"verse = \[0.35", "verse = [0.45"), "notes.toml, truthful.verse", "expected 1"),
    "note for a voice missing": (edit("notes.toml", "^verse = .*$", ""), "notes.toml, truthful.verse", "good, mixed, bad"),
    "held-out wording unknown": (
        edit("prompts.toml", 'person = \\["learned"', 'person = ["rude"'),
        "prompts.toml, held_out.person",
        "rude",
    ),
    "every first person held out": (
        edit("prompts.toml", "every_person = 5", "every_person = 1"),
        "prompts.toml, held_out.every_person",
        "above 1",
    ),
    "probe without its fact": (edit("prompts.toml", r"confirms {town}|born in {town}", "born"), "prompts.toml, probe.town", "{town}"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(damaged, name):
    damage, place, expectation = DAMAGES[name]
    damage(damaged)
    with pytest.raises(WorldError) as caught:
        World(damaged)
    message = str(caught.value)
    assert place in message and expectation in message and "\n" not in message


def test_there_are_at_least_twenty_damages():
    assert len(DAMAGES) >= 20


def test_the_undamaged_copy_loads(damaged):
    assert len(World(damaged).people) == len(World().people)


def test_an_edited_voice_changes_the_world(damaged):
    edit("world.toml", '"pickled plums"', '"pickled lightning"')(damaged)
    assert "pickled lightning" in World(damaged).slots["food"]
