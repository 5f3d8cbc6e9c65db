"""Names of the keys in the online store. What they hold belongs to `values`, `stamps`, `row_format` and `schemas`.

Every key of an entity is a prefix, its id and a suffix, so that whole columns of keys are built by concatenation.
On a cluster the entity id stands in braces, the hash tag that keeps all keys of one entity in one slot.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from feature_store.definitions.names import FeatureRef
from feature_store.errors import InvalidRequestError


class KeyShape(NamedTuple):
    """A family of keys, one per entity.

    Attributes:
        prefix: What stands before the entity id.
        suffix: What stands after it.
    """

    prefix: str
    suffix: str

    def of(self, entity_id: str) -> str:
        """Returns the key of one entity."""
        return f"{self.prefix}{entity_id}{self.suffix}"


SLOTS = 16384
"""Slots of a cluster."""

CATALOG = "feature_catalog"
"""The key that holds the catalog, for readers without a registry."""


@dataclass(frozen=True, slots=True)
class KeySpace:
    """How keys are spelled.

    Attributes:
        hash_tags: Whether entity ids stand in braces, as a cluster needs it.
    """

    hash_tags: bool = False

    def feature(self, ref: FeatureRef) -> KeyShape:
        """Returns the keys that hold a feature's values: `feature:clicks_7d:v2:user_42`."""
        return self._shape(f"feature:{ref}:")

    def stamp(self, group: str) -> KeyShape:
        """Returns the keys that hold the stamps of a group's rows: `feature_stamp:user_activity:user_42`."""
        return self._shape(f"feature_stamp:{group}:")

    def row(self, group: str) -> KeyShape:
        """Returns the keys that hold a group's whole rows: `feature_row:user_activity:user_42`."""
        return self._shape(f"feature_row:{group}:")

    def tiles(self, group: str) -> KeyShape:
        """Returns the keys that hold the tiles of a windowed group: `feature_tiles:card_activity:card_42`."""
        return self._shape(f"feature_tiles:{group}:")

    def undrained(self, group: str) -> KeyShape:
        """Returns the keys that hold rows of a windowed group that a stream has not brought into the offline store."""
        return self._shape(f"feature_undrained:{group}:")

    def nearby(self, group: str) -> KeyShape:
        """Returns the keys that hold rows around the present: those that newer ones have replaced moments ago."""
        return self._shape(f"feature_nearby:{group}:")

    @staticmethod
    def clock(group: str) -> str:
        """Returns the key of the clock of a group's ingestion times, see `ingestion_clock`."""
        return f"feature_clock:{group}"

    @staticmethod
    def pending(group: str) -> str:
        """Returns the key of a group's rows whose time has not come, see `pending`."""
        return f"feature_pending:{group}"

    @staticmethod
    def retractions(group: str) -> str:
        """Returns the key of a group's retractions that are not drained, see `retractions`."""
        return f"feature_retractions:{group}"

    @staticmethod
    def deliveries(group: str) -> str:
        """Returns the key of a group's long writes, see `deliveries`."""
        return f"feature_deliveries:{group}"

    @staticmethod
    def schema(group: str, fingerprint: bytes) -> str:
        """Returns the key that says which features a group's rows of one fingerprint hold."""
        return f"feature_schema:{group}:{fingerprint.hex()}"

    @staticmethod
    def slot(entity_id: str) -> int:
        """Returns the cluster slot of an entity's keys: that of the text in braces, up to the first closing one."""
        return crc_hqx(entity_id.partition("}")[0].encode(), 0) % SLOTS

    def check(self, entity_ids: Iterable[str]) -> None:
        """Refuses entity ids that cannot be keys.

        Without hash tags every text can. With them an empty id, or one that begins with `}`, would close the
        tag at once, and the entity's keys would scatter over the slots.

        Raises:
            InvalidRequestError: If an id is refused.
        """
        if not self.hash_tags:
            return
        for entity_id in entity_ids:
            if not entity_id or entity_id.startswith("}"):
                raise InvalidRequestError(
                    f"Entity id {entity_id!r} cannot be stored on a cluster: an id there must not be empty or begin "
                    "with '}', which would end the hash tag that keeps an entity's keys together. Prefix the id."
                )

    def _shape(self, prefix: str) -> KeyShape:
        return KeyShape(f"{prefix}{{", "}") if self.hash_tags else KeyShape(prefix, "")
