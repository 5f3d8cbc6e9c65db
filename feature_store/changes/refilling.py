"""When a changed definition shows rows that the online store no longer holds, or holds elsewhere."""

from __future__ import annotations

from feature_store.catalog import Group


def shows_more(before: Group, after: Group) -> bool:
    """Tells whether rows may be visible by a group's definition that were not, or not there, by the one before it.

    So it is where a time to live is longer, for what had expired by the shorter one is gone; and where the layout is
    another, for its keys are.
    """
    former = {feature.ref: feature.online_ttl_seconds for feature in before.features}
    longer = any(
        feature.online_ttl_seconds > former.get(feature.ref, feature.online_ttl_seconds) for feature in after.features
    )
    return longer or before.online_layout != after.online_layout
