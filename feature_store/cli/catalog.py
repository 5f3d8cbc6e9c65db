"""Commands on the catalog: apply, list, show, retire."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from feature_store.cli.context import definitions_option, load, open_store
from feature_store.cli.output import examples, hint, print_json, print_properties, print_table, size

if TYPE_CHECKING:
    from feature_store.catalog import Catalog, Feature, RegisteredGroup
    from feature_store.definitions.entity import Entity
    from feature_store.definitions.window_spec import WindowSpec
    from feature_store.store import FeatureStore


@click.command(epilog=examples("feature-store apply --definitions feature_assets.flights"))
@definitions_option
def apply(definitions: str | None) -> None:
    """Register all feature groups.

    Those of the definitions module: all of them, or on any error none. Applying again changes nothing; a change that
    would break readers is refused, with the remedy.
    """
    groups = load(definitions).groups
    with open_store(definitions) as store:
        report = store.apply(list(groups.values()))
    outcomes = (
        ("created", report.created),
        ("updated", report.updated),
        ("unchanged", report.unchanged),
        ("changed code", report.changed_code),
    )
    print_table(
        ["outcome", "kind", "name"],
        [
            (outcome, "group" if isinstance(name, str) else "feature", str(name))
            for outcome, names in outcomes
            for name in names
        ],
    )
    for name in report.changed_code:
        hint(f"The code of {name} changed: its stored rows are the former code's until `feature-store materialize`.")


@click.command(name="list", epilog=examples("feature-store list --json"))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_registered(*, as_json: bool) -> None:
    """List registered groups and features."""
    with open_store() as store:
        catalog = store.catalog()
    groups = [catalog.groups[name] for name in sorted(catalog.groups)]
    if as_json:
        print_json({"groups": [_group_record(group) for group in groups]})
        return
    print_table(["group", "entity", "feature", "dtype", "ttl", "owner", "description"], _listing(groups))


def _listing(groups: list[RegisteredGroup]) -> Iterator[tuple[object, ...]]:
    for group in groups:
        if not group.features:
            yield group.name, group.entity.name, "no live feature", "", "", group.owner, _summary(group.description)
        for feature in group.features:
            ttl = feature.window.reach_text if feature.window else timedelta(seconds=feature.online_ttl_seconds)
            about = _summary(feature.description)
            yield group.name, feature.entity, str(feature.ref), str(feature.dtype), ttl, feature.owner, about


@click.command(epilog=examples("feature-store show plane_delays", "feature-store show seats:v1"))
@click.argument("name")
def show(name: str) -> None:
    """Show a feature, a group or an entity.

    All that is registered of it, and what is stored. A bare feature name shows its live versions, name:vN that version.
    """
    from feature_store.definitions.names import FeatureRef
    from feature_store.errors import UnknownFeatureError, did_you_mean

    bare, version = FeatureRef.parse(name)
    with open_store() as store:
        catalog = store.catalog()
        features = [
            feature
            for ref, feature in sorted(catalog.features.items())
            if ref.name == bare and version in {None, ref.version}
        ]
        group = catalog.groups.get(name)
        entities = {group.entity.name: group.entity for group in catalog.groups.values()}
        if not features and group is None and name not in entities:
            known = [*catalog.groups, *entities, *(ref.name for ref in catalog.features)]
            raise UnknownFeatureError(
                f"Nothing is registered as {name!r}: no feature, group or entity. {did_you_mean(bare, known)}"
            )
        if name in entities:
            _show_entity(entities[name], catalog)
        if group is not None:
            _show_group(group, store)
        for feature in features:
            _show_feature(feature, catalog)
        for feature_group in dict.fromkeys(feature.group for feature in features):
            _show_stored(catalog.group(feature_group), store)


def _show_entity(entity: Entity, catalog: Catalog) -> None:
    groups = [group for group in catalog.groups.values() if group.entity.name == entity.name]
    print_properties(
        "entity",
        [
            ("name", entity.name),
            ("description", entity.description),
            ("join keys", {column: str(dtype) for column, dtype in entity.key_dtypes.items()}),
            ("groups", ", ".join(sorted(group.name for group in groups))),
            ("features", ", ".join(str(feature.ref) for group in groups for feature in group.features)),
        ],
    )


def _show_group(group: RegisteredGroup, store: FeatureStore) -> None:
    print_properties(
        "group",
        [
            ("name", group.name),
            ("description", _summary(group.description)),
            ("owner", group.owner),
            ("entity", group.entity.name),
            ("join keys", ", ".join(group.entity.join_keys)),
            ("partitioning", group.partitioning),
            ("look-back", timedelta(seconds=group.lookback_seconds)),
            ("online layout", group.online_layout),
            ("code version", group.code_version),
            ("registered", group.created_at),
        ],
    )
    print_table(
        ["feature", "entity", "dtype", "ttl", "owner", "description"],
        [row[2:3] + row[1:2] + row[3:] for row in _listing([group])],
    )
    _show_stored(group, store)


def _show_feature(feature: Feature, catalog: Catalog) -> None:
    current = catalog.current(feature.ref.name) == feature
    print_properties(
        "feature",
        [
            ("name", str(feature.ref)),
            ("current version", current),
            ("description", feature.description),
            ("dtype", str(feature.dtype)),
            ("entity", feature.entity),
            ("group", feature.group),
            ("column", feature.ref.column),
            ("owner", feature.owner),
            *(_window(feature.window) if feature.window else [_time_to_live(feature)]),
            ("default", feature.default),
            ("tags", dict(feature.tags)),
            ("number", feature.id),
            ("registered", feature.created_at),
        ],
    )


def _time_to_live(feature: Feature) -> tuple[str, object]:
    return "time to live", timedelta(seconds=feature.online_ttl_seconds)


def _window(spec: WindowSpec) -> list[tuple[str, object]]:
    """Returns what a windowed feature is folded from."""
    details = [text for text in (spec.column, spec.size, spec.quantile, spec.unit) if text is not None]
    return [
        ("function", f"{spec.function}({', '.join(map(str, details))})"),
        ("by", spec.category or ""),
        ("where", "some events only" if spec.condition else "all events"),
        ("window", spec.reach_text),
        ("hop", "none" if spec.hop is None else timedelta(microseconds=spec.hop)),
    ]


def _show_stored(group: RegisteredGroup, store: FeatureStore) -> None:
    import polars as pl

    from feature_store.offline.footers import metadata_of
    from feature_store.partitions import Partitioning

    files = store.offline.files(group.name)
    partitions = [Partitioning(group.partitioning).key(window.start) for window in store.offline.materialized(group)]
    facts: list[tuple[str, object]] = [
        ("group", group.name),
        ("files", len(files)),
        ("bytes", size(sum(file.size for file in files))),
        ("partitions", len(partitions)),
    ]
    if partitions:
        facts += [("first partition", partitions[0]), ("last partition", partitions[-1])]
    if files:
        newest = max(files, key=lambda file: file.modified_ns)
        written = metadata_of(newest)
        facts += [
            ("rows", store.offline.collect(group, lambda rows: rows.select(pl.len())).item()),
            ("last written file", str(newest.path)),
            *((f"its {key.replace('_', ' ')}", written[key]) for key in sorted(written)),
        ]
    print_properties("stored", facts)


@click.command(epilog=examples("feature-store retire late_share:v1"))
@click.argument("reference", metavar="NAME:vN")
@click.option("--yes", is_flag=True, help="Do not ask.")
def retire(reference: str, *, yes: bool) -> None:
    """Retire one version of a feature.

    For good: it is no longer computed or served. Its online keys expire by themselves; its stored history stays.
    """
    from feature_store.definitions.names import FeatureRef

    name, version = FeatureRef.parse(reference)
    if version is None:
        raise click.UsageError(f"{name!r} names no version: write {name}:v1, or which one is to be retired.")
    if not yes:
        click.confirm(f"Retire {reference} for good?", abort=True, err=True)
    with open_store() as store:
        store.retire(FeatureRef(name, version))
    click.echo(f"{reference} is retired.")


def _group_record(group: RegisteredGroup) -> dict[str, Any]:
    return {
        "name": group.name,
        "description": group.description,
        "owner": group.owner,
        "entity": group.entity.name,
        "join_keys": {column: str(dtype) for column, dtype in group.entity.key_dtypes.items()},
        "partitioning": group.partitioning,
        "lookback_seconds": group.lookback_seconds,
        "online_layout": group.online_layout,
        "code_version": group.code_version,
        "created_at": group.created_at,
        "features": [
            {
                "name": feature.ref.name,
                "version": feature.ref.version,
                "dtype": str(feature.dtype),
                "description": feature.description,
                "owner": feature.owner,
                "online_ttl_seconds": feature.online_ttl_seconds,
                "default": feature.default,
                "tags": dict(feature.tags),
                "created_at": feature.created_at,
            }
            for feature in group.features
        ],
    }


def _summary(text: str) -> str:
    return text.partition("\n")[0]
