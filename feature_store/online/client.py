"""The online store's client: values of keys in one round trip, script calls, and one clear error for all that fails.

What is sent belongs to the reader, the writer and the layouts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from redis import exceptions
from redis.crc import key_slot

from feature_store.errors import InvalidRequestError
from feature_store.online.locations import Location
from feature_store.online.refusals import SERVER_ERRORS, explained
from feature_store.online.resp import bulk, script_call
from feature_store.online.script_session import ScriptCall, ScriptSession
from feature_store.online.servers import ClusterServers, OneServer, servers_at

READ_TIMEOUT = 1.0
WRITE_TIMEOUT = 5.0
"""Seconds."""

KEYS_PER_MGET = 500
"""Beyond this an `MGET` is split: longer ones stall other readers."""

Units = Sequence[list[str]]
"""Lists of keys, each to be read at one instant: what one group has of one entity."""


class Client:
    """Two sets of connections to the servers of one location: impatient ones that read, patient ones that write.

    Threads may share a client.

    Args:
        location: Where the servers are.
    """

    def __init__(self, location: Location) -> None:
        self.address = location.address
        self._reads = servers_at(location, READ_TIMEOUT)
        self._writes = servers_at(location, WRITE_TIMEOUT)

    def fetch(self, units: Units) -> list[bytes | None]:
        """Returns the values of keys, in order, in one round trip.

        Raises:
            InvalidRequestError: If a key is not valid Unicode.
            OnlineStoreError: If a server does not answer, or refuses.
        """
        # No context manager here: the read path counts microseconds.
        try:
            if isinstance(self._reads, OneServer):
                return _fetch(self._reads, [list(units[0])] if len(units) == 1 else joined(units))
            return _fetch_from_nodes(self._reads, units)
        except UnicodeEncodeError as error:
            raise not_unicode(error) from None
        except SERVER_ERRORS as error:
            raise explained(self.address, error) from error

    def put(self, key: str, value: bytes) -> None:
        """Sets a key that does not expire.

        Raises:
            OnlineStoreError: If a server does not answer, or refuses.
        """
        self._writes.begin()
        session = ScriptSession(self.address, self._writes, "")
        try:
            session.put(key, value)
        finally:
            session.close()

    def ask(self, *command: str | int | bytes) -> Any:
        """Returns the answer to one command on one key, which may be sent twice.

        Raises:
            OnlineStoreError: If a server does not answer, or refuses.
        """
        try:
            if isinstance(self._reads, OneServer):
                return _exchange(self._reads, [command])[0]
            return self._reads.cluster.execute_command(*command)
        except SERVER_ERRORS as error:
            raise explained(self.address, error) from error

    def run_script(self, source: str, key: str, *arguments: str) -> Any:
        """Returns what a script answers that works on one key.

        Raises:
            OnlineStoreError: If a server does not answer in several attempts, or refuses.
        """
        self._writes.begin()
        with self.script(source) as session:
            words = [bulk(word.encode()) for word in arguments]
            packed = script_call(session.digest, (1, bulk(key.encode())), (len(words), b"".join(words)))
            return session.ask(ScriptCall(key_slot(key.encode()), packed))

    def ping(self) -> None:
        """Asks the servers for a sign of life.

        Raises:
            OnlineStoreError: If one gives none.
        """
        try:
            if isinstance(self._reads, OneServer):
                _exchange(self._reads, [("PING",)])
            else:
                self._reads.cluster.ping()
        except SERVER_ERRORS as error:
            raise explained(self.address, error) from error

    @contextmanager
    def script(self, source: str) -> Iterator[ScriptSession]:
        """Opens connections on which calls of one script are pipelined."""
        session = ScriptSession(self.address, self._writes, source)
        try:
            yield session
        finally:
            session.close()

    def close(self) -> None:
        """Closes all connections."""
        self._reads.close()
        self._writes.close()


def joined(units: Units) -> list[list[str]]:
    """Joins units to lists of about `KEYS_PER_MGET` keys, and never cuts one: a row is read at one instant."""
    chunks: list[list[str]] = []
    chunk: list[str] = []
    for unit in units:
        if chunk and len(chunk) + len(unit) > KEYS_PER_MGET:
            chunks.append(chunk)
            chunk = []
        chunk += unit
    if chunk:
        chunks.append(chunk)
    return chunks


def not_unicode(error: UnicodeEncodeError) -> InvalidRequestError:
    """Returns the error for a key that cannot be sent."""
    return InvalidRequestError(
        f"{error.object!r} is not valid Unicode and cannot be part of a key: remove the lone surrogate."
    )


def _fetch(server: OneServer, chunks: list[list[str]]) -> list[bytes | None]:
    replies = _exchange(server, [("MGET", *keys) for keys in chunks])
    if len(replies) == 1:
        return cast("list[bytes | None]", replies[0])
    return [value for reply in replies for value in reply]


def _exchange(server: OneServer, commands: Sequence[tuple[str | int | bytes, ...]]) -> list[Any]:
    """Sends commands and returns their answers, once more if the connection was lost."""
    try:
        return _exchange_once(server, commands)
    except exceptions.AuthenticationError:
        raise
    except exceptions.ConnectionError:
        # Connections that the server closed while they idled. A timeout is not tried again: the caller has waited
        # long enough.
        return _exchange_once(server, commands)


def _exchange_once(server: OneServer, commands: Sequence[tuple[str | int | bytes, ...]]) -> list[Any]:
    """Spares the round through the library's command layer."""
    slots = server.slots
    slots.take()
    try:
        pool = server.pool(0)
        connection: Any = pool.get_connection()
        try:
            packed = [part for command in commands for part in connection.pack_command(*command)]
            connection.send_packed_command(packed)
            return [connection.read_response() for _ in commands]
        except BaseException:
            # Answers that are still to come must not be taken for those of another request.
            connection.disconnect()
            raise
        finally:
            pool.release(connection)
    finally:
        slots.release()


def _fetch_from_nodes(servers: ClusterServers, units: Units) -> list[bytes | None]:
    # A unit's keys share a slot. Units are not joined, even where they could be: while a slot moves, a command is
    # refused if some of its keys are here and others there.
    servers.slots.take()
    try:
        with servers.cluster.pipeline() as pipeline:
            for keys in units:
                pipeline.execute_command("MGET", *keys)
            return [value for reply in pipeline.execute() for value in reply]
    finally:
        servers.slots.release()
