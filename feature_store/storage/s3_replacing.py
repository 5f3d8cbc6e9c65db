"""Replacing objects: what `local_files` does under a folder's lock, done by S3's conditional requests.

A reader sees the old object or the new one. A writer that is killed leaves nothing that anybody sees: what it had
uploaded of a file in parts is removed by the bucket's life-cycle rule for incomplete uploads.
"""

from __future__ import annotations

import io
from collections.abc import Callable

from feature_store.errors import StorageError
from feature_store.storage.protocol import Write
from feature_store.storage.s3_conditions import require_conditions
from feature_store.storage.s3_path import ObjectReplacedError, S3Path, S3Stat

_ATTEMPTS = 20


def replace_object(path: S3Path, prepare: Callable[[], Write | None]) -> bool:
    """Puts an object in place, unless what is there is to stay.

    Args:
        path: The object.
        prepare: Asked before each attempt for what writes the content to the handle that it is given; None leaves
            everything as it is. If the object is replaced between the question and the writing, it is asked again.

    Returns:
        Whether the object was replaced.

    Raises:
        StorageError: If S3 rejects it, does not keep conditions, or others replace the object all the time.
    """
    require_conditions(path.parent)
    for _ in range(_ATTEMPTS):
        before = _present(path)
        write = prepare()
        if write is None:
            return False
        buffer = io.BytesIO()
        write(buffer)
        try:
            path.put_if(before, buffer.getbuffer())
        except ObjectReplacedError:
            # Another writer came first. Or it was us: the answer was lost, and the request sent again.
            continue
        return True
    raise StorageError(f"{path} was replaced by others before each of {_ATTEMPTS} attempts to write it: try again.")


def _present(path: S3Path) -> S3Stat | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
