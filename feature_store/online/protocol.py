"""The server's wire protocol (RESP), built for whole columns at once.

Packing value by value in Python costs more than the server needs to store them. Only the writer uses this.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from feature_store.online.keys import KeyShape
from feature_store.online.layout import EncodedRows, GroupWrite
from feature_store.online.resp import bulk, script_call
from feature_store.online.script_session import ScriptCall

_END = pl.lit("\r\n")


def bulk_strings(columns: Sequence[pl.Expr]) -> pl.Expr:
    """Returns text columns as protocol bulk strings, those of one row joined."""
    pieces: list[pl.Expr] = []
    for column in columns:
        pieces += [pl.lit("$"), column.str.len_bytes().cast(pl.String), _END, column, _END]
    return pl.concat_str(pieces)


def bulk_strings_of_keys(entity_ids: pl.Expr, shapes: Sequence[KeyShape]) -> pl.Expr:
    """Returns the keys of several shapes as protocol bulk strings, those of one row joined."""
    length = entity_ids.str.len_bytes()
    pieces: list[pl.Expr] = []
    for prefix, suffix in shapes:
        around = len(prefix) + len(suffix)
        pieces += [pl.lit("$"), (length + around).cast(pl.String), pl.lit(f"\r\n{prefix}"), entity_ids]
        pieces += [pl.lit(f"{suffix}\r\n")]
    return pl.concat_str(pieces)


def script_calls(write: GroupWrite, digest: str, rows: EncodedRows, head: Sequence[bytes]) -> list[ScriptCall]:
    """Returns the EVALSHA commands that write rows to a single server, in order.

    Args:
        write: The group's layout.
        digest: The script.
        rows: The rows.
        head: The arguments before the preamble: the mode, and the time from which on replaced rows are kept.
    """
    preamble = preamble_of(write, head)
    calls = []
    for start in range(0, len(rows.keys), write.rows_per_call):
        part = slice(start, start + write.rows_per_call)
        calls.append(ScriptCall(0, _call(write, digest, preamble, rows.keys[part], rows.arguments[part])))
    return calls


def script_calls_by_row(
    write: GroupWrite, digest: str, rows: EncodedRows, head: Sequence[bytes], slots: Sequence[int]
) -> list[ScriptCall]:
    """Returns the same for a cluster: one call per row, for the rows of a call must share a slot, and few do."""
    preamble = preamble_of(write, head)
    return [
        ScriptCall(slot, _call(write, digest, preamble, [keys], [arguments]))
        for slot, keys, arguments in zip(slots, rows.keys, rows.arguments, strict=True)
    ]


def preamble_of(write: GroupWrite, head: Sequence[bytes]) -> list[bytes]:
    """Returns the arguments before those of the rows, each as a bulk string."""
    return [*map(bulk, head), *(bulk(text.encode()) for text in write.preamble)]


def _call(write: GroupWrite, digest: str, preamble: list[bytes], keys: list[bytes], arguments: list[bytes]) -> bytes:
    return script_call(
        digest,
        (len(keys) * write.keys_per_row, b"".join(keys)),
        (len(preamble) + len(arguments) * write.arguments_per_row, b"".join([*preamble, *arguments])),
    )
