"""The webserver of the workspace, and a browser that looks at it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.redis import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The folder of an instance of its own."""
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    return home


@pytest.fixture
def webserver(tmp_path: Path, home: Path) -> Iterator[str]:
    """The webserver of the workspace."""
    port = free_port()
    command = [Path(sys.executable).with_name("dagster-webserver"), "-p", str(port), "-w", str(ROOT / "workspace.yaml")]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "DAGSTER_HOME": str(home)}, stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{port}"
            while not answers(url):
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            process.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/server_info", timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, TimeoutError):
        return False


@pytest.fixture
def rendered(webserver: str, tmp_path: Path) -> Callable[[str], str]:
    """Returns the document of a page after its scripts have run."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: the page was not looked at (apt install chromium)")

    def render(path: str) -> str:
        quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", *quiet, profile]
        options = ["--window-size=1600,1000", "--virtual-time-budget=30000", "--dump-dom", f"{webserver}{path}"]
        return subprocess.run([*command, *options], capture_output=True, text=True, check=True, timeout=120).stdout

    return render
