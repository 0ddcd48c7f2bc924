"""Drive a real browser over JupyterLab: what the browser tests share.

They skip, and say how to mend it, where Chromium or its driver is missing: `apt-get install chromium chromium-driver`.
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
from pathlib import Path

import pytest
from selenium import webdriver

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

needs_chromium = pytest.mark.skipif(
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


@pytest.fixture(name="lab")
def lab_fixture(tmp_path):
    """Start JupyterLab on a free local port, with throw-away settings, on a copy of a notebook.

    Call it with the notebook's path; it returns the address at which the browser finds it.
    """
    servers = []

    def start(notebook):
        address, server = start_lab(tmp_path, notebook)
        servers.append(server)
        wait(lambda: answers(address), 90, "JupyterLab")
        return address

    yield start
    for server in servers:
        server.terminate()
        server.wait(30)


def start_lab(tmp_path, notebook):
    home, folder = tmp_path / "home", tmp_path / "notebooks"
    for name, value in SETTINGS.items():
        path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
    folder.mkdir()
    shutil.copy(notebook, folder)
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
    with (tmp_path / "lab.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(
            command, env=environment | {"RLHF_LITE_FAST": "1"}, stdout=log, stderr=subprocess.STDOUT
        )
    return f"{url}/lab/tree/{Path(notebook).name}?token={token}&reset", server


def answers(url):
    try:
        urllib.request.urlopen(url, timeout=5).close()
        return True
    except OSError:
        return False


@pytest.fixture(name="browser")
def browser_fixture(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(600)
    driver.command_executor.client_config.timeout = 900  # run-all is one command, and may be slow
    yield driver
    driver.quit()


def run_all(browser):
    """Run all cells of the notebook in front; fail where one of them does."""
    wait(lambda: browser.execute_script(READY), 120, "the notebook")
    assert browser.execute_async_script(RUN_ALL) == "ok"
    assert browser.execute_script(ERRORS) == []
