from __future__ import annotations

from datetime import date

import dagster as dg
import pytest

from tests.dagster.conftest import spans_of

DAYS = [f"2024-03-0{day}" for day in range(1, 10)]


@pytest.fixture
def filled(store, domain):
    """All nine days, without Dagster's knowledge: the files are what counts."""
    group = domain.spending
    store.apply([group])
    store.materialize(group, DAYS[0], DAYS[-1])
    return store


def path(store, day):
    return store.offline.root / "spending" / f"date={day}" / "batch.parquet"


def present(store, domain):
    return [f"{window.start:%Y-%m-%d}" for window in store.offline.materialized(store.registered(domain.spending))]


def test_nothing_is_missing_where_nothing_is_missing(ticks, defs, filled):
    assert ticks.requests(defs, "feature_store_gap_sensor") == []
    assert "No partition is missing" in ticks.message


def test_a_gap_is_requested_once_and_closed(ticks, defs, filled, domain, instance):
    for day in ("2024-03-03", "2024-03-04"):
        path(filled, day).unlink()
    requests = ticks.requests(defs, "feature_store_gap_sensor")
    assert spans_of(requests) == [("spending", "2024-03-03", "2024-03-04")]
    assert requests[0].tags["feature_store/reason"].startswith("gap")
    assert {key.name for key in requests[0].asset_check_keys} == {"schema", "null_rate", "row_count", "drift"}
    assert ticks.requests(defs, "feature_store_gap_sensor") == []
    (result,) = ticks.run(defs, requests)
    assert result.success
    assert {check.check_name for check in result.get_asset_check_evaluations()} == {
        "schema",
        "null_rate",
        "row_count",
        "drift",
    }
    assert present(filled, domain) == DAYS
    assert ticks.requests(defs, "feature_store_gap_sensor") == []


def test_it_asks_by_the_same_key_after_a_restart(ticks, defs, filled, instance):
    path(filled, "2024-03-03").unlink()
    (request,) = ticks.requests(defs, "feature_store_gap_sensor")
    (again,) = type(ticks)(instance).requests(defs, "feature_store_gap_sensor")
    assert request.run_key == again.run_key


def test_a_damaged_file_is_a_gap_and_a_second_loss_is_another(ticks, defs, filled, domain):
    path(filled, "2024-03-05").write_bytes(b"PAR1")
    requests = ticks.requests(defs, "feature_store_gap_sensor")
    assert spans_of(requests) == [("spending", "2024-03-05", "2024-03-05")]
    ticks.run(defs, requests)
    assert ticks.requests(defs, "feature_store_gap_sensor") == []
    path(filled, "2024-03-05").unlink()
    assert len(ticks.requests(defs, "feature_store_gap_sensor")) == 1


def test_many_gaps_are_one_run(ticks, defs, filled):
    for day in DAYS[1:-1:2]:
        path(filled, day).unlink()
    assert spans_of(ticks.requests(defs, "feature_store_gap_sensor")) == [("spending", "2024-03-02", "2024-03-08")]


def test_days_before_the_first_and_after_the_last_are_no_gaps(ticks, defs, filled):
    for day in (DAYS[0], DAYS[-1]):
        path(filled, day).unlink()
    assert ticks.requests(defs, "feature_store_gap_sensor") == []


def test_what_has_not_landed_is_not_asked_for(ticks, defs, filled, domain):
    path(filled, "2024-03-03").unlink()
    domain.source.landed = date(2024, 3, 2)
    assert ticks.requests(defs, "feature_store_gap_sensor") == []
    domain.source.landed = date(2024, 3, 9)
    assert len(ticks.requests(defs, "feature_store_gap_sensor")) == 1


def test_a_backfill_in_the_making_is_left_alone(ticks, defs, filled, instance):
    path(filled, "2024-03-03").unlink()
    run = instance.create_run_for_job(
        defs.resolve_job_def("feature_store_features"), status=dg.DagsterRunStatus.STARTED
    )
    assert ticks.requests(defs, "feature_store_gap_sensor") == []
    instance.report_run_canceled(run)
    assert len(ticks.requests(defs, "feature_store_gap_sensor")) == 1
