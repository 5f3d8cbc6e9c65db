from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from dagster_feature_store.held_back import RELEASE_TAG, failing_partitions
from tests.orders import orders

RANGE = {"dagster/asset_partition_range_start": "2024-03-01", "dagster/asset_partition_range_end": "2024-03-09"}


@pytest.fixture
def run(defs, instance):
    def execute(job="feature_store_features", **arguments):
        return defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False, **arguments)

    return execute


def test_a_training_set_waits_for_partitions_that_were_refused(run, domain, instance):
    good = domain.source.events
    assert run(tags=RANGE).success
    assert run("feature_store_purchase_training_set").success
    domain.source.events = pl.concat([good, orders(("c9", datetime(2024, 3, 4, 12, tzinfo=UTC), 5000))])
    assert not run(partition_key="2024-03-04").success
    assert failing_partitions(instance, [domain.spending]) == {"schema of spending": ["2024-03-04"]}
    held = run("feature_store_purchase_training_set")
    assert not held.success
    (failure,) = [
        event for event in held.all_events if event.is_step_failure and event.step_key == "feature_store_purchase"
    ]
    message = failure.step_failure_data.user_failure_data.description
    assert "schema of spending on 2024-03-04" in message
    assert RELEASE_TAG in message
    assert run("feature_store_purchase_training_set", tags={RELEASE_TAG: "true"}).success
    domain.source.events = good
    assert run(partition_key="2024-03-04").success
    assert run("feature_store_purchase_training_set").success
