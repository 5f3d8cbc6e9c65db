"""What `compat` has of Dagster's backfills, apart: only sensors that tick look at them, no code location that loads."""

from __future__ import annotations

# Look up backfills that are under way. Watched by: tests/dagster/test_gap_sensor.py.
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

__all__ = ["BulkActionStatus", "BulkActionsFilter"]
