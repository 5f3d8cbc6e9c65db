"""The clock of a group's ingestion times, kept in the online store, which all writers share.

It says which of two contents of a row was given last, whatever the clocks of the writers' machines say: each time that
it gives is later than all that it gave before. It also knows which rows of streams have reached the online store and
not yet the offline store. The arithmetic is in `ingestion_clock.lua`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from feature_store.clock import to_micros
from feature_store.online.keys import KeySpace
from feature_store.online.stamps import to_datetime

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from feature_store.clock import Clock
    from feature_store.online.client import Client

UNDER_WAY_SECONDS = 900
"""A claim that was not committed for this long never will be: its transaction has ended without."""


@dataclass(frozen=True, slots=True)
class IngestionState:
    """What the clock of a group says.

    Attributes:
        last: The latest time that it gave; None if it never gave one: the online store is new, or has lost its keys.
        streamed: Whether streams write the group.
        drained: Up to when all rows of streams are in the offline store; None if none are.
        withdrawn: When rows were last withdrawn by others than streams; None if none were.
    """

    last: datetime | None
    streamed: bool
    drained: datetime | None
    withdrawn: datetime | None

    def is_undrained(self, ingested_at: datetime) -> bool:
        """Tells whether a row that was ingested then may be online and not yet offline.

        Rows of streamers have odd times in microseconds, those of all others even ones.
        """
        of_stream = self.streamed and ingested_at.microsecond % 2 == 1
        return of_stream and (self.drained is None or ingested_at > self.drained)


class IngestionClock:
    """The clocks of all groups of one online store.

    Args:
        client: Connects to it.
        clock: Tells the present.
    """

    def __init__(self, client: Callable[[], Client], clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._source = files("feature_store.online").joinpath("ingestion_clock.lua").read_text("utf-8")

    def state(self, group: str) -> IngestionState:
        """Returns what is known of a group.

        Raises:
            OnlineStoreError: If the server does not answer, or refuses.
        """
        reply = self._client().ask("HGETALL", KeySpace.clock(group))
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        fields = {bytes(name).decode(): bytes(value).decode() for name, value in pairs}
        times = {name: to_datetime(int(fields[name])) for name in ("last", "drained", "withdrawn") if name in fields}
        streamed = any(name.startswith("claimed:") for name in fields)
        return IngestionState(times.get("last"), streamed, times.get("drained"), times.get("withdrawn"))

    def claim(self, group: str, *, streamer: str = "", at_least: datetime | None = None) -> datetime:
        """Returns a time for rows that are given now: the present, or later than all times before.

        Args:
            group: The group.
            streamer: Name of the streamer that claims it: until `committed`, its rows may be in no store.
            at_least: No earlier time is given.

        Raises:
            OnlineStoreError: If the server does not answer, or refuses.
        """
        now = self._clock.now()
        micros = to_micros(now if at_least is None else max(now, at_least))
        return to_datetime(int(self._run(group, "claim", str(micros), streamer)))

    def committed(self, group: str, streamer: str) -> None:
        """Says that the rows of a streamer's last claim are in the topic of rows."""
        self._run(group, "committed", streamer)

    def drain_mark(self, group: str) -> datetime | None:
        """Returns a time up to which all claimed rows of streams are in the topic now; None if none was claimed."""
        mark = self._run(group, "mark", str(UNDER_WAY_SECONDS))
        return to_datetime(int(mark)) if mark else None

    def drained(self, group: str, mark: datetime) -> None:
        """Says that all rows of streams up to a mark are in the offline store."""
        self._run(group, "drained", str(to_micros(mark)))

    def withdrawn(self, group: str, at: datetime) -> None:
        """Says that rows of a streamed group were withdrawn by others: what stands in their place may be undrained."""
        self._run(group, "withdrawn", str(to_micros(at)))

    def _run(self, group: str, *arguments: str) -> str:
        answer: bytes = self._client().run_script(self._source, KeySpace.clock(group), *arguments)
        return answer.decode()
