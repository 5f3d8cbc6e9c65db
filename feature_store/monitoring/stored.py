"""Profiles in the offline store: each partition's file carries its own, in the key-value metadata of its footer.

So a profile is as old as its rows, is replaced with them, and later partitions are compared without reading a row. Only
a file whose profile is missing, or has a form of another version, is read and profiled anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
import polars as pl

from feature_store.catalog import RegisteredGroup
from feature_store.monitoring.baseline import FORM
from feature_store.monitoring.profile import PartitionProfile, profile_rows
from feature_store.offline.footers import load_footers, metadata_of
from feature_store.offline.layout import PartitionFile
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Partitioning, Window
from feature_store.storage.parquet import scan_files

PROFILE = "profile"
"""Key of the metadata that holds the profile, as JSON."""

Partitions = list[tuple[Window, PartitionProfile]]


class _Stored(msgspec.Struct):
    """A profile as it is stored, with the number of its form, see `monitoring.baseline.FORM`."""

    form: Literal[2]
    profile: PartitionProfile


_decoder = msgspec.json.Decoder(_Stored)


def encode_profile(profile: PartitionProfile) -> str:
    """Returns a profile as JSON."""
    return msgspec.json.encode(_Stored(FORM, profile)).decode()


def decode_profile(metadata: Mapping[str, str]) -> PartitionProfile | None:
    """Returns the profile in a file's metadata, None where it carries none that this version can read."""
    try:
        return _decoder.decode(metadata.get(PROFILE, "null")).profile
    except msgspec.MsgspecError:
        return None


def profiles_before(offline: OfflineStore, group: RegisteredGroup, window: Window, most: int) -> Partitions:
    """Returns the profiles of the newest partitions that end by the start of a window, in order of time.

    Args:
        offline: Holds the partitions.
        group: The group.
        window: What comes after them.
        most: How many partitions, present or not, to look back on.
    """
    partitioning = Partitioning(group.partitioning)
    return _read(offline, group, Window(window.start - most * partitioning.length, window.start))


def first_profiles(offline: OfflineStore, group: RegisteredGroup, span: Window, most: int) -> Partitions:
    """Returns the profiles of the first partitions that start within a span and have rows, in order of time."""
    found: Partitions = []
    if span.end <= span.start:
        return found
    for file in _batch_files(offline, group, span):
        window = file.window
        if span.start <= window.start < span.end:
            profile = _profile(group, file)
            if profile is not None and profile.rows:
                found.append((window, profile))
        if len(found) == most:
            break
    return found


def _read(offline: OfflineStore, group: RegisteredGroup, span: Window) -> Partitions:
    inside = [file for file in _batch_files(offline, group, span) if span.start <= file.window.start]
    load_footers(inside)
    read = [(file.window, _profile(group, file)) for file in inside]
    return [(window, profile) for window, profile in read if profile is not None]


def _batch_files(offline: OfflineStore, group: RegisteredGroup, span: Window | None = None) -> list[PartitionFile]:
    partitioning = Partitioning(group.partitioning)
    files = [file for file in offline.files(group.name, span) if file.belongs_to(partitioning)]
    return sorted(files, key=lambda file: file.window)


def _profile(group: RegisteredGroup, file: PartitionFile) -> PartitionProfile | None:
    """Returns a file's profile, of its rows if it carries none of this form; None if it is no readable file."""
    try:
        stored = decode_profile(metadata_of(file))
        if stored is not None:
            return stored
        rows = scan_files(file.path).collect()
        dtypes = {feature.ref.column: feature.dtype for feature in group.features if feature.ref.column in rows.columns}
        partitioning = Partitioning(group.partitioning)
        [profile] = profile_rows(group.entity.join_keys, dtypes, partitioning, rows, [file.window])
    except (OSError, pl.exceptions.PolarsError):
        return None
    return profile
