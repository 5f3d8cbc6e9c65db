from __future__ import annotations

from datetime import UTC, date, datetime

import dagster as dg


def tick(defs, instance, day=9):
    schedule = defs.get_repository_def().get_schedule_def("feature_store_daily_features")
    context = dg.build_schedule_context(
        instance=instance,
        scheduled_execution_time=datetime(2024, 3, day, 0, 15, tzinfo=UTC),
        repository_def=defs.get_repository_def(),
        resources={"feature_store": defs.resources["feature_store"]},
    )
    with context:
        data = schedule.evaluate_tick(context)
    return data.run_requests, data.skip_message


def test_it_asks_for_the_day_that_has_ended_in_groups_that_do_not_have_it(defs, stored_instance):
    (request,), _ = tick(defs, stored_instance)
    assert (request.partition_key, request.run_key) == ("2024-03-08", "2024-03-08")
    assert request.asset_selection == [dg.AssetKey("spending")]
    assert {key.name for key in request.asset_check_keys} == {"schema", "null_rate", "row_count", "drift"}
    job = defs.resolve_job_def("feature_store_features")
    assert job.execute_in_process(instance=stored_instance, partition_key="2024-03-08").success
    requests, message = tick(defs, stored_instance)
    assert not requests
    assert "2024-03-08 is there already" in message


def test_it_asks_for_nothing_whose_events_have_not_landed(defs, stored_instance, domain):
    domain.source.landed = date(2024, 3, 7)
    requests, message = tick(defs, stored_instance)
    assert not requests
    assert "2024-03-08 has not landed in orders" in message


def test_it_leaves_alone_what_is_being_worked_on(defs, stored_instance):
    stored_instance.create_run_for_job(
        defs.resolve_job_def("feature_store_features"), status=dg.DagsterRunStatus.STARTED
    )
    assert not tick(defs, stored_instance)[0]
