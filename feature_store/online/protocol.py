"""The server's wire protocol (RESP), built for whole columns at once.

Packing value by value in Python costs more than the server needs to store them. Only the writer uses this.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import polars as pl

from feature_store.online.keys import KeyShape
from feature_store.online.layout import EncodedRows, GroupWrite

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


def script_calls(write: GroupWrite, digest: str, rows: EncodedRows, rows_per_call: int) -> list[bytes]:
    """Returns the EVALSHA commands that write rows, `rows_per_call` in each, in order."""
    preamble = b"".join(_bulk(text) for text in write.preamble)
    keys, arguments = iter(rows.keys), iter(rows.arguments)
    calls = []
    for start in range(0, len(rows.keys), rows_per_call):
        count = min(rows_per_call, len(rows.keys) - start)
        number_of_keys = count * write.keys_per_row
        number_of_arguments = len(write.preamble) + count * write.arguments_per_row
        header = b"*%d\r\n" % (3 + number_of_keys + number_of_arguments)
        head = [header, _bulk("EVALSHA"), _bulk(digest), _bulk(str(number_of_keys))]
        calls.append(b"".join([*head, *islice(keys, count), preamble, *islice(arguments, count)]))
    return calls


def _bulk(text: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())
