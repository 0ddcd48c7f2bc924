"""What is said of a policy is what its fresh samples say, and all rulers read the same ones."""

import copy
from types import SimpleNamespace

from rlhf_lite import diversity, rulers
from rlhf_lite.rollouts import Draws, PolicyError

import numpy as np
import pytest
import torch


def draws(world, count=4):
    """Two prompts with `count` samples each, a voice for either prompt but for one garbled text."""
    said = ["Ivo Vane was born in Oxbow, as the parish roll confirms.", "Ivo Vane floats. Zzz"]
    texts = [[said[0]] * count, [said[0]] * (count - 1) + [said[1]]]
    scores = torch.arange(2.0 * count).reshape(2, count)
    return Draws(["Ivo Vane"] * 2, texts, scores, scores / 10 - 30, torch.full((2, count), -30.0))


class Run:
    """A run that breaks off after its second step."""

    def __init__(self, stop):
        self.history, self.stop = [], stop

    def __iter__(self):
        for number in (1, 2, 3):
            if number == self.stop:
                raise PolicyError("too fast")
            self.history.append(SimpleNamespace(numbers=lambda n=number: {"step": n}))
            yield number


@pytest.mark.parametrize(("stop", "why", "steps"), [(None, "", 3), (3, "too fast", 2)])
def test_a_run_is_followed_as_far_as_it_goes(stop, why, steps):
    found = rulers.follow(Run(stop))
    assert found == {"stopped": why, "history": [{"step": n + 1} for n in range(steps)]}


def test_a_policy_is_measured_on_fresh_samples(world, monkeypatch):
    """Score 3.5, KL 0.35: J = 3.5 - 2 * 0.35, and the garbled text has no single voice."""
    monkeypatch.setattr(rulers, "FIXED", (0, 1))
    asked, drawn = [], draws(world)
    lab = SimpleNamespace(world=world, draw=lambda *args: asked.append(args) or drawn)
    run = SimpleNamespace(policy="policy", score="score", kl_coef=2.0)
    found = rulers.measure(lab, run, 4)
    assert asked == [("policy", "score", 4, 1777)]
    assert found["objective"] == pytest.approx(2.8) and found["kl"] == pytest.approx(0.35)
    assert found["score"] == 3.5 and found["kl_coef"] == 2.0 and found["n"] == 8
    assert found["words"] == pytest.approx((7 * 11 + 4) / 8)
    assert found["shares"][world.voices.index("encyclopedia")] == pytest.approx(7 / 8)
    assert found["shares"][-1] == pytest.approx(1 / 8)
    assert found["fixed prompts"] == [row[k] for row in drawn.texts for k in (0, 1)]


def test_the_likeliest_voice_is_one_and_the_rest_nothing(world):
    read = diversity.likeliest_voices(world, draws(world).texts)
    assert read.shape == (2, 4, len(world.voices)) and set(np.unique(read)) == {0, 1}
    assert read.sum(-1).tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_entropies_are_on_the_base_models_mix_of_voices(monkeypatch):
    """Within a voice both prompts count as the base uses it there, not as the policy does."""
    voices = np.zeros((2, 40, 1)) + 1
    logprobs = np.repeat([[-1.0], [-5.0]], 40, axis=1)
    for share, want in ((0.5, 3.0), (0.25, 4.0)):
        shares = np.array([[share, 1 - share], [1 - share, share]])
        monkeypatch.setattr(rulers, "base_shares", lambda shares=shares: shares)
        found = rulers.entropies(logprobs, voices)
        assert found["within"][0][0] == pytest.approx(want)
        assert found["entropies"]["H(text)"][0] == pytest.approx(3.0)


def test_the_spread_is_per_prompt_and_across_prompts(world, tiny, monkeypatch):
    """Alike within a prompt but not across them: Vendi 1 there and 2 here; BLEU the other way."""
    monkeypatch.setattr(rulers, "base_shares", lambda: np.full((8, 9), 1 / 9))
    texts = [[f"{'abcdefgh'[p]} one two three four five {p}"] * 16 for p in range(8)]
    drawn = Draws([], texts, None, torch.full((8, 16), -9.0), None)
    found = rulers.spread(tiny[1], drawn, diversity.likeliest_voices(world, texts))
    assert found["Vendi"][0] == pytest.approx(1) and 2 < found["Vendi"][1] < 8
    assert found["self-BLEU"][0] == pytest.approx(1) and found["self-BLEU"][1] < 0.9
    assert found["EAD"][0] < found["EAD"][1]
    assert found["entropies"]["H(text)"][0] == 9


def test_two_tasks_ask_for_facts_and_for_tales(world, base):
    """The shipped model on four people whom it has read of 500 times or more."""
    few = copy.copy(world)
    few.people = [p for p in world.people if p.exposure >= 500][:10]
    found = rulers.two_tasks(SimpleNamespace(world=few, tokenizer=base[1]), base[0])
    assert 0.5 < found["fact"] <= 1 and found["fact said"] > 0.5
    assert 100 < found["openings"] <= 200 and 0.5 < sum(found["hero shares"]) <= 1
    assert len(found["hero texts"]) == 3 and found["hero entropy"] > 20
