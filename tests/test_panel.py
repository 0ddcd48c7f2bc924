"""The live KL panel obeys its slider and its buttons, and says what is wrong."""

import asyncio
import copy

import matplotlib.pyplot as plt
import numpy as np
import pytest

from rlhf_lite import panel, plots
from rlhf_lite.ppo import PPOConfig, PPORun


def letters(texts):
    return [text.count("e") / 10 for text in texts]


@pytest.fixture
def leash(tiny, world):
    """A panel over a tiny run of six steps, with a ceiling that is known above 0.3 only."""
    model, tokenizer = tiny

    def new_run():
        config = PPOConfig(samples=8, minibatches=2, steps=6, max_new_tokens=6, bfloat16=False)
        return PPORun(copy.deepcopy(model), None, tokenizer, ["Ivo Vane"], letters, config)

    return panel.KLPanel(world, new_run, lambda c: 1.5 if c > 0.3 else None)


async def reach(leash, step):
    """Wait until the run has taken so many steps."""
    for _ in range(2000):
        if leash.run.step >= step:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"step {step} never came")


def test_the_next_step_obeys_the_slider(leash):
    async def drag():
        leash.start()
        await reach(leash, 2)
        leash.slider.value = 0.1
        now = leash.run.step
        await reach(leash, now + 2)
        leash.stop()
        return now

    now = asyncio.run(drag())
    used = [step.kl_coef for step in leash.run.history]
    assert used[:now] == [0.5] * now and used[now] == pytest.approx(0.1)
    assert leash.ceilings[:now] == [1.5] * now and leash.ceilings[now] is None


def test_pause_start_stop_reset(leash):
    async def play():
        leash.start()
        await reach(leash, 1)
        leash.pause()
        await leash.task
        held = leash.run.step
        assert "Paused" in leash.status.value and held < 6
        leash.start()
        await leash.task
        assert leash.run.step == 6 and "panel.run.policy" in leash.status.value
        leash.start()
        assert "Reset begins a new run" in leash.status.value

    asyncio.run(play())
    done = leash.run
    leash.reset()
    assert leash.run is not done and leash.run.step == 0 and not leash.ceilings
    assert leash.picture.layout.visibility == "hidden"


def test_two_presses_of_start_train_once(leash):
    async def press():
        leash.start()
        task = leash.task
        leash.start()
        assert leash.task is task
        await task

    asyncio.run(press())
    assert [s.step for s in leash.run.history] == [1, 2, 3, 4, 5, 6]


def test_it_shows_picture_samples_and_the_loudest_voice(leash, world):
    leash.step()
    assert bytes(leash.picture.value).startswith(b"\x89PNG")
    assert leash.cards.value.count("<div") == 3
    shares = panel.batch_voices(world, leash.run.history[0].texts)
    assert world.voices[int(shares.argmax())] in leash.status.value


def test_what_stops_a_run_is_said_and_escaped(leash):
    leash.run.score = lambda texts: [float("nan")] * len(texts)
    leash.step()
    assert "expected a finite number" in leash.status.value and leash.state == "stopped"
    assert "<script>" not in leash.status.value and leash.run.step == 0


def test_the_picture_marks_moves_and_the_ceiling(leash, world):
    for coef in (0.5, 0.5, 0.1):
        leash.slider.value = coef
        leash.step()
    shares = np.full(len(world.voices), 1 / len(world.voices))
    axes = panel.plot_panel(world, leash.run.history, shares, shares, leash.ceilings)
    dotted = [line for line in axes[0].lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == [2.5]
    level = next(line for line in axes[2].lines if line.get_color() == plots.REFERENCE)
    assert level.get_xdata().tolist() == [1, 2] and set(level.get_ydata()) == {1.5}
    plt.close("all")
