"""Messages that tell changes of a table's rows, as Debezium writes them: which event is no more, which one is now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

_NOW = frozenset({"c", "r", "u"})
_FULL = "Let the database tell whole rows: in PostgreSQL, ALTER TABLE ... REPLICA IDENTITY FULL."


@dataclass(frozen=True, slots=True)
class Change:
    """One event that a message tells of.

    Attributes:
        event: The event.
        is_gone: Whether it is no more.
    """

    event: msgspec.Struct
    is_gone: bool = False


def read_envelope(record: Any, schema: type[msgspec.Struct]) -> list[Change]:
    """Returns the changes that a Debezium envelope tells, with or without its schema beside it.

    Args:
        record: What the message holds.
        schema: What an event is read as.

    Raises:
        ValueError: If it is no envelope, or lacks the row that it changes.
    """
    if isinstance(record, Mapping) and "payload" in record and "op" not in record:
        record = record["payload"]
    if not isinstance(record, Mapping) or "op" not in record:
        raise ValueError("The message is no Debezium envelope: it has no field 'op'.")
    operation = record["op"]
    before, after = record.get("before"), record.get("after")
    if operation not in {*_NOW, "d"}:
        raise ValueError(f"The operation {operation!r} is not understood: it is none of c, r, u and d.")
    if operation in {"u", "d"} and before is None:
        raise ValueError(f"The message changes a row and does not tell what it was: 'before' is null. {_FULL}")
    changes = []
    if operation in {"u", "d"}:
        changes.append(Change(_event(before, schema, "before"), is_gone=True))
    if operation in _NOW:
        changes.append(Change(_event(after, schema, "after")))
    return changes


def _event(row: Any, schema: type[msgspec.Struct], side: str) -> msgspec.Struct:
    try:
        return msgspec.convert(row, schema)
    except msgspec.ValidationError as error:
        raise ValueError(f"In {side!r}: {error}") from None
