"""What can go wrong with a server, as one clear error that says what to do. Nothing is retried or decided here."""

from __future__ import annotations

from redis import exceptions

from feature_store.errors import OnlineStoreError

SERVER_ERRORS = (exceptions.RedisError, exceptions.RedisClusterException)
"""All that the client library raises."""


def explained(address: str, error: Exception, progress: str = "") -> OnlineStoreError:
    """Returns the error that says what to do, for any error of the client library.

    Args:
        address: Where the server is, without secrets.
        error: What the client library raised.
        progress: A sentence on what has been done before.
    """
    return OnlineStoreError(f"The online store at {address} {_explanation(error)}{progress}")


def _explanation(error: Exception) -> str:  # noqa: PLR0911
    text = str(error)
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return f"refused the credentials ({text}): correct user and password in FEATURE_STORE_ONLINE."
    if isinstance(error, exceptions.BusyLoadingError):
        return "is still loading its data: try again in a moment."
    if isinstance(error, exceptions.MovedError | exceptions.AskError | exceptions.ClusterCrossSlotError):
        return f"is a node of a cluster ({text}): name it as redis+cluster://host:port in FEATURE_STORE_ONLINE."
    if isinstance(error, exceptions.ClusterError | exceptions.RedisClusterException | exceptions.TryAgainError):
        return f"cannot serve all keys at the moment ({text}): see CLUSTER INFO, and try again when it is whole."
    if isinstance(error, exceptions.InvalidResponse):
        return f"does not speak the Redis protocol ({text}): correct host and port in FEATURE_STORE_ONLINE."
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError):
        return (
            f"does not answer ({text}): start it, or correct FEATURE_STORE_ONLINE "
            "(unset, an embedded server is started on demand)."
        )
    if isinstance(error, exceptions.ReadOnlyError) or "READONLY" in text:
        return "is a read-only replica: let FEATURE_STORE_ONLINE name the primary."
    if isinstance(error, exceptions.OutOfMemoryError) or "OOM" in text:
        return "is out of memory: raise its maxmemory, shorten times to live, or store wide groups in the row layout."
    if text.startswith("FOREIGN "):
        return (
            f"holds something else at the key {text.removeprefix('FOREIGN ')!r} than this version writes: delete the "
            "key, or write with the newest version that does, and materialize again."
        )
    return f"refused: {text}."
