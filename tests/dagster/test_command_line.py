"""What the command line has computed, Dagster knows, and computes nothing again; what it has not, Dagster computes."""

from __future__ import annotations

import dagster as dg
import polars as pl
import pytest

from dagster_feature_store import feature_store_definitions
from tests.cli import shop as shop_module
from tests.cli.conftest import run_command
from tests.orders import START

SPENDING, ACTIVITY, ORDERS, CHURN = (dg.AssetKey(name) for name in ("spending", "activity", "orders", "churn"))
DAYS = [f"2024-03-0{day}" for day in range(1, 10)]


@pytest.fixture
def instance(tmp_path, monkeypatch):
    """The instance that DAGSTER_HOME names."""
    home = tmp_path / "dagster-home"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.from_config(str(home)) as opened:
        yield opened


@pytest.fixture
def run(tmp_path, redis_url, monkeypatch, instance):
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "OFFLINE": str(tmp_path / "offline"),
        "ONLINE": redis_url,
        "REGISTRY": f"sqlite:///{tmp_path / 'registry.db'}",
        "DEFINITIONS": "tests.cli.shop",
        "CLOCK": "2024-03-10T00:00:00Z",
    }.items():
        monkeypatch.setenv(f"FEATURE_STORE_{name}", value)
    run_command("apply")
    return run_command


@pytest.fixture
def defs():
    return feature_store_definitions(shop_module)


def land(defs, instance) -> None:
    """Lets the landing sensor look until it has reported what has landed."""
    sensor = defs.get_repository_def().get_sensor_def("feature_store_landing_sensor")
    cursor, events = None, []
    for _ in range(2):
        with dg.build_sensor_context(instance, cursor=cursor) as context:
            tick = sensor.evaluate_tick(context)
        cursor, events = tick.cursor, [*events, *tick.asset_events]
    for event in events:
        instance.report_runless_asset_event(event)


def requested(defs, instance) -> dict[dg.AssetKey, int]:
    """Returns how many partitions of each group automation asks for after all source days were reported."""
    first = dg.evaluate_automation_conditions(defs=defs, instance=instance)
    assert first.total_requested == 0
    land(defs, instance)
    then = dg.evaluate_automation_conditions(defs=defs, instance=instance, cursor=first.cursor)
    return {key: then.get_num_requested(key) for key in (SPENDING, ACTIVITY)}


def evaluated(instance) -> int:
    """Returns how many evaluations of a check Dagster knows for one partition."""
    key = dg.AssetCheckKey(SPENDING, "row_count")
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=100)
    return sum(record.partition == "2024-03-05" for record in records)


def test_partitions_and_sets_are_known_with_their_checks(run, instance):
    done = run("materialize", "spending")
    assert "spending: 9 partitions reported to Dagster" in done.stderr
    assert instance.get_materialized_partitions(SPENDING) == set(DAYS)
    assert evaluated(instance) == 1
    run("training-set", "build", "churn")
    assert instance.get_latest_materialization_event(CHURN).asset_materialization.metadata["version"].value == 1


def test_what_it_has_computed_is_not_computed_again_and_what_it_has_not_is(run, instance, defs):
    run("materialize", "spending")
    found = requested(defs, instance)
    assert found[SPENDING] == 0
    assert found[ACTIVITY] > 0


def test_its_checks_are_those_of_the_latest_materialization_also_when_partitions_are_reported_anew(run, instance, defs):
    """Of others, the UI says that they were not evaluated."""
    run("materialize", "spending")
    before = instance.get_latest_materialization_event(SPENDING).timestamp
    land(defs, instance)
    reported = instance.get_latest_materialization_event(SPENDING).timestamp
    assert reported > before
    keys = [dg.AssetCheckKey(SPENDING, name) for name in ("schema", "null_rate", "row_count", "drift")]
    shown = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    assert shown.keys() == set(keys)
    for record in shown.values():
        assert record.partition is None
        assert record.event.timestamp >= reported
        assert record.evaluation.description.startswith("2024-03-09: ")


def test_what_lands_after_it_is_computed(run, instance, defs, monkeypatch):
    run("materialize", "spending")
    late = pl.DataFrame(
        {"customer": ["c9"], "event_timestamp": [START.replace(day=5, hour=7)], "amount": [3]},
        schema=shop_module.ORDERS.events.schema,
    )
    monkeypatch.setattr(shop_module.ORDERS, "events", pl.concat([shop_module.ORDERS.events, late]))
    # Day 5 and those whose look-back of three days reaches it. One of them the command line computes anew.
    run("materialize", "spending", "--partition", "2024-03-05")
    assert requested(defs, instance)[SPENDING] == 3


def test_a_second_run_reports_what_has_changed_alone(run, instance, monkeypatch):
    run("materialize", "spending")
    again = run("materialize", "spending")
    assert "0 partitions reported to Dagster, with their checks, 9 known already" in again.stderr
    assert evaluated(instance) == 1
    monkeypatch.setattr(shop_module.ORDERS, "events", shop_module.ORDERS.events.with_columns(pl.col("amount") + 1))
    changed = run("materialize", "spending")
    assert "9 partitions reported to Dagster" in changed.stderr
    assert evaluated(instance) == 2


def test_an_instance_that_cannot_be_opened_stops_no_work(run, tmp_path):
    (tmp_path / "dagster-home" / "dagster.yaml").write_text("run_storage: {module: nowhere, class: Nothing}\n")
    done = run("materialize", "spending")
    assert "cannot be reported to others" in done.stderr
    assert len(list((tmp_path / "offline" / "spending").glob("date=*"))) == len(DAYS)


def test_a_report_that_was_cut_off_is_completed(run, instance, monkeypatch):
    from dagster_feature_store import compat

    done = []

    def stop(*_) -> None:
        done.append(1)
        raise OSError("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(compat, "report_evaluation", stop)
        assert "cannot be reported" in run("materialize", "spending").stderr
    assert done
    assert instance.get_materialized_partitions(SPENDING) == set(DAYS)
    assert evaluated(instance) == 0
    assert "9 partitions reported" in run("materialize", "spending").stderr
    assert evaluated(instance) == 1


def test_keys_have_the_prefix_of_the_project(run, instance, monkeypatch):
    monkeypatch.setenv("FEATURE_STORE_ASSET_KEY_PREFIX", "shop/features")
    run("materialize", "spending")
    run("training-set", "build", "churn")
    known = set(instance.all_asset_keys())
    assert known == {dg.AssetKey(["shop", "features", name]) for name in ("spending", "churn")}
    graph = feature_store_definitions(shop_module).resolve_asset_graph()
    assert known <= set(graph.get_all_asset_keys())
