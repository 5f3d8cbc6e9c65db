"""Leases in S3: one process at a time is at work, whichever machine it runs on.

A lease is an object that its holder writes again and again. Who waits takes it over when it has not changed for a
while: no clock of another machine is asked. All writes are conditional, so of two that take it over one succeeds.

A holder that was stopped for longer than that, and goes on, does so beside another. What is done under a lease
therefore has to be right without it, too: it keeps work from being done twice, or in vain.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from feature_store.errors import StorageError
from feature_store.storage.s3_conditions import require_conditions
from feature_store.storage.s3_path import ObjectReplacedError, S3Path, S3Stat

RENEWED_EVERY_SECONDS = 10.0
ABANDONED_AFTER_SECONDS = 60.0
_LOOKED_AT_EVERY_SECONDS = 0.5


@contextmanager
def lease(
    path: S3Path, *, renewed_every: float = RENEWED_EVERY_SECONDS, abandoned_after: float = ABANDONED_AFTER_SECONDS
) -> Iterator[None]:
    """Waits for a lease, holds it while a block lasts, and gives it back.

    Args:
        path: The object that it is.
        renewed_every: Seconds from one sign of life to the next.
        abandoned_after: Seconds without one after which a waiting process takes the lease over.

    Raises:
        StorageError: If S3 rejects it, or does not keep conditions.
    """
    require_conditions(path.parent)
    owner = uuid.uuid4().hex.encode()
    _take(path, owner, abandoned_after)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(path, owner, renewed_every, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        with suppress(StorageError, FileNotFoundError):
            if path.read_bytes().startswith(owner):
                path.unlink(missing_ok=True)


def _take(path: S3Path, owner: bytes, abandoned_after: float) -> None:
    seen: str | None = None
    since = 0.0
    while True:
        present = _present(path)
        is_abandoned = present is not None and present.e_tag == seen and time.monotonic() - since > abandoned_after
        if present is None or is_abandoned:
            # Who is told that another came first may be that other: the answer was lost, and the request sent again.
            with suppress(ObjectReplacedError):
                path.put_if(present, owner + b":0")
            with suppress(FileNotFoundError):
                if path.read_bytes().startswith(owner):
                    return
            continue
        if present.e_tag != seen:
            seen, since = present.e_tag, time.monotonic()
        time.sleep(min(_LOOKED_AT_EVERY_SECONDS, abandoned_after / 4))


def _renew(path: S3Path, owner: bytes, every: float, ended: threading.Event) -> None:
    number = 0
    while not ended.wait(every):
        number += 1
        # What cannot be renewed now may be the next time; what another has taken over is lost.
        with suppress(StorageError, FileNotFoundError, ObjectReplacedError):
            present = path.stat()
            if not path.read_bytes().startswith(owner):
                return
            path.put_if(present, owner + b":%d" % number)


def _present(path: S3Path) -> S3Stat | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
