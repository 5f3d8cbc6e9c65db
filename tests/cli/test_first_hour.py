"""docs/first-hour.md: its commands and its changes, one after another, as a reader makes them."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from tests.cli.documents import run_script

PAGE = (Path(__file__).parents[2] / "docs" / "first-hour.md").read_text("utf-8")
STEPS = re.findall(r"^```(console|diff)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def changed(text: str, diff: str) -> str:
    """Returns a text after a change; the first column of a diff is no part of the line."""
    before, after = (
        "".join(line[1:] for line in diff.splitlines(keepends=True) if line[0] in kept) for kept in (" ", " +")
    )
    assert text.count(before) == 1
    return text.replace(before, after)


@pytest.mark.gate
@pytest.mark.timeout(600)
def test_the_first_hour_is_as_it_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    project = tmp_path / "my-shop"
    groups = project / "feature_assets" / "shop" / "groups.py"
    told = []
    try:
        for kind, step in STEPS:
            if kind == "diff":
                sound = groups.read_text()
                groups.write_text(changed(sound, step))
                continue
            folder = project if project.exists() else tmp_path
            told.append(run_script(re.sub(r"^\$ ", "", step, flags=re.MULTILINE).replace("6566", port), folder))
            if "the promise is broken" in told[-1]:
                groups.write_text(sound)
    finally:
        run_script("feature-store redis stop", project)
    made, why, own, leak, trained, served, dagster, _ = told
    assert "spent_7d\t27547\tpresent" in made
    assert "27547" in why
    assert "largest_7d\t7772\tpresent" in own
    assert "BROKEN" not in own
    assert re.search(r"^causality\tBROKEN", leak, re.MULTILINE)
    assert re.search(r"^partitions\tBROKEN", leak, re.MULTILINE)
    assert "buys_again" in trained
    assert '"values":[[' in served
    assert "Validation successful" in dagster
