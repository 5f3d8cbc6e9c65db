"""Outages of what all groups share: one incident each, whichever look or run meets it first."""

from __future__ import annotations

import dagster as dg
from dagster import DagsterInstance

from dagster_feature_store.sensors.run_errors import failed_steps
from feature_store.alerts.findings import WHOLE, Finding
from feature_store.errors import OnlineStoreError, RegistryUnreachableError, StorageError

ONLINE_STORE = Finding(
    key="online/store",
    title="The online store does not answer",
    failed=(WHOLE,),
    remedy="Start the server, or correct FEATURE_STORE_ONLINE. What it has lost or missed is pushed again by itself.",
    link="/automation",
)

STORAGE = Finding(
    key="offline/storage",
    title="The storage of the offline store or of a source does not answer, or refuses",
    failed=(WHOLE,),
    remedy="The message names the place. What is left is computed again by itself once it answers.",
    link="/automation",
)

OUTAGES = {OnlineStoreError.__name__: ONLINE_STORE, StorageError.__name__: STORAGE}
"""By the class of the error that tells of them."""

_KINDS = frozenset({*OUTAGES, RegistryUnreachableError.__name__})


def has_met_outage(instance: DagsterInstance, run: dg.DagsterRun) -> bool:
    """Tells whether a run that has ended failed of an outage alone: once that is over, another will succeed."""
    kinds = {kind for _, (kind, _) in failed_steps(instance, run)}
    return bool(kinds) and kinds <= _KINDS


def was_cut_off(instance: DagsterInstance, run: dg.DagsterRun) -> bool:
    """Tells whether a run has failed outside of its steps: its process was killed, or could not start."""
    return not any(True for _ in failed_steps(instance, run))
