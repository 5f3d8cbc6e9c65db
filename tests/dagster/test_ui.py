"""`make ui`: quiet, and its address is the last line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.servers.redis import free_port

LOCATION = """
import dagster as dg

@dg.asset
def rows() -> None: ...

defs = dg.Definitions(assets=[rows])
"""


@pytest.mark.gate
@pytest.mark.timeout(240)
def test_the_address_is_all_that_it_says_and_no_setting_is_needed(tmp_path: Path) -> None:
    (tmp_path / "location.py").write_text(LOCATION)
    (tmp_path / "workspace.yaml").write_text("load_from:\n  - python_module: location\n")
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster_feature_store.ui", "--port", str(port)],
            cwd=tmp_path,
            env=environment,
            stdout=said,
            stderr=said,
        )
        try:
            while not (lines := (tmp_path / "said").read_text()):
                assert process.poll() is None
                time.sleep(0.2)
            with urllib.request.urlopen(f"http://localhost:{port}/server_info", timeout=30) as response:
                assert response.status == 200
        finally:
            process.terminate()
            assert process.wait(60) == 0
    assert lines == f"The Dagster UI, until Ctrl-C: http://localhost:{port}\n"
    assert (tmp_path / "said").read_text() == lines
    assert (tmp_path / ".dagster" / "schedules").is_dir()
