"""The write path: source -> transform -> validate -> offline -> online, once, in that order.

Assets, notebooks and the command line all come through here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from feature_store.catalog import Group
from feature_store.clock import Clock
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import InvalidRowsError
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.monitoring.profile import PartitionProfile, profile_partitions
from feature_store.monitoring.stored import PROFILE, encode_profile
from feature_store.offline.store import OfflineStore, PartitionWrite, WrittenFile
from feature_store.online.store import OnlineStore
from feature_store.online.writer import WriteReport
from feature_store.partitions import Window
from feature_store.transform.compute import compute
from feature_store.transform.validation import stored_rows, validate

PARTITIONS_PER_PASS = 92
"""Partitions computed together: enough to spread the look-back's cost, few enough to bound memory."""


@dataclass(frozen=True, slots=True)
class MaterializedPartition:
    """One partition that now lies in the offline store.

    Attributes:
        key: The partition's key.
        window: The time that it covers.
        written: Its file, and whether a later pass had already replaced it.
        profile: Its numbers.
    """

    key: str
    window: Window
    written: WrittenFile
    profile: PartitionProfile


@dataclass(frozen=True, slots=True)
class MaterializedPass:
    """Partitions that were computed together and are now in both stores.

    Attributes:
        partitions: The partitions, in order.
        online: What the push to the online store did.
        seconds: Wall time of the pass.
    """

    partitions: tuple[MaterializedPartition, ...]
    online: WriteReport
    seconds: float


def materialize(
    group: FeatureGroup,
    span: Window,
    *,
    record: Group,
    offline: OfflineStore,
    online: OnlineStore,
    clock: Clock,
    run_id: str = "",
    partitions_per_pass: int = PARTITIONS_PER_PASS,
) -> Iterator[MaterializedPass]:
    """Computes and stores all partitions of a span, a pass at a time.

    Each partition's file is replaced atomically before the pass is pushed online, where only newer events win:
    interrupted at any point, running the same span again gives the stores of an uninterrupted run.

    Args:
        group: The feature group.
        span: Whole partitions.
        record: The group as it is registered.
        offline: Written first.
        online: Written last.
        clock: Gives `ingested_at`, taken before the source is read, so that of two writers of one partition the
            one that has read the later source wins.
        run_id: Kept in the files' metadata, to trace a value to its run.
        partitions_per_pass: Bounds memory: this many partitions and one look-back are held at a time.

    Yields:
        One report per pass, when both stores have it.

    Raises:
        MissingSourceError: If events have not landed; earlier passes stay.
        InvalidRowsError: If a partition's rows are refused; it is named, and the partitions before it are written.
        OnlineStoreError: If the online store fails; the files are written, a second run completes the push.
    """
    windows = list(group.partitioning.windows(span))
    stores = _Stores(record, offline, online, clock)
    metadata = {"run_id": run_id, "code_version": group.code_version}
    for first in range(0, len(windows), partitions_per_pass):
        batch = windows[first : first + partitions_per_pass]
        try:
            yield _materialize_pass(group, batch, stores, metadata)
        except InvalidRowsError:
            # One bad partition must not hold back the good ones before it, and must be named.
            for window in batch:
                yield _materialize_pass(group, [window], stores, metadata)


@dataclass(frozen=True, slots=True)
class _Stores:
    record: Group
    offline: OfflineStore
    online: OnlineStore
    clock: Clock


def _materialize_pass(
    group: FeatureGroup, windows: list[Window], stores: _Stores, metadata: Mapping[str, str]
) -> MaterializedPass:
    started = time.perf_counter()
    ingested_at = stores.clock.now()
    keys = [group.partitioning.key(window.start) for window in windows]
    try:
        rows = validate(group, compute(group, Window(windows[0].start, windows[-1].end)))
    except InvalidRowsError as error:
        named = keys[0] if len(keys) == 1 else f"{keys[0]}..{keys[-1]}"
        raise InvalidRowsError(group.name, error.failures, error.remedy, named) from None
    profiles = profile_partitions(group, rows, windows)
    stored = stored_rows(rows, stores.record, ingested_at).sort(EVENT_TIMESTAMP)
    starts = pl.Series([window.start for window in windows], dtype=TIMESTAMP_TYPE)
    edges = [*stored[EVENT_TIMESTAMP].search_sorted(starts).to_list(), stored.height]
    metadata = {**metadata, INGESTED_AT: ingested_at.isoformat()}
    parts = [stored[begin:end] for begin, end in pairwise(edges)]
    written = stores.offline.write_partitions(
        stores.record,
        [
            PartitionWrite(window, part, {**metadata, PROFILE: encode_profile(profile)})
            for window, part, profile in zip(windows, parts, profiles, strict=True)
        ],
    )
    # What a later pass has replaced meanwhile must not be pushed: its own push is the newer one.
    current = [part for part, file in zip(parts, written, strict=True) if not file.superseded]
    report = stores.online.write(stores.record, pl.concat([stored.clear(), *current]))
    partitions = tuple(map(MaterializedPartition, keys, windows, written, profiles))
    return MaterializedPass(partitions, report, time.perf_counter() - started)
