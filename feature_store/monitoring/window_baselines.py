"""What the values of windows are compared with: those of the same entities at the same time of day, on nights before.

Windows are nowhere stored, and a row says nothing of what they are between two events. So their usual values are folded
from the offline store as of regular instants, as any reader would have got them then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import polars as pl

from feature_store.catalog import Catalog, RegisteredGroup, Selection
from feature_store.definitions.monitor import Monitor
from feature_store.frames import TIMESTAMP_TYPE, key_frame
from feature_store.monitoring.baseline import profile_columns
from feature_store.monitoring.reference import Baseline, shortage
from feature_store.offline.point_in_time.engine import PointInTimeEngine
from feature_store.offline.point_in_time.join import point_in_time_join
from feature_store.offline.store import OfflineStore

NIGHTS = 28
"""How many nights are looked back on."""

LEAST_NIGHTS = 7
"""Nights with events before them below which there is no baseline."""

_NIGHT = timedelta(days=1)
_AS_OF = "_as_of"


def window_baselines(
    group: RegisteredGroup,
    entity_ids: Sequence[str],
    now: datetime,
    thresholds: Mapping[str, Monitor],
    *,
    catalog: Catalog,
    offline: OfflineStore,
    engine: PointInTimeEngine,
) -> dict[str, Baseline]:
    """Returns the baselines of a windowed group's features by column, of those that have values enough.

    Args:
        group: The group.
        entity_ids: The entities that are looked at.
        now: The present (UTC).
        thresholds: Thresholds by feature column.
        catalog: What is registered.
        offline: Holds the events.
        engine: Folds them.
    """
    first = min((file.window.start for file in offline.files(group.name)), default=now)
    nights = [night for number in range(1, NIGHTS + 1) if (night := now - number * _NIGHT) > first]
    if len(nights) < LEAST_NIGHTS or not entity_ids:
        return {}
    selections = [Selection(feature.ref.column, feature) for feature in group.features]
    labels = key_frame(group.entity, entity_ids).join(
        pl.DataFrame({_AS_OF: pl.Series(nights, dtype=TIMESTAMP_TYPE)}), how="cross"
    )
    values = point_in_time_join(offline, catalog, labels, _AS_OF, selections, engine)
    profiles = profile_columns(values[selection.label] for selection in selections)
    source = f"{len(nights)} nights before"
    return {
        column: Baseline(source, profile)
        for column, profile in profiles.items()
        if shortage(profile, thresholds.get(column, Monitor())) is None
    }
