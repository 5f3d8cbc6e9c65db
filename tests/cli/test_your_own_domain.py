"""docs/your-own-domain.md: its files and its commands, run as they stand."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.cli.documents import blocks, commands, run_script

DOCUMENT = (Path(__file__).parents[2] / "docs" / "your-own-domain.md").read_text()
MOST_LINES = 60


def test_it_takes_few_lines():
    lines = [line for block in blocks(DOCUMENT, "python") for line in block.splitlines() if line.strip()]
    assert len(lines) <= MOST_LINES


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_snippet_runs(tmp_path):
    [data] = blocks(DOCUMENT, "csv")
    (tmp_path / "purchases.csv").write_text(data)
    for code in blocks(DOCUMENT, "python"):
        [name] = re.findall(r"\A# (\w+\.py)\n", code)
        (tmp_path / name).write_text(code)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    # One session: what the first block exports holds in the next.
    script = "\n".join(commands(DOCUMENT)).replace("6566", port)
    try:
        told = run_script(script, tmp_path)
    finally:
        run_script("feature-store redis stop", tmp_path)
    assert "BROKEN" not in told
    assert re.search(r"^rows\t4$", told, flags=re.MULTILINE)
    assert "spent_7d\t4150\tpresent" in told
    assert "{'purchases_7d': 3, 'spent_7d': 4150}" in told
    assert "Validation successful" in told
