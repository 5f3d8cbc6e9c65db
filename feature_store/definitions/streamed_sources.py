"""What makes an event of a source that a stream carries: one rule for the stream and for the files.

A message that is delivered twice cannot be told from a second event that is equal to the first in all that the stream
reads. So of events that agree in the stream's identity one counts, wherever the events come from.
"""

from __future__ import annotations

from feature_store.definitions.entity import Entity
from feature_store.definitions.source import Source

_IDENTITIES: dict[tuple[int, str | None], tuple[Source, tuple[str, ...]]] = {}


def note_identity(source: Source, entity: Entity | None, identity: tuple[str, ...]) -> None:
    """Takes note that a stream carries a source, and by which columns it tells events from one another."""
    # The source is held, so that no other can come to its place in memory.
    _IDENTITIES[id(source), entity.name if entity else None] = (source, identity)


def identity_of(source: Source, entity: Entity) -> tuple[str, ...] | None:
    """Returns by which columns events are told from one another, None where all count: no stream carries the source."""
    for keyed in (entity, None):
        found = _IDENTITIES.get((id(source), keyed.name if keyed else None))
        if found is not None and found[0] is source:
            return found[1]
    return None
