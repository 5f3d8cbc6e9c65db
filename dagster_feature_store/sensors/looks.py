"""How sensors look: under which names, how often, and whether they do from the start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import dagster as dg

from dagster_feature_store.compat import UnresolvedAssetJobDefinition
from dagster_feature_store.naming import DEFAULT_NAMES, Names
from feature_store.reconcile.pauses import FIRST_PAUSE

Job = dg.JobDefinition | UnresolvedAssetJobDefinition


@dataclass(frozen=True, slots=True)
class Looks:
    """What all sensors of a code location share.

    Attributes:
        names: What the objects of the code location are called.
        interval_seconds: Takes the place of each sensor's own time between two looks.
        status: Whether they run from the start.
    """

    names: Names = DEFAULT_NAMES
    interval_seconds: int | None = None
    status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.RUNNING

    @property
    def first_pause(self) -> timedelta:
        """Time from a failed run to the next attempt; it is doubled with each of them."""
        return timedelta(seconds=self.interval_seconds or FIRST_PAUSE.total_seconds())

    def sensor(
        self, name: str, seconds: int, description: str, *, resources: Iterable[str] = (), jobs: Sequence[Job] = ()
    ) -> Callable[[Callable[..., Any]], dg.SensorDefinition]:
        """Returns a decorator that makes a sensor.

        Args:
            name: Its name, without the prefix.
            seconds: Its own time between two looks.
            description: Shown in the UI.
            resources: Keys of the resources that it uses.
            jobs: What it may request runs of.
        """
        return dg.sensor(
            name=self.names.of(name),
            description=description,
            minimum_interval_seconds=self.interval_seconds or seconds,
            default_status=self.status,
            required_resource_keys=set(resources),
            job=jobs[0] if len(jobs) == 1 else None,
            jobs=jobs if len(jobs) > 1 else None,
        )


DEFAULT_LOOKS = Looks()
