"""The page of alerts in Dagster: an asset of its own, whose latest observation lists what is open and who was told."""

from __future__ import annotations

from collections.abc import Collection

import dagster as dg

from dagster_feature_store.naming import DEFAULT_NAMES, Names
from feature_store.alerts.listing import COLUMNS, rows_of
from feature_store.registry.records import IncidentRecord

MONITORING = "monitoring"
_SHOWN = 50
_SCHEMA = dg.TableSchema([dg.TableColumn(name, "string") for name in COLUMNS])


def alerts_asset(names: Names = DEFAULT_NAMES) -> dg.AssetSpec:
    """Returns the external asset that stands for all alerts; see `alerts_observation`."""
    return dg.AssetSpec(
        alerts_asset_key(names),
        description=(
            "Alerts of the feature store. Each message makes an observation: incidents that are open and those that "
            "are over, since when, who was told, and what could not be sent. `feature-store alerts` prints the same."
        ),
        group_name=names.of(MONITORING),
        kinds={"alerts"},
    )


def alerts_asset_key(names: Names) -> dg.AssetKey:
    """Returns the key of the asset of alerts, which no feature group can have."""
    return names.key(names.of("alerts"))


def alerts_observation(incidents: Collection[IncidentRecord], names: Names = DEFAULT_NAMES) -> dg.AssetObservation:
    """Returns what the page shows.

    Args:
        incidents: The latest of each kind.
        names: What the objects of the code location are called.
    """
    still_open, every = rows_of(incidents), rows_of(incidents, all_of_them=True)
    over = [row for row in every if row not in still_open]
    return dg.AssetObservation(
        alerts_asset_key(names),
        metadata={
            "open": len(still_open),
            "waiting_to_be_sent": sum(record.pending is not None for record in incidents),
            "open_incidents": _table(still_open),
            "incidents_that_are_over": _table(over),
        },
    )


def _table(rows: list[tuple[str, ...]]) -> dg.TableMetadataValue:
    records = [dg.TableRecord(dict(zip(COLUMNS, row, strict=True))) for row in reversed(rows[-_SHOWN:])]
    return dg.TableMetadataValue(records, _SCHEMA)
