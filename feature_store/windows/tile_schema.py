"""What the tiles of a group hold: the states that its windows are folded from, each once.

Free of NumPy, as all that readers of single entities need.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property

import msgspec

from feature_store.definitions.window_spec import WindowSpec
from feature_store.windows.states import StateKey

FINGERPRINT_BYTES = 8


class TileSchema:
    """The states of each tile, in order.

    Its text is JSON without spaces, a list of `[function, column, dtype, condition, category, size]`; the fingerprint is
    the first 8 bytes of the text's SHA-256.

    Args:
        keys: What the states say.
    """

    def __init__(self, keys: Iterable[StateKey]) -> None:
        self.keys = tuple(keys)

    @classmethod
    def of(cls, windows: Iterable[WindowSpec]) -> TileSchema:
        """Returns the schema of tiles that these windows can be folded from."""
        keys = {StateKey.of(spec) for spec in windows}
        return cls(sorted(keys, key=lambda key: tuple(str(part) for part in key)))

    @classmethod
    def parse(cls, text: bytes) -> TileSchema:
        """Reads a schema's text.

        Raises:
            ValueError: If it is none.
        """
        try:
            return cls(msgspec.json.decode(text, type=list[StateKey]))
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from None

    @cached_property
    def text(self) -> bytes:
        """The schema as JSON."""
        return msgspec.json.encode(self.keys)

    @cached_property
    def fingerprint(self) -> bytes:
        """Eight bytes that stand for the text."""
        return hashlib.sha256(self.text).digest()[:FINGERPRINT_BYTES]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of events that some state reads, in order."""
        found: dict[str, None] = {}
        for key in self.keys:
            for column in (key.column, key.condition, key.category):
                if column is not None:
                    found[column] = None
        return tuple(found)

    @cached_property
    def positions(self) -> dict[StateKey, int]:
        """Each state's place."""
        return {key: position for position, key in enumerate(self.keys)}
