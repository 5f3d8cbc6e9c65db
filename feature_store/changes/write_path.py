"""The one write path: admitted rows -> changes against the offline store -> online.

Each write goes through in this order, and each step says what a death after it leaves:

1. a mark that the write has begun (nothing has happened yet);
2. files of the offline store, each replaced in one step. Rows of equal content are not written;
3. the online store: rows that are gone are withdrawn, rows that changed are written, newest wins;
4. the mark goes. If it stays, the next write of the group, a repair or a sensor does step 3 for its days.

So both stores are a function of the last content that was given for each entity and event time, whoever gave it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.changes.admission import AdmittedRows
from feature_store.changes.delivery import delivery_of
from feature_store.changes.settling import Settler
from feature_store.clock import Clock
from feature_store.definitions.names import ENTITY_ID, EVENT_TIMESTAMP, INGESTED_AT
from feature_store.errors import OnlineStoreError, OvertakenError
from feature_store.frames import entity_id_expression, key_frame
from feature_store.offline.layout import PartitionFile, file_at
from feature_store.offline.row_changes import PartitionRows, RowChanges, joined_changes
from feature_store.offline.store import OfflineStore, PartitionWrite
from feature_store.offline.unfinished import unfinished
from feature_store.online.writer import WriteReport
from feature_store.partitions import Window
from feature_store.rows.polars_schema import polars_type

if TYPE_CHECKING:
    from datetime import date

    from feature_store.online.ingestion_clock import IngestionState
    from feature_store.online.store import OnlineStore

_LOG = logging.getLogger(__name__)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class AcceptedRows:
    """What became of rows that were given.

    Attributes:
        changes: What they changed in the offline store, file by file or partition by partition.
        online: What the push to the online store did.
        withdrawn: Rows that were taken back online.
    """

    changes: tuple[RowChanges, ...]
    online: WriteReport
    withdrawn: int


class _OneClaim:
    """Gives all rows of one write one time, as far as they are later than what they replace."""

    def __init__(self, claim: Callable[[datetime], datetime]) -> None:
        self._claim = claim
        self._given: datetime | None = None
        self._claiming = threading.Lock()

    def __call__(self, at_least: datetime) -> datetime:
        with self._claiming:
            if self._given is None or self._given < at_least:
                self._given = self._claim(at_least)
            return self._given


class WritePath:
    """Writes rows of one group into both stores.

    Args:
        group: The group as it is registered.
        offline: Written first.
        online: Written last.
        clock: The store's present.
    """

    def __init__(self, group: RegisteredGroup, offline: OfflineStore, online: OnlineStore, clock: Clock) -> None:
        self._group = group
        self._offline = offline
        self._online = online
        self._clock = clock
        self.settler = Settler(group, offline, online, clock)
        self._delivery = delivery_of(self.settler, group, online, clock)

    def begin(self) -> datetime:
        """Returns when a run begins, to be asked before it reads its source: of two runs, the later one wins."""
        state = self._state()
        now = self._clock.now()
        if state is None or state.last is None or state.last < now:
            return now
        # This clock stands behind another: the time that is given is known to all from now on.
        return self._claim(now)

    def partition_rows(self, window: Window, rows: AdmittedRows) -> PartitionRows:
        """Returns all rows of a partition as they are compared and stored.

        Raises:
            InvalidRowsError: If a row lies outside the partition.
        """
        return PartitionRows(self._group, window, self._with_retired(rows))

    def metadata_if_same(
        self, partitions: Sequence[PartitionRows], metadata: Mapping[Window, Mapping[str, str]]
    ) -> list[Mapping[str, str] | None]:
        """Returns the metadata of the files that hold just these rows: nothing of those needs to be written."""
        return self._offline.metadata_if_same(self._group, partitions, metadata)

    def open_partitions(self, windows: Sequence[Window], began: datetime) -> None:
        """Makes partitions ready to be compared; before anything of the run is done.

        What streams have taken back of them goes now: rows that are given again after that are new. Where a run has
        written one of them that read its source later, this one ends; `replace_partitions` asks again when nobody
        else can write the partition.

        Raises:
            OvertakenError: If there is one.
        """
        self._offline.refuse_overtaken(self._group, windows, began)
        days = {window.start.date() for window in windows}
        self._take_back(lambda retracted: retracted.filter(pl.col(EVENT_TIMESTAMP).dt.date().is_in(list(days))))

    def file_of(self, window: Window) -> PartitionFile:
        """Returns the file that the batch of a partition has written."""
        return file_at(self._offline.batch_path(self._group, window))

    def replace_partitions(
        self,
        partitions: Sequence[PartitionWrite],
        *,
        began: datetime,
    ) -> AcceptedRows:
        """Puts the rows of whole partitions in place of those that a batch gave before.

        Args:
            partitions: Partitions; those that `metadata_if_same` knows need not be among them.
            began: What `begin` said before the source was read.

        Raises:
            OvertakenError: If a run has written one of the partitions that read its source later.
            OnlineStoreError: If the online store fails; the files are written, the next write completes the push.
        """
        return self._accept(
            sorted({partition.rows.window.start.date() for partition in partitions}),
            lambda claim: self._offline.replace_partitions(self._group, partitions, began=began, claim=claim),
        )

    def add_rows(self, rows: AdmittedRows, metadata: Mapping[str, str]) -> AcceptedRows:
        """Adds rows to those that are there; see `replace_partitions` for the errors."""
        days = rows.frame[EVENT_TIMESTAMP].dt.date().unique().sort().to_list()
        given = rows.frame.select(entity_id_expression(self._group.entity), EVENT_TIMESTAMP)
        self._take_back(lambda retracted: retracted.join(given, on=given.columns, how="semi"))
        return self._accept(
            days,
            lambda claim: [
                self._offline.add_rows(self._group, self._with_retired(rows), claim=claim, metadata=metadata)
            ],
        )

    def _accept(
        self, days: Sequence[date], write: Callable[[Callable[[datetime], datetime]], Sequence[RowChanges]]
    ) -> AcceptedRows:
        state = self._state()
        if state is not None:
            self.settler.left_behind()
        is_cold = state is not None and state.last is None and self._is_cold()
        if not days and not is_cold:
            return AcceptedRows((), WriteReport(), 0)
        try:
            return self._marked(days, write, is_cold=is_cold)
        except OvertakenError:
            # Partitions that were written before it are brought online now, and the mark goes.
            with suppress(OnlineStoreError):
                self.settler.left_behind()
            raise

    def _marked(
        self,
        days: Sequence[date],
        write: Callable[[Callable[[datetime], datetime]], Sequence[RowChanges]],
        *,
        is_cold: bool,
    ) -> AcceptedRows:
        began = self._clock.now()
        with unfinished(self._offline.root, self._group.name, days, began):
            changes = tuple(write(_OneClaim(self._claim)))
            if is_cold:
                # A new online store, or one that has lost its keys: it gets all that is visible, not the changes alone.
                self._claim(self._clock.now())
                settled = self.settler.all_entities()
                online, withdrawn = settled.written, settled.removed
            else:
                online, withdrawn = self.deliver(joined_changes(self._group, changes))
            self.settler.note_delivery(began)
        return AcceptedRows(changes, online, withdrawn)

    def _take_back(self, concerned: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        """Takes rows out of the offline store that streams have taken back, before the retractions are drained.

        Args:
            concerned: Chooses among retractions: `entity_id`, `event_timestamp`, and `ingested_at`, until when.
        """
        state = self._state()
        if state is None or not state.streamed:
            return
        retracted = self.settler.retracted()
        if retracted is None or (gone := concerned(retracted)).is_empty():
            return
        keys = key_frame(self._group.entity, gone[ENTITY_ID].to_list())
        self._offline.withdraw_rows(self._group, keys.hstack([gone[EVENT_TIMESTAMP], gone[INGESTED_AT]]))

    def _is_cold(self) -> bool:
        """Tells whether the online store knows nothing of rows that are in the offline store."""
        if not self._offline.files(self._group.name):
            return False
        # Asked after the files: another writer of the group's first rows claims their time before its files are there.
        state = self._state()
        return state is not None and state.last is None

    def deliver(self, changes: RowChanges) -> tuple[WriteReport, int]:
        """Brings changes that are in the offline store online; returns what was written and how many rows went.

        Raises:
            OnlineStoreError: If the online store fails; to deliver again changes nothing that is done.
        """
        if changes.gone.height and self._online.ingestion.state(self._group.name).streamed:
            self._online.ingestion.withdrawn(self._group.name, changes.gone[INGESTED_AT].max())  # type: ignore[arg-type]
        return self._delivery.deliver(changes.rows, changes.gone)

    def _with_retired(self, rows: AdmittedRows) -> pl.DataFrame:
        """Returns rows with all columns of the registered group but `ingested_at`."""
        missing = [
            pl.lit(None, dtype=polars_type(feature.dtype)).alias(feature.ref.column)
            for feature in self._group.features
            if feature.ref.column not in rows.frame.columns
        ]
        return rows.frame.with_columns(missing) if missing else rows.frame

    def _claim(self, at_least: datetime) -> datetime:
        try:
            return self._online.ingestion.claim(self._group.name, at_least=at_least)
        except OnlineStoreError as error:
            _LOG.warning("Rows of %s get the time of this machine's clock: %s", self._group.name, error)
            given = max(self._clock.now(), at_least)
            # Odd times are those of streamers.
            return given + _MICROSECOND if given.microsecond % 2 else given

    def _state(self) -> IngestionState | None:
        """Returns the clock of ingestion times; None while the online store is away. The push then says so."""
        try:
            return self._online.ingestion.state(self._group.name)
        except OnlineStoreError:
            return None
