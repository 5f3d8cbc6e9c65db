"""What the parts of a streamer share: its group, stream and settings, and the delivery of its rows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import polars as pl

from feature_store.catalog import BoundGroup
from feature_store.clock import Clock
from feature_store.day_windows import day_window
from feature_store.definitions.event_stream import EventStream
from feature_store.errors import FeatureStoreError, MissingSourceError, StreamError
from feature_store.streaming.metrics import StreamMetrics
from feature_store.streaming.settings import StreamSettings

_LOG = logging.getLogger(__name__)
LONGEST_PAUSE = 5.0
PROMOTE_SECONDS = 0.5

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


class StreamContext:
    """One group on its stream, in one process.

    Args:
        group: The feature group.
        stream: The stream that feeds it.
        settings: How to run.
        clock: Tells the present, by which events are too far ahead and rows get `ingested_at`.
        delivery: Gives rows their times, and brings them online.
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

    def seeds(self, until: int) -> pl.DataFrame:
        """Returns the events of one look-back and the allowed lateness before an instant, from the source's files.

        Args:
            until: Microseconds since 1970: the first event that the stream has.
        """
        columns = self.stream.columns
        nothing = pl.DataFrame(schema=columns)
        if not self.group.lookback:
            return nothing
        end = datetime.fromtimestamp(until / 1e6, UTC)
        begin = end - self.group.lookback - self.stream.allowed_lateness
        parts = [nothing]
        for day in self.group.source.landed_days():
            if begin.date() <= day <= end.date():
                try:
                    events = self.group.source.scan(day_window(day))
                except MissingSourceError:
                    continue
                parts.append(events.select(pl.col(name).cast(dtype) for name, dtype in columns.items()).collect())
        time_of = pl.col("event_timestamp").to_physical()
        return pl.concat(parts).filter(time_of < until)
