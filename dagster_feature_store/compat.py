"""Every private or beta name of Dagster that the feature store rests on, each with the reason and its test.

Nothing else in this package imports from `dagster._...`, but `compat_storage`, which is heavy and needed by few.
"""

from __future__ import annotations

import warnings

import dagster as dg

# isort: split
# Ties an evaluation to the materialization that it judges, which only results of steps can do in public.
# Watched by: tests/dagster/test_feature_group_assets.py.
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

# isort: split
# The tag by which Dagster knows the data version of an event. Watched by: tests/dagster/test_landing_sensor.py.
from dagster._core.definitions.data_version import DATA_VERSION_TAG

# isort: split
# What `define_asset_job` returns: there is no public name. Watched by: tests/dagster/test_flights_location.py.
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

# isort: split
# Look up check evaluations of one partition. Watched by: tests/dagster/test_held_back.py.
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

# isort: split
# Look up backfills that are under way. Watched by: tests/dagster/test_gap_sensor.py.
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

# Dagster copies sensors with a beta parameter of its own that nobody here has set, whenever definitions are merged.
# Watched by: tests/dagster/test_foreign_project.py.
warnings.filterwarnings("ignore", "Parameter `owners` of initializer `SensorDefinition", dg.BetaWarning)

__all__ = [
    "DATA_VERSION_TAG",
    "AssetCheckEvaluationTargetMaterializationData",
    "AssetCheckExecutionRecordStatus",
    "BulkActionStatus",
    "BulkActionsFilter",
    "PartitionKeyFilter",
    "UnresolvedAssetJobDefinition",
]
