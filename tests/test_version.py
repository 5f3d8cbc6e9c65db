"""The version stands in one place, and whoever asks is told that one; the changelog has the form that others read."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

import feature_store
from feature_store.cli.app import cli

ROOT = Path(__file__).parents[1]


def test_the_command_line_tells_the_version():
    assert CliRunner().invoke(cli, ["--version"]).stdout == f"feature-store {feature_store.__version__}\n"


def test_packages_are_built_with_that_version():
    asked = [sys.executable, "-m", "hatchling", "version"]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.strip() == feature_store.__version__
    assert "version" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


HEADINGS = re.findall(r"^(#+ .*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("heading", HEADINGS[1:])
def test_the_changelog_is_kept_in_the_usual_form(heading):
    release = r"## \[(Unreleased|\d+\.\d+\.\d+)\]( - \d{4}-\d\d-\d\d)?"
    assert re.fullmatch(rf"{release}|### (Added|Changed|Deprecated|Removed|Fixed|Security)", heading)
