"""Every private or beta name of Dagster that the feature store rests on, each with the reason and its test.

Nothing else in this package imports from `dagster._...`. Supported: the minor version that pyproject.toml names as the
highest, and the one before.
"""

from __future__ import annotations

import warnings

import dagster as dg

# What `define_asset_job` returns; the public name is missing. Watched by: tests/dagster/test_flights_location.py.
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    # Ties an evaluation to the materialization that it judges, which only results of steps can do in public.
    # Watched by: tests/dagster/test_feature_group_assets.py.
    AssetCheckEvaluationTargetMaterializationData,
)

# The tag by which Dagster knows a data version of an event. Watched by: tests/dagster/test_landing_sensor.py.
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

# Looks up check evaluations of one partition. Watched by: tests/dagster/test_held_back.py.
from dagster._core.event_api import PartitionKeyFilter

# Looks up backfills that are under way. Watched by: tests/dagster/test_gap_sensor.py.
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

# The SQLite event log whose connections are kept. Watched by: tests/dagster/test_daemon.py.
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._serdes import ConfigurableClassData

# Dagster copies sensors with a beta parameter of its own that nobody here has set, whenever definitions are merged.
# Watched by: tests/dagster/test_foreign_project.py.
warnings.filterwarnings("ignore", "Parameter `owners` of initializer `SensorDefinition", dg.BetaWarning)

__all__ = [
    "DATA_VERSION_TAG",
    "AssetCheckEvaluationTargetMaterializationData",
    "AssetCheckExecutionRecordStatus",
    "BulkActionStatus",
    "BulkActionsFilter",
    "ConfigurableClassData",
    "PartitionKeyFilter",
    "SqliteEventLogStorage",
    "UnresolvedAssetJobDefinition",
]
