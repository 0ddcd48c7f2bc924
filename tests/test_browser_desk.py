"""A real browser sits down at the labelling desk in JupyterLab and labels by keyboard alone."""

import json

from rlhf_lite.feedback import LabelStore, fingerprint, read

import nbformat
from browser import browser_fixture, lab_fixture, needs_chromium, run_all, wait  # noqa: F401
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = needs_chromium

SETUP = """from rlhf_lite.show import labelling_desk
from rlhf_lite.feedback import LabelStore, fingerprint
items = [{{"prompt": f"Ivo Vane {{n}}", "responses": [" sings.\\nNobody hears.", " <b>rows</b>."]}}
         for n in range(6)]
store = LabelStore({path!r}, "ada", fingerprint())"""
FOCUS_KEY = """document.querySelector('.jp-OutputArea input[type=text]').focus()"""
FOCUSED = """const at = document.activeElement;
return {tag: at.tagName, role: at.getAttribute('role')}"""
BOX = "const box = [...document.querySelectorAll('.jp-OutputArea textarea')].find(b => b.offsetParent);"
WRITE = (
    BOX
    + """box.value = JSON.parse(arguments[0]);
box.dispatchEvent(new Event('input', {bubbles: true}));
box.dispatchEvent(new Event('change', {bubbles: true}))"""
)
WRITTEN = BOX + "return JSON.stringify(box.value)"
SAVE = """[...document.querySelectorAll('.jp-OutputArea button')].find(
b => b.offsetParent && b.innerText === 'Save').click()"""
DESK = """return document.querySelector('.jp-OutputArea .widget-vbox')?.innerText || ''"""
RESTART = """const done = arguments[0];
jupyterapp.shell.currentWidget.sessionContext.restartKernel().then(() => done('ok'), e => done(String(e)));"""


def notebook(path, store):
    cells = [SETUP.format(path=str(store)), "labelling_desk(items, store)"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    book.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(book, path)
    return path


def test_labelling_by_keyboard_alone(lab, browser, tmp_path):
    path = tmp_path / "ada.jsonl"
    store = LabelStore(path, "ada", fingerprint())
    browser.get(lab(notebook(tmp_path / "desk.ipynb", path)))
    run_all(browser)

    def shows(*texts):
        def there():
            desk = browser.execute_script(DESK)
            return all(text in desk for text in texts)

        return wait(there, 60, " and ".join(texts))

    def press(*keys):
        ActionChains(browser).send_keys(*keys).perform()

    def walk(key, found):
        """Press `key` until the focus is where `found` says."""
        for _ in range(15):
            if found(browser.execute_script(FOCUSED)):
                return
            key()
        raise AssertionError("the keyboard does not get there")

    shows("0 of 6 pairs")
    browser.execute_script(FOCUS_KEY)
    for key, lines, progress, next_one in (
        ("a", 1, "1 of 6 pairs", "Ivo Vane 1"), ("b", 2, "2 of 6 pairs", "Ivo Vane 2"),
        ("t", 3, "3 of 6 pairs", "Ivo Vane 3"), ("u", 4, "2 of 6 pairs", "Ivo Vane 2"),
    ):  # fmt: skip
        press(key)
        shows(progress, next_one)
        assert len(path.read_text(encoding="utf-8").splitlines()) == lines
        assert browser.execute_script(FOCUSED)["tag"] == "INPUT", "the box keeps the focus"
    press("at")
    shows("4 of 6 pairs")
    chosen = store.records().records
    assert [r["first"] for r in chosen[:3]] == ["chosen", "rejected", "chosen"]
    assert [r["tie"] for r in chosen] == [False, False, False, True]

    def back():
        keys = ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.TAB)
        keys.key_up(Keys.SHIFT).perform()

    walk(back, lambda at: at["role"] == "tab")
    press(Keys.ARROW_RIGHT, Keys.ENTER)
    shows("0 of 12 responses")
    walk(lambda: press(Keys.TAB), lambda at: at["tag"] == "INPUT")
    press("5")
    shows("1 of 12 responses")
    assert store.records().records[-1]["rating"] == 5

    assert browser.execute_async_script(RESTART) == "ok"
    run_all(browser)
    shows("4 of 6 pairs", "Ivo Vane 4")
    browser.execute_script(FOCUS_KEY)
    press("ba")
    shows("6 of 6 pairs", "Every pair is labelled")
    labels = store.records()
    assert len(labels.records) == 7 and not labels.damage
    assert len(read(path, "preference").records) == 6


def test_half_a_character_is_said_and_stays_in_the_box(lab, browser, tmp_path):
    path = tmp_path / "ada.jsonl"
    browser.get(lab(notebook(tmp_path / "desk.ipynb", path)))
    run_all(browser)

    def shows(text):
        wait(lambda: text in browser.execute_script(DESK), 60, text)

    shows("0 of 6 pairs")
    browser.find_elements(By.CSS_SELECTOR, ".jp-OutputArea .lm-TabBar-tab")[2].click()
    shows("0 of 12 responses")
    half = json.dumps(" half an emoji \ud83d")
    browser.execute_script(WRITE, half)
    browser.execute_script(SAVE)
    shows("field 'corrected'")
    shows("lone surrogate")
    assert browser.execute_script(WRITTEN) == half and not path.exists()
    browser.execute_script(WRITE, json.dumps(" a whole one \U0001f600"))
    browser.execute_script(SAVE)
    shows("1 of 12 responses")
    assert [r["corrected"] for r in read(path).records] == [" a whole one \U0001f600"]
