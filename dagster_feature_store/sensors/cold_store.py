"""The cold-store sensor: notices that the online store has lost keys, and has them pushed again.

It looks up some entities of each group that the offline store says must be visible now. A server that was flushed or
replaced is noticed at the first look, a loss of single keys after some turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from dagster_feature_store.sensors.attempts import CAUSE_TAG, Attempts
from dagster_feature_store.sensors.looks import DEFAULT_LOOKS, Looks
from dagster_feature_store.sensors.outages import ONLINE_STORE
from dagster_feature_store.sensors.requests import REASON_TAG, FeatureJobs, WorkInProgress, digest
from feature_store.alerts.findings import WHOLE, Finding
from feature_store.clock import SystemClock
from feature_store.definitions.group import FeatureGroup
from feature_store.errors import NeverAppliedError, OnlineStoreError, UnknownFeatureError
from feature_store.reconcile.pauses import pause
from feature_store.store import FeatureStore

if TYPE_CHECKING:
    from feature_store.reconcile.online_sample import OnlineSample

INTERVAL_SECONDS = 60
LONGEST_PAUSE = timedelta(minutes=10)
"""Keys that are lost again and again need a person, not another push: the pause between two refills of a group is
doubled with each one within an hour, up to this."""


def cold_store_sensor(
    groups: Sequence[FeatureGroup],
    refill_job: dg.JobDefinition,
    refill_config: Callable[[Sequence[str]], dg.RunConfig],
    feature_jobs: FeatureJobs,
    looks: Looks = DEFAULT_LOOKS,
) -> dg.SensorDefinition:
    """Returns the sensor over all feature groups."""
    names = looks.names

    @looks.sensor(
        "cold_store_sensor",
        INTERVAL_SECONDS,
        (
            "Samples entities that must be visible online; where keys are lost, or a killed writer has left its online "
            "part undone, pushes the group again from the offline store, without computing anything."
        ),
        resources={names.store_key, names.alerts_key},
        jobs=[refill_job],
    )
    def sense(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        turn = int(context.cursor or 0)
        work = WorkInProgress.of(context.instance, {*(job.name for job in feature_jobs.values()), refill_job.name})
        # While a group is being written its files are ahead of its keys.
        looked_at = [group for group in groups if not work.on_any_of(names.key_text(group.name))]
        with names.store(context).open() as store:
            try:
                samples, answers = _samples(store, looked_at, turn)
            except NeverAppliedError as error:
                return dg.SkipReason(f"Nothing can be online yet. {error}")
            cold = [sample for sample in samples if sample.lost or sample.unfinished]
            findings = [_answer(answers), *(map(_loss, samples, looked_at))]
            if not cold and answers is None and len(looked_at) == len(groups):
                # A refill that has failed is made good by whoever has pushed the keys.
                key = f"run/{refill_job.name}"
                findings.append(Finding(key, f"The run of {refill_job.name} fails", passed=(WHOLE,)))
            names.alerts(context).open(store.registry).note(findings)
        if not cold:
            context.update_cursor(str(turn + 1))
            return dg.SkipReason(
                answers or f"{sum(sample.entities for sample in samples)} sampled entities are all there."
            )
        lost = "; ".join(
            f"{sample.group}: {sample.lost} of {sample.entities} lost, {sample.unfinished} writes unfinished"
            for sample in cold
        )
        lost_groups = [sample.group for sample in cold]
        cause = digest(["refill", lost_groups])
        attempts = Attempts.of_cause(context.instance, cause)
        now = SystemClock().now()
        next_at = attempts.next_at(context.instance, looks.first_pause)
        if attempts.ends and not attempts.failures:
            refills = sum(now - end < timedelta(hours=1) for end in attempts.ends)
            next_at = attempts.ends[0] + pause(refills, looks.first_pause, LONGEST_PAUSE)
        if next_at is not None and now < next_at:
            context.update_cursor(str(turn + 1))
            return dg.SkipReason(f"{lost}. They were pushed a moment ago, and are again after a pause.")
        request = dg.RunRequest(
            # Two daemons ask by the same key: Dagster launches it once.
            run_key=f"refill/{cause}/{attempts.count}",
            run_config=refill_config(lost_groups),
            tags={REASON_TAG: "cold store: keys were lost online", CAUSE_TAG: cause},
        )
        context.log.info(lost)
        return dg.SensorResult(run_requests=[request], cursor=str(turn + 1))

    return sense


def _samples(store: FeatureStore, groups: Sequence[FeatureGroup], turn: int) -> tuple[list[OnlineSample], str | None]:
    from feature_store.reconcile.online_sample import OnlineSample

    samples = []
    for group in groups:
        try:
            samples.append(store.sample_online(group, turn=turn))
        except UnknownFeatureError:
            # Not applied yet: nothing of it can be online.
            samples.append(OnlineSample(group.name, 0, 0, ()))
        except OnlineStoreError as error:
            return [], str(error)
    return samples, None


def _answer(error: str | None) -> Finding:
    if error:
        return replace(ONLINE_STORE, summary=error)
    return replace(ONLINE_STORE, failed=(), passed=(WHOLE,))


def _loss(sample: OnlineSample, group: FeatureGroup) -> Finding:
    return Finding(
        key=f"online/{group.name}",
        title=f"Keys of {group.name} were lost online",
        failed=(WHOLE,) if sample.lost else (),
        passed=() if sample.lost or not sample.entities else (WHOLE,),
        severity="warning",
        summary=f"{sample.lost} of {sample.entities} sampled entities, such as {', '.join(sample.examples)}.",
        numbers={"sampled": sample.entities, "lost": sample.lost},
        group=group.name,
        owner=group.owner,
        remedy="Nothing: they are pushed again. If it repeats, look at the server's memory and eviction policy.",
        link=f"/assets/{group.name}",
    )
