"""Whether a server keeps the conditions of a request: without that, no two writers are safe from one another.

Servers of old take a PUT with `If-Match` for one without. Amazon's own are known to keep conditions; others are asked
once in a process, before the first write that depends on it.
"""

from __future__ import annotations

import uuid

from feature_store.errors import StorageError
from feature_store.storage.s3_path import ObjectReplacedError, S3Path, S3Stat
from feature_store.storage.s3_refusals import Refusal

_kept: set[tuple[str, str]] = set()


def require_conditions(place: S3Path, *, again: bool = False) -> None:
    """Checks that conditional writes are kept where a place lies.

    Args:
        place: A folder; a hidden object lies in it for a moment.
        again: Ask again where it is known already.

    Raises:
        StorageError: If they are not.
    """
    endpoint = place.connection.endpoint
    known = (place.bucket, endpoint or "")
    if endpoint is None or (known in _kept and not again):
        return
    probe = place / f".conditions-{uuid.uuid4().hex}"
    try:
        probe.put(b"first")
        first = probe.stat()
        probe.put(b"second")
        kept = _is_kept(probe, None, b"third") and _is_kept(probe, first, b"fourth")
    finally:
        probe.unlink()
    if not kept:
        raise StorageError(
            f"The S3 server at {place.connection.shown_endpoint} does not keep the conditions of writes (If-Match and "
            f"If-None-Match) in bucket {place.bucket!r}: of two writers, the earlier one could overwrite the later. "
            "Nothing was written. Upgrade the server, or let FEATURE_STORE_OFFLINE name a place that keeps them."
        )
    _kept.add(known)


def _is_kept(probe: S3Path, present: S3Stat | None, content: bytes) -> bool:
    """Tells whether the server rejects a write on a condition that does not hold."""
    try:
        probe.put_if(present, content)
    except ObjectReplacedError:
        return True
    except StorageError as error:
        if error.__cause__ is not None and Refusal.of(error.__cause__).takes_no_conditions:
            return False
        raise
    return False
