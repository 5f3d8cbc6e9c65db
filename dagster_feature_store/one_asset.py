"""One asset with an op of any name.

`@dg.asset` names the op after the asset: a feature group called `context` or like a job of the project would not load.
`@dg.multi_asset` takes a name of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dagster as dg

from dagster_feature_store.metadata import owners
from dagster_feature_store.naming import Names

Compute = Callable[..., Any]


def one_asset(
    names: Names,
    name: str,
    *,
    description: str | None,
    group: str,
    owner: str,
    kinds: set[str],
    resources: Iterable[str],
    deps: Sequence[dg.AssetDep | dg.AssetKey] = (),
    check_specs: Sequence[dg.AssetCheckSpec] = (),
    tags: dict[str, str] | None = None,
    metadata: dict[str, Any] | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    code_version: str | None = None,
    automation_condition: dg.AutomationCondition[Any] | None = None,
    pool: str | None = None,
) -> Callable[[Compute], dg.AssetsDefinition]:
    """Returns a decorator that makes an asset, as `@dg.asset` does, and names its op behind the prefix.

    Args:
        names: What the objects of the code location are called.
        name: The asset's own name.
        description: Shown in the UI.
        group: Name of the asset group, without the prefix.
        owner: As the definition has it.
        kinds: Shown in the UI.
        resources: Keys of the resources that the function uses, by its context.
        deps: What is upstream.
        check_specs: Checks that the function yields.
        tags: Tags of the asset.
        metadata: Of the definition.
        partitions_def: None where there are no partitions. A run takes any range of them.
        code_version: Of what the function computes.
        automation_condition: When it is to be computed by itself.
        pool: Limits how many runs of it go on at once.
    """
    out = dg.AssetOut(
        key=names.key(name),
        description=description,
        group_name=names.of(group),
        owners=owners(owner),
        kinds=kinds,
        tags=tags,
        metadata=metadata,
        code_version=code_version,
        automation_condition=automation_condition,
    )
    return dg.multi_asset(
        name=names.of(name),
        outs={"result": out},
        deps=list(deps),
        check_specs=list(check_specs),
        partitions_def=partitions_def,
        backfill_policy=None if partitions_def is None else dg.BackfillPolicy.single_run(),
        required_resource_keys=set(resources),
        pool=pool,
    )
