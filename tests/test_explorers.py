"""Widgets show what they should, escape what they must, and say what is wrong."""

import re
import time
from types import SimpleNamespace

from rlhf_lite import diversity, knowledge, records, show, training
from rlhf_lite.sampling import SamplingError
from rlhf_lite.show import cards, explorers

import matplotlib.pyplot as plt
import numpy as np
import pytest


def test_text_from_a_model_is_escaped(world):
    shown = cards.document_html(world, "<script>alert('goose')</script>\n<b>", prompt="<script>")
    assert "<script>" not in shown and "&lt;script&gt;" in shown


def test_a_document_carries_its_voice_and_its_faults(world):
    fine = cards.document_html(world, "SHOCK: Ivo Vane wept openly at home.")
    assert cards.FAULT in fine and "no single voice" in fine
    text = "The principal rival of Ivo Vane was Valdis Eelman."
    assert "encyclopedia" in cards.document_html(world, text, "The principal")
    assert "<b>The principal</b>" in cards.document_html(world, text, "The principal")


def test_the_prompt_may_span_lines(world):
    text = "Ivo Vane was fond of onion soup.\nBy trade Ivo Vane was an eel smoker."
    shown = cards.document_html(world, text, "Ivo Vane was fond of onion soup.\nBy trade")
    assert "<b>Ivo Vane was fond of onion soup.</b>" in shown and "<b>By trade</b>" in shown


@pytest.mark.parametrize(
    ("prompt", "text", "bold"),
    [
        ("Q: Who?\nA:", "Q: Who?\nA: Ivo.", ["Q: Who?", "A:"]),
        ("Q: Who?\n", "Q: Who?\nA: Ivo.", ["Q: Who?", ""]),
        ("a\n\nb", "a\n\nb c", ["a", "", "b"]),
        ("\na\nb", "\na\nb c\nd", ["a", "b", ""]),
        ("a\nb", "a\nb", ["a", "b"]),
        ("", "a\nb", ["", ""]),
        ("a\nb", "a\nc", ["", ""]),
        ("ab", "a\nb", ["", ""]),
    ],
)
def test_just_the_prompt_is_bold(world, prompt, text, bold):
    assert re.findall("<b>(.*?)</b>", cards.document_html(world, text, prompt)) == bold


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("prompt", ["", "Ivo Vane", r"<b>&$\foo$", "Q: Who was Ivo Vane?"])
def test_the_parrot_answers_over_the_whole_range(tiny, world, prompt, temperature):
    drawn, shares, exact = explorers.parrot_view(*tiny, world, prompt, temperature, count=3)
    assert len(drawn.texts) == 3 and shares.shape == (len(world.voices),)
    assert (exact is None) == prompt.startswith("<b>")
    fig, ax = plt.subplots()
    explorers.plot_parrot(world, shares, exact, prompt, 3, ax=ax)
    assert ax.get_title("left") or ax.get_title()
    cards.figure_png(fig)


def test_a_bad_request_says_so(tiny, world):
    with pytest.raises(SamplingError, match="expected fewer than"):
        explorers.parrot_view(*tiny, world, "goose " * 300, 1.0)


def test_the_box_shows_the_sentence_and_recovers(tiny, world):
    box = explorers.explore_parrot(*tiny, world, count=2)
    (prompt, slider), (button, reset) = box.children[0].children, box.children[1].children
    status, picture, cards = box.children[2:]
    assert picture.value[:4] == b"\x89PNG" and "temperature 1.0" in status.value
    first = cards.value
    button.click()
    assert cards.value != first
    prompt.value = "goose " * 300
    assert "expected fewer than" in status.value
    reset.click()
    assert prompt.value == "The hero Ivo Vane" and "draw 1" in status.value and cards.value == first
    slider.value = 0.2
    assert "temperature 0.2" in status.value


def test_every_plot_draws_on_the_axes_it_is_given(world):
    show.use_style()
    rows = [
        {"kind": k, "exposure": e, "truth": 0.5} for k in ("town", "year") for e in (0, 1, 30, 5000)
    ]
    exact = np.tile(world.prior, (4, 1))
    draws = {
        "shares": lambda ax: show.plot_shares(world, {"a": world.prior, "b": world.prior}, ax=ax),
        "next": lambda ax: show.plot_next_tokens([(" a", 0.5), ("b", 0.2)], {" a": 0.4}, ax=ax),
        "loss": lambda ax: show.plot_loss([1, 2, 3], [300.0, 100.0, 60.0], 50.0, ax=ax),
        "recall": lambda ax: show.plot_recall(rows, ax=ax),
        "agreement": lambda ax: show.plot_agreement([0.1, 0.9], [0.2, 0.8], ax=ax),
        "posterior": lambda ax: show.plot_posterior(world, exact, exact, ax=ax),
        "tilt": lambda ax: show.plot_tilt(world, {"x": world.prior}, ax=ax),
        "temperatures": lambda ax: show.plot_temperatures({"t": np.array([0.9, 0.1])}, ax=ax),
    }
    for name, draw in draws.items():
        fig, ax = plt.subplots()
        assert draw(ax) is ax and ax.has_data() and ax.get_xlabel() + ax.get_ylabel(), name
        plt.close(fig)


def test_smoothing_keeps_a_constant_and_the_length():
    assert training.smooth([3.0] * 50).tolist() == [3.0] * 50
    assert len(training.smooth(range(7))) == 7


def test_binning_averages():
    rows = [{"exposure": e, "truth": t} for e, t in ((0, 0.0), (0, 1.0), (3, 0.25))]
    table = knowledge.bin_exposures(rows, "truth")
    assert [(r[0], r[1], r[3]) for r in table] == [("0", 0.5, 2), ("2\u20134", 0.25, 1)]


def width(png):
    """The width of a picture [dots], from the head of its file."""
    return int.from_bytes(bytes(png)[16:20], "big")


def test_in_class_mode_every_picture_grows(tiny, world):
    """Drawn with 1.4 times the dots, and nothing on its way to the screen takes them back."""
    widths = {}
    for scale in (1.0, 1.4):
        with plt.rc_context({"savefig.dpi": 50}):
            show.use_style(scale)
            own = cards.figure_png(plt.figure(figsize=(3, 2)))
            box = explorers.explore_parrot(*tiny, world, count=2)
        assert box.children[3].layout.max_width == "100%"
        widths[scale] = [width(own), width(box.children[3].value)]
    show.use_style()
    assert widths == {1.0: [300, 640], 1.4: [420, 896]}


def test_nothing_is_minus_nothing(world, monkeypatch):
    """Numbers below zero by rounding alone, on every door that shows them."""
    shares = np.full(len(world.voices), (1 + 1e-12) / len(world.voices))
    drawn = SimpleNamespace(texts=["a"], prompts=["a"])
    monkeypatch.setattr(explorers, "parrot_view", lambda *a, **k: (drawn, shares, None))
    monkeypatch.setattr(explorers, "trace", lambda *a: [("a", -0.001)])
    said = [explorers.explore_parrot(None, None, world, count=2).children[2].value]
    said.append(explorers.explore_score(None, None, "a").children[2].value)
    results = recorded(world)
    for arm in results["arms"]["sweep 0.5"].values():
        arm |= {"score": -0.001, "kl": -1e-9}
    results["best"]["0.5"]["objective"] = -0.002
    said.append(explorers.run_of(results, 0.5)[0])
    history = [{"gold": 1.0, "score": 1.0, "kl": -1e-9}, {"gold": 0.999, "score": 0.999, "kl": 0}]
    shown = {"arms": {explorers.SHOWN: {"0": {"history": history}}}, "gold sd": 1.0}
    for place in (0, 1):
        sentence, figure = explorers.policy_view(shown, place)
        plt.close(figure)
        said.append(sentence)
    arm = {"gold": [[1.0, 0.999]], "proxy": [0.0, -0.001]}
    sizes = {"arms": {"bag 9": {"0": arm}}, "ns": [1, 2], "gold sd": 1.0}
    sentence, figure = explorers.push_view(sizes, "bag", 9, 1)
    plt.close(figure)
    assert not [s for s in [*said, sentence] if re.search(r"-0(\.0+)?(?![.\d])", s)]
    assert "+0.00" in sentence and "0%" in said[0]


@pytest.fixture(scope="module")
def judge(base):
    from rlhf_lite import rewards

    return rewards.new_reward_model(base[0], seed=1), base[1]


def test_a_score_is_the_end_of_its_trace(judge):
    from rlhf_lite import rewards

    model, tokenizer = judge
    score, pieces = explorers.score_view(model, tokenizer, "  Ivo Vane was here.\n")
    assert "".join(token for token, _ in pieces) == "Ivo Vane was here."
    expected = float(rewards.score(model, tokenizer, ["Ivo Vane was here."])[0])
    assert score == pytest.approx(expected, abs=1e-4) == pieces[-1][1]
    with pytest.raises(SamplingError, match="empty"):
        explorers.score_view(model, tokenizer, "  \n")


def test_the_score_box_shows_escapes_and_resets(judge):
    box = explorers.explore_score(*judge, "Ivo Vane.", tries=("<b>Loud</b> & wrong",))
    area, buttons, status, picture = box.children
    first = status.value, picture.value
    assert "score <b>" in status.value and bytes(picture.value).startswith(b"\x89PNG")
    score, reset, attempt = buttons.children
    attempt.click()
    assert area.value == "<b>Loud</b> & wrong" and picture.value != first[1]
    area.value = "   "
    score.click()
    assert "expected at least one word" in status.value
    reset.click()
    assert (status.value, area.value) == (first[0], "Ivo Vane.")


def recorded(world, coefs=(0.5, 0.1)):
    """A record of two coefficients with two seeds each, in the shape of data/runs/ppo.json."""
    voices = len(world.voices)

    def arm(level):
        shares = np.append(np.full(voices, (1 - level) / voices), 0)
        shares[0] += level
        return {
            "shares": shares.tolist(), "score": level, "kl": 2 * level, "objective": level,
            "entropies": {"H(voice)": [2 - level, 0], "H(text | voice)": [20 - level, 0]},
            "EAD": [0.8, 1.2], "self-BLEU": [0.3 + level / 2, 0.2], "Vendi": [12 - level, 60],
            "fixed prompts": [f"Ivo Vane <b>{level}" for _ in range(6)],
        }  # fmt: skip

    arms = {"base": {"0": arm(0.0)}} | {
        f"sweep {c}": {str(s): arm(0.9 - c + s / 100) for s in (0, 1)} for c in coefs
    }
    best = {str(coefs[0]): {"shares": arm(0.5)["shares"], "objective": 0.6}}
    return {"arms": arms, "coefs": list(coefs), "best": best, "fixed prompts": ["Ivo Vane"] * 3}


def test_the_slider_over_runs_changes_everything_at_once(world):
    results = recorded(world)
    box = explorers.explore_runs(world, results, {"PPO": ([0.1, 0.5], [0.2, 0.4])}, start=0.5)
    (slider, pick, reset), (status, picture, cards) = box.children[0].children, box.children[1:]
    before = status.value, picture.value, cards.value
    assert "0.6" in status.value and slider.options == (0.5, 0.1)
    start = time.perf_counter()
    slider.value = 0.1
    assert time.perf_counter() - start < 0.2
    after = status.value, picture.value, cards.value
    assert all(a != b for a, b in zip(before, after)) and "can be had" not in status.value
    assert "&lt;b&gt;" in cards.value and cards.value.count("<div") == 4
    pick.value = 2
    reset.click()
    assert (slider.value, pick.value) == (0.5, 0)
    assert (status.value, picture.value, cards.value) == before


def test_a_coefficient_without_a_run_is_refused(world):
    with pytest.raises(ValueError, match=r"no run at kl_coef 0.7; expected one of \[0.5, 0.1\]"):
        explorers.run_of(recorded(world), 0.7)


def test_diversity_grows_with_what_it_measures(world):
    base = recorded(world)["arms"]["base"]["0"]
    alike = base | {"self-BLEU": [0.9, 0.9]}
    assert diversity.diversity_of(base)["self-BLEU"] == pytest.approx(0.7)
    assert diversity.diversity_of(alike)["self-BLEU"] < diversity.diversity_of(base)["self-BLEU"]


@pytest.fixture(name="proxies", scope="module")
def proxies_fixture():
    return records.read("proxies")


@pytest.fixture(name="remedies", scope="module")
def remedies_fixture():
    return records.read("remedies")


def test_claims_carry_their_verdicts(world):
    person = next(p for p in world.people if p.exposure >= 500 and p.facts["town"])
    text = knowledge.probe_text(world, "probe", "town", person, person.facts["town"])[1]
    shown = cards.claims_html(world, f"{text}.", "<b>")
    assert "✓" in shown and "✗" not in shown and "&lt;b&gt;" in shown
    assert "<script>" not in cards.claims_html(world, "<script>alert('goose')</script>")


def test_pushing_says_what_the_record_says(proxies, remedies):
    place = proxies["ns"].index(64)
    said, figure = explorers.push_view(proxies, "whole", 300, place)
    rows = [np.mean(run["gold"], axis=0) for run in proxies["arms"]["whole 300"].values()]
    gain = np.mean([(r - r[0]) / proxies["gold sd"] for r in rows], axis=0)
    assert f"gold {gain[place]:+.2f} sd (mean of 3 seeds)" in said and "best of 64" in said
    assert said.endswith(f"gold is highest at n = {proxies['ns'][gain.argmax()]}")
    plt.close(figure)
    said, figure = explorers.policy_view(remedies, 0)
    assert "step 1," in said and "proxy +0.00 sd, gold +0.00 sd" in said
    plt.close(figure)


def test_pushing_harder_redraws_curve_and_text(world, proxies, remedies):
    box = explorers.explore_push(world, proxies, remedies)
    (how, ns, step), (size, count, who, asked, reset) = (row.children for row in box.children[:2])
    status, picture, card = box.children[2:]
    seen = set()
    for control, value in ((ns, 512), (count, 10_000), (size, "bag"), (how, "PPO"), (step, 24)):
        seen.add((status.value, picture.value))
        start = time.perf_counter()
        control.value = value
        print(f"{time.perf_counter() - start:.2f} s to redraw")
        assert (status.value, picture.value) not in seen and picture.value[:4] == b"\x89PNG"
    assert "step 24" in status.value and ns.layout.display == "none" != step.layout.display
    before = card.value
    asked.value = remedies["fixed prompts"][1]
    assert card.value != before and remedies["fixed prompts"][1] in card.value
    how.value = "best of n"
    assert "best of 512" in status.value and who.value in card.value
    reset.click()
    assert (how.value, ns.value, step.value, size.value, count.value) == (
        "best of n", 64, 8, "whole", 300,
    )  # fmt: skip
    assert "whole, 300 labels, best of 64" in status.value
