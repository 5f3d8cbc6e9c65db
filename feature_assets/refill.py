"""The job that fills the online store again from the offline store, by hand or as the cold-store sensor asks."""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from resources.feature_store import FeatureStoreResource

REFILL_JOB = "refill_online"
_OP = "push_online"


class RefillConfig(dg.Config):
    """What to push.

    Attributes:
        groups: Names of feature groups; empty for all that are registered.
    """

    groups: list[str] = Field(default_factory=list)


def refill_config(groups: Sequence[str]) -> dg.RunConfig:
    """Returns the configuration of a run that pushes some groups."""
    return dg.RunConfig(ops={_OP: RefillConfig(groups=list(groups))})


@dg.op(name=_OP, description="Writes the latest visible row of each entity to the online store; computes nothing.")
def push_online(context: dg.OpExecutionContext, config: RefillConfig, feature_store: FeatureStoreResource) -> None:
    """Pushes groups, and notes with each asset what was done."""
    with feature_store.open() as store:
        for name in config.groups or sorted(store.catalog().groups):
            report = store.push_online(name)
            context.log.info(f"{name}: {report.written:,} entities pushed online")
            metadata = {
                "refill/written": report.written,
                "refill/already_there": report.stale,
                "refill/expired": report.expired,
            }
            context.log_event(
                dg.AssetObservation(name, description="Filled again from the offline store.", metadata=metadata)
            )


@dg.job(name=REFILL_JOB, description="Fills the online store again from the offline store. Harmless at any time.")
def refill_online() -> None:
    """Pushes all groups, or those that the configuration names."""
    push_online()
