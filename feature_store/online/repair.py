"""The only way around newest wins: rows are removed that the offline store does not have, if nobody writes meanwhile.

Which rows those are is decided by the caller. Nothing is put in their place here: the ordinary writer does that, so
that a row which arrives in between is judged as always.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

from redis import Redis

from feature_store.catalog import RegisteredGroup
from feature_store.online.layouts import layout_of
from feature_store.online.refusals import SERVER_ERRORS, explained
from feature_store.online.row_format import row_times
from feature_store.online.schemas import Schemas
from feature_store.online.script_session import ScriptCall
from feature_store.online.servers import OneServer
from feature_store.online.stamps import parse_stamp, to_datetime

if TYPE_CHECKING:
    from datetime import datetime

    from feature_store.online.client import Client
    from feature_store.online.keys import KeyShape, KeySpace
    from feature_store.online.store import OnlineStore

KEYS_PER_SCAN = 1000
CALLS_PER_CHUNK = 500


class Remover:
    """Sees and removes what entities have of one group.

    Args:
        store: The online store.
        group: The group.
    """

    def __init__(self, store: OnlineStore, group: RegisteredGroup) -> None:
        self._client: Client = store._client()  # noqa: SLF001 - the store's own package
        self._keys: KeySpace = store._keys  # noqa: SLF001
        self._group = group
        self._reading = layout_of(group).reading(self._keys, group, group.features, Schemas())

    def entity_ids(self) -> Iterator[str]:
        """Yields the entities that have a row, by looking through the keys of the servers bit by bit.

        This takes a second per million keys and never blocks other clients. What is written meanwhile may be left out.

        Raises:
            OnlineStoreError: If a server does not answer, or refuses.
        """
        shape = self._first_shape()
        # What stands for anything in the server's patterns stands for itself here.
        pattern = "*".join(re.sub(r"([*?\[\]\\])", r"\\\1", part) for part in shape)
        servers = self._client._writes  # noqa: SLF001 - the store's own package
        try:
            scanner = Redis(connection_pool=servers.pool(0)) if isinstance(servers, OneServer) else servers.cluster
            for key in scanner.scan_iter(match=pattern, count=KEYS_PER_SCAN):
                text = key.decode("utf-8", "surrogateescape")
                yield text[len(shape.prefix) : len(text) - len(shape.suffix)]
        except SERVER_ERRORS as error:
            raise explained(self._client.address, error) from error

    def look(self, entity_ids: Sequence[str]) -> dict[str, bytes]:
        """Returns what tells the row of each entity apart from others; entities without a row are left out.

        Raises:
            OnlineStoreError: If a server does not answer, or refuses.
        """
        replies = self._client.fetch([self._reading.keys(entity_id)[:1] for entity_id in entity_ids])
        return {entity_id: raw for entity_id, raw in zip(entity_ids, replies, strict=True) if raw is not None}

    def remove(self, seen: Mapping[str, bytes]) -> int:
        """Removes rows that are still what they were when they were looked at, and returns how many.

        Args:
            seen: What `look` said of each entity whose row is to go.

        Raises:
            OnlineStoreError: If a server refuses, or does not answer in several attempts; rows may be removed then.
        """
        source = files("feature_store.online").joinpath("remove_if_same.lua").read_text("utf-8")
        removed = 0
        entries = list(seen.items())
        with self._client.script(source) as session:
            for start in range(0, len(entries), CALLS_PER_CHUNK):
                chunk = entries[start : start + CALLS_PER_CHUNK]
                calls = [
                    ScriptCall(self._keys.slot(entity_id), self._call(session.digest, entity_id, raw))
                    for entity_id, raw in chunk
                ]
                session.send(calls, len(calls))
                removed += session.receive(lambda _: None)
        return removed

    def forget_nearby(self, entity_ids: Sequence[str], is_needed: Callable[[datetime], bool]) -> None:
        """Removes what is kept of entities for readers whose clocks stand behind.

        Args:
            entity_ids: The entities.
            is_needed: Tells of the ingestion time of a row whether it may be in no other place; then all stays.

        Raises:
            OnlineStoreError: If a server does not answer, or refuses.
        """
        keys = [self._reading.nearby_key(entity_id) for entity_id in entity_ids]
        for start in range(0, len(keys), KEYS_PER_SCAN):
            chunk = keys[start : start + KEYS_PER_SCAN]
            for key, raw in zip(chunk, self._client.fetch([[key] for key in chunk]), strict=True):
                if raw is not None and not any(map(is_needed, self._reading.nearby_times(raw))):
                    self._client.ask("DEL", key)

    @staticmethod
    def times(group: RegisteredGroup, seen: Mapping[str, bytes]) -> dict[str, tuple[datetime, datetime]]:
        """Returns event time and ingestion time (UTC) of rows, of what `look` said of them; others are left out."""
        found = {}
        for entity_id, raw in seen.items():
            try:
                event, ingested = row_times(raw) if group.online_layout == "row" else parse_stamp(raw)[:2]
            except ValueError:
                continue
            found[entity_id] = (to_datetime(event), to_datetime(ingested))
        return found

    def _call(self, digest: str, entity_id: str, raw: bytes) -> bytes:
        keys = [key.encode() for key in self._reading.keys(entity_id)]
        words = [b"EVALSHA", digest.encode(), b"%d" % len(keys), *keys, raw]
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)

    def _first_shape(self) -> KeyShape:
        if self._group.online_layout == "row":
            return self._keys.row(self._group.name)
        return self._keys.stamp(self._group.name)
