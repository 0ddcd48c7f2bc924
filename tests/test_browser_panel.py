"""A real browser drags the slider of the live panel while it trains, and the one over recorded runs."""

import re

import nbformat
from browser import browser_fixture, lab_fixture, needs_chromium, run_all, wait  # noqa: F401
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = needs_chromium
VIEW = """const box = document.querySelector('.jp-Notebook .jupyter-widgets.widget-vbox');
return box && {text: box.innerText, picture: box.querySelector('img')?.src || ''}"""
NAMED = """const view = document.querySelector('.rlhf-view'), handle = view?.querySelector('.noUi-handle');
return view && {name: handle.ariaLabel, value: handle.ariaValueText, alt: view.querySelector('img.widget-image').alt,
    said: view.querySelector('[role=status]')?.textContent || ''}"""
LIVE = """import copy
from rlhf_lite import models, show
from rlhf_lite.ppo import PPOConfig, PPORun
from rlhf_lite.runtime import DATA
from rlhf_lite.world import World
base, tokenizer = models.load(DATA / "models" / "base")
trouble = [ValueError("<b>once</b>")]
def score(texts):
    if trouble:
        raise trouble.pop()
    return [text.count("e") / 10 for text in texts]
def new_run():
    config = PPOConfig(samples=12, minibatches=2, steps=4000, max_new_tokens=12)
    return PPORun(copy.deepcopy(base), base, tokenizer, ["Ivo Vane"], score, config)
leash = show.KLPanel(World(), new_run)"""
RECORDED = """from rlhf_lite import records, show
from rlhf_lite.world import World
record = records.read("ppo")"""


def notebook(path, *cells):
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, path)
    return path


def press(browser, name):
    buttons = browser.find_elements(By.CSS_SELECTOR, ".jp-Notebook button.jupyter-button")
    next(b for b in buttons if b.text == name).send_keys(Keys.ENTER)


def test_the_live_panel_obeys_while_it_trains(lab, browser, tmp_path):
    browser.get(lab(notebook(tmp_path / "live.ipynb", LIVE, "leash.view")))
    run_all(browser)

    def shown():
        """(step, kl_coef) of the status line, and the picture."""
        view = browser.execute_script(VIEW)
        found = view and re.search(r"Step (\d+) of 4000 at β = ([\d.]+)", view["text"])
        return found and (int(found[1]), float(found[2]), view["picture"])

    wait(lambda: (v := browser.execute_script(VIEW)) and "Ready" in v["text"], 60, "the panel")
    press(browser, "Start")
    said = "ValueError: <b>once</b>"
    wait(lambda: said in browser.execute_script(VIEW)["text"], 60, "the error of the first step")
    press(browser, "Start")
    first = wait(shown, 60, "the first step")
    assert first[1] == 0.5
    handle = browser.find_element(By.CSS_SELECTOR, ".jp-Notebook .noUi-handle")
    handle.send_keys(Keys.ARROW_LEFT * 6)
    moved = wait(lambda: (s := shown()) and s[1] < 0.4 and s, 60, "a step at the new coefficient")
    assert moved[0] > first[0] and moved[2] != first[2]
    press(browser, "Pause")
    wait(lambda: "Paused after step" in browser.execute_script(VIEW)["text"], 60, "the pause")
    press(browser, "Start")
    wait(lambda: (s := shown()) and s[0] > moved[0], 60, "training to go on")
    press(browser, "Stop")
    wait(lambda: "panel.run.policy" in browser.execute_script(VIEW)["text"], 60, "the end")
    press(browser, "Reset")
    wait(lambda: "Ready" in browser.execute_script(VIEW)["text"], 60, "the base model again")


def test_the_slider_over_recorded_runs(lab, browser, tmp_path):
    cell = 'show.explore_runs(World(), record, {"PPO": ([0], [0])})'
    browser.get(lab(notebook(tmp_path / "recorded.ipynb", RECORDED, cell)))
    run_all(browser)
    before = wait(
        lambda: (v := browser.execute_script(VIEW)) and v["picture"] and v, 60, "the widget"
    )
    handle = browser.find_element(By.CSS_SELECTOR, ".jp-Notebook .noUi-handle")
    handle.send_keys(Keys.ARROW_RIGHT * 2)

    def moved():
        view = browser.execute_script(VIEW)
        return view["picture"] != before["picture"] and "β = 0.24:" in view["text"]

    wait(moved, 60, "the policy at β = 0.24")
    assert "β = 0.54:" in before["text"]

    def named():
        """What a screen reader is told, once it is told where the slider stands."""
        told = browser.execute_script(NAMED)
        return told and told["value"] == "0.24" and "β = 0.24:" in told["said"] and told

    told = wait(named, 60, "the slider's value and the sentence in words")
    assert told["name"] == "KL coefficient β" and "share of voices, log scale" in told["alt"]
