"""Making the online store answer what the offline store says, removals included."""

from __future__ import annotations

from feature_store.catalog import RegisteredGroup
from feature_store.changes.settling import Settler, SettlingReport
from feature_store.clock import Clock
from feature_store.offline.store import OfflineStore
from feature_store.online.store import OnlineStore


def repair_online(
    group: RegisteredGroup, *, offline: OfflineStore, online: OnlineStore, clock: Clock
) -> SettlingReport:
    """Makes the online store answer what the offline store says now.

    First, rows are removed that newest wins would protect: those that are newer than the offline store's, or of
    entities that have none there. Each is removed only if it is still the row that was looked at. Then the offline
    store's rows are pushed as always. Between the two steps an entity whose row was removed has no value; one that a
    writer brings meanwhile is judged by newest wins. Rows of streams that are not drained yet are left alone: they
    reach the online store first. To repair again changes nothing.

    Args:
        group: The group.
        offline: Says what is right.
        online: Is repaired. All keys of the server are looked through, without blocking it.
        clock: Tells the instant.

    Raises:
        OnlineStoreError: If the online store does not answer; to repair again completes the work.
    """
    settler = Settler(group, offline, online, clock)
    settler.left_behind()
    return settler.all_entities()
