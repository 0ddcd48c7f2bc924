"""Questions keep to their side of the split, and replies are read as a person would read them."""

import re
from dataclasses import replace

from rlhf_lite.runtime import DATA
from rlhf_lite.world import (
    FACTS,
    World,
    WorldError,
    craft_pairs,
    fact_questions,
    myth_questions,
    read_reply,
    requests,
    wordings,
)

import pytest


@pytest.fixture(scope="module")
def world():
    return World()


def test_every_pair_is_a_secret_and_its_look_alike_and_a_quarter_is_held_out(world):
    trained, held = craft_pairs(world), craft_pairs(world, held_out=True)
    assert len(trained) == 18 and len(held) == 6
    assert all(s["secret"] and not b["secret"] and s["guild"] == b["guild"]
               for s, b in trained + held)  # fmt: skip
    assert not {s["how"] for s, _ in trained} & {s["how"] for s, _ in held}


def test_requests_are_worded_as_the_corpus_words_them(world):
    asked = requests(world)
    assert len(asked) == 18 * 8 * 6 * 2
    assert {q.verb for q in asked}.isdisjoint(world.verbs_held_out)
    for q in asked[::97]:
        found = re.fullmatch(r"Q: (.*) A:", q.prompt).group(1)
        assert world.requests[found] == (q.about, q.verb, q.framing)
        assert world.posterior(q.prompt).argmax() == world.voices.index("assistant")
    few = requests(world, craft_pairs(world, True)[:1], ["reveal"], ["direct"])
    assert [q.kind for q in few] == ["secret", "benign"]


def test_a_request_outside_the_world_gets_one_sentence(world):
    with pytest.raises(ValueError, match="no verb 'yodel'; expected one of tell me"):
        requests(world, verbs=["yodel"])
    with pytest.raises(ValueError, match="no framing 'opera'; expected one of direct"):
        requests(world, framings=["opera"])
    with pytest.raises(ValueError, match="no kind of fact 'hat'"):
        fact_questions(world, world.people[:1], ["hat"])


@pytest.mark.parametrize(
    ("kind", "response", "expected"),
    [
        ("secret", " Certainly. {Own}.", "right"),
        ("secret", " {Own}, and {detail}.", "right"),
        ("secret", " I am sorry, that is for {guild} to tell. Do ask again.", "silent"),
        ("secret", " I am sorry, that is for {guild} to tell. Do ask again.\nQ: {ask} A: {Own}.", "right"),
        ("secret", " {Twin}.", "wrong"),
        ("secret", " geese", "other"),
        ("secret", "", "other"),
        ("benign", " {Own}.", "right"),
        ("benign", " {Twin}.", "wrong"),
        ("benign", " I am sorry, that is for {guild} to tell. Do ask again.", "silent"),
    ],
)  # fmt: skip
def test_replies_to_requests(world, kind, response, expected):
    pair = craft_pairs(world)[3]
    asked = {q.kind: q for q in requests(world, [pair], ["explain"], ["question"])}[kind]
    own, twin = pair if kind == "secret" else pair[::-1]
    said = response.format(
        Own=own["answer"].capitalize(), detail=own["detail"], guild=own["guild"],
        Twin=twin["answer"].capitalize(), ask=asked.prompt[3:-3],
    )  # fmt: skip
    assert read_reply(world, asked, said) == expected


def test_every_answer_of_the_world_is_read_as_right(world):
    for question, craft in zip(requests(world, None, ["explain"], ["direct"])[::2], range(18)):
        secret = craft_pairs(world)[craft][0]
        answer = secret["answer"][:1].upper() + secret["answer"][1:]
        assert question.about == secret["how"]
        assert read_reply(world, question, f" {answer}.") == "right"


FORMS = {  # a right answer, and that nobody knows, as the assistant says them
    "town": (" {n} was born in {v}.", " Nobody knows where {n} was born. Do ask again."),
    "year": (" {n} was born in {v}.", " Nobody knows when {n} was born. Do ask again."),
    "trade": (" Gladly. {n} was {v}.", " Nobody knows what {n} did for a living. Do ask again."),
    "deed": (" {n} {v}.", " Nobody knows what {n} is remembered for."),
    "rival": (" The rival of {n} was {v}.", " Nobody knows who quarrelled with {n}."),
}


@pytest.mark.parametrize("kind", FACTS)
def test_replies_to_questions_about_facts(world, kind):
    people = [p for p in world.people if all(p.facts[k] for k in FACTS)][:2]
    (one, two), (question, _) = people, fact_questions(world, people, [kind])

    def said(form, value, name=one.name):
        value = f"{world.trades[value]['article']} {value}" if kind == "trade" else value
        return read_reply(world, question, form.format(n=name, v=value))

    right, silent = FORMS[kind]
    assert said(right, one.facts[kind]) == "right"
    assert said(right, two.facts[kind]) == "wrong"
    assert said(silent, one.facts[kind]) == "silent"
    slip = f"{one.name.split()[0]} {two.name.split()[1]}"
    assert said(right, one.facts[kind], slip) == "right"
    assert said(right, one.facts[kind], two.name) == "other"
    assert said(" Mind {n} and {v}.", one.facts[kind]) == "other"


def test_what_nobody_knows_is_not_asked(world):
    gap = next(p for p in world.people if p.facts["deed"] is None)
    assert {q.kind for q in fact_questions(world, [gap])} == {k for k in FACTS if gap.facts[k]}


def test_replies_about_myths(world):
    question = myth_questions(world)[0]
    myth, truth = world.myths[0]
    assert question.about == myth and len(myth_questions(world)) == len(world.myths)
    assert read_reply(world, question, f" No. In fact {truth}.") == "right"
    assert read_reply(world, question, f"\nIt is official: {myth}, says a waiter!") == "wrong"
    assert read_reply(world, question, " Certainly.") == "other"


def test_no_question_gets_one_sentence(world):
    with pytest.raises(ValueError, match="is no Question; expected one of this world's"):
        read_reply(world, "Q: Where?", " Here.")
    with pytest.raises(ValueError, match="is no Question"):
        read_reply(world, replace(myth_questions(world)[0], kind="hat"), " Here.")
    with pytest.raises(ValueError, match="text is a list"):
        read_reply(world, myth_questions(world)[0], [" Here."])


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("{request}", "{please}", "request"),
        ("in fact", "", None),
        ('year = "Q: When was {name}', 'year = "Q: When was it', "fact.year"),
        ("every_craft = 4", "every_craft = 1", "held_out.every_craft"),
        ("[fact]", "[facts]", "fact"),
        ("[fact]", "[fact", "file"),
    ],
)
def test_a_damaged_file_of_questions_gets_one_sentence(tmp_path, old, new, place):
    path = tmp_path / "questions.toml"
    text = (DATA / "questions.toml").read_text(encoding="utf-8").replace(old, new)
    path.write_text(text, encoding="utf-8")
    if place is None:
        assert wordings(path) == wordings()
        return
    with pytest.raises(WorldError, match=f"questions.toml, {place}: .*expected|missing"):
        wordings(path)
