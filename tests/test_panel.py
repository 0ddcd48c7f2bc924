"""The live KL panel obeys its slider and its buttons, and says what is wrong."""

import asyncio
import copy
import random
from types import SimpleNamespace

from rlhf_lite import diversity
from rlhf_lite.policies import PolicyError
from rlhf_lite.ppo import PPOConfig, PPORun
from rlhf_lite.show import panel, style

import matplotlib.pyplot as plt
import numpy as np
import pytest


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


def test_the_first_screen_is_a_picture(tiny, world):
    """The base's voices and J* at the slider before Start; a moved slider moves J*; after Start the
    base's voices stay beside those of now; Reset brings the first picture back.
    """
    texts, drawn = [world.sample(random.Random(n), "verse").text for n in range(3)], []
    leash = panel.KLPanel(world, lambda: Run(texts=texts), lambda c: 2 * c, texts)
    assert bytes(leash.picture.value).startswith(b"\x89PNG")
    assert leash.picture.layout.visibility == "visible"
    assert "no policy has more J than 1.00" in leash.status.value
    first = bytes(leash.picture.value)
    leash.slider.value = 0.1
    assert "more J than 0.20" in leash.status.value and bytes(leash.picture.value) != first
    leash.slider.value = 0.5
    assert bytes(leash.picture.value) == first
    leash.step()
    assert leash.first[world.voices.index("verse")] > 0.9 and leash.ceilings == [1.0]
    drawn = bytes(leash.picture.value)
    leash.slider.value = 0.1
    assert bytes(leash.picture.value) == drawn, "a preview over a run that has begun"
    leash.slider.value = 0.5
    leash.reset()
    assert bytes(leash.picture.value) == first


def test_a_ceiling_that_fails_is_said(world):
    """The panel opens all the same, and Reset and the slider say so again."""
    texts = [world.sample(random.Random(0), "verse").text]
    leash = panel.KLPanel(world, lambda: Run(texts=texts), lambda c: 1 / 0, texts)
    for act in (lambda: None, leash.reset, lambda: setattr(leash.slider, "value", 0.1)):
        leash.say("")
        leash.preview()
        act()
        assert "ZeroDivisionError" in leash.status.value and leash.state == "ready"
        assert "Start trains all the same" in leash.status.value


def test_the_first_picture_has_one_height(world):
    shares = np.full(len(world.voices), 0.125)
    axes = panel.plot_panel(world, [], shares, shares, [0.7])
    assert set(axes[2].lines[1].get_ydata()) == {0.7}
    assert "voices before" in (axes[3].get_title(), axes[3].get_title("left"))
    none = panel.plot_panel(world, [], shares, shares, [None])
    assert len(none[2].lines) == len(axes[0].lines) == 1 < len(axes[2].lines)
    plt.close("all")


def test_two_presses_of_start_train_once(leash):
    async def press():
        leash.start()
        task = leash.task
        leash.start()
        assert leash.task is task
        await task

    asyncio.run(press())
    assert [s.step for s in leash.run.history] == [1, 2, 3, 4, 5, 6]


def test_it_shows_picture_samples_and_the_loudest_voice(world):
    texts = [
        world.sample(random.Random(n), v).text for n, v in enumerate(["tabloid"] * 3 + ["verse"])
    ]
    leash = panel.KLPanel(world, lambda: Run(texts=texts))
    leash.step()
    assert bytes(leash.picture.value).startswith(b"\x89PNG")
    assert leash.cards.value.count("<div") == 3
    shares = diversity.batch_voices(world, texts)
    assert shares[world.voices.index("tabloid")] == shares.max() > 0.6
    assert f"Loudest voice: <b>tabloid</b> ({shares.max():.0%})." in leash.status.value


def test_the_cards_print_the_prompts_bold(leash):
    """What was asked is told from what the policy made of it."""
    leash.step()
    done = leash.run.history[-1]
    assert all(text.startswith(prompt) for text, prompt in zip(done.texts, done.prompts))
    assert leash.cards.value.count("<br><b>Ivo Vane</b>") == 3 == leash.cards.value.count("<div")


def test_what_stops_a_run_is_said_and_escaped(leash):
    leash.run.score = lambda texts: [float("nan")] * len(texts)
    leash.step()
    assert "expected a finite number" in leash.status.value and leash.run.step == 0
    assert "PolicyError" not in leash.status.value and "<script>" not in leash.status.value
    leash.run.score = letters
    leash.step()
    assert "Step 1 of 6" in leash.status.value


# ---- what goes wrong ----


class Run:
    """A run of six steps that trains nothing; `wrong` is raised at the step that it is set for."""

    def __init__(self, at=None, wrong=None, texts=("Ivo Vane sings.",) * 3, score=1.0):
        self.at, self.wrong, self.texts, self.score = at, wrong, texts, score
        self.step, self.history, self.kl_coef = 0, [], 0.5
        self.config, self.policy = SimpleNamespace(steps=6), f"the policy of {id(self)}"

    def advance(self):
        if self.step + 1 == self.at:
            self.at = None
            raise self.wrong
        self.step += 1
        self.history.append(
            SimpleNamespace(step=self.step, of=6, kl_coef=self.kl_coef, score=self.score,
                            kl=self.score, objective=self.score, texts=self.texts,
                            prompts=("Ivo Vane",) * len(self.texts))
        )  # fmt: skip
        return self.history[-1]


def training():
    """List the tasks that train and are alive in this event loop."""
    return [t for t in asyncio.all_tasks() if t.get_coro().__qualname__ == "KLPanel.train"]


def play(script):
    """Run a script of button presses; whatever the event loop complains about is an error."""
    complaints = []

    async def whole():
        asyncio.get_running_loop().set_exception_handler(lambda _, told: complaints.append(told))
        await asyncio.wait_for(script(), 60)

    try:
        asyncio.run(whole())
    except KeyboardInterrupt:
        pytest.fail("an interrupt has ended the event loop, and with it the kernel")
    assert complaints == []


async def rest():
    """Wait until no task trains, and until the panel has heard of its end."""
    while training():
        await asyncio.sleep(0.005)
    await asyncio.sleep(0)


WRONG = [
    (ValueError("<b>no</b>"), "ValueError: &lt;b&gt;no&lt;/b&gt;"),
    (RuntimeError("out of memory"), "RuntimeError: out of memory"),
    (KeyError("voice"), "KeyError: &#x27;voice&#x27;"),
    (AssertionError(), "AssertionError"),
    (PolicyError("KL has <run> away"), "'>KL has &lt;run&gt; away<"),
    (KeyboardInterrupt(), "Paused after step 2. Start goes on."),
    (asyncio.CancelledError(), "Paused after step 2. Start goes on."),
]


@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("button", ["Start", "Reset"])
def test_a_step_that_fails_is_said_and_every_button_lives(world, wrong, said, button):
    leash = panel.KLPanel(world, lambda: Run(3, wrong))

    async def script():
        leash.buttons["Start"].click()
        await rest()
        assert said in leash.status.value and "<b>no" not in leash.status.value
        assert leash.state == "paused" and leash.run.step == 2 == len(leash.ceilings)
        if button == "Reset":
            broken = leash.run
            leash.buttons["Reset"].click()
            assert "Ready" in leash.status.value and leash.run is not broken
            leash.run.at = None
        leash.buttons["Start"].click()
        assert "Training" in leash.status.value and len(training()) == 1
        await rest()
        assert "Stopped after step 6" in leash.status.value and leash.run.step == 6

    play(script)


@pytest.mark.parametrize("part", ["plot_panel", "figure_png", "documents_html", "batch_voices"])
@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_drawing_that_fails_is_said_and_made_up_for(world, monkeypatch, part, step):
    leash, real = panel.KLPanel(world, Run, lambda c: c), getattr(panel, part)
    figures, told = plt.get_fignums(), []

    def fails_once(*args, **options):
        if leash.run.step == step and not told:
            told.append(part)
            raise OSError("<no> ink")
        return real(*args, **options)

    monkeypatch.setattr(panel, part, fails_once)

    async def script():
        leash.start()
        await rest()
        assert "OSError: &lt;no&gt; ink" in leash.status.value and leash.state == "paused"
        assert told and leash.run.step == step and plt.get_fignums() == figures
        leash.slider.value = 0.1
        leash.start()
        await rest()
        assert "Stopped after step 6" in leash.status.value

    play(script)
    used = [s.kl_coef for s in leash.run.history]
    assert used == pytest.approx([0.5] * step + [0.1] * (6 - step))
    assert leash.ceilings == used[: len(leash.ceilings)]
    assert len(leash.ceilings) == 6 or step == 6, "nothing is drawn after the last"


def test_the_voices_to_compare_with_are_those_of_the_first_step_drawn_or_not(world, monkeypatch):
    verse, tabloid = (world.sample(random.Random(0), v).text for v in ("verse", "tabloid"))
    run = Run(texts=[verse])
    leash = panel.KLPanel(world, lambda: run)
    monkeypatch.setattr(panel, "batch_voices", lambda world, texts: 1 / 0)
    leash.step()
    assert "ZeroDivisionError" in leash.status.value and run.step == 1
    monkeypatch.undo()
    run.texts = [tabloid]
    leash.step()
    assert "Step 2 of 6" in leash.status.value
    assert leash.first.tolist() == diversity.batch_voices(world, [verse]).tolist()
    assert leash.first.tolist() != diversity.batch_voices(world, [tabloid]).tolist()


@pytest.mark.parametrize("begun", [True, False])
def test_an_interrupt_between_two_steps_reads_as_paused(world, begun):
    leash = panel.KLPanel(world, Run)

    async def script():
        leash.start()
        if begun:
            await reach(leash, 2)
        leash.task.cancel()
        await rest()
        held = leash.run.step
        assert held == (2 if begun else 0) and leash.state == "paused"
        assert f"Paused after step {held}. Start goes on." in leash.status.value
        leash.start()
        await rest()
        assert leash.run.step == 6

    play(script)


@pytest.mark.parametrize("wrong", [ValueError("no <disk>"), KeyboardInterrupt()], ids=repr)
def test_a_reset_that_fails_keeps_the_run_and_can_be_pressed_again(world, wrong):
    leash = panel.KLPanel(world, Run)
    old = leash.run

    def fails():
        raise wrong

    async def script():
        leash.start()
        await reach(leash, 2)
        leash.new_run = fails
        leash.reset()
        await rest()
        assert type(wrong).__name__ in leash.status.value and "<disk>" not in leash.status.value
        assert leash.run is old and old.step == 2 and leash.state == "paused"
        leash.start()
        await reach(leash, 3)
        leash.stop()
        leash.reset()
        assert "Reset tries again" in leash.status.value and leash.run is old
        leash.new_run = Run
        leash.reset()
        assert "Ready" in leash.status.value and leash.run is not old and leash.run.step == 0
        leash.start()
        await rest()
        assert leash.run.step == 6 and old.step == 3

    play(script)


# ---- quick fingers ----


def test_pause_and_start_at_once_leave_one_task_and_the_next_pause_is_obeyed(world):
    leash = panel.KLPanel(world, Run)

    async def script():
        leash.start()
        await reach(leash, 1)
        for _ in range(3):
            leash.pause()
            leash.start()
        await asyncio.sleep(0)
        assert len(training()) == 1
        await reach(leash, 2)
        leash.pause()
        leash.start()
        leash.pause()
        held = leash.run.step
        await rest()
        assert leash.run.step == held < 6 and "Paused" in leash.status.value

    play(script)


def test_reset_and_start_at_once_train_the_new_run_alone(world):
    leash = panel.KLPanel(world, Run)

    async def script():
        leash.start()
        await reach(leash, 2)
        old = leash.run
        leash.reset()
        leash.start()
        await asyncio.sleep(0)
        assert len(training()) == 1
        await rest()
        assert old.step == 2 and leash.run.step == 6 == len(leash.ceilings)

    play(script)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_pressed_one_task_trains_and_what_was_pressed_last_counts(world, seed):
    """Random presses, with breaths between them; no drawing, so that it is quick."""
    rng, leash, made = random.Random(seed), None, []

    def new_run():
        if made and rng.random() < 0.3:
            raise ValueError("no memory")
        made.append(Run(rng.choice((None, 2, 4)), rng.choice(WRONG)[0]))
        return made[-1]

    leash = panel.KLPanel(world, new_run)
    leash.draw = lambda done: None

    async def script():
        for _ in range(60):
            press = rng.choice((leash.start, leash.pause, leash.stop, leash.reset))
            before = leash.state
            press()
            assert len(training()) <= 1
            assert (
                leash.state
                in {
                    "start": {"running"} if before != "stopped" else {"stopped"},
                    "pause": {"paused"} if before == "running" else {before},
                    "stop": {"stopped"},
                    "reset": {"ready", "paused" if before == "running" else before},
                }[press.__name__]
            )
            if leash.state == "running":
                assert len(training()) == 1, "no dead Start"
            await asyncio.sleep(rng.choice((0, 0, 0.012, 0.03)))
        held = {id(run): run.step for run in made}
        if leash.state == "running":
            await rest()
        else:
            await asyncio.sleep(0.05)
            assert held == {id(run): run.step for run in made} and not training()
        assert all(run.step == held[id(run)] for run in made if run is not leash.run)

    play(script)


# ---- what it shows ----


def test_texts_that_no_voice_writes_are_shown(world):
    leash = panel.KLPanel(world, lambda: Run(texts=("", "<script>x</script>", "zq \0\n\n$x_{")))
    for _ in range(2):
        leash.step()
    assert "Step 2 of 6" in leash.status.value and "Loudest voice: none." in leash.status.value
    assert leash.cards.value.count("no single voice") == 3
    assert "&lt;script&gt;" in leash.cards.value and "<script>" not in leash.cards.value
    assert bytes(leash.picture.value).startswith(b"\x89PNG")


@pytest.mark.parametrize(("score", "shown"), [(-0.001, "0.00"), (-0.25, "-0.25"), (0.25, "+0.25")])
def test_less_than_nothing_is_not_shown_where_nothing_is(world, score, shown):
    leash = panel.KLPanel(world, lambda: Run(score=score))
    leash.step()
    found = leash.status.value.replace("+0.00", "0.00")
    assert f"score {shown}, KL {shown.lstrip('+')} nats, J {shown}." in found


def test_the_picture_may_be_as_wide_as_class_mode_draws_it(world):
    leash = panel.KLPanel(world, Run)
    for dpi, width in ((100, "1140px"), (140, "1596px")):
        with plt.rc_context({"figure.dpi": dpi}):
            leash.step()
        assert leash.picture.layout.max_width == width
        assert f"{int.from_bytes(bytes(leash.picture.value)[16:20])}px" == width


def test_the_picture_marks_moves_and_the_ceiling(leash, world):
    for coef in (0.5, 0.5, 0.1):
        leash.slider.value = coef
        leash.step()
    shares = np.full(len(world.voices), 1 / len(world.voices))
    axes = panel.plot_panel(world, leash.run.history, shares, shares, leash.ceilings)
    dotted = [line for line in axes[0].lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == [2.5]
    level = next(line for line in axes[2].lines if line.get_color() == style.REFERENCE)
    assert level.get_xdata().tolist() == [1, 2] and set(level.get_ydata()) == {1.5}
    plt.close("all")
