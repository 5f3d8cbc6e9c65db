"""Which events of an entity lie in a window, for any number of readers at once: ranges of positions.

Events and readers are sorted by entity and time, and told apart by one integer: the entity's code, then the time. So a
window is found by two binary searches in a column of integers, in the order of the readers, which the caches like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from feature_store.windows.extents import Extent

Ints = npt.NDArray[np.int64]

_MOST = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Timeline:
    """Events of some entities, sorted by entity and time.

    Attributes:
        order: Position of each event in the columns that it was made of.
        keys: Entity and time of each, as one integer.
        first: The earliest time that a key can tell, and
        span: how many times there are for each entity.
    """

    order: Ints
    keys: Ints
    first: int
    span: int

    @classmethod
    def of(cls, entities: Ints, times: Ints) -> Self:
        """Returns the timeline of some events.

        Args:
            entities: Code of each event's entity, from 0 on, without large gaps.
            times: Microseconds since 1970.

        Raises:
            OverflowError: If codes and times do not fit into 63 bits together: take fewer entities at once.
        """
        first = int(times.min()) if len(times) else 0
        # A place before the first event and one after the last, for readers that see none or all.
        span = (int(times.max()) - first + 3) if len(times) else 3
        first -= 1
        if len(entities) and int(entities.max()) >= _MOST // span - 1:
            raise OverflowError("So many entities over so long a time have no integer for each event.")
        keys = entities * span + (times - first)
        order = np.argsort(keys, kind="stable")
        return cls(order, keys[order], first, span)

    def until(self, entities: Ints, times: Ints) -> Ints:
        """Returns the position after the last event at or before a time, for each reader.

        Args:
            entities: Code of the reader's entity.
            times: Microseconds since 1970.
        """
        places = np.clip(times, self.first, self.first + self.span - 1) - self.first
        found: Ints = np.searchsorted(self.keys, entities * self.span + places, "right")
        return found

    def before(self, entities: Ints, times: Ints) -> Ints:
        """Returns the position after the last event before a time, for each reader."""
        places = np.clip(times, self.first, self.first + self.span) - self.first
        found: Ints = np.searchsorted(self.keys, entities * self.span + places, "left")
        return found

    def windows(self, entities: Ints, at: Ints, extent: Extent) -> Ints:
        """Returns where the window of each reader begins: the position after the last event that has left it."""
        return self.until(entities, extent.tails(at))
