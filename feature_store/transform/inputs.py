"""What a partition is computed from: the source days that it reads, each as its fingerprint says it is.

A batch writes the digest of them into the partition's file. So the files themselves tell which partitions have to be
computed again because a day has landed late or changed, whatever was requested, killed or forgotten in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.source import fingerprints
from feature_store.partitions import Window

INPUTS = "inputs"
"""Name of the digest in the metadata of a partition's file."""


def source_days(group: FeatureGroup, span: Window) -> Window:
    """Returns the time of the events that some partitions read, look-back included."""
    return Window(max(span.start - group.lookback, group.source.start), span.end)


def digest_of_days(first: date, last: date, landed: Mapping[date, str]) -> str:
    """Returns what changes when one of some source days changes, or lands.

    Args:
        first: The first day.
        last: The last day.
        landed: Fingerprints of the days that have landed; others are taken for not landed.
    """
    days = map(date.fromordinal, range(first.toordinal(), last.toordinal() + 1))
    text = "\n".join(f"{day.toordinal()} {landed.get(day)}" for day in days)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digests_of_inputs(group: FeatureGroup, windows: Sequence[Window]) -> dict[Window, str]:
    """Returns the digest of each partition's inputs as they are now; the source is asked once.

    Args:
        group: The feature group.
        windows: The partitions, in order of time.
    """
    if not windows:
        return {}
    needed = source_days(group, Window(windows[0].start, windows[-1].end))
    landed = fingerprints(group.source, needed.dates())
    found = {}
    for window in windows:
        days = source_days(group, window)
        last = (days.end - timedelta(microseconds=1)).date()
        found[window] = digest_of_days(days.start.date(), last, landed)
    return found
