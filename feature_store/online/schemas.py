"""Row schemas: which features a stored row has, in which order.

A group gains and loses features, and for a while writers of both definitions run side by side. So every stored row
carries a fingerprint of the features that it was written with, and the first writer of a fingerprint says in the
store what it stands for. A reader that meets a fingerprint other than its own catalog's looks it up, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cached_property

import msgspec

from feature_store.catalog import Feature
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.names import FeatureRef
from feature_store.errors import DefinitionError, FeatureStoreError, InvalidRequestError, OnlineStoreError
from feature_store.online.keys import KeySpace

FINGERPRINT_BYTES = 8


class LayoutSchema:
    """The ordered features of a row.

    Its text is JSON without spaces, `[["clicks_7d:v2","float"],["taste:v1","embedding[24]"]]`; the fingerprint is the
    first 8 bytes of the text's SHA-256.

    Args:
        features: References and dtypes, in the row's order.
    """

    def __init__(self, features: Iterable[tuple[FeatureRef, Dtype]]) -> None:
        self.features = tuple(features)

    @classmethod
    def of(cls, features: Iterable[Feature]) -> LayoutSchema:
        """Returns the schema of rows that hold these features."""
        return cls((feature.ref, feature.dtype) for feature in features)

    @classmethod
    def parse(cls, text: bytes) -> LayoutSchema:
        """Reads a schema's text.

        Raises:
            ValueError: If it is none.
        """
        try:
            pairs = msgspec.json.decode(text, type=list[tuple[str, str]])
            features = []
            for reference, dtype in pairs:
                name, version = FeatureRef.parse(reference)
                if version is None:
                    raise ValueError(f"{reference!r} names no version")
                features.append((FeatureRef(name, version), Dtype.parse(dtype)))
        except (msgspec.MsgspecError, InvalidRequestError, DefinitionError) as error:
            raise ValueError(str(error)) from None
        return cls(features)

    @cached_property
    def text(self) -> bytes:
        """The schema as JSON."""
        return msgspec.json.encode([(str(ref), str(dtype)) for ref, dtype in self.features])

    @cached_property
    def fingerprint(self) -> bytes:
        """Eight bytes that stand for the text."""
        return fingerprint_of(self.text)

    @cached_property
    def positions(self) -> dict[FeatureRef, int]:
        """Each feature's place in the row."""
        return {ref: position for position, (ref, _) in enumerate(self.features)}


class UnknownSchemaError(FeatureStoreError):
    """Rows carry a fingerprint that this process has not met yet: look it up, then decode again.

    It never leaves the online store.

    Attributes:
        group: The rows' group.
        fingerprint: What they carry.
    """

    def __init__(self, group: str, fingerprint: bytes) -> None:
        self.group = group
        self.fingerprint = fingerprint
        super().__init__(f"Rows of {group!r} with the unknown schema {fingerprint.hex()}.")


class Schemas:
    """The schemas that a process has met, by group and fingerprint. They never change, so that threads may share it."""

    def __init__(self) -> None:
        self._texts: dict[tuple[str, bytes], bytes] = {}
        self._known: dict[tuple[str, bytes], LayoutSchema] = {}

    def text(self, group: str, fingerprint: bytes) -> bytes:
        """Returns the text of a schema that was learned.

        Raises:
            UnknownSchemaError: If it was not.
        """
        try:
            return self._texts[group, fingerprint]
        except KeyError:
            raise UnknownSchemaError(group, fingerprint) from None

    def get(self, group: str, fingerprint: bytes) -> LayoutSchema:
        """Returns a schema of rows that was learned.

        Raises:
            UnknownSchemaError: If it was not.
            OnlineStoreError: If it is no schema of rows.
        """
        known = self._known.get((group, fingerprint))
        if known is None:
            try:
                known = LayoutSchema.parse(self.text(group, fingerprint))
            except ValueError:
                raise _no_schema(UnknownSchemaError(group, fingerprint)) from None
            self._known[group, fingerprint] = known
        return known

    def learn(self, unknown: UnknownSchemaError, text: bytes | None) -> None:
        """Takes in what the store says of a fingerprint.

        Raises:
            OnlineStoreError: If it says nothing, or something else than a schema of this fingerprint.
        """
        if text is None:
            raise OnlineStoreError(
                f"Rows of feature group {unknown.group!r} in the online store carry the schema fingerprint "
                f"{unknown.fingerprint.hex()}, which neither the catalog nor the key {_key(unknown)!r} explains. "
                f"{_remedy(unknown)}"
            )
        if fingerprint_of(text) != unknown.fingerprint:
            raise _no_schema(unknown)
        self._texts[unknown.group, unknown.fingerprint] = text


def fingerprint_of(text: bytes) -> bytes:
    """Returns the eight bytes that stand for the text of a schema."""
    return hashlib.sha256(text).digest()[:FINGERPRINT_BYTES]


def _no_schema(unknown: UnknownSchemaError) -> OnlineStoreError:
    return OnlineStoreError(
        f"Key {_key(unknown)!r} of the online store does not hold the schema of its name. {_remedy(unknown)}"
    )


def _key(unknown: UnknownSchemaError) -> str:
    return KeySpace.schema(unknown.group, unknown.fingerprint)


def _remedy(unknown: UnknownSchemaError) -> str:
    return (
        f"Update this process's catalog and library, or materialize feature group {unknown.group!r} again, which "
        "writes rows and key anew."
    )
