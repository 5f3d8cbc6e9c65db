"""The catalog as JSON in the online store, so that who only reads online needs neither registry nor SQLAlchemy.

The registry stays the source of truth: `FeatureStore` publishes after each change and decides how long readers trust
what they have read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from feature_store.catalog import Catalog, RegisteredGroup
from feature_store.errors import FeatureStoreError, OnlineStoreError
from feature_store.online.keys import CATALOG

FORMAT = 1

_KEY_TYPES: dict[str, type] = {"str": str, "int": int, "date": date}


@dataclass(frozen=True, slots=True)
class PublishedCatalog:
    """A catalog that was read from the online store.

    Attributes:
        text: What stands there, to see whether it has changed.
        catalog: The catalog.
    """

    text: bytes
    catalog: Catalog


class _Document(msgspec.Struct, frozen=True):
    format: int
    groups: list[RegisteredGroup]


def encode_catalog(catalog: Catalog) -> bytes:
    """Returns a catalog as JSON: all groups with their entities and features, nothing secret."""
    return msgspec.json.encode(_Document(FORMAT, list(catalog.groups.values())), enc_hook=_name_of_type)


def decode_catalog(text: bytes) -> Catalog:
    """Reads a catalog.

    Raises:
        OnlineStoreError: If the bytes are none, or of a format that this version does not know.
    """
    try:
        document = msgspec.json.decode(text, type=_Document, dec_hook=_type_of_name)
    except (msgspec.MsgspecError, FeatureStoreError) as error:
        raise OnlineStoreError(
            f"Key {CATALOG!r} of the online store does not hold a catalog that this version can read ({error}): "
            "run `feature-store apply` with this version, or update this process."
        ) from None
    if document.format != FORMAT:
        raise OnlineStoreError(
            f"Key {CATALOG!r} of the online store holds a catalog of format {document.format}, this version reads "
            f"format {FORMAT}: update the older one of the two."
        )
    return Catalog.of(document.groups)


def _name_of_type(value: Any) -> str:
    """Entities declare their join keys as Python types."""
    if isinstance(value, type):
        return value.__name__
    raise NotImplementedError(f"a catalog holds no {type(value).__name__}")


def _type_of_name(expected: type, value: Any) -> type:
    if expected is type and value in _KEY_TYPES:
        return _KEY_TYPES[value]
    raise msgspec.ValidationError(f"{value!r} is no type of a join key")
