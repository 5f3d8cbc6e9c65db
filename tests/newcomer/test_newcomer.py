"""What is shipped is what a newcomer needs: the wheel, in an environment of its own, without this checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import feature_store

ROOT = Path(__file__).parents[2]
BINARIES = Path(sys.executable).parent
PACKAGES = ("feature_store", "dagster_feature_store")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("newcomer")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_two_packages_and_their_types(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert wheel.name.startswith(f"feature_store-{feature_store.__version__}-")


def test_a_newcomer_comes_from_nothing_to_an_answer_over_http(wheel, tmp_path):
    """With the locked versions, so that it says something of this project and not of the day."""
    ours = ("FEATURE_STORE_", "DAGSTER_", "PYTHON", "VIRTUAL_ENV")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(ours)}
    environment["PATH"] = os.defpath
    words = [BINARIES / "uv", sys.executable, wheel, tmp_path, ROOT / "requirements.lock"]
    done = subprocess.run(
        [Path(__file__).with_name("newcomer.sh"), *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout
    for package in PACKAGES:
        (place,) = [line for line in told.splitlines() if line.endswith(f"/{package}")]
        assert Path(place).is_relative_to(tmp_path)
    assert str(ROOT) not in told
    assert "Validation successful" in told + done.stderr
    (answer,) = [json.loads(line.removeprefix("answer ")) for line in told.splitlines() if line.startswith("answer ")]
    assert "27547" in json.dumps(answer)
