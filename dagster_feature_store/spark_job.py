"""The job that Dagster launches on Spark: `python -m dagster_feature_store.spark_job`, or this file by `spark-submit`.

It runs where Spark's driver does, and needs the library, the definitions and dagster-pipes, but not Dagster. It reports
each pass as a message of its own: Pipes' reports of materializations cannot name the partitions of a range.
"""

from contextlib import suppress
from typing import Any

import msgspec
from dagster_pipes import (
    PipesCliArgsParamsLoader,
    PipesContext,
    PipesDefaultContextLoader,
    PipesDefaultMessageWriter,
    PipesEnvVarParamsLoader,
    PipesParamsLoader,
    PipesS3ContextLoader,
    PipesS3MessageWriter,
    open_dagster_pipes,
)

from feature_store.definitions.loading import load_definitions
from feature_store.errors import InvalidRowsError
from feature_store.spark.reports import PassReport
from feature_store.store import FeatureStore

_MESSAGE_SECONDS = 2


def main() -> None:
    """Materializes the partitions that the launching run names.

    Extras: `module` and `group` (where the group is defined), `first` and `last` (keys of partitions).
    """
    with _pipes() as pipes:
        extras = pipes.extras
        group = load_definitions(extras["module"]).group(extras["group"])
        span = group.partitioning.span(extras["first"], extras["last"])
        # Rejected rows are no failure of the job: the run that has launched it tells which check has failed.
        with FeatureStore.from_env() as store, suppress(InvalidRowsError):
            for done in store.writes.materialize_passes(group, span, run_id=pipes.run_id):
                rows = sum(partition.profile.rows for partition in done.partitions)
                keys = [*(partition.key for partition in done.partitions), *(failure.key for failure in done.failed)]
                pipes.log.info(
                    f"{group.name}: {min(keys)} to {max(keys)} on Spark, {rows:,} rows in {done.seconds:.1f} s, "
                    f"{done.online.written:,} entities pushed online, {len(done.failed)} partitions failed"
                )
                pipes.report_custom_message({"pass": msgspec.to_builtins(PassReport.of(done))})


def _pipes() -> PipesContext:
    """Opens Pipes by what the launcher has passed on: in the environment or as arguments, by files or through S3."""
    arguments = PipesCliArgsParamsLoader()  # type: ignore[no-untyped-call]
    params: PipesParamsLoader = arguments
    if not arguments.is_dagster_pipes_process():
        params = PipesEnvVarParamsLoader()  # type: ignore[no-untyped-call]
    by_s3: dict[str, Any] = {}
    if params.is_dagster_pipes_process():
        if "bucket" in params.load_context_params():
            by_s3["context_loader"] = PipesS3ContextLoader(_s3())
        if "bucket" in params.load_messages_params():
            by_s3["message_writer"] = PipesS3MessageWriter(_s3(), interval=_MESSAGE_SECONDS)
    return open_dagster_pipes(
        params_loader=params,
        **{"context_loader": PipesDefaultContextLoader(), "message_writer": PipesDefaultMessageWriter(), **by_s3},
    )


def _s3() -> Any:
    import boto3

    return boto3.client("s3")


if __name__ == "__main__":
    main()
