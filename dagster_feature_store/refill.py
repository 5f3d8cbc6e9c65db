"""The job that fills the online store again from the offline store, by hand or as the cold-store sensor asks."""

from collections.abc import Callable, Sequence

import dagster as dg
from pydantic import Field

from dagster_feature_store.naming import DEFAULT_NAMES, Names

REFILL_JOB = "refill_online"
_OP = "push_online"


class RefillConfig(dg.Config):
    """What to push.

    Attributes:
        groups: Names of feature groups; empty for all that are registered.
    """

    groups: list[str] = Field(default_factory=list)


def refill_config(names: Names = DEFAULT_NAMES) -> Callable[[Sequence[str]], dg.RunConfig]:
    """Returns what makes the configuration of a run that pushes some groups."""

    def of(groups: Sequence[str]) -> dg.RunConfig:
        return dg.RunConfig(ops={names.of(_OP): RefillConfig(groups=list(groups))})

    return of


def refill_job(*, names: Names = DEFAULT_NAMES) -> dg.JobDefinition:
    """Returns the job that pushes all groups, or those that its configuration names."""

    @dg.op(
        name=names.of(_OP),
        description="Writes the latest visible row of each entity to the online store; computes nothing.",
        required_resource_keys={names.store_key},
    )
    def push_online(context: dg.OpExecutionContext, config: RefillConfig) -> None:
        with names.store(context).open() as store:
            for name in config.groups or sorted(store.catalog().groups):
                report = store.push_online(name)
                context.log.info(f"{name}: {report.written:,} entities pushed online")
                metadata = {
                    "refill/written": report.written,
                    "refill/already_there": report.stale,
                    "refill/expired": report.expired,
                }
                context.log_event(
                    dg.AssetObservation(
                        names.key(name), description="Filled again from the offline store.", metadata=metadata
                    )
                )

    @dg.job(
        name=names.of(REFILL_JOB),
        description="Fills the online store again from the offline store. Harmless at any time.",
        executor_def=dg.in_process_executor,
    )
    def refill_online() -> None:
        push_online()

    return refill_online
