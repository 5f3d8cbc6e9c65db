"""Listeners for alerts, and a registry to keep incidents in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from feature_store.alerts import channels as channels_module
from feature_store.alerts.channels import channels_of
from feature_store.alerts.findings import Finding
from feature_store.alerts.notifier import Alerts
from feature_store.alerts.settings import AlertSettings
from feature_store.clock import FixedClock
from feature_store.registry.registry import Registry
from feature_store.settings import Settings
from tests.servers.listeners import HttpListener, MailListener

NOW = datetime(2024, 3, 10, 6, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels_module, "TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(channels_module, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def http() -> Iterator[HttpListener]:
    with HttpListener() as listener:
        yield listener


@pytest.fixture
def mail() -> Iterator[MailListener]:
    with MailListener() as listener:
        yield listener


@pytest.fixture
def registry(tmp_path: Path, clock: FixedClock) -> Iterator[Registry]:
    opened = Registry(f"sqlite:///{tmp_path / 'registry.db'}", clock)
    yield opened
    opened.close()


@pytest.fixture
def alerts_with(registry: Registry, clock: FixedClock) -> Callable[..., Alerts]:
    """Opens alerts with settings, as another process would."""

    def open_alerts(**environ: str) -> Alerts:
        variables = {f"FEATURE_STORE_{name}": value for name, value in environ.items()}
        settings = AlertSettings.of(Settings.from_env(variables))
        return Alerts(registry, channels_of(settings), clock, base_url=settings.ui_url)

    return open_alerts


def failing(*failed: str, passed: tuple[str, ...] = (), key: str = "check/spending/null_rate") -> Finding:
    """What a failed check of some partitions reports."""
    return Finding(
        key=key,
        title="null_rate of spending fails",
        failed=failed,
        passed=passed,
        summary="Too many nulls: amount_3d 12.0% > 5.0%.",
        numbers={"null_rate/amount_3d": 0.12},
        group="spending",
        features=("amount_3d",),
        owner="team@example.com",
        remedy="Look at the source <orders> & materialize the partition again.",
        link="/assets/spending?view=checks",
        run_id="run-7",
    )


def passing(*passed: str, key: str = "check/spending/null_rate") -> Finding:
    return failing(passed=passed, key=key)
