"""Questions with a card and without, what replies claim of them, and how far to trust a probability."""

import re

from rlhf_lite import records, show, truth
from rlhf_lite.checks import TextError
from rlhf_lite.labellers import HastyLabeller
from rlhf_lite.records import Record
from rlhf_lite.show.cards import figure_png
from rlhf_lite.world import Question, World, WorldError, wordings

import matplotlib.pyplot as plt
import numpy as np
import pytest

WORLD = World()
KNOWN = [p for p in WORLD.people if p.exposure >= 500][:4]
STRANGERS = [p for p in WORLD.people if p.exposure == 0][:4]
CLOSED = truth.card_questions(WORLD, KNOWN + STRANGERS, 3)
OPEN = truth.open_questions(WORLD, KNOWN + STRANGERS)


def ask(kind, card=None, person=KNOWN[0]):
    """Return a question of a kind, its card changed by hand."""
    asked = CLOSED if card else OPEN
    found = next(a for a in asked if a.kind == kind and a.about == person.name)
    return truth.Asked(found.prompt, kind, person.name, card)


class TestQuestions:
    def test_a_card_holds_two_facts_that_are_not_this_person_s(self):
        for a in CLOSED:
            own = WORLD.by_name[a.about].facts
            assert len(a.card) == 2
            assert all(own[k] != v for k, v in a.card.items())
            assert all(v in a.prompt for v in a.card.values())

    def test_all_three_kinds_of_closed_question_are_there(self):
        where = [a.where for a in CLOSED]
        assert [where.count(w) for w in ("on the card", "not on the card", "who, by the card")] == [
            2 * 24, 24, 24,
        ]  # fmt: skip
        assert {a.where for a in OPEN} == {"open"}

    def test_the_seed_decides_the_facts(self):
        again = truth.card_questions(WORLD, KNOWN + STRANGERS, 3)
        other = truth.card_questions(WORLD, KNOWN + STRANGERS, 4)
        assert again == CLOSED and other != CLOSED

    def test_a_prompt_ends_where_the_reader_looks_for_its_end(self):
        for a in CLOSED + OPEN:
            assert a.prompt.count(" A:") == 1 and a.prompt.endswith(" A:")

    @pytest.mark.parametrize("people", ["Ivo Vane", ["Ivo Vane"], [None], {1: 2}])
    def test_no_people(self, people):
        with pytest.raises(ValueError, match="people"):
            truth.card_questions(WORLD, people)


class TestDemonstration:
    @pytest.mark.parametrize(
        "asked", CLOSED + OPEN, ids=lambda a: f"{a.where}, {a.kind}, {a.about}"
    )
    def test_it_makes_nothing_up(self, asked):
        found = truth.support(WORLD, asked, truth.demonstration(WORLD, asked))
        assert found.made_up == 0 and found.garbled == 0
        assert found.silent or found.true > 0
        assert found.silent == (asked.where == "not on the card") or asked.card is None


CARD = {"town": "Oxbow", "trade": "judge"}


class TestSupport:
    @pytest.mark.parametrize(
        "kind, reply, expected",
        [
            ("town", " {name} was born in Oxbow.", (1, 0, 0)),
            ("town", " {name} was born in Hobble.", (0, 1, 0)),
            ("town", " Certainly. In Oxbow.", (1, 0, 0)),
            ("who", " {name} was a judge from Oxbow.", (2, 0, 0)),
            ("who", " {name} was a judge from Hobble.", (1, 1, 0)),
            ("who", " {name} was born in Oxbow in 1702. That is all I know.", (1, 0, 1)),
            ("year", " {name} was born in 1702.", (0, 0, 1)),
            ("year", " Nobody knows when {name} was born. That is all I know.", (0, 0, 0)),
        ],
    )
    def test_the_card_is_the_judge(self, kind, reply, expected):
        reply = reply.replace("{name}", KNOWN[0].name)
        found = truth.support(WORLD, ask(kind, CARD), reply)
        assert (found.true, found.false, found.unsupported) == expected
        assert found.made_up == sum(expected[1:])
        assert found.silent == ("Nobody" in reply)

    def test_without_a_card_the_world_is(self):
        town = KNOWN[0].facts["town"]
        other = "Hobble" if town != "Hobble" else "Oxbow"
        for value, expected in ((town, (1, 0)), (other, (0, 1))):
            found = truth.support(WORLD, ask("town"), f" {KNOWN[0].name} was born in {value}.")
            assert (found.true, found.false) == expected

    def test_what_nobody_knows_is_unsupported(self):
        person = next(p for p in WORLD.people if p.facts["town"] is None)
        asked = truth.open_questions(WORLD, [person])[0]
        found = truth.support(WORLD, asked, f" {person.name} was born in Oxbow.")
        assert (found.true, found.false, found.unsupported) == (0, 0, 1)

    def test_a_slip_in_the_surname_is_forgiven(self):
        first = KNOWN[0].name.split()[0]
        found = truth.support(WORLD, ask("town", CARD), f" {first} Pike was born in Oxbow.")
        assert found.true == 1 and found.made_up == 0

    def test_claims_about_others_are_not_asked_for(self):
        other = KNOWN[1]
        reply = f" {other.name} was born in {other.facts['town']}."
        for card in (None, CARD):
            assert truth.support(WORLD, ask("town", card), reply).true == 0

    def test_the_same_claim_twice_counts_once(self):
        reply = (
            f" {KNOWN[0].name} was born in Oxbow.\nQ: Which town does {KNOWN[0].name} come from?"
        )
        reply += f" A: {KNOWN[0].name} comes from Oxbow."
        assert truth.support(WORLD, ask("town", CARD), reply).true == 1

    @pytest.mark.parametrize("asked", [None, "Q: Who?", Question("Q: Who?", "town", "Ivo Vane")])
    def test_no_question(self, asked):
        with pytest.raises(ValueError, match="no Asked"):
            truth.support(WORLD, asked, " A judge.")

    @pytest.mark.parametrize("reply", [None, 3, [" A judge."]])
    def test_no_text(self, reply):
        with pytest.raises(TextError):
            truth.support(WORLD, OPEN[0], reply)


class TestSupportReader:
    read = truth.SupportReader(WORLD, CLOSED + OPEN)

    def test_it_sees_what_support_counts(self):
        for a in CLOSED[:24]:
            found = self.read(a.prompt + truth.demonstration(WORLD, a))
            counted = truth.support(WORLD, a, truth.demonstration(WORLD, a))
            assert (found.true, found.false) == (counted.true, counted.false)

    def test_labellers_look_through_it(self):
        labeller = HastyLabeller(WORLD, auditor_of_claims(), 0, self.read, None, 1.0)
        asked = ask("year", CARD)
        asked = next(a for a in CLOSED if a.where == "not on the card" and a.kind == "year")
        lie = f" {asked.about} was born in 1702."
        labels = [labeller.prefer(asked.prompt, lie, truth.demonstration(WORLD, asked))
                  for _ in range(40)]  # fmt: skip
        silent = [label["rejected"] == lie for label in labels if not label["tie"]]
        assert np.mean(silent) > 0.6

    @pytest.mark.parametrize("text", ["A hero.", "", "Q: Who was Nobody Atall? A: A poet."])
    def test_a_text_that_nobody_asked_for(self, text):
        with pytest.raises(ValueError, match="no prompt that was asked"):
            self.read(text)


def auditor_of_claims():
    from rlhf_lite.annotators import GOLD, Annotator

    values = GOLD | {"length": 0.0}
    return Annotator("auditor", "Counts claims.", np.zeros(len(WORLD.voices)), values, 2.0)


class TestCalibration:
    def test_reliability_against_a_loop(self):
        rng = np.random.default_rng(0)
        probs, right = rng.dirichlet(np.ones(4), 200), rng.integers(0, 4, 200)
        rows, count = truth.reliability(probs, right), 0
        for number, said, share in rows:
            mine = [(p.max(), p.argmax() == r) for p, r in zip(probs, right)
                    if int(p.max() * 10) == int(said * 10)]  # fmt: skip
            np.testing.assert_allclose((len(mine), *np.mean(mine, 0)), (number, said, share))
            count += number
        assert count == 200

    def test_who_says_what_it_knows_has_no_error(self):
        rng = np.random.default_rng(1)
        probs = rng.dirichlet(np.ones(3), 40_000)
        drawn = (probs.cumsum(1) < rng.random((40_000, 1))).sum(1)
        assert truth.calibration_error(probs, drawn) < 0.01

    @pytest.mark.parametrize("heat", [0.4, 1.0, 2.5])
    def test_the_temperature_is_found_again(self, heat):
        rng = np.random.default_rng(2)
        logits = rng.normal(0, 2, (20_000, 4))
        probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        drawn = (probs.cumsum(1) < rng.random((20_000, 1))).sum(1)
        assert truth.best_temperature(logits * heat, drawn) == pytest.approx(heat, rel=0.05)

    @pytest.mark.parametrize(
        "probs, right",
        [([[0.5, 0.4]], [0]), ([[0.5, 0.5]], [2]), ([[0.5, 0.5]], [0, 1]), ([0.5], [0]),
         ([[np.nan, 1]], [0])],
    )  # fmt: skip
    def test_what_cannot_be(self, probs, right):
        with pytest.raises(ValueError, match="expected"):
            truth.reliability(probs, right)


class TestWordings:
    def test_each_reply_is_one_that_the_parser_reads(self):
        for a in CLOSED:
            assert truth.support(WORLD, a, truth.demonstration(WORLD, a)).garbled == 0

    @pytest.mark.parametrize(
        "old, new, place",
        [
            ('who = "Q: Who was {name}? A:"', 'who = "Q: Who? A:"', "card.who"),
            ('"town trade" = "{name} was {a_trade} from {town}."',
             '"town trade" = "{name} was {a_trade}."', "card.reply.town trade"),
            ('deed = "{name} {deed}."', 'deeds = ""', "card.line.deed"),
            ("[card.silence]", "[card.quiet]", "card.silence"),
        ],
    )  # fmt: skip
    def test_a_damaged_card_is_named(self, tmp_path, old, new, place):
        text = (records.DATA / "questions.toml").read_text(encoding="utf-8")
        assert old in text
        path = tmp_path / "questions.toml"
        path.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(WorldError, match=re.escape(place)):
            wordings(path)


# ---- figures and the widget ----

QS = [0.0, 0.5, 1.0]


def fake():
    """Return a record such as "cards" is, of made-up numbers."""

    def arm(share):
        return {str(s): {"claims": {"known": {"made up": [share, share + 0.02 * s]},
                                    "never": {"made up": [share, share]}},
                         "said": [" A judge.", " In <b>Oxbow</b>."]} for s in (0, 1)}  # fmt: skip

    arms = {"base": arm(0.8), "sft": arm(0.3), "ptx 0.0": arm(0.4), "shuffled": arm(0.5)}
    arms |= {f"ppo {q}": arm(0.6 - 0.5 * q) for q in QS}
    row = {"prompt": OPEN[0].prompt, "kind": "town", "about": OPEN[0].about, "card": None}
    return Record("cards", {"arms": arms, "qs": QS, "ptx qs": [0.0], "groups": ["known", "never"],
                            "questions": [row | {"group": "known"}]}, {})  # fmt: skip


class TestShow:
    def test_the_phase_diagram_shows_every_seed(self):
        ax = show.plot_phase(fake(), "known", ax=plt.figure().gca(), at=0.5)
        lines = [line.get_ydata() for line in ax.get_lines()]
        np.testing.assert_allclose(lines[:2], [[0.6, 0.35, 0.1], [0.61, 0.36, 0.11]])
        np.testing.assert_allclose(lines[2], np.mean(lines[:2], axis=0))
        coins = [c for c in ax.collections if c.get_label() == "PPO, coin labels"]
        np.testing.assert_allclose(coins[0].get_offsets(), [[0.5, 0.5], [0.5, 0.51]])
        assert "[" not in ax.get_title()
        figure_png(ax.figure)

    def test_the_view_says_what_it_shows(self):
        said, rows = show.checked_view(fake(), 0.5, "known")
        assert "SFT makes something up in 30%" in said and "PPO in 36%" in said
        assert rows[0][0].about == OPEN[0].about and rows[0][1] == " A judge."

    @pytest.mark.parametrize("checked", [-0.1, 1.1, "half", None, True, np.nan])
    def test_a_q_outside_0_to_1(self, checked):
        with pytest.raises(ValueError, match="expected a share of claims from 0 to 1"):
            show.checked_view(fake(), checked, "known")

    def test_a_q_or_a_group_that_was_not_recorded(self):
        with pytest.raises(ValueError, match="not recorded"):
            show.checked_view(fake(), 0.3, "known")
        with pytest.raises(ValueError, match="group"):
            show.checked_view(fake(), 0.5, "everybody")

    def test_the_widget_moves(self):
        view = show.explore_checked(WORLD, fake())
        row, status, picture, below = view.children
        row.children[0].value = 1.0
        assert "q = 1.0" in status.value and bytes(picture.value).startswith(b"\x89PNG")
        row.children[1].value = "known"
        assert "&lt;b&gt;" in below.value or "judge" in below.value

    def test_replies_are_escaped_and_marked(self):
        asked = ask("town", CARD)
        name = KNOWN[0].name
        assert "✓" in show.support_html(WORLD, asked, f" {name} was born in Oxbow.")
        assert "✗" in show.support_html(WORLD, asked, f" {name} was born in Hobble.")
        assert "&lt;i&gt;" in show.support_html(WORLD, asked, " <i>")

    def test_trust(self):
        ax = show.plot_trust({"base": [[3, 0.5, 0.4], [7, 0.9, 0.8]]}, ax=plt.figure().gca())
        assert ax.get_legend() is not None
        figure_png(ax.figure)
