"""What was worked out before, up to a size: the same requests come again and again, and a flood of others may come.

Thread-safe without a lock: two threads that miss at once work out the same.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

MOST_FEATURES = 50_000
"""Features of all remembered requests together."""

LONGEST = MOST_FEATURES // 4
"""Features of one request that is still remembered."""

_OWN_SIZE = 25
"""What a request costs beside its features, counted in features."""


class Memo:
    """Remembers values by key. When it is full it forgets all, and what is still asked for is soon there again."""

    __slots__ = ("_size", "_values", "get")

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}
        self._size = 0
        # The dict's own method: the hot path looks up once per request.
        self.get = self._values.get

    def put(self, key: Hashable, value: object, features: int) -> None:
        """Remembers a value, unless it is one of the longest.

        Args:
            key: Finds it again.
            value: The value.
            features: How many features the request has.
        """
        if features > LONGEST:
            return
        if self._size > MOST_FEATURES:
            self._values.clear()
            self._size = 0
        self._values[key] = value
        self._size += _OWN_SIZE + features
