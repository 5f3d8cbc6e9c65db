"""The Dagster page as a person sees it, in a real browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_assets import flights
from tests.servers.redis import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.needs_browser,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: the page was not looked at (apt install chromium)"),
]


@pytest.fixture
def webserver(tmp_path: Path) -> Iterator[str]:
    """The webserver of the workspace, on an instance of its own."""
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
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


def rendered(url: str, profile: Path) -> str:
    """Returns the page's document after its scripts have run."""
    assert CHROMIUM
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={profile}"]
    options = ["--window-size=1600,1000", "--virtual-time-budget=30000", "--dump-dom", url]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=True, timeout=120).stdout


def test_the_lineage_page_shows_every_group_between_its_source_and_the_training_set(webserver, tmp_path):
    page = rendered(f"{webserver}/assets/flight_delay?view=lineage&lineageScope=upstream&lineageDepth=5", tmp_path)
    names = [group.name for group in flights.FEATURE_GROUPS] + ["flight_delay", "flight_arrivals", "aircraft_registry"]
    assert [name for name in names if name not in page] == []
