"""What an edited function would change of the values that are stored: found out on one partition, and not written."""

from __future__ import annotations

from feature_store.changes.validation import validate
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import FeatureStoreError
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.reconcile.coverage import Coverage, batch_files
from feature_store.reconcile.due import LandedDays, has_landed
from feature_store.storage.parquet import scan_files
from feature_store.transform.comparison import Difference, difference
from feature_store.transform.compute import compute


def changed_values(group: FeatureGroup, offline: OfflineStore, found: Coverage, landed: LandedDays) -> str | None:
    """Returns what would change if the function computed its newest partition of former code again, as a sentence.

    Args:
        group: As it is declared now.
        offline: The offline store.
        found: What lies there.
        landed: What lies in its source.

    Returns:
        None where nothing was computed by former code, no such partition's events are there any more, or its rows
        are equal bit for bit in the features that both have.
    """
    former = [window for window in found.other_code if has_landed(group, window, landed)]
    if not former:
        return None
    window = former[-1]
    partition = group.partitioning.key(window.start)
    stored = f"{len(found.other_code)} of {len(found.present)} stored partitions come from the function as it was."
    try:
        text = _difference(group, offline, window)
    except FeatureStoreError as error:
        return f"The function cannot be compared on partition {partition}: {error} {stored}"
    except Exception as error:  # noqa: BLE001 - the function is the user's and may raise anything
        return f"On partition {partition} the function raises {type(error).__name__}: {error}. {stored}"
    return None if text is None else f"On partition {partition}: {text} {stored}"


def _difference(group: FeatureGroup, offline: OfflineStore, window: Window) -> Difference | None:
    (file,) = [file for file in batch_files(group, offline) if file.window == window]
    stored = scan_files(file.path).collect().drop(INGESTED_AT)
    computed = validate(group, compute(group, window))
    both = [column for column in computed.columns if column in stored.columns]
    return difference(stored.select(both), computed.select(both), [*group.entity.join_keys, EVENT_TIMESTAMP])
