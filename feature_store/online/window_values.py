"""The values of windowed groups as keys: read, and set unless somebody has set them meanwhile.

What they hold belongs to `windows.tile_format`; who builds them is the write path, `changes.window_delivery`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from redis import Redis

from feature_store.online.refusals import SERVER_ERRORS, explained
from feature_store.online.resp import bulk, script_call
from feature_store.online.script_session import ScriptCall
from feature_store.online.servers import OneServer

if TYPE_CHECKING:
    from feature_store.catalog import RegisteredGroup
    from feature_store.online.client import Client
    from feature_store.online.store import OnlineStore

KEYS_PER_SCAN = 1000
KEYS_PER_CALL = 16
CALLS_PER_CHUNK = 256
VERSION = slice(10, 18)
"""Where a value says which version of it this is."""

_LOST = ord("0")


class Replacement(NamedTuple):
    """A value that is to be set.

    Attributes:
        entity_id: Whose.
        version: The version that was read; empty where there was no value.
        expiry: Milliseconds since 1970; 0 for a key that does not expire.
        value: The new value; empty to remove the key.
    """

    entity_id: str
    version: bytes
    expiry: int
    value: bytes


class WindowValues:
    """The values of one windowed group.

    Args:
        store: The online store.
        group: The group.
    """

    def __init__(self, store: OnlineStore, group: RegisteredGroup) -> None:
        self._client: Client = store._client()  # noqa: SLF001 - the store's own package
        self._keys = store._keys  # noqa: SLF001
        self._shape = self._keys.tiles(group.name)

    def fetch(self, entity_ids: Sequence[str]) -> list[bytes | None]:
        """Returns the values of entities, in order.

        Raises:
            OnlineStoreError: If a server does not answer, or refuses.
        """
        return self._client.fetch([[self._shape.of(entity_id)] for entity_id in entity_ids]) if entity_ids else []

    def entity_ids(self) -> Iterator[str]:
        """Yields the entities that have a value, by looking through the keys of the servers bit by bit.

        Raises:
            OnlineStoreError: If a server does not answer, or refuses.
        """
        # What stands for anything in the server's patterns stands for itself here.
        pattern = "*".join(re.sub(r"([*?\[\]\\])", r"\\\1", part) for part in self._shape)
        servers = self._client._writes  # noqa: SLF001 - the store's own package
        try:
            scanner = Redis(connection_pool=servers.pool(0)) if isinstance(servers, OneServer) else servers.cluster
            for key in scanner.scan_iter(match=pattern, count=KEYS_PER_SCAN):
                text = key.decode("utf-8", "surrogateescape")
                yield text[len(self._shape.prefix) : len(text) - len(self._shape.suffix)]
        except SERVER_ERRORS as error:
            raise explained(self._client.address, error) from error

    def replace(self, replacements: Sequence[Replacement]) -> list[int]:
        """Sets values, and returns the positions of those that somebody else has set meanwhile.

        Raises:
            OnlineStoreError: If a server refuses, or does not answer in several attempts; some may be set then.
        """
        source = files("feature_store.online").joinpath("set_if_same.lua").read_text("utf-8")
        lost: list[int] = []
        per_call = 1 if self._keys.hash_tags else KEYS_PER_CALL
        step = CALLS_PER_CHUNK * per_call
        with self._client.script(source) as session:

            def calls(start: int) -> list[ScriptCall]:
                end = min(start + step, len(replacements))
                return [
                    self._call(session.digest, replacements[at : min(at + per_call, end)])
                    for at in range(start, end, per_call)
                ]

            following = calls(0)
            for start in range(0, len(replacements), step):
                session.send(following, min(step, len(replacements) - start))
                # While the server works on these.
                following = calls(start + step)
                answers = b"".join(session.answers())
                lost += [start + place for place, answer in enumerate(answers) if answer == _LOST]
        return lost

    def _call(self, digest: str, replacements: Sequence[Replacement]) -> ScriptCall:
        keys = b"".join(bulk(self._shape.of(each.entity_id).encode()) for each in replacements)
        arguments = b"".join(
            b"%b%b%b" % (bulk(each.version), bulk(b"%d" % each.expiry), bulk(each.value)) for each in replacements
        )
        number = len(replacements)
        slot = self._keys.slot(replacements[0].entity_id)
        return ScriptCall(slot, script_call(digest, (number, keys), (3 * number, arguments)))
