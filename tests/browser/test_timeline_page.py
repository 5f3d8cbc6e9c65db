"""The home page of the Dagster UI, in a real browser: what the demo has run is on its timeline."""

from __future__ import annotations

import dagster as dg
import pytest

from dagster_feature_store.compat import run_for_location
from feature_assets import flights
from feature_assets.definitions import defs
from feature_assets.demo import WORKSPACE
from feature_store.store import FeatureStore

# No schedule launches it: the page names it only where it has run.
JOB = "feature_store_refill_online"

pytestmark = [pytest.mark.gate, pytest.mark.timeout(240)]


def test_the_timeline_shows_what_has_run(home, rendered, tmp_path, redis_url, monkeypatch):
    for name, value in {
        "OFFLINE": str(tmp_path / "offline"),
        "ONLINE": redis_url,
        "REGISTRY": f"sqlite:///{tmp_path / 'registry.db'}",
    }.items():
        monkeypatch.setenv(f"FEATURE_STORE_{name}", value)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with FeatureStore.from_env() as store:
        store.apply(flights.FEATURE_GROUPS)
    with dg.DagsterInstance.get() as instance:
        assert run_for_location(defs, JOB, instance, WORKSPACE, run_config={}, tags={}).success
    assert JOB in rendered("/overview/activity/timeline")
