"""Checks on small groups: what is judged without history, and partitions that are older than a feature."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
import pytest

from feature_store.definitions.monitor import Monitor
from feature_store.errors import DefinitionError
from feature_store.monitoring.check_names import DESCRIPTIONS
from feature_store.monitoring.checks import PartitionMonitor
from feature_store.monitoring.profile import FeatureProfile, PartitionProfile, profile_partitions
from feature_store.monitoring.stored import profiles_before
from feature_store.partitions import Window
from tests.orders import START, Orders, some_orders, spending


@pytest.fixture
def group():
    return spending(Orders(some_orders()), min_rows=3)


def day(group, number):
    return group.partitioning.window(group.partitioning.key(START + timedelta(days=number)))


def partition(*, rows=10, nulls=0, columns=("orders_3d", "amount_3d", "last_amount")):
    return PartitionProfile(rows, rows, START, {column: FeatureProfile(rows, nulls) for column in columns})


def test_every_partition_has_every_check(group):
    (results,) = PartitionMonitor(group, {}).judge([(day(group, 0), partition())])
    assert [result.name for result in results] == list(DESCRIPTIONS)
    assert all(result.passed for result in results)
    assert "look-back is not full" in results[-1].summary


def test_the_last_partition_of_a_group_that_ends_may_be_cut_off():
    ending = spending(Orders(some_orders()), end=START + timedelta(days=41))
    for group, failed in ((ending, []), (spending(Orders(some_orders())), ["row_count"])):
        monitor = PartitionMonitor(group, {})
        monitor.judge([(day(group, number), partition(rows=400)) for number in range(3, 40)])
        (results,) = monitor.judge([(day(group, 40), partition(rows=40))])
        assert [result.name for result in results if not result.passed] == failed


def test_what_the_definition_says_is_judged_without_history(group):
    (results,) = PartitionMonitor(group, {}).judge([(day(group, 5), partition(rows=2, nulls=2))])
    failed = {result.name: result.summary for result in results if not result.passed}
    assert set(failed) == {"null_rate", "row_count"}
    assert "last_amount: 100.0% are null, 50.0% allowed" in failed["null_rate"]
    assert "2 rows, at least 3 expected" in failed["row_count"]


def test_a_partition_from_before_a_feature_was_added_is_no_obstacle(group):
    monitor = PartitionMonitor(group, {})
    monitor.learn([(day(group, number), partition(columns=["orders_3d"])) for number in range(3, 20)])
    (results,) = monitor.judge([(day(group, 20), partition())])
    assert all(result.passed for result in results)


def test_a_partition_without_rows_and_gaps_are_passed_over(group):
    monitor = PartitionMonitor(group, {})
    judged = monitor.judge([(day(group, number), partition(rows=40)) for number in (*range(3, 30), 40)])
    assert all(result.passed for results in judged for result in results)
    (results,) = monitor.judge([(day(group, 41), partition(rows=0))])
    assert [result.name for result in results if not result.passed] == ["row_count"]


def test_profiles_are_kept_with_their_partitions(store, group):
    store.apply([group])
    registered = store.registered(group)
    done = store.materialize(group, "2024-03-01", "2024-03-09").partitions
    tenth = Window(START + timedelta(days=9), START + timedelta(days=9))
    stored = profiles_before(store.offline, registered, tenth, 56)
    assert stored == [(part.window, part.profile) for part in done]
    assert profiles_before(store.offline, registered, day(group, 2), 56) == stored[:2]
    [file] = store.offline.files(group.name, done[3].window)
    rows = pl.read_parquet(file.path).drop("ingested_at")
    assert profile_partitions(group, rows, [done[3].window]) == [done[3].profile]
    assert isinstance(stored[0][1].last_event, datetime)


OLD_FORM = '{"rows":1,"entities":1,"last_event":null,"features":{"last_amount":{"rows":1,"nulls":0}},"followers":0}'


@pytest.mark.parametrize("metadata", [None, {"profile": OLD_FORM}, {"profile": "no JSON"}])
def test_a_file_without_a_profile_of_this_form_is_profiled_anew(store, group, metadata):
    store.apply([group])
    done = store.materialize(group, "2024-03-01", "2024-03-04").partitions
    (file,) = [file for file in store.offline.files("spending") if file.partition_key == "2024-03-02"]
    pl.read_parquet(file.path).write_parquet(file.path, metadata=metadata)
    found = profiles_before(store.offline, store.registered(group), day(group, 4), 56)
    assert found == [(part.window, part.profile) for part in done]


def test_a_damaged_file_is_no_yardstick(store, group):
    store.apply([group])
    store.materialize(group, "2024-03-01", "2024-03-04")
    (file,) = [file for file in store.offline.files("spending") if file.partition_key == "2024-03-02"]
    file.path.write_bytes(b"PAR1")
    found = profiles_before(store.offline, store.registered(group), day(group, 4), 56)
    assert [group.partitioning.key(window.start) for window, _ in found] == ["2024-03-01", "2024-03-03", "2024-03-04"]


def test_thresholds_that_make_no_sense_are_refused():
    with pytest.raises(DefinitionError, match=r"psi_warn=0\.3"):
        Monitor(psi_warn=0.3)
    with pytest.raises(DefinitionError, match="z=0"):
        Monitor(z=0)
    with pytest.raises(DefinitionError, match="null_points=2"):
        Monitor(null_points=2)
