"""A real browser opens JupyterLab, runs notebook 01 and uses its widget by keyboard.

Skips, and says how to mend it, where Chromium or its driver is missing: `apt-get install chromium chromium-driver`.
"""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from rlhf_lite.runtime import ROOT

CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)
DRIVER = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},
    "docmanager-extension/plugin": {"autosave": False},
    "apputils-extension/notification": {"checkForUpdates": False, "fetchNews": "false"},
}
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync",
    "--disable-background-networking", "--no-first-run", "--window-size=1280,1000",
)  # fmt: skip
RUN_ALL = """const done = arguments[0];
jupyterapp.commands.execute('notebook:run-all-cells').then(() => done('ok'), e => done(String(e)));"""
READY = """return !!window.jupyterapp && !!document.querySelector('.jp-Notebook .jp-Cell')
&& jupyterapp.shell.currentWidget.sessionContext?.session?.kernel?.status === 'idle'"""
ERRORS = """return jupyterapp.shell.currentWidget.content.widgets.filter(c => c.model.type === 'code')
.flatMap(c => c.model.outputs.toJSON()).filter(o => o.output_type === 'error').map(o => o.evalue)"""
VIEW = """const box = document.querySelector('.jp-Notebook .jupyter-widgets.widget-vbox');
return box && {text: box.innerText, picture: box.querySelector('img')?.src || ''}"""

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no Chromium with its driver; on Debian: apt-get install chromium chromium-driver",
)


def wait(condition, seconds, what):
    deadline = time.time() + seconds
    while time.time() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.3)
    raise AssertionError(f"waited {seconds} s for {what}")


@pytest.fixture
def lab(tmp_path):
    """JupyterLab on a free local port, with throw-away settings, on a copy of the notebook."""
    home, folder = tmp_path / "home", tmp_path / "notebooks"
    for name, value in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    folder.mkdir()
    shutil.copy(ROOT / "notebooks" / "01_base_model_sampling.ipynb", folder)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    token, url = secrets.token_hex(16), f"http://127.0.0.1:{port}"
    names = {
        "JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }  # fmt: skip
    environment = os.environ | {k: str(home / v) for k, v in names.items()}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root",
               "--expose-app-in-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}",
               f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={token}"]  # fmt: skip
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(
            command, env=environment | {"RLHF_LITE_FAST": "1"}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait(lambda: answers(f"{url}/api?token={token}"), 90, "JupyterLab")
        yield f"{url}/lab/tree/01_base_model_sampling.ipynb?token={token}&reset"
    finally:
        server.terminate()
        server.wait(30)


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=5).close()
        return True
    except OSError:
        return False


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(600)
    yield driver
    driver.quit()


def test_notebook_01_runs_and_its_widget_answers_to_the_keyboard(lab, browser):
    browser.get(lab)
    wait(lambda: browser.execute_script(READY), 120, "the notebook")
    assert browser.execute_async_script(RUN_ALL) == "ok"
    assert browser.execute_script(ERRORS) == []
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
    typed = wait(lambda: shows("draw 2", before), 60, "new completions after Enter")
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
        lambda: "expected fewer than the context" in browser.execute_script(VIEW)["text"],
        60, "the sentence about a prompt that is too long",
    )  # fmt: skip
