"""Every private or beta name of Dagster that the feature store rests on, each with the reason and its test.

Nothing else in this package imports from `dagster._...`, but `compat_backfills` and `compat_storage`, which are heavy
and needed by few.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

# isort: split
# Evaluations under a run's id that belong to no run: Dagster takes one evaluation without a run for each partition and
# check, ever. Watched by: tests/dagster/test_command_line.py.
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.utils import make_new_run_id

# isort: split
# Ask the code server that has started a run whether its process lives, as Dagster does before it ends one: the default
# launcher knows no other way. Watched by: tests/dagster/test_daemon.py.
# Runs of this process under the code location of a workspace: the timeline and the pages of jobs show no others.
# Watched by: tests/dagster/test_runs_of_the_location.py.
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RemoteRepositoryOrigin
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.workspace.load import location_origins_from_yaml_paths

# Dagster copies sensors with a beta parameter of its own that nobody here has set, whenever definitions are merged.
# Watched by: tests/dagster/test_foreign_project.py.
warnings.filterwarnings("ignore", "Parameter `owners` of initializer `SensorDefinition", dg.BetaWarning)

__all__ = [
    "DATA_VERSION_TAG",
    "AssetCheckEvaluationTargetMaterializationData",
    "AssetCheckExecutionRecord",
    "AssetCheckExecutionRecordStatus",
    "PartitionKeyFilter",
    "UnresolvedAssetJobDefinition",
    "is_executing",
    "make_new_run_id",
    "report_evaluation",
    "run_for_location",
]


def report_evaluation(instance: dg.DagsterInstance, evaluation: dg.AssetCheckEvaluation, run_id: str) -> None:
    """Stores the evaluation of a check that no run has made.

    Args:
        instance: Where it is stored.
        evaluation: The evaluation.
        run_id: Tells evaluations of one partition and check apart; of no run.
    """
    event = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_CHECK_EVALUATION.value,
        job_name="feature-store",
        event_specific_data=evaluation,
    )
    instance.report_dagster_event(event, run_id)


def is_executing(run: dg.DagsterRun) -> bool | None:
    """Tells whether the process of a run of the default launcher lives; None where nobody knows."""
    if GRPC_INFO_TAG not in run.tags:
        return None
    from dagster._grpc.client import DagsterGrpcClient
    from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
    from dagster_shared.serdes import deserialize_value

    server = json.loads(run.tags[GRPC_INFO_TAG])
    if server.get("socket") and not Path(server["socket"]).exists():
        # Of another machine, perhaps, where it may well go on.
        return None
    client = DagsterGrpcClient(port=server.get("port"), socket=server.get("socket"), host=server.get("host"))
    try:
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=5)
    except DagsterUserCodeUnreachableError:
        return False
    return deserialize_value(answer, CanCancelExecutionResult).can_cancel


def run_for_location(
    defs: dg.Definitions,
    job_name: str,
    instance: dg.DagsterInstance,
    workspace: Path,
    *,
    run_config: Mapping[str, Any],
    tags: Mapping[str, str],
) -> dg.JobExecutionResult:
    """Runs a job in this process, as a run of the code location that a workspace file names first.

    `execute_in_process` leaves no trace of a code location, and the UI shows such runs in its list alone.

    Args:
        defs: What the code location holds.
        job_name: The job.
        instance: Where the run is recorded.
        workspace: The workspace file.
        run_config: Configuration of the run.
        tags: Tags of the run.
    """
    job = defs.resolve_job_def(job_name)
    location = location_origins_from_yaml_paths([str(workspace)])[0]
    repository = RemoteRepositoryOrigin(location, defs.get_repository_def().name)
    run = instance.create_run_for_job(
        job, run_config=run_config, tags=tags, remote_job_origin=repository.get_job_origin(job_name)
    )
    return execute_run(InMemoryJob(job), run, instance)
