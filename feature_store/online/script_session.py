"""Writing over the wire: script calls, pipelined to all servers they concern, sent again until they are answered.

Calls must be idempotent: one whose answer was lost is sent again. What the calls say belongs to the layouts, which
rows they carry to the writer.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from redis import exceptions
from redis.crc import key_slot

from feature_store.online.refusals import SERVER_ERRORS, explained
from feature_store.online.servers import Servers

ATTEMPTS = 5
FIRST_PAUSE = 0.1
"""Seconds before the second attempt; each further pause is twice as long."""

_PASSING = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
    exceptions.NoScriptError,
    exceptions.RedisClusterException,
)
"""What another attempt may heal: a server that comes back, a slot on the move, a script that was forgotten."""

_AT_ONCE = (exceptions.AskError, exceptions.NoScriptError)
"""What needs no pause before the next attempt: it is known by then where to ask, or the script is loaded."""


class ScriptCall(NamedTuple):
    """One call of a script.

    Attributes:
        slot: The cluster slot of its keys.
        packed: The command in the server's protocol.
    """

    slot: int
    packed: bytes


class ScriptSession:
    """Connections on which chunks of script calls are sent while their caller prepares the next.

    One chunk may be under way.

    Args:
        address: What messages call the servers.
        servers: The servers.
        source: The script.

    Attributes:
        digest: The script's SHA-1, to be named in EVALSHA.
        confirmed: Number of rows whose calls have been answered.
    """

    def __init__(self, address: str, servers: Servers, source: str) -> None:
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        self.confirmed = 0
        self._address = address
        self._servers = servers
        self._source = source
        self._connections: dict[Any, Any] = {}
        self._calls: Sequence[ScriptCall] = ()
        self._rows = 0
        self._sent: list[tuple[Any, list[int]]] = []
        self._failures: list[Exception] = []
        self._asking: dict[int, Any] = {}

    def send(self, calls: Sequence[ScriptCall], rows: int) -> None:
        """Sends a chunk of calls that write `rows` rows, without waiting for the answers."""
        self._calls, self._rows = calls, rows
        self._failures = []
        self._asking = {}
        self._transmit(range(len(calls)), self._failures)

    def receive(self, report: Callable[[int], None]) -> int:
        """Waits for the answers of the chunk under way, if there is one, and returns their sum.

        Args:
            report: Called with the number of rows in the chunk, once they are confirmed.

        Raises:
            OnlineStoreError: If a server refused, or could not be reached in all attempts. The message tells
                how many rows are confirmed; of the others, any may have been written.
        """
        if not self._calls:
            return 0
        try:
            answers = self._answered()
        except SERVER_ERRORS as error:
            progress = f" {self.confirmed} rows are confirmed as written; write again, repeated rows change nothing."
            raise explained(self._address, error, progress) from error
        self.confirmed += self._rows
        report(self._rows)
        self._calls = ()
        return sum(answers)

    def answers(self) -> list[Any]:
        """Waits for the answers of the chunk under way, and returns them in the order of its calls.

        Raises:
            OnlineStoreError: If a server refused, or could not be reached in all attempts.
        """
        try:
            answers = self._answered()
        except SERVER_ERRORS as error:
            raise explained(self._address, error, f" {self.confirmed} values are confirmed as written.") from error
        self.confirmed += self._rows
        self._calls = ()
        return answers

    def ask(self, call: ScriptCall) -> Any:
        """Returns the answer to one call.

        Raises:
            OnlineStoreError: If the server refused, or could not be reached in all attempts.
        """
        self.send([call], 0)
        try:
            [answer] = self._answered()
        except SERVER_ERRORS as error:
            raise explained(self._address, error) from error
        self._calls = ()
        return answer

    def put(self, key: str, value: bytes) -> None:
        """Sets a key that does not expire.

        Raises:
            OnlineStoreError: If the server refused, or could not be reached in all attempts.
        """
        name = key.encode()
        packed = b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(value), value)
        self.send([ScriptCall(key_slot(name), packed)], 0)
        try:
            self._answered()
        except SERVER_ERRORS as error:
            raise explained(self._address, error, " 0 rows are confirmed as written.") from error
        self._calls = ()

    def close(self) -> None:
        """Gives the connections back; those with answers outstanding are closed."""
        for pool, _ in self._sent:
            self._drop(pool)
        for pool, connection in self._connections.items():
            pool.release(connection)
        self._connections.clear()

    def _answered(self) -> list[Any]:
        """Collects the answers of all calls, attempt by attempt."""
        answers: dict[int, Any] = {}
        pending: Sequence[int] = range(len(self._calls))
        pause = FIRST_PAUSE
        failures = self._failures
        for attempt in range(1, ATTEMPTS + 1):
            if attempt > 1:
                failures = []
                self._transmit(pending, failures)
            # What could not be sent has no place in `_sent`, and stays pending.
            for pool, positions in self._sent:
                self._read(pool, positions, answers, failures)
            self._sent = []
            pending = [position for position in pending if position not in answers]
            if not pending:
                return [answers[position] for position in range(len(self._calls))]
            lasting = [error for error in failures if not self._may_pass(error)]
            if lasting or attempt == ATTEMPTS:
                break
            if not all(isinstance(error, _AT_ONCE) for error in failures):
                time.sleep(pause)
                pause *= 2
                self._refresh()
        raise (lasting or failures)[0]

    def _transmit(self, positions: Sequence[int], failures: list[Exception]) -> None:
        """Sends calls to the servers of their slots; what cannot be sent is for the next attempt."""
        by_pool: dict[Any, list[int]] = {}
        try:
            for position in positions:
                pool = self._asking.get(position) or self._servers.pool(self._calls[position].slot)
                by_pool.setdefault(pool, []).append(position)
        except SERVER_ERRORS as error:
            failures.append(error)
            return
        for pool, members in by_pool.items():
            try:
                if pool not in self._connections:
                    self._connections[pool] = pool.get_connection()
                self._connections[pool].send_packed_command([b"".join(map(self._packed, members))])
                self._sent.append((pool, members))
            except SERVER_ERRORS as error:
                failures.append(error)
                self._drop(pool)

    def _packed(self, position: int) -> bytes:
        asking = b"*1\r\n$6\r\nASKING\r\n" if position in self._asking else b""
        return asking + self._calls[position].packed

    def _read(self, pool: Any, positions: list[int], answers: dict[int, Any], failures: list[Exception]) -> None:
        """Reads the answers on one connection, all of them, so that it stays usable."""
        connection = self._connections[pool]
        try:
            for position in positions:
                try:
                    if position in self._asking:
                        connection.read_response(disconnect_on_error=False)
                    answers[position] = connection.read_response(disconnect_on_error=False)
                except exceptions.ResponseError as error:
                    failures.append(error)
                    self._asking.pop(position, None)
                    if self._servers.redirects and isinstance(error, exceptions.AskError):
                        target = self._servers.redirected(error)
                        if target is not None:
                            self._asking[position] = target
            if any(isinstance(error, exceptions.NoScriptError) for error in failures):
                # A fresh server, or one that was restarted or flushed its scripts.
                connection.send_command("SCRIPT", "LOAD", self._source)
                connection.read_response()
        except SERVER_ERRORS as error:
            failures.append(error)
            self._drop(pool)

    def _refresh(self) -> None:
        """Asks anew who serves what. If nobody answers, the next attempt meets the same, or a server that is back."""
        with suppress(*SERVER_ERRORS):
            self._servers.refresh()

    def _drop(self, pool: Any) -> None:
        connection = self._connections.pop(pool, None)
        if connection is not None:
            connection.disconnect()
            pool.release(connection)

    def _may_pass(self, error: Exception) -> bool:
        if isinstance(error, exceptions.AskError):
            return self._servers.redirects
        return isinstance(error, _PASSING) and not isinstance(error, exceptions.AuthenticationError)
