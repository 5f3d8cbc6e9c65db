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
        return hashlib.sha256(self.text).digest()[:FINGERPRINT_BYTES]

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
        self._known: dict[tuple[str, bytes], LayoutSchema] = {}

    def get(self, group: str, fingerprint: bytes) -> LayoutSchema:
        """Returns a schema that was learned.

        Raises:
            UnknownSchemaError: If it was not.
        """
        try:
            return self._known[group, fingerprint]
        except KeyError:
            raise UnknownSchemaError(group, fingerprint) from None

    def learn(self, unknown: UnknownSchemaError, text: bytes | None) -> None:
        """Takes in what the store says of a fingerprint.

        Raises:
            OnlineStoreError: If it says nothing, or something else than a schema of this fingerprint.
        """
        key = KeySpace.schema(unknown.group, unknown.fingerprint)
        remedy = (
            f"Update this process's catalog and library, or materialize feature group {unknown.group!r} again, which "
            "writes rows and key anew."
        )
        if text is None:
            raise OnlineStoreError(
                f"Rows of feature group {unknown.group!r} in the online store carry the schema fingerprint "
                f"{unknown.fingerprint.hex()}, which neither the catalog nor the key {key!r} explains. {remedy}"
            )
        try:
            schema = LayoutSchema.parse(text)
        except ValueError:
            schema = None
        if schema is None or schema.fingerprint != unknown.fingerprint:
            raise OnlineStoreError(f"Key {key!r} of the online store does not hold the schema of its name. {remedy}")
        self._known[unknown.group, unknown.fingerprint] = schema
