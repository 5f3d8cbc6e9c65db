"""Which partitions of a feature group are to be computed, and why.

Only those whose source days have landed: the others would fail.
"""

from __future__ import annotations

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.source import fingerprints
from feature_store.partitions import Window
from feature_store.reconcile.coverage import Coverage, spans
from feature_store.transform.materialization import PARTITIONS_PER_PASS

BRIDGED_PARTITIONS = 7
"""Gaps with so few partitions between them are one run: starting another costs more than computing those again."""

NEWEST_PARTITIONS = PARTITIONS_PER_PASS
"""Partitions that are backfilled first, in a run of their own: what is served online and trained on next."""


def gaps(group: FeatureGroup, found: Coverage) -> list[Window]:
    """Returns the spans of partitions that are missing between others, the newest first, as few as is worth it.

    Args:
        group: The feature group.
        found: What lies in the offline store.
    """
    landed = [
        window for gap in found.missing for window in group.partitioning.windows(gap) if has_landed(group, window)
    ]
    bridging = int(BRIDGED_PARTITIONS * group.partitioning.length.total_seconds())
    return list(reversed(list(spans(landed, bridging=bridging))))


def lacking_features(group: FeatureGroup, found: Coverage) -> tuple[list[Window], list[Window]]:
    """Returns the spans of partitions whose files lack a feature: of the newest partitions, and the rest.

    Each list has the newest span first.

    Args:
        group: As it is declared now.
        found: What lies in the offline store.
    """
    lacking = [window for window in found.lacking if has_landed(group, window)]
    newest, rest = lacking[-NEWEST_PARTITIONS:], lacking[:-NEWEST_PARTITIONS]
    return list(reversed(list(spans(newest)))), list(reversed(list(spans(rest))))


def source_days(group: FeatureGroup, span: Window) -> Window:
    """Returns the time of the events that some partitions read, look-back included."""
    return Window(max(span.start - group.lookback, group.source.start), span.end)


def has_landed(group: FeatureGroup, span: Window) -> bool:
    """Tells whether all source days have landed that the partitions of a span read, look-back included."""
    days = list(source_days(group, span).dates())
    return len(fingerprints(group.source, days)) == len(days)
