"""The gate runs these tests on the oldest Dagster that is allowed, too: which one that is, the range says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKED = re.findall(
    r"^([a-z-]+)==([\d.]+)", Path(__file__).with_name("oldest-requirements.lock").read_text(), re.MULTILINE
)


def lower_bounds() -> dict[str, str]:
    asked = [*PROJECT["project"]["optional-dependencies"]["dagster"], *PROJECT["dependency-groups"]["dev"]]
    found = [re.match(r"(dagster[a-z-]*)>=([\d.]+)", text) for text in asked]
    return {match[1]: f"{match[2]}.0" for match in found if match}


def test_the_oldest_that_is_tested_is_the_oldest_that_is_allowed():
    bounds = lower_bounds()
    assert {"dagster", "dagster-webserver", "dagster-postgres"} <= set(bounds)
    assert {name: version for name, version in LOCKED if name in bounds} == bounds


def test_its_parts_are_of_one_release():
    core = {version for _, version in LOCKED if version.startswith("1.")}
    libraries = {version for _, version in LOCKED if version.startswith("0.")}
    assert core == {lower_bounds()["dagster"]}
    assert libraries == {lower_bounds()["dagster-postgres"]}
