"""CONTRIBUTING.md: the change that it walks through is one that can be made."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from tests.cli.documents import BINARIES
from tests.docs.snippets import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
CHANGES = {
    name: textwrap.dedent(diff)
    for name, diff in re.findall(r"<!-- Change: the (\w+) -->\n *```diff\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
}
TEST = "tests/cli/test_cli_catalog.py"


def apply(diff: str, folder: Path, *options: str) -> None:
    done = subprocess.run(
        ["git", "apply", *options, "-"], input=diff, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"The diff in CONTRIBUTING.md is behind the code: {done.stderr}"


def is_green(folder: Path, *arguments: str) -> bool:
    command = [str(BINARIES / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    # Anything but a failed test would be a fault of the walk.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("name", ["test", "code"])
def test_its_diffs_fit_the_code(name):
    apply(CHANGES[name], ROOT, "--check")


@pytest.mark.gate
@pytest.mark.timeout(600)
def test_its_change_goes_from_red_to_green(tmp_path):
    for name in ("docs", "feature_store", "dagster_feature_store", "feature_assets", "resources", "sensors", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path)
    apply(CHANGES["test"], tmp_path)
    assert not is_green(tmp_path, TEST)
    apply(CHANGES["code"], tmp_path)
    assert is_green(tmp_path, TEST)
    assert not is_green(tmp_path, "tests/docs/test_reference_pages.py")
    subprocess.run([BINARIES / "python", "-m", "docs.reference"], cwd=tmp_path, check=True)
    assert is_green(tmp_path, "tests/docs/test_reference_pages.py")
