"""Rows that streams have taken back and that the offline store still holds, until the retraction is drained.

A group's retractions are one sorted set, by when they were made. Whoever fills the online store from the offline store
leaves these rows out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from feature_store.clock import to_micros
from feature_store.online.keys import KeySpace

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from feature_store.online.client import Client

MOST_AT_ONCE = 1000


class Retraction(NamedTuple):
    """A row that was taken back.

    Attributes:
        entity_id: The entity.
        event: Event time, microseconds since 1970.
        until: Rows that were ingested before this time are meant, microseconds since 1970.
    """

    entity_id: str
    event: int
    until: int


class Retractions:
    """The undrained retractions of all groups of one online store.

    Args:
        client: Connects to it.
    """

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    def add(self, group: str, retractions: Iterable[Retraction]) -> None:
        """Takes note of retractions.

        Raises:
            OnlineStoreError: If the server does not answer, or refuses.
        """
        rows = list(retractions)
        for start in range(0, len(rows), MOST_AT_ONCE):
            words: list[int | bytes] = []
            for row in rows[start : start + MOST_AT_ONCE]:
                words += [row.until, msgspec.msgpack.encode(row)]
            self._client().ask("ZADD", KeySpace.retractions(group), *words)

    def given_again(self, group: str, rows: Iterable[Retraction]) -> None:
        """Forgets the retractions of rows that the stream has given anew: until the drain, nothing of them is gone.

        Args:
            group: The group.
            rows: The rows; `until` is when they were ingested.

        Raises:
            OnlineStoreError: If the server does not answer, or refuses.
        """
        undrained = self.undrained(group)
        if not undrained:
            return
        given = {(row.entity_id, row.event): row.until for row in rows}
        over = [each for each in undrained if given.get((each.entity_id, each.event), each.until) > each.until]
        for start in range(0, len(over), MOST_AT_ONCE):
            members = [msgspec.msgpack.encode(row) for row in over[start : start + MOST_AT_ONCE]]
            self._client().ask("ZREM", KeySpace.retractions(group), *members)

    def undrained(self, group: str) -> list[Retraction]:
        """Returns the retractions that are not drained.

        Raises:
            OnlineStoreError: If the server does not answer, or refuses.
        """
        members = self._client().ask("ZRANGEBYSCORE", KeySpace.retractions(group), "-inf", "+inf")
        return [msgspec.msgpack.decode(member, type=Retraction) for member in members]

    def drained(self, group: str, mark: datetime) -> None:
        """Forgets the retractions up to a time: the offline store knows them.

        Raises:
            OnlineStoreError: If the server does not answer, or refuses.
        """
        self._client().ask("ZREMRANGEBYSCORE", KeySpace.retractions(group), "-inf", to_micros(mark))
