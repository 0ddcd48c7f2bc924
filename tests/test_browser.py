"""A real browser opens JupyterLab, runs notebook 01 and uses its widget by keyboard."""

from rlhf_lite.runtime import ROOT

from browser import browser_fixture, lab_fixture, needs_chromium, run_all, wait  # noqa: F401
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = needs_chromium
VIEW = """const box = document.querySelector('.jp-Notebook .jupyter-widgets.widget-vbox');
return box && {text: box.innerText, picture: box.querySelector('img')?.src || ''}"""


def test_notebook_01_runs_and_its_widget_answers_to_the_keyboard(lab, browser):
    browser.get(lab(ROOT / "notebooks" / "01_base_model_sampling.ipynb"))
    run_all(browser)
    before = wait(
        lambda: (v := browser.execute_script(VIEW)) and v["picture"] and v, 60, "the widget"
    )

    def shows(text, since):
        """The widget once it shows `text` and other completions than before."""
        view = browser.execute_script(VIEW)
        return view if text in view["text"] and view["text"] != since["text"] else None

    box = browser.find_element(By.CSS_SELECTOR, ".jp-Notebook .widget-text input")
    box.click()
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys("Once upon a time, in", Keys.ENTER)
    # The picture arrives behind the text, so both are waited for.
    typed = wait(
        lambda: (v := shows("draw 2", before)) and v["picture"] != before["picture"] and v,
        60, "new completions and a new picture after Enter",
    )  # fmt: skip
    assert "storybook" in typed["text"] and typed["picture"] != before["picture"]

    handle = browser.find_element(By.CSS_SELECTOR, ".jp-Notebook .noUi-handle")
    handle.send_keys(Keys.ARROW_LEFT * 3)
    moved = wait(lambda: shows("temperature 0.7", typed), 60, "a redraw after the slider moved")

    button = browser.find_element(By.CSS_SELECTOR, ".jp-Notebook button.jupyter-button")
    button.send_keys(Keys.ENTER)
    wait(lambda: shows("temperature 0.7", moved), 60, "another draw after the Sample button")

    box.send_keys(Keys.CONTROL, "a")
    box.send_keys("goose " * 330, Keys.ENTER)
    wait(
        lambda: "expected fewer than the 320 that the context leaves" in browser.execute_script(VIEW)["text"],
        60, "the sentence about a prompt that is too long",
    )  # fmt: skip
