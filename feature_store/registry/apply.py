"""The rules of registering: what may be created, what may change, what is refused, and with which remedy.

Works on one connection inside the caller's transaction and lock. Opening those does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, bindparam, insert, select, update

from feature_store.definitions.entity import Entity
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.values import value_json
from feature_store.errors import DefinitionError, RegistryConflictError
from feature_store.registry import tables
from feature_store.registry.records import ApplyReport, lacking_features

if TYPE_CHECKING:
    from feature_store.definitions.group import FeatureGroup
    from feature_store.definitions.schema import FeatureSpec

Values = dict[str, Any]

_SECOND = timedelta(seconds=1)
_GROUP_FIXED = {"entity": "entity", "partitioning": "partitioning", "online_layout": "online layout"}
_GROUP_FREE = ("features", "owner", "description", "tags", "lookback_seconds", "code_version", "freshness_seconds")
_FEATURE_FIXED = {"dtype": "dtype", "entity_type": "entity", "group_name": "group", "window": "window"}
_FEATURE_FREE = ("description", "owner", "online_ttl_seconds", "default_value", "tags")


@dataclass(frozen=True, slots=True)
class _State:
    """Entities, groups and features as rows: those asked for, or those registered."""

    entities: Mapping[str, Values]
    groups: Mapping[str, Values]
    features: Mapping[FeatureRef, Values]


def register(connection: Connection, groups: Sequence[FeatureGroup], now: datetime) -> ApplyReport:
    """Registers groups, their entities and features.

    Args:
        connection: In a transaction that holds the write lock. The caller rolls it back on any error.
        groups: The definitions.
        now: The present, UTC: `created_at` and `updated_at` of what is written.

    Raises:
        DefinitionError: If a text, tag or time to live cannot be stored.
        RegistryConflictError: If the definitions contradict one another or what is registered; names every conflict.
    """
    conflicts: list[str] = []
    asked = _asked(groups, conflicts)
    known = _registered(connection)
    conflicts += _name_clashes(asked, known)
    conflicts += _entity_conflicts(asked, known)
    conflicts += _group_conflicts(asked, known)
    conflicts += _feature_conflicts(asked, known)
    conflicts += _lacking_features(asked, known)
    if len(conflicts) == 1:
        raise RegistryConflictError(f"{conflicts[0]} Nothing was registered.")
    if conflicts:
        listing = "\n".join(f"  - {conflict}" for conflict in conflicts)
        raise RegistryConflictError(f"{len(conflicts)} conflicts with the registry, nothing was registered:\n{listing}")
    return _write(connection, asked, known, now)


def _asked(groups: Sequence[FeatureGroup], conflicts: list[str]) -> _State:
    by_name: dict[str, FeatureGroup] = {}
    rows: dict[str, Values] = {}
    entities: dict[str, Values] = {}
    features: dict[FeatureRef, Values] = {}
    for group in groups:
        if group.name in by_name:
            if by_name[group.name] is not group:
                conflicts.append(f"Two feature groups are named {group.name!r}: rename one of them.")
            continue
        by_name[group.name] = group
        entity = _entity_values(group.entity)
        other = entities.setdefault(group.entity.name, entity)
        if other != entity:
            conflicts.append(
                f"Entity {group.entity.name!r} is declared twice with different join keys or descriptions "
                f"({_keys(other['join_keys'])}, and {_keys(entity['join_keys'])} in group {group.name!r}): "
                "declare it once and import it."
            )
        specs = group.features
        rows[group.name] = _group_values(group, specs)
        for position, spec in enumerate(specs):
            claimed = features.setdefault(spec.ref, _feature_values(group, spec, position))
            if claimed["group_name"] != group.name:
                conflicts.append(
                    f"Feature {spec.ref} is claimed by the groups {claimed['group_name']!r} and {group.name!r}: "
                    "rename the column in one of them."
                )
    return _State(entities, rows, features)


def _registered(connection: Connection) -> _State:
    def rows(table: Table[Any]) -> list[Values]:
        return [dict(row) for row in connection.execute(select(table)).mappings()]

    return _State(
        {row["name"]: row for row in rows(tables.entity)},
        {row["name"]: row for row in rows(tables.feature_group)},
        {FeatureRef(row["name"], row["version"]): row for row in rows(tables.feature)},
    )


def _name_clashes(asked: _State, known: _State) -> list[str]:
    clashes = sorted(
        (asked.groups.keys() | known.groups.keys()) & {ref.name for ref in (*asked.features, *known.features)}
    )
    return [
        f"{name!r} names both a feature group and a feature, and a request for it would mean either: "
        "rename the one that is new."
        for name in clashes
    ]


def _entity_conflicts(asked: _State, known: _State) -> list[str]:
    return [
        f"Entity {name!r} is registered with the join keys {_keys(row['join_keys'])}, asked was "
        f"{_keys(values['join_keys'])}. Names, order and types of join keys are part of every stored key and never "
        "change: declare an entity of another name."
        for name, values in asked.entities.items()
        if (row := known.entities.get(name)) and row["join_keys"] != values["join_keys"]
    ]


def _group_conflicts(asked: _State, known: _State) -> list[str]:
    return [
        f"Feature group {name!r} is registered with {_differences(row, values, _GROUP_FIXED)}. Its files and keys are "
        "laid out by it: restore it, or declare a group of another name with new versions of the features."
        for name, values in asked.groups.items()
        if (row := known.groups.get(name)) and any(row[key] != values[key] for key in _GROUP_FIXED)
    ]


def _feature_conflicts(asked: _State, known: _State) -> list[str]:
    conflicts = []
    for ref, values in asked.features.items():
        row = known.features.get(ref)
        if row is None:
            continue
        following = _following(ref.name, asked.features, known.features)
        remedy = f"rename the column to {following.column} to register version {following.version}."
        if row["retired_at"] is not None:
            conflicts.append(
                f"Feature {ref} was retired on {row['retired_at']:%Y-%m-%d} and group {values['group_name']!r} asks "
                f"for it again. A retired version never comes back: remove the column, or {remedy}"
            )
        elif any(row[key] != values[key] for key in _FEATURE_FIXED):
            conflicts.append(
                f"Feature {ref} is registered with {_differences(row, values, _FEATURE_FIXED)}. "
                f"A registered version never changes: {remedy}"
            )
    return conflicts


def _lacking_features(asked: _State, known: _State) -> list[str]:
    lacking: dict[str, list[FeatureRef]] = {}
    for ref, row in known.features.items():
        if row["group_name"] in asked.groups and row["retired_at"] is None and ref not in asked.features:
            lacking.setdefault(row["group_name"], []).append(ref)
    return [lacking_features(name, sorted(refs)) for name, refs in lacking.items()]


def _following(name: str, *refs: Iterable[FeatureRef]) -> FeatureRef:
    return FeatureRef(name, 1 + max(ref.version for some in refs for ref in some if ref.name == name))


def _differences(row: Values, values: Values, columns: Mapping[str, str]) -> str:
    return " and ".join(
        f"{label} {row[key]!r}, asked was {values[key]!r}" for key, label in columns.items() if row[key] != values[key]
    )


def _write(connection: Connection, asked: _State, known: _State, now: datetime) -> ApplyReport:
    outcome: dict[str, list[FeatureRef | str]] = {"created": [], "updated": [], "unchanged": []}
    _write_entities(connection, asked, known, now)

    new_groups, changed_groups = [], []
    for name, values in asked.groups.items():
        row = known.groups.get(name)
        if row is None:
            new_groups.append({**values, "created_at": now, "updated_at": now})
        elif changed := any(row[key] != values[key] for key in _GROUP_FREE):
            changed_groups.append({**values, "updated_at": now})
        outcome["created" if row is None else "updated" if changed else "unchanged"].append(name)
    _insert(connection, tables.feature_group, new_groups)
    _update(connection, tables.feature_group, changed_groups, key="name", columns=(*_GROUP_FREE, "updated_at"))

    new_features, changed_features = [], []
    for ref, values in asked.features.items():
        row = known.features.get(ref)
        if row is None:
            new_features.append({**values, "created_at": now})
            outcome["created"].append(ref)
            continue
        changed = any(row[key] != values[key] for key in _FEATURE_FREE)
        if changed or row["position"] != values["position"]:
            changed_features.append({**values, "id": row["id"]})
        # Another place in the schema changes the group's list of features, not the feature.
        outcome["updated" if changed else "unchanged"].append(ref)
    _insert(connection, tables.feature, new_features)
    _update(connection, tables.feature, changed_features, key="id", columns=(*_FEATURE_FREE, "position"))

    return ApplyReport(
        created=tuple(outcome["created"]),
        updated=tuple(outcome["updated"]),
        unchanged=tuple(outcome["unchanged"]),
        changed_code=tuple(
            name
            for name, values in asked.groups.items()
            if name in known.groups and known.groups[name]["code_version"] != values["code_version"]
        ),
    )


def _write_entities(connection: Connection, asked: _State, known: _State, now: datetime) -> None:
    new = [{**values, "created_at": now} for name, values in asked.entities.items() if name not in known.entities]
    changed = [
        values
        for name, values in asked.entities.items()
        if name in known.entities and known.entities[name]["description"] != values["description"]
    ]
    _insert(connection, tables.entity, new)
    _update(connection, tables.entity, changed, key="name", columns=("description",))


def _insert(connection: Connection, table: Table[Any], rows: list[Values]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _update(connection: Connection, table: Table[Any], rows: list[Values], *, key: str, columns: Sequence[str]) -> None:
    if not rows:
        return
    # A bound name may not be that of a column that is set.
    statement = (
        update(table)
        .where(table.c[key] == bindparam("row_key"))
        .values({column: bindparam(f"new_{column}") for column in columns})
    )
    connection.execute(
        statement,
        [{"row_key": row[key], **{f"new_{column}": row[column] for column in columns}} for row in rows],
    )


def _entity_values(entity: Entity) -> Values:
    return {
        "name": entity.name,
        "join_keys": [[column, str(dtype)] for column, dtype in entity.key_dtypes.items()],
        "description": _text(entity.description, f"description of entity {entity.name!r}"),
    }


def _group_values(group: FeatureGroup, specs: Sequence[FeatureSpec]) -> Values:
    where = f"feature group {group.name!r}"
    return {
        "name": group.name,
        "entity": group.entity.name,
        "features": [str(spec.ref) for spec in specs],
        "owner": _text(group.owner, f"owner of {where}"),
        "description": _text(group.description, f"description of {where}"),
        "tags": _tags(group.tags, where),
        "online_layout": group.rows.online_layout,
        "partitioning": group.partitioning.value,
        # Rounded up: a look-back that is too short would lose events.
        "lookback_seconds": -(-group.lookback // _SECOND),
        "code_version": group.code_version,
        "freshness_seconds": None if group.freshness is None else group.freshness // _SECOND,
    }


def _feature_values(group: FeatureGroup, spec: FeatureSpec, position: int) -> Values:
    where = f"feature {spec.ref}"
    if spec.ttl % _SECOND:
        raise DefinitionError(f"Feature {spec.ref} has a time to live of {spec.ttl}: it must be whole seconds.")
    return {
        "name": spec.ref.name,
        "version": spec.ref.version,
        "entity_type": group.entity.name,
        "dtype": str(spec.dtype),
        "description": _text(spec.description, f"description of {where}"),
        "owner": group.owner,
        "online_ttl_seconds": spec.ttl // _SECOND,
        "default_value": None if spec.default is None else _text(value_json(spec.default), f"default of {where}"),
        "tags": _tags(spec.tags, where),
        "group_name": group.name,
        "window": None if spec.window is None else asdict(spec.window),
        "position": position,
    }


def _text(text: Any, where: str) -> str:
    # What one database refuses is refused on all: PostgreSQL stores no NUL, neither stores lone surrogates.
    if not isinstance(text, str) or "\0" in text or text.encode(errors="ignore").decode() != text:
        raise DefinitionError(f"The {where} cannot be stored: it must be Unicode text without NUL, got {text!r}.")
    return text


def _tags(tags: Mapping[str, str], where: str) -> dict[str, str]:
    return {_text(key, f"tag of {where}"): _text(value, f"tag {key!r} of {where}") for key, value in tags.items()}


def _keys(join_keys: Iterable[Sequence[str]]) -> str:
    return "(" + ", ".join(f"{column}: {dtype}" for column, dtype in join_keys) + ")"
