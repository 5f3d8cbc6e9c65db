"""The bytes of a row in the row layout; `docs/row-layout.md` describes them for readers in other languages.

A row is a header, a validity bitmap, one slot of fixed width per feature in the schema's order, and the bytes of its
texts: of strings, of decimals, and of lists and maps as JSON. Everything is little-endian. What a row means
(visibility, newest wins) is decided elsewhere.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from feature_store.online.schemas import FINGERPRINT_BYTES, LayoutSchema
from feature_store.rows.forms import forms_of

if TYPE_CHECKING:
    import numpy as np

MAGIC = b"\xf5\x01"
"""First bytes of every row: a byte that no UTF-8 text begins with, and the version of the format."""

HEAD_BYTES = len(MAGIC) + FINGERPRINT_BYTES
HEADER_BYTES = HEAD_BYTES + 16
"""Magic and fingerprint, then event time and ingestion time: signed 64 bits, microseconds since 1970."""

_TIMES = struct.Struct("<qq")


def row_times(raw: bytes) -> tuple[int, int]:
    """Returns event time and ingestion time of a row, microseconds since 1970.

    Raises:
        ValueError: If the bytes are too short for a row.
    """
    if len(raw) < HEADER_BYTES:
        raise ValueError(f"a row has at least {HEADER_BYTES} bytes, not {len(raw)}")
    event, ingested = _TIMES.unpack_from(raw, HEAD_BYTES)
    return event, ingested


@dataclass(frozen=True, slots=True)
class RowFormat:
    """Where things are in the rows of one schema.

    Attributes:
        schema: The schema.
        head: The first ten bytes of its rows.
        bitmap_bytes: Size of the validity bitmap, one bit per feature, the first feature's the least of the first byte.
        complete: The bitmap of a row without nulls.
        fixed: Reads all but the bytes of texts: magic, fingerprint, event, ingested, bitmap, one item per slot.
        has_texts: Whether rows have a part of variable size.
    """

    schema: LayoutSchema
    head: bytes
    bitmap_bytes: int
    complete: bytes
    fixed: struct.Struct
    has_texts: bool

    @classmethod
    def of(cls, schema: LayoutSchema) -> RowFormat:
        """Returns the format of a schema's rows."""
        count = len(schema.features)
        bitmap_bytes = (count + 7) // 8
        slots = "".join(forms_of(dtype).struct for _, dtype in schema.features)
        return cls(
            schema=schema,
            head=MAGIC + schema.fingerprint,
            bitmap_bytes=bitmap_bytes,
            complete=((1 << count) - 1).to_bytes(bitmap_bytes, "little"),
            fixed=struct.Struct(f"<{len(MAGIC)}s{FINGERPRINT_BYTES}sqq{bitmap_bytes}s{slots}"),
            has_texts=any(forms_of(dtype).has_text for _, dtype in schema.features),
        )

    def array_dtype(self) -> np.dtype[Any]:
        """Returns the same as a NumPy dtype: `head`, `event`, `ingested`, `bitmap`, and the slots `f0`, `f1`, ..."""
        import numpy as np

        slots = [(f"f{position}", *forms_of(dtype).numpy) for position, (_, dtype) in enumerate(self.schema.features)]
        header = [("head", f"V{HEAD_BYTES}"), ("event", "<i8"), ("ingested", "<i8")]
        return np.dtype([*header, ("bitmap", "u1", (self.bitmap_bytes,)), *slots])

    def text_before(self, position: int) -> int | None:
        """Returns the last feature before a position that has a text, where the next one's text begins; else None."""
        features = self.schema.features[:position]
        return max((slot for slot, (_, dtype) in enumerate(features) if forms_of(dtype).has_text), default=None)
