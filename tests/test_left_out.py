"""The default run says at its end how many tests it has left out, and for the want of what."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_what_is_left_out_is_counted_by_reason():
    files = ["tests/dagster/test_stream_assets.py", "tests/browser", "tests/cli/test_your_own_domain.py"]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    asked = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider", *files]
    told = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, check=False).stdout
    (line,) = [line for line in told.splitlines() if "left to the gate" in line]
    assert ".ci/run (pytest -m gate): 1 need Kafka" in line
    assert " need Chromium" in line
    assert "2 are slow" in line
