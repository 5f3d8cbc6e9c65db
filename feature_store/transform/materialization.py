"""Materialization: source -> function -> rows of whole partitions, which the write path then brings into both stores.

Assets, notebooks and the command line all come through here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from feature_store.catalog import BoundGroup
from feature_store.changes.admission import AdmittedRows, admit
from feature_store.changes.write_path import AcceptedRows, WritePath
from feature_store.clock import Clock
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.definitions.source import MisplacedEvents
from feature_store.errors import FeatureStoreError, InvalidRowsError, InvalidSourceError, TransformError
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.monitoring.profile import PartitionProfile, profile_partitions
from feature_store.monitoring.stored import PROFILE, decode_profile, encode_profile
from feature_store.offline.layout import PartitionFile
from feature_store.offline.store import OfflineStore, PartitionWrite
from feature_store.online.store import OnlineStore
from feature_store.online.writer import WriteReport
from feature_store.partitions import Window
from feature_store.transform.compute import compute
from feature_store.transform.inputs import INPUTS, digests_of_inputs
from feature_store.transform.misplaced import misplaced_in, rejections, reported
from feature_store.transform.partition_failures import PartitionFailure, PartitionFailures

PARTITIONS_PER_PASS = 92
"""Partitions computed together: enough to spread the look-back's cost, few enough to bound memory."""


@dataclass(frozen=True, slots=True)
class MaterializedPartition:
    """One partition that now lies in the offline store.

    Attributes:
        key: The partition's key.
        window: The time that it covers.
        file: Its file.
        changed: Rows that are new or differ from those that were there.
        withdrawn: Rows that were there and are gone.
        profile: Its numbers.
        misplaced: Events of its day that no window gives, None if there are none; of hours, the first tells.
    """

    key: str
    window: Window
    file: PartitionFile
    changed: int
    withdrawn: int
    profile: PartitionProfile
    misplaced: MisplacedEvents | None = None


@dataclass(frozen=True, slots=True)
class MaterializedPass:
    """Partitions that were computed together and are now in both stores.

    Attributes:
        partitions: The partitions, in order.
        online: What the push of changed rows to the online store did.
        withdrawn: Rows that were taken back online.
        seconds: Wall time of the pass.
        failed: Partitions that failed for a reason of their own; nothing of them was written.
    """

    partitions: tuple[MaterializedPartition, ...]
    online: WriteReport
    withdrawn: int
    seconds: float
    failed: tuple[PartitionFailure, ...] = ()


@dataclass(frozen=True, slots=True)
class Materialization:
    """What is to be materialized, and where to.

    Attributes:
        group: The feature group. On Spark, its module must be importable on the executors.
        offline: Written first. On Spark, the executors must reach its root.
        online: Written last.
        clock: The store's present. Of two runs over one partition the one that has read its source later wins.
        run_id: Kept in the files' metadata, to trace a value to its run.
        partitions_per_pass: Bounds memory: this many partitions and one look-back are held at a time.
    """

    group: BoundGroup
    offline: OfflineStore
    online: OnlineStore
    clock: Clock
    run_id: str = ""
    partitions_per_pass: int = PARTITIONS_PER_PASS

    @property
    def metadata(self) -> dict[str, str]:
        """What all files of it carry."""
        return {"run_id": self.run_id, "code_version": self.group.declared.code_version}

    @property
    def path(self) -> WritePath:
        """Writes the group's rows."""
        return WritePath(self.group.registered, self.offline, self.online, self.clock)

    def passes(self, span: Window) -> Iterator[list[Window]]:
        """Yields the partitions of a span that are computed together."""
        windows = list(self.group.declared.partitioning.windows(span))
        for first in range(0, len(windows), self.partitions_per_pass):
            yield windows[first : first + self.partitions_per_pass]


def materialize(job: Materialization, span: Window) -> Iterator[MaterializedPass]:
    """Computes and stores all partitions of a span, a pass at a time.

    What it computes is compared with what the store holds: rows of equal content are not written again, neither to
    files nor online. Interrupted at any point, running the same span again gives the stores of an uninterrupted run.

    A partition that fails for a reason of its own (rows that break the schema, a function that raises) holds back no
    other: these are written, and the error comes last.

    Args:
        job: What, and where to.
        span: Whole partitions.

    Yields:
        One report per pass, when both stores have it; partitions that failed are in it, too.

    Raises:
        MissingSourceError: If events have not landed; earlier passes stay.
        InvalidRowsError: If rows of partitions are rejected; these are named, all others are written.
        OvertakenError: If another run has read the source of a partition later; nothing of the pass was written.
        OnlineStoreError: If the online store fails; the files are written, a second run completes the push.
    """
    inputs = digests_of_inputs(job.group.declared, list(job.group.declared.partitioning.windows(span)))
    run = PartitionFailures(job.group.declared, job.offline.root, inputs)
    for batch in job.passes(span):
        yield from _in_parts(job, batch, run)
    run.end()


def _in_parts(job: Materialization, windows: list[Window], run: PartitionFailures) -> Iterator[MaterializedPass]:
    """Yields passes over partitions, over ever smaller parts of them where one fails for a reason of its own."""
    started = time.perf_counter()
    try:
        done = _materialize_pass(job, windows, run.inputs)
    except (InvalidRowsError, TransformError) as error:
        if len(windows) == 1:
            failure = run.failed(windows[0], error)
            yield MaterializedPass((), WriteReport(), 0, time.perf_counter() - started, (failure,))
            return
        half = len(windows) // 2
        yield from _in_parts(job, windows[:half], run)
        yield from _in_parts(job, windows[half:], run)
    else:
        run.written(windows)
        yield done


def materialize_pass(
    group: FeatureGroup,
    windows: Sequence[Window],
    rows: pl.DataFrame,
    *,
    began: datetime,
    path: WritePath,
    now: datetime,
    online: OnlineStore,
    metadata: Mapping[str, str],
    inputs: Mapping[Window, str],
) -> tuple[tuple[MaterializedPartition, ...], AcceptedRows]:
    """Writes the rows of partitions that were computed together.

    Args:
        group: The feature group.
        windows: The partitions, in order, one after another or not.
        rows: Their rows, as the function emits them.
        began: When the run began, before it read its source.
        path: Writes.
        now: The store's present.
        online: Says which entities it cannot hold.
        metadata: Of all files.
        inputs: Digest of what each partition was computed from.

    Raises:
        InvalidRowsError: If rows, or the events of a day, are rejected; nothing was written.
        OvertakenError: If a run has written one of the partitions that read its source later; nothing was written.
    """
    admitted = admit(group, rows, now, online)
    misplaced = misplaced_in(group, windows)
    for error in rejections(group, misplaced).values():
        raise error
    parts = _parts(admitted, windows)
    given = [path.partition_rows(window, part) for window, part in zip(windows, parts, strict=True)]
    path.open_partitions(windows, began)
    described = {window: {**metadata, INPUTS: inputs[window]} for window in windows}
    found = path.metadata_if_same(given, described)
    # Rows of equal content have the profile that lies with them.
    profiles = {
        rows.window: profile
        for rows, known in zip(given, found, strict=True)
        if known is not None and (profile := decode_profile(known)) is not None
    }
    changed = [rows for rows in given if rows.window not in profiles]
    if changed:
        to_profile = [part.frame for rows, part in zip(given, parts, strict=True) if rows.window not in profiles]
        named = [rows.window for rows in changed]
        profiles |= dict(zip(named, profile_partitions(group, pl.concat(to_profile), named), strict=True))
    accepted = path.replace_partitions(
        [
            PartitionWrite(rows, {**described[rows.window], PROFILE: encode_profile(profiles[rows.window])})
            for rows in changed
        ],
        began=began,
    )
    changes = dict(zip([rows.window for rows in changed], accepted.changes, strict=True))
    partitions = []
    for window in windows:
        made = changes.get(window)
        partitions.append(
            MaterializedPartition(
                group.partitioning.key(window.start),
                window,
                path.file_of(window) if made is None else made.files[0],
                0 if made is None else made.rows.height,
                0 if made is None else made.gone.height,
                profiles[window],
                reported(misplaced, window),
            )
        )
    return tuple(partitions), accepted


def _parts(admitted: AdmittedRows, windows: Sequence[Window]) -> list[AdmittedRows]:
    """Returns the rows of each partition."""
    ordered = admitted.frame.sort(EVENT_TIMESTAMP)
    times = ordered[EVENT_TIMESTAMP]
    starts = times.search_sorted(pl.Series([window.start for window in windows], dtype=TIMESTAMP_TYPE))
    ends = times.search_sorted(pl.Series([window.end for window in windows], dtype=TIMESTAMP_TYPE))
    return [AdmittedRows(ordered[start:end]) for start, end in zip(starts, ends, strict=True)]


def _materialize_pass(job: Materialization, windows: list[Window], inputs: Mapping[Window, str]) -> MaterializedPass:
    started = time.perf_counter()
    group, path = job.group.declared, job.path
    began = path.begin()
    rows = _computed(group, Window(windows[0].start, windows[-1].end))
    partitions, accepted = materialize_pass(
        group,
        windows,
        rows,
        began=began,
        path=path,
        now=job.clock.now(),
        online=job.online,
        metadata=job.metadata,
        inputs=inputs,
    )
    return MaterializedPass(partitions, accepted.online, accepted.withdrawn, time.perf_counter() - started)


def _computed(group: FeatureGroup, window: Window) -> pl.DataFrame:
    try:
        return compute(group, window)
    except InvalidSourceError as error:
        # Other partitions may read other files.
        raise InvalidRowsError(group.name, [str(error)], "Correct the source.") from error
    except (FeatureStoreError, OSError, MemoryError):
        # Of the store, the source or the machine: no fault of the partition.
        raise
    except Exception as error:
        raise TransformError(group.name, f"{type(error).__name__}: {error}") from error
