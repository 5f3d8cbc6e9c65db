"""What sensors have tried for one cause, and when they may try again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterInstance, DagsterRunStatus

from dagster_feature_store.sensors.outages import has_met_outage
from feature_store.reconcile.pauses import LONGEST_PAUSE, pause

CAUSE_TAG = "feature_store/cause"
"""Tag of runs that a sensor has requested: what is equal for runs that are to do the same for the same cause."""

PAUSES_IN_AN_OUTAGE = 2
"""Runs that an outage has ended are tried again at the latest after so many times the first pause."""

_LATEST = 20


@dataclass(frozen=True, slots=True)
class Attempts:
    """The runs of one cause.

    Attributes:
        count: How many there have been.
        failures: How many of the latest have failed, one after another; at most 20.
        ends: When those that have ended did, the latest first; at most 20.
        last: The latest of those that have ended.
    """

    count: int
    failures: int
    ends: tuple[datetime, ...]
    last: dg.RunRecord | None

    @classmethod
    def of_cause(cls, instance: DagsterInstance, cause: str) -> Attempts:
        """Looks at the runs that have a cause for their tag."""
        return cls.of_runs(instance, dg.RunsFilter(tags={CAUSE_TAG: cause}))

    @classmethod
    def of_runs(cls, instance: DagsterInstance, runs: dg.RunsFilter) -> Attempts:
        """Looks at runs."""
        latest = instance.get_run_records(runs, limit=_LATEST)
        # Below the limit they are all there are.
        count = len(latest) if len(latest) < _LATEST else instance.get_runs_count(runs)
        ended = sorted((each for each in latest if each.end_time is not None), key=_end_of, reverse=True)
        failures = 0
        for record in ended:
            if record.dagster_run.status is not DagsterRunStatus.FAILURE:
                break
            failures += 1
        ends = tuple(datetime.fromtimestamp(_end_of(each), UTC) for each in ended)
        return cls(count, failures, ends, ended[0] if ended else None)

    def next_at(self, instance: DagsterInstance, first_pause: timedelta) -> datetime | None:
        """Returns when the next attempt may begin: some time after the last; None if there was none.

        The pause is doubled with each failure. Nobody can say when an outage is over: after one it stays short.

        Args:
            instance: Holds the runs.
            first_pause: Time to the second attempt.
        """
        if self.last is None:
            return None
        longest = LONGEST_PAUSE
        if has_met_outage(instance, self.last.dagster_run):
            longest = PAUSES_IN_AN_OUTAGE * first_pause
        return self.ends[0] + pause(self.failures, first_pause, longest)


def _end_of(record: dg.RunRecord) -> float:
    return record.end_time or 0.0
