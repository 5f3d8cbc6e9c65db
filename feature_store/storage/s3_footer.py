"""Footers of Parquet files in S3, read without the rest of the object."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from feature_store.storage.s3_path import S3Path, S3Stat

FOOTER_BYTES = 32 * 2**10
"""What is read of an object to see its footer: enough for most, so that one request will do."""

_TRAILER_BYTES = 8


def object_footer(path: S3Path) -> tuple[pq.FileMetaData, S3Stat]:
    """Returns the footer of an object as it is now, and what object that is: one request, unless it is a long footer.

    Raises:
        FileNotFoundError: If there is none, or it was replaced between two requests.
        pyarrow.ArrowInvalid: If it is no Parquet file.
    """
    end, stat = path.read_end(FOOTER_BYTES)
    length = int.from_bytes(end[-_TRAILER_BYTES:-4], "little") + _TRAILER_BYTES
    if len(end) < length <= stat.st_size:
        end = path.read_range(stat.st_size - length, stat.st_size, stat.e_tag)
    return pq.read_metadata(io.BytesIO(end)), stat
