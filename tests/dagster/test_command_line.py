"""What the command line has computed, Dagster knows, and computes nothing again; what it has not, Dagster computes."""

from __future__ import annotations

import dagster as dg
import polars as pl
import pytest

from dagster_feature_store import feature_store_definitions
from tests.cli import shop as shop_module
from tests.cli.conftest import run_command
from tests.orders import START

SPENDING, CHURN = (dg.AssetKey(name) for name in ("spending", "churn"))
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


def requested(defs, instance) -> dict[str, int]:
    """Returns how many partitions of each group the gap sensor asks for."""
    repository = defs.get_repository_def()
    sensor = repository.get_sensor_def("feature_store_gap_sensor")
    resources = {key: defs.resources[key] for key in sensor.required_resource_keys}
    with dg.build_sensor_context(instance, repository_def=repository, resources=resources) as context:
        tick = sensor.evaluate_tick(context)
    found = {"spending": 0, "activity": 0}
    for request in tick.run_requests:
        (key,) = request.asset_selection
        group = getattr(shop_module, key.to_user_string())
        first, last = (request.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end"))
        found[group.name] += sum(1 for _ in group.partitioning.windows(group.partitioning.span(first, last)))
    return found


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


@pytest.mark.slow
def test_what_it_has_computed_is_not_computed_again_and_what_it_has_not_is(run, instance, defs):
    run("materialize", "spending")
    found = requested(defs, instance)
    assert found["spending"] == 0
    assert found["activity"] > 0


def test_what_lands_after_it_is_computed(run, instance, defs, monkeypatch):
    run("materialize", "spending")
    late = pl.DataFrame(
        {"customer": ["c9"], "event_timestamp": [START.replace(day=5, hour=7)], "amount": [3]},
        schema=shop_module.ORDERS.events.schema,
    )
    monkeypatch.setattr(shop_module.ORDERS, "events", pl.concat([shop_module.ORDERS.events, late]))
    # Day 5 and those whose look-back of three days reaches it. One of them the command line computes anew.
    run("materialize", "spending", "--partition", "2024-03-05")
    assert requested(defs, instance)["spending"] == 3


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_keys_have_the_prefix_of_the_project(run, instance, monkeypatch):
    monkeypatch.setenv("FEATURE_STORE_ASSET_KEY_PREFIX", "shop/features")
    run("materialize", "spending")
    run("training-set", "build", "churn")
    known = set(instance.all_asset_keys())
    assert known == {dg.AssetKey(["shop", "features", name]) for name in ("spending", "churn")}
    graph = feature_store_definitions(shop_module).resolve_asset_graph()
    assert known <= set(graph.get_all_asset_keys())
