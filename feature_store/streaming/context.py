"""What the parts of a streamer share: its group, stream and settings, and the delivery of its rows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Protocol, TypeVar

import polars as pl

from feature_store.catalog import BoundGroup
from feature_store.clock import Clock, nearest_datetime, to_micros
from feature_store.day_windows import day_window
from feature_store.definitions.event_stream import EventStream
from feature_store.errors import FeatureStoreError, StreamError
from feature_store.streaming.metrics import StreamMetrics
from feature_store.streaming.past_files import LookBackGapError, PastFiles
from feature_store.streaming.settings import StreamSettings
from feature_store.streaming.snapshots import StateFiles
from feature_store.streaming.state import GroupState

_LOG = logging.getLogger(__name__)
LONGEST_PAUSE = 5.0
PROMOTE_SECONDS = 0.5
LETTER_BYTES = 900_000
"""Greatest dead letter that is sent whole: what brokers take by default, less room for what tells why."""

Result = TypeVar("Result")


class RowDelivery(Protocol):
    """Where rows go: `changes.streaming_rows.StreamedRows`."""

    def claim(self, streamer: str, at_least: datetime) -> datetime:
        """Returns when rows are ingested that a streamer gives now."""
        ...

    def committed(self, streamer: str) -> None:
        """Says that the rows of a streamer's last claim are in the topic of rows."""
        ...

    def deliver(self, rows: pl.DataFrame, retracted: pl.DataFrame, standing: pl.DataFrame) -> None:
        """Brings rows online, and takes rows back."""
        ...

    def promote(self) -> None:
        """Brings rows online whose time has come."""
        ...

    def rows_of(self, entities: pl.DataFrame) -> pl.DataFrame:
        """Returns join keys and event time of all rows that the offline store holds of some entities."""
        ...


class StreamContext:
    """One group on its stream, in one process.

    Args:
        group: The feature group.
        stream: The stream that feeds it.
        settings: How to run.
        clock: Tells the present, by which events are too far ahead and rows get `ingested_at`.
        delivery: Gives rows their times, and brings them online.
        files: Where snapshots of the state lie.
        metrics: Where to count.
        may_wait: Errors of the delivery after which it is tried again, until it succeeds.
    """

    def __init__(
        self,
        group: BoundGroup,
        stream: EventStream,
        settings: StreamSettings,
        *,
        clock: Clock,
        delivery: RowDelivery,
        files: StateFiles,
        metrics: StreamMetrics | None = None,
        may_wait: type[Exception] = FeatureStoreError,
    ) -> None:
        self.group = group.declared
        self.registered = group.registered
        self.stream = stream
        self.settings = settings
        self.clock = clock
        self.metrics = metrics or StreamMetrics(group.name)
        self.delivery = delivery
        self.files = files
        self.past = PastFiles(group.declared, stream)
        self.letter_bytes = LETTER_BYTES
        self._may_wait = may_wait
        self._promoted_at = 0.0
        self.stopping = threading.Event()

    def delivered(self, deliver: Callable[[], Result]) -> Result:
        """Returns what a step of the delivery answers, waiting for an online store that does not.

        Raises:
            StreamError: If the streamer is stopped meanwhile.
        """
        pause = 0.05
        while True:
            try:
                answer = deliver()
            except self._may_wait as error:
                self.metrics.waiting.set(1)
                _LOG.warning("The online store holds up the stream of %s: %s", self.group.name, error)
                if self.stopping.wait(pause):
                    raise StreamError("Stopped while the online store did not answer; nothing is lost.") from error
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self.metrics.waiting.set(0)
                return answer

    def promote(self) -> None:
        """Brings rows online whose time has come, at most twice a second; what fails is tried again then."""
        now = time.monotonic()
        if now - self._promoted_at < PROMOTE_SECONDS:
            return
        self._promoted_at = now
        with suppress(self._may_wait):
            self.delivery.promote()

    def seed(self, state: GroupState) -> None:
        """Gives a state what the source's files hold of before the topic's first events, as far as it can count.

        Raises:
            LookBackGapError: If days have not landed that a look-back needs.
        """
        for lane in state.lanes.values():
            if lane.seeded_from is not None and not lane.is_checked:
                first = lane.seeded_from + state.span
                day = nearest_datetime(first).date()
                missing = self.past.missing(lane.seeded_from, lane.seeded_until) if self.group.lookback else []
                between = [absent for absent in missing if absent < day]
                if between:
                    raise LookBackGapError(self.group, between)
                if day in missing and first > to_micros(day_window(day).start):
                    lane.unseen = [day]
                    _LOG.warning(
                        "What source %s holds of %s before %s has not landed: rows of %s lack it, and are computed "
                        "again when it has.",
                        *(self.group.source.name, day, nearest_datetime(first).isoformat(), self.group.name),
                    )
                lane.is_checked = True
        needed = state.seeds_needed()
        if needed is None:
            state.seed(None, pl.DataFrame(schema=self.stream.columns))
        elif state.seeded is None or needed[0] < state.seeded[0] or needed[1] > state.seeded[1]:
            state.seed(needed, self.past.events(*needed))
