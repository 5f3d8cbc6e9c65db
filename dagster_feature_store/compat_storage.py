"""Private names of Dagster's storage, apart from the others: Alembic comes with them, half a second.

The SQLite event log is Dagster's own, with its connections kept. Watched by: tests/dagster/test_daemon.py.
"""

from __future__ import annotations

from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData

__all__ = ["ConfigurableClassData", "SqliteEventLogStorage"]
