"""The command line on stores of its own: `run("get", "c1", "spending")` as in a shell, in an empty folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from feature_store.cli.app import cli

Run = Callable[..., Result]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An empty working folder, and no setting but the definitions and the time: March 10th, at midnight."""
    monkeypatch.chdir(tmp_path)
    for name in ("OFFLINE", "ONLINE", "REGISTRY", "ENGINE", "KAFKA", "DEBUG"):
        monkeypatch.delenv(f"FEATURE_STORE_{name}", raising=False)
    monkeypatch.setenv("FEATURE_STORE_DEFINITIONS", "tests.cli.shop")
    monkeypatch.setenv("FEATURE_STORE_CLOCK", "2024-03-10T00:00:00Z")
    monkeypatch.setenv("COLUMNS", "200")
    return monkeypatch


@pytest.fixture
def run(environment: pytest.MonkeyPatch, tmp_path: Path, redis_url: str) -> Run:
    """Runs a command on an empty store, and checks its exit code."""
    environment.setenv("FEATURE_STORE_OFFLINE", str(tmp_path / "offline"))
    environment.setenv("FEATURE_STORE_ONLINE", redis_url)
    environment.setenv("FEATURE_STORE_REGISTRY", f"sqlite:///{tmp_path / 'registry.db'}")
    return run_command


@pytest.fixture
def shop(run: Run) -> Run:
    """The same on a store in which the shop is registered."""
    run("apply")
    return run


def run_command(*arguments: str, code: int = 0, **options: object) -> Result:
    """Runs a command and checks its exit code."""
    result = CliRunner().invoke(cli, arguments, prog_name="feature-store", **options)
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result


def table(result: Result) -> list[dict[str, str]]:
    """Reads the first table of a command's output, as a pipe gets it."""
    header, *lines = (line.split("\t") for line in result.stdout.splitlines())
    rows = []
    for line in lines:
        if len(line) != len(header):
            break
        rows.append(dict(zip(header, line, strict=True)))
    return rows


def properties(result: Result) -> dict[str, str]:
    """Reads all named values of a command's output."""
    pairs = (line.split("\t") for line in result.stdout.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
