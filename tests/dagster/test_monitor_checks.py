"""The checks beside materializations: the nightly monitor and freshness, as Dagster runs them."""

from __future__ import annotations

import dagster as dg
import polars as pl
import pytest
from redis import Redis

pytestmark = pytest.mark.slow

RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}
ONLINE = {"freshness", "online_values", "online_consistency", "served_values"}


def run(defs, instance, job, **arguments):
    return defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False, **arguments)


def of_spending(result):
    return {
        check.check_name: check
        for check in result.get_asset_check_evaluations()
        if check.asset_key.path[-1] == "spending"
    }


def test_the_nightly_monitor_looks_at_every_group(defs, instance):
    assert run(defs, instance, "feature_store_features", tags=RANGE).success
    result = run(defs, instance, "feature_store_nightly_monitor")
    assert result.success
    found = {(check.asset_key.to_user_string(), check.check_name) for check in result.get_asset_check_evaluations()}
    assert found == {(group, check) for group in ("spending", "activity") for check in ONLINE}
    checks = of_spending(result)
    assert all(check.passed and check.partition is None for check in checks.values())
    assert checks["online_consistency"].metadata["entities"].value == 5
    assert "null_rate/amount_3d" in checks["online_values"].metadata


def test_a_feature_job_leaves_the_monitors_checks_to_their_own_jobs(defs, instance):
    result = run(defs, instance, "feature_store_features", tags=RANGE)
    assert not ONLINE & of_spending(result).keys()
    assert of_spending(run(defs, instance, "feature_store_freshness")).keys() == {"freshness"}


def test_lost_keys_fail_the_consistency_check_with_examples_and_the_remedy(defs, instance, redis_url):
    assert run(defs, instance, "feature_store_features", tags=RANGE).success
    with Redis.from_url(redis_url) as server:
        for key in server.keys("*c1*"):
            server.delete(key)
    result = run(defs, instance, "feature_store_nightly_monitor")
    assert result.success
    check = of_spending(result)["online_consistency"]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.ERROR
    assert "feature-store monitor repair spending" in check.description
    assert "c1: None online" in check.description
    assert check.metadata["missing/last_amount"].value == 0.2
    assert check.metadata["features"].value == "orders_3d, amount_3d, last_amount"


def test_a_wrong_answer_fails_the_check_of_what_was_served(domain, resources, instance, redis_url, tmp_path):
    """By the log that the settings name, as a server or a client has written it."""
    from dagster_feature_store import feature_store_definitions
    from tests.dagster.conftest import overriding

    logged = overriding(resources["feature_store"], request_log=str(tmp_path / "log"), request_log_rate="1")
    defs = feature_store_definitions(domain, resources={**resources, "feature_store": logged})
    assert run(defs, instance, "feature_store_features", tags=RANGE).success
    with logged.open() as store, Redis.from_url(redis_url) as server:
        store.get_online_features_batch(["c1", "c2"], ["spending"])
    served = of_spending(run(defs, instance, "feature_store_nightly_monitor"))["served_values"]
    assert served.passed
    assert served.metadata["values"].value == 6
    with logged.open() as store, Redis.from_url(redis_url) as server:
        server.set("feature:last_amount:v1:c1", "-5", keepttl=True)
        store.get_online_features("c1", ["last_amount"])
    served = of_spending(run(defs, instance, "feature_store_nightly_monitor"))["served_values"]
    assert not served.passed
    assert "-5 served" in served.description


def test_a_drift_check_carries_numbers_and_a_picture_once_there_is_a_baseline(domain, instance, resources):
    from datetime import date

    from dagster_feature_store import feature_store_definitions
    from tests.dagster.conftest import overriding
    from tests.orders import Orders, some_orders, spending

    domain.source = Orders(some_orders(days=40, customers=60), landed=date(2024, 4, 9))
    domain.spending = spending(domain.source)
    later = overriding(resources["feature_store"], clock="2024-04-09T00:00:00Z")
    defs = feature_store_definitions(domain, resources={**resources, "feature_store": later})
    tags = {**RANGE, "dagster/asset_partition_range_end": "2024-04-08"}
    result = run(defs, instance, "feature_store_features", tags=tags)
    assert result.success
    # The last partition's, and the run's verdict, which repeats it.
    drift, verdict = [
        check
        for check in result.get_asset_check_evaluations()
        if check.check_name == "drift" and check.partition == "2024-04-08"
    ]
    assert drift.passed
    assert verdict.metadata == {**drift.metadata, "repeats": verdict.metadata["repeats"]}
    assert {"psi/last_amount", "z/last_amount"} <= drift.metadata.keys()
    image = drift.metadata["histogram"].value
    assert image.startswith("![")
    assert len(image) < 1000
    assert pl.Series([drift.metadata["psi/last_amount"].value]).is_finite().all()


def test_a_failed_check_shows_its_picture_first_and_alerts_leave_it_out():
    from feature_store.monitoring.descriptions import description, summary_of
    from feature_store.monitoring.findings import CheckResult, Finding, Picture

    picture = Picture("last_amount", "<svg/>")
    moved = CheckResult("drift", False, "last_amount: moved.", {}, (Finding("mean", "alert", "moved"),), picture)
    shown = description(moved)
    assert "`last_amount`: the bars are this partition" in shown
    assert "![" in shown
    assert "data:image/svg+xml;base64," in shown
    assert summary_of(shown) == "last_amount: moved."
    calm = CheckResult("drift", True, "No feature has changed.", {}, (), picture)
    assert description(calm) == "No feature has changed."
    assert summary_of(None) == ""
