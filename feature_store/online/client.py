"""Connections to the online store: timeouts, retries, and one clear error for all that can go wrong.

What is sent belongs to the reader, the writer and the layouts. Passwords never reach a message: servers are named
by host and port, or by the path of their socket.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from redis import Redis
from redis import exceptions as refusals
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from feature_store.errors import InvalidRequestError, OnlineStoreError, SettingsError

CONNECT_TIMEOUT = 0.25
READ_TIMEOUT = 1.0
WRITE_TIMEOUT = 5.0
WRITE_RETRIES = 4
"""Seconds, and how often a chunk of writes is sent again: 0.1, 0.2, 0.4 and 0.8 seconds after the failure before."""


class Client:
    """Two pools of connections to one server: impatient ones that read, patient ones that write.

    Threads may share a client. Options in the URL's query (`?socket_timeout=0.5`) win over the defaults here.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`, as redis-py reads it.

    Raises:
        SettingsError: If the URL is malformed.
    """

    def __init__(self, url: str) -> None:
        # One retry, for connections that the server closed while they idled. A timeout is not retried: the
        # caller has waited long enough.
        self._reads = _connect(url, READ_TIMEOUT, Retry(NoBackoff(), 1, (refusals.ConnectionError,)))
        # Chunks are retried as a whole, below; inside one, nothing is sent twice.
        self._writes = _connect(url, WRITE_TIMEOUT, Retry(NoBackoff(), 0, ()))
        options = self._reads.get_connection_kwargs()
        self.address = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"

    def fetch(self, chunks: Sequence[Sequence[str]]) -> list[bytes | None]:
        """Returns the values of keys, in order, in one round trip: one `MGET` per chunk.

        Raises:
            InvalidRequestError: If a key is not valid Unicode.
            OnlineStoreError: If the server does not answer, or refuses.
        """
        # No context manager here: the read path counts microseconds.
        try:
            if len(chunks) == 1:
                return cast("list[bytes | None]", self._reads.mget(chunks[0]))
            pipeline = self._reads.pipeline(transaction=False)
            for chunk in chunks:
                pipeline.mget(chunk)
            return [value for reply in pipeline.execute() for value in reply]
        except UnicodeEncodeError as error:
            raise InvalidRequestError(
                f"{error.object!r} is not valid Unicode and cannot be part of a key: remove the lone surrogate."
            ) from None
        except refusals.RedisError as error:
            raise _explained(self.address, error) from error

    def ping(self) -> None:
        """Asks the server for a sign of life.

        Raises:
            OnlineStoreError: If it gives none.
        """
        try:
            self._reads.ping()
        except refusals.RedisError as error:
            raise _explained(self.address, error) from error

    @contextmanager
    def script(self, source: str) -> Iterator[ScriptSession]:
        """Opens a connection on which calls of one script are pipelined."""
        session = ScriptSession(self.address, self._writes, source)
        try:
            yield session
        finally:
            session.close()

    def close(self) -> None:
        """Closes all connections."""
        self._reads.close()
        self._writes.close()


class ScriptSession:
    """A connection on which chunks of script calls are sent while their caller prepares the next.

    One chunk may be under way. Chunks must be idempotent: on a lost connection one is sent again, as a whole.

    Attributes:
        digest: The script's SHA-1, to be named in EVALSHA.
        confirmed: Number of rows whose calls the server has answered.
    """

    def __init__(self, address: str, redis: Redis, source: str) -> None:
        self.digest = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        self.confirmed = 0
        self._address = address
        self._pool = redis.connection_pool
        self._source = source
        self._connection: Any = None
        self._under_way: tuple[list[bytes], int] | None = None
        self._retry = Retry(
            ExponentialBackoff(cap=1, base=0.05), WRITE_RETRIES, (refusals.ConnectionError, refusals.TimeoutError)
        )

    def send(self, calls: list[bytes], rows: int) -> None:
        """Sends a chunk of script calls that write `rows` rows, without waiting for the answers."""
        self._under_way = (calls, rows)
        try:
            self._transmit(calls)
        except (refusals.ConnectionError, refusals.TimeoutError):
            # Told apart and retried where the answers are awaited.
            self._drop()

    def receive(self, report: Callable[[int], None]) -> int:
        """Waits for the answers of the chunk under way, if there is one, and returns their sum.

        Args:
            report: Called with the number of rows in the chunk, once they are confirmed.

        Raises:
            OnlineStoreError: If the server refused, or could not be reached in all attempts. The message tells
                how many rows are confirmed; of the others, any may have been written.
        """
        if self._under_way is None:
            return 0
        calls, rows = self._under_way
        try:
            total = self._retry.call_with_retry(
                lambda: self._answers(calls), lambda _: self._drop(), is_retryable=_may_pass
            )
        except refusals.RedisError as error:
            progress = f" {self.confirmed} rows are confirmed as written; write again, repeated rows change nothing."
            raise _explained(self._address, error, progress) from error
        self._under_way = None
        self.confirmed += rows
        report(rows)
        return total

    def close(self) -> None:
        """Gives the connection back; one with answers outstanding is closed."""
        if self._under_way is not None:
            self._drop()
        if self._connection is not None:
            self._pool.release(self._connection)
            self._connection = None

    def _transmit(self, calls: list[bytes]) -> None:
        if self._connection is None:
            self._connection = self._pool.get_connection()
        self._connection.send_packed_command(calls)

    def _answers(self, calls: list[bytes]) -> int:
        if self._connection is None:
            self._transmit(calls)
        try:
            return self._read(len(calls))
        except refusals.NoScriptError:
            # A fresh server, or one that was restarted or flushed its scripts.
            self._connection.send_command("SCRIPT", "LOAD", self._source)
            self._connection.read_response()
            self._transmit(calls)
            return self._read(len(calls))

    def _read(self, count: int) -> int:
        """Reads all answers, so that the connection stays usable, and raises the first error among them."""
        total, failure = 0, None
        for _ in range(count):
            try:
                total += self._connection.read_response(disconnect_on_error=False)
            except (refusals.ConnectionError, refusals.TimeoutError):
                raise
            except refusals.RedisError as error:
                failure = failure or error
        if failure:
            raise failure
        return total

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._pool.release(self._connection)
            self._connection = None


def _may_pass(error: Exception) -> bool:
    return not isinstance(error, refusals.AuthenticationError)


def _connect(url: str, timeout: float, retry: Retry) -> Redis:
    try:
        # RESP2 says all that is asked here, and spares each connection the handshakes of RESP3.
        redis = Redis.from_url(
            url, protocol=2, socket_timeout=timeout, socket_connect_timeout=CONNECT_TIMEOUT, retry=retry
        )
        pool = redis.connection_pool
        # Options are only looked at when a connection is made: make one now, unconnected, to refuse unknown ones.
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError, refusals.RedisError):
        # The reason may quote the URL, and with it a password.
        raise SettingsError(
            "FEATURE_STORE_ONLINE is not the URL of a Redis server: write redis://user:password@host:6379/0, rediss:// "
            "for TLS or unix:///path/to.sock, with special characters of the password percent-encoded."
        ) from None
    if redis.get_connection_kwargs().get("decode_responses"):
        raise SettingsError("FEATURE_STORE_ONLINE must not set decode_responses: values are read as bytes.")
    return redis


def _explained(address: str, error: refusals.RedisError, progress: str = "") -> OnlineStoreError:
    """Returns the error that says what to do, for any error of the client library."""
    return OnlineStoreError(f"The online store at {address} {_explanation(error)}{progress}")


def _explanation(error: refusals.RedisError) -> str:
    text = str(error)
    if isinstance(error, refusals.AuthenticationError | refusals.NoPermissionError):
        return f"refused the credentials ({text}): correct user and password in FEATURE_STORE_ONLINE."
    if isinstance(error, refusals.BusyLoadingError):
        return "is still loading its data: try again in a moment."
    if isinstance(error, refusals.ConnectionError | refusals.TimeoutError):
        return (
            f"does not answer ({text}): start it, or correct FEATURE_STORE_ONLINE "
            "(unset, an embedded server is started on demand)."
        )
    if isinstance(error, refusals.ReadOnlyError) or "READONLY" in text:
        return "is a read-only replica: let FEATURE_STORE_ONLINE name the primary."
    if isinstance(error, refusals.OutOfMemoryError) or "OOM" in text:
        return "is out of memory: raise its maxmemory, shorten times to live, or store wide groups in the row layout."
    return f"refused: {text}."
