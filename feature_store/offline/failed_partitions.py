"""Partitions that could not be computed for a reason of their own: rows that break the schema, a function that raises.

Each has a small file, `{root}/_failed/{group}@{start}.json`, `start` in microseconds since 1970, with the inputs and
the code that it failed with. While these are the same, to compute it again would fail again. It goes when the
partition has been written.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from feature_store.clock import to_micros
from feature_store.definitions.names import check_name
from feature_store.storage.location import Location, storage_of

if TYPE_CHECKING:
    from collections.abc import Iterable

FOLDER = "_failed"
"""No group has a name that begins with an underscore."""


class FailedPartition(msgspec.Struct, frozen=True):
    """A partition that could not be computed.

    Attributes:
        group: Name of the feature group.
        start: First instant of the partition (UTC).
        inputs: Digest of the source days that it was computed from; see `transform.inputs`.
        code_version: Of the function that was run.
        reason: What was wrong.
        is_final: Whether the same inputs and code fail always, as rows do that break the schema. A function that
            raises may have met an outage.
        attempts: How often it has failed so.
        at: When it last failed (UTC).
    """

    group: str
    start: datetime
    inputs: str
    code_version: str
    reason: str
    is_final: bool
    attempts: int
    at: datetime


def keep_failed(root: Location, failed: FailedPartition) -> None:
    """Keeps a failed partition in place of what is known of it.

    Raises:
        StorageError: If the storage refuses.
    """
    content = msgspec.json.encode(failed)

    def write(handle: BinaryIO) -> None:
        handle.write(content)

    path = _path(root, failed.group, failed.start)
    storage_of(path).replace(path, lambda: write)


def forget_failed(root: Location, failed: Iterable[FailedPartition]) -> None:
    """Forgets partitions that were computed."""
    for each in failed:
        _path(root, each.group, each.start).unlink(missing_ok=True)


def failed_partitions(root: Location, group: str | None = None) -> dict[tuple[str, datetime], FailedPartition]:
    """Returns the failed partitions of a group, or of all, by group and start. It costs one listing where none failed.

    Raises:
        StorageError: If the storage does not answer.
    """
    folder = root / FOLDER
    found = {}
    for path, content in storage_of(folder).marks(folder):
        if group is not None and not path.name.startswith(f"{group}@"):
            continue
        # Of another making, or cut off: it holds nothing back.
        with suppress(msgspec.MsgspecError):
            failed = msgspec.json.decode(content, type=FailedPartition)
            if path.name == _name(failed.group, failed.start):
                found[failed.group, failed.start] = failed
    return found


def _path(root: Location, group: str, start: datetime) -> Location:
    return root / FOLDER / _name(check_name(group, "feature group"), start)


def _name(group: str, start: datetime) -> str:
    return f"{group}@{to_micros(start)}.json"
