"""Rows that lie ahead of the clock: kept beside the others until their time comes, then written as always.

A group's pending rows are one sorted set, by event time. Each member is a row's call of the layout's script, ready to
be sent, so that whoever finds that its time has come can write it: a reader (once a second), a feature server or
streamer (twice a second), a sensor (within a minute). Newest wins decides as for any other row.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from feature_store.catalog import RegisteredGroup
from feature_store.clock import to_micros
from feature_store.errors import OnlineStoreError
from feature_store.online.keys import KeySpace
from feature_store.online.layout import GroupWrite
from feature_store.online.resp import bulk, script_call
from feature_store.online.script_session import ScriptCall

if TYPE_CHECKING:
    from collections.abc import Callable

    from feature_store.clock import Clock
    from feature_store.online.client import Client

LOOK_SECONDS = 1.0
"""How often readers look for rows whose time has come."""

MOST_AT_ONCE = 1000
RECENT = timedelta(minutes=5)
RECENT_MICROS = RECENT // timedelta(microseconds=1)
"""What a row younger than this replaces is kept for a while: a reader's clock may stand behind the writer's."""


def put_head(writing: GroupWrite, now: int) -> list[bytes]:
    """Returns the first arguments of a layout's script for rows that are written at `now` (microseconds since 1970)."""
    return [b"put", writing.recent(now - RECENT_MICROS)]


class PendingRow(msgspec.Struct, array_like=True):
    """A row that waits, as the arguments of its script.

    Attributes:
        entity_id: The entity.
        event: Event time, microseconds since 1970.
        ingested: Ingestion time, likewise.
        keys: Number of keys, and their bulk strings, joined.
        arguments: Number of arguments after the first two, and their bulk strings, joined.
    """

    entity_id: str
    event: int
    ingested: int
    keys: tuple[int, bytes]
    arguments: tuple[int, bytes]


class Pending:
    """The pending rows of all groups of one online store.

    Args:
        client: Connects to it.
        keys: How its keys are spelled.
        clock: Tells which rows' time has come.
    """

    def __init__(self, client: Callable[[], Client], keys: KeySpace, clock: Clock) -> None:
        self._client = client
        self._keys = keys
        self._clock = clock
        self._looked: dict[str, tuple[float, int]] = {}
        self._looking = threading.Lock()

    def after_fork(self) -> None:
        """Gives a forked process a lock of its own: another thread may have held it."""
        self._looking = threading.Lock()

    def add(self, group: RegisteredGroup, rows: Sequence[PendingRow]) -> None:
        """Keeps rows until their time comes; of one entity and event time the row that was ingested last.

        Raises:
            OnlineStoreError: If the server does not answer, or refuses.
        """
        key = KeySpace.pending(group.name)
        for start in range(0, len(rows), MOST_AT_ONCE):
            words: list[int | bytes] = []
            for row in rows[start : start + MOST_AT_ONCE]:
                words += [row.event, msgspec.msgpack.encode(row)]
            self._client().ask("ZADD", key, *words)
        if rows:
            # An older one would stand again if the newer one is withdrawn.
            self._remove(group, self._superseded(group, rows))

    def withdraw(self, group: RegisteredGroup, times: Iterable[tuple[str, int]]) -> None:
        """Takes back rows, given by entity id and event time (microseconds since 1970).

        Raises:
            OnlineStoreError: If the server does not answer, or refuses.
        """
        wanted = set(times)
        if wanted:
            events = [event for _, event in wanted]
            waiting = self._waiting(group, min(events), max(events))
            self._remove(group, [member for member, row in waiting if (row.entity_id, row.event) in wanted])

    def forget(self, group: RegisteredGroup, is_stale: Callable[[PendingRow], bool]) -> None:
        """Takes back the rows of which something is said.

        Raises:
            OnlineStoreError: If the server does not answer, or refuses.
        """
        self._remove(group, [member for member, row in self._waiting(group, "-inf", "+inf") if is_stale(row)])

    def count(self, group: RegisteredGroup) -> int:
        """Returns how many rows wait."""
        return int(self._client().ask("ZCARD", KeySpace.pending(group.name)))

    def promote(self, group: RegisteredGroup) -> int:
        """Writes the rows of a group whose time has come, and returns how many stand now.

        Raises:
            OnlineStoreError: If the server does not answer, or refuses.
        """
        from feature_store.online.layouts import layout_of

        key = KeySpace.pending(group.name)
        now = to_micros(self._clock.now())
        written = 0
        while members := self._client().ask("ZRANGEBYSCORE", key, "-inf", now, "LIMIT", 0, MOST_AT_ONCE):
            writing = layout_of(group).writing(self._keys, group)
            head = b"".join(map(bulk, put_head(writing, now)))
            rows = [msgspec.msgpack.decode(member, type=PendingRow) for member in members]
            with self._client().script(writing.script) as session:
                calls = []
                for row in rows:
                    number, words = row.arguments
                    packed = script_call(session.digest, row.keys, (number + 2, head + words))
                    calls.append(ScriptCall(self._keys.slot(row.entity_id), packed))
                session.send(calls, len(calls))
                written += session.receive(lambda _: None)
            self._client().ask("ZREM", key, *members)
        return written

    def look(self, groups: Iterable[RegisteredGroup]) -> None:
        """Writes the rows whose time has come, if nobody of this process has looked for a second.

        What goes wrong is left to the read that comes with it, or to the next look.

        Raises:
            OnlineStoreError: If the server does not answer in time: the read would wait as long once more.
        """
        wanted = [group for group in groups if self._is_due(group.name)]
        for group in wanted:
            try:
                self.promote(group)
            except OnlineStoreError as error:
                from redis.exceptions import TimeoutError as ServerTimeout

                if isinstance(error.__cause__, ServerTimeout):
                    raise
                return

    def is_due(self, groups: Iterable[RegisteredGroup]) -> bool:
        """Tells whether `look` would look."""
        # Each read asks, and reads count microseconds: nothing is called that need not be.
        looked, clock = self._looked, self._clock
        if not clock.is_live:
            return any(self._would_look(group.name) for group in groups)
        since = time.monotonic() - LOOK_SECONDS
        for group in groups:
            known = looked.get(group.name)
            if known is None or known[0] < since:
                return True
        return False

    def _waiting(self, group: RegisteredGroup, first: int | str, last: int | str) -> list[tuple[bytes, PendingRow]]:
        """Returns the rows between two event times, each with the member that it is kept as."""
        members = self._client().ask("ZRANGEBYSCORE", KeySpace.pending(group.name), first, last)
        return [(member, msgspec.msgpack.decode(member, type=PendingRow)) for member in members]

    def _superseded(self, group: RegisteredGroup, rows: Sequence[PendingRow]) -> list[bytes]:
        """Returns what waits beside a newer row of the same entity and event time as one of some rows."""
        events = [row.event for row in rows]
        newest = {(row.entity_id, row.event): row.ingested for row in rows}
        waiting = self._waiting(group, min(events), max(events))
        for _, row in waiting:
            identity = (row.entity_id, row.event)
            if identity in newest:
                newest[identity] = max(newest[identity], row.ingested)
        return [
            member for member, row in waiting if row.ingested < newest.get((row.entity_id, row.event), row.ingested)
        ]

    def _remove(self, group: RegisteredGroup, members: Sequence[bytes]) -> None:
        for start in range(0, len(members), MOST_AT_ONCE):
            self._client().ask("ZREM", KeySpace.pending(group.name), *members[start : start + MOST_AT_ONCE])

    def _would_look(self, group: str) -> bool:
        known = self._looked.get(group)
        if known is None:
            return True
        if self._clock.is_live:
            return time.monotonic() - known[0] > LOOK_SECONDS
        # A clock that was moved by hand brings everything with it at once.
        return to_micros(self._clock.now()) != known[1]

    def _is_due(self, group: str) -> bool:
        if not self._would_look(group):
            return False
        with self._looking:
            due = self._would_look(group)
            self._looked[group] = (time.monotonic(), to_micros(self._clock.now()))
        return due
