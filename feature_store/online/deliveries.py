"""When long writes were under way: from when to when rows that the offline store had were still to come online.

Who judges later what was served must know it. A write of a moment is not noted: what is due so soon is told by its
ingestion time. A group's notes are one sorted set, by when the writes ended.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from feature_store.clock import to_micros
from feature_store.online.keys import KeySpace

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from feature_store.online.client import Client

SHORTEST = timedelta(seconds=1)
"""Writes that take no longer are not noted."""

MOST_KEPT = 10_000
"""Notes of a group; the oldest go."""


class Delivery(msgspec.Struct, array_like=True, frozen=True):
    """A write, from its beginning until all of it was online.

    Attributes:
        began: When it began, microseconds since 1970.
        ended: When the online store had everything, likewise.
        everything: Whether all rows of the group were to come online, not only those that it ingested: a time to live
            had become longer, or the layout another one.
    """

    began: int
    ended: int
    everything: bool = False


class Deliveries:
    """The long writes of all groups of one online store.

    Args:
        client: Connects to it.
    """

    def __init__(self, client: Callable[[], Client]) -> None:
        self._client = client

    def add(self, group: str, began: datetime, ended: datetime, *, everything: bool = False) -> None:
        """Takes note of a write that has ended, unless it took but a moment.

        Raises:
            OnlineStoreError: If the server does not answer, or refuses.
        """
        if ended - began <= SHORTEST:
            return
        delivery = Delivery(to_micros(began), to_micros(ended), everything)
        key = KeySpace.deliveries(group)
        self._client().ask("ZADD", key, delivery.ended, msgspec.msgpack.encode(delivery))
        self._client().ask("ZREMRANGEBYRANK", key, 0, -MOST_KEPT - 1)

    def since(self, group: str, at: datetime) -> list[Delivery]:
        """Returns the writes that ended at or after an instant.

        Raises:
            OnlineStoreError: If the server does not answer, or refuses.
        """
        members = self._client().ask("ZRANGEBYSCORE", KeySpace.deliveries(group), to_micros(at), "+inf")
        return [msgspec.msgpack.decode(member, type=Delivery) for member in members]
