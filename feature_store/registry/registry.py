"""The registry: what is registered, who owns it, and what was trained and measured on it.

The only door to the SQL tables. Which changes are allowed is decided in `apply`, connections and locks in `database`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, cast

from sqlalchemy import func, insert, select, update

from feature_store.catalog import Catalog, Feature, RegisteredGroup
from feature_store.clock import Clock
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import FeatureRef, check_name
from feature_store.definitions.window_spec import WindowSpec
from feature_store.errors import InvalidRequestError, RegistryConflictError, UnknownFeatureError, did_you_mean
from feature_store.registry import tables
from feature_store.registry.apply import register
from feature_store.registry.database import Database, plain_json
from feature_store.registry.records import (
    ApplyReport,
    IncidentRecord,
    MonitorRecord,
    TrainingBaseline,
    TrainingSetRecord,
)

if TYPE_CHECKING:
    from feature_store.definitions.group import FeatureGroup

_KEY_TYPES: dict[str, type] = {"string": str, "int": int, "date": date}
_MEASURES = ("mean", "stddev", "null_rate", "minimum", "maximum", "psi")


class Registry:
    """The registry on SQLite or PostgreSQL. Safe to use from several threads and processes at once.

    Args:
        url: SQLAlchemy URL, `sqlite:///file` or `postgresql://...`. Nothing connects before the first call, and the
            parent folder of a SQLite file is made by the first write.
        clock: Tells `created_at`, `updated_at` and `retired_at`.

    Raises:
        SettingsError: If the URL is malformed, names another kind of database, or its driver is not installed.

    Every method raises `RegistryError` if the database does not answer, and every one but `migrate` and `apply` also
    if the registry has never been applied.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self._database = Database(url)
        self._clock = clock

    def __repr__(self) -> str:
        return f"Registry({self._database.place!r})"

    def migrate(self) -> None:
        """Creates the tables or brings them to the newest revision. Any number of processes may do it at once."""
        self._database.migrate()

    def apply(self, groups: Sequence[FeatureGroup]) -> ApplyReport:
        """Migrates, then registers groups with their entities and features: all of them, or on any error none.

        Descriptions, owners, tags, defaults, times to live and look-backs may change. A feature's dtype, entity and
        group, an entity's join keys, and a group's entity, partitioning and online layout may not.

        Raises:
            DefinitionError: If a text, tag or time to live cannot be stored.
            RegistryConflictError: If the groups contradict one another or what is registered, or a schema lacks a live
                feature.
        """
        self._database.migrate()
        with self._database.writing() as connection:
            return register(connection, groups, self._clock.now())

    def catalog(self) -> Catalog:
        """Returns all registered groups with their live features, in one query.

        A group's features are in its schema's order.
        """
        group, entity, feature = tables.feature_group.c, tables.entity.c, tables.feature.c
        statement = (
            select(
                group.name,
                entity.name,
                entity.join_keys,
                entity.description,
                group.owner,
                group.description,
                group.online_layout,
                group.partitioning,
                group.lookback_seconds,
                group.code_version,
                group.created_at,
                group.freshness_seconds,
                *(feature.id, feature.name, feature.version, feature.entity_type, feature.dtype, feature.description),
                *(feature.owner, feature.online_ttl_seconds, feature.tags, feature.group_name, feature.created_at),
                feature.window,
                feature.default_value,
            )
            .select_from(tables.feature_group)
            .join(tables.entity, entity.name == group.entity)
            .outerjoin(tables.feature, (feature.group_name == group.name) & feature.retired_at.is_(None))
            .order_by(feature.position, feature.id)
        )
        with self._database.reading() as connection:
            rows = connection.execute(statement).all()
        heads: dict[str, Sequence[Any]] = {}
        features: dict[str, list[Feature]] = {}
        for row in rows:
            heads.setdefault(row[0], row[:12])
            of_group = features.setdefault(row[0], [])
            if row[12] is not None:
                of_group.append(_feature(row[12:]))
        return Catalog.of(_group(head, features[name]) for name, head in sorted(heads.items()))

    def retire(self, ref: FeatureRef) -> None:
        """Retires a version of a feature: it leaves the catalog, for good. Retiring it again changes nothing.

        Raises:
            UnknownFeatureError: If it is not registered.
        """
        feature, group = tables.feature.c, tables.feature_group.c
        with self._database.writing() as connection:
            now = self._clock.now()
            found = connection.execute(
                select(feature.id, feature.group_name, feature.retired_at).where(
                    feature.name == ref.name, feature.version == ref.version
                )
            ).one_or_none()
            if found is None:
                names = [str(FeatureRef(*row)) for row in connection.execute(select(feature.name, feature.version))]
                raise UnknownFeatureError(f"Feature {ref} is not registered. {did_you_mean(str(ref), names)}")
            if found.retired_at is not None:
                return
            connection.execute(update(tables.feature).where(feature.id == found.id).values(retired_at=now))
            in_group = group.name == found.group_name
            listed = connection.scalars(select(group.features).where(in_group)).one()
            connection.execute(
                update(tables.feature_group)
                .where(in_group)
                .values(features=[text for text in listed if text != str(ref)], updated_at=now)
            )

    def record_training_set(self, record: TrainingSetRecord, *, is_open: bool = False) -> None:
        """Records a training set that was written. Recording the same again changes nothing.

        Args:
            record: The version.
            is_open: Whether partitions may be added to the version: then it takes the place of what was recorded.

        Raises:
            DefinitionError: If its name is not one.
            InvalidRequestError: If the version is below 1 or the record is not plain JSON.
            RegistryConflictError: If another set is recorded under this name and version.
        """
        check_name(record.name, "training set")
        where = f"training set {record.name!r} version {record.version}"
        if record.version < 1:
            raise InvalidRequestError(f"The {where} cannot be recorded: versions begin at 1.")
        content = {
            "label_fingerprint": record.label_fingerprint,
            "features": [str(ref) for ref in record.features],
            "source_files": list(record.source_files),
            "row_count": record.row_count,
            "baseline": record.baseline,
        }
        values: dict[str, Any] = _json(content, where)
        place = {"path": record.path}
        columns = tables.training_set.c
        with self._database.writing() as connection:
            same = (columns.name == record.name) & (columns.version == record.version)
            found = connection.execute(select(tables.training_set).where(same)).mappings().one_or_none()
            if found is None:
                connection.execute(
                    insert(tables.training_set),
                    {
                        "name": record.name,
                        "version": record.version,
                        **values,
                        **place,
                        "created_at": record.created_at,
                    },
                )
                return
            different = [] if is_open else [key for key, value in values.items() if found[key] != value]
            if not different:
                # Where a version lies is no part of what it is.
                connection.execute(update(tables.training_set).where(same).values({**values, **place}))
        if different:
            raise RegistryConflictError(
                f"The {where} is recorded with another {', '.join(different)}. A recorded version never changes: "
                "record this one under the next version."
            )

    def training_sets(self, name: str) -> list[TrainingSetRecord]:
        """Returns the recorded versions of a training set in order, none if there is none of that name."""
        columns = tables.training_set.c
        statement = select(tables.training_set).where(columns.name == name).order_by(columns.version)
        with self._database.reading() as connection:
            rows = connection.execute(statement).mappings().all()
        return [
            TrainingSetRecord(
                name=row["name"],
                version=row["version"],
                label_fingerprint=row["label_fingerprint"],
                features=tuple(_reference(text) for text in row["features"]),
                source_files=tuple(row["source_files"]),
                row_count=row["row_count"],
                baseline=row["baseline"],
                path=row["path"],
                created_at=row["created_at"],
            )
            for row in rows
        ]

    def newest_baselines(
        self, refs: Iterable[FeatureRef], suits: Callable[[FeatureRef, TrainingBaseline], bool]
    ) -> dict[FeatureRef, TrainingBaseline]:
        """Returns, per feature, its profile in the newest training set whose profile suits; others are left out.

        Args:
            refs: The features.
            suits: Tells whether a profile is good enough; asked from the newest training set on, until one is.
        """
        wanted = {str(ref): ref for ref in refs}
        columns = tables.training_set.c
        statement = select(columns.name, columns.version, columns.features, columns.baseline).order_by(
            columns.created_at.desc(), columns.id.desc()
        )
        found: dict[FeatureRef, TrainingBaseline] = {}
        with self._database.reading() as connection:
            for name, version, features, baseline in connection.execute(statement):
                for text in wanted.keys() & baseline.keys() & set(features):
                    known = TrainingBaseline(name, version, baseline[text])
                    if wanted[text] not in found and suits(wanted[text], known):
                        found[wanted[text]] = known
                if len(found) == len(wanted):
                    break
        return found

    def record_monitor(self, rows: Sequence[MonitorRecord]) -> None:
        """Records measurements of features: all of them, or on any error none.

        Raises:
            InvalidRequestError: If details are not plain JSON.
            UnknownFeatureError: If a feature's number is not registered.
        """
        values = [
            {
                "feature_id": row.feature_id,
                "n": row.n,
                **{name: _known(getattr(row, name)) for name in _MEASURES},
                "details": _json(row.details, f"details of feature {row.feature_id}"),
                "computed_at": row.computed_at,
            }
            for row in rows
        ]
        if not values:
            return
        with self._database.writing() as connection:
            missing = {row.feature_id for row in rows} - set(connection.scalars(select(tables.feature.c.id)))
            if missing:
                raise UnknownFeatureError(
                    f"No feature is registered under the number(s) {sorted(missing)}, nothing was recorded: "
                    "take `Feature.id` from the catalog of this registry."
                )
            connection.execute(insert(tables.feature_monitor), values)

    def monitors(self, feature_id: int, limit: int = 100) -> list[MonitorRecord]:
        """Returns the latest measurements of a feature, the newest first, none if there is none.

        Raises:
            InvalidRequestError: If `limit` is below 1.
        """
        if limit < 1:
            raise InvalidRequestError(f"limit={limit} asks for no measurement: ask for at least 1.")
        columns = tables.feature_monitor.c
        statement = (
            select(tables.feature_monitor)
            .where(columns.feature_id == feature_id)
            .order_by(columns.computed_at.desc(), columns.id.desc())
            .limit(limit)
        )
        with self._database.reading() as connection:
            rows = connection.execute(statement).mappings().all()
        return [MonitorRecord(**{key: value for key, value in row.items() if key != "id"}) for row in rows]

    def incidents(self, keys: Sequence[str] | None = None) -> dict[str, IncidentRecord]:
        """Returns the latest incident of each key, of all keys if None; keys that never had one are left out."""
        columns = tables.incident.c
        latest = select(func.max(columns.id)).group_by(columns.key)
        if keys is not None:
            latest = latest.where(columns.key.in_(list(keys)))
        statement = select(tables.incident).where(columns.id.in_(latest)).order_by(columns.id)
        with self._database.reading() as connection:
            rows = connection.execute(statement).mappings().all()
        return {row["key"]: _incident(dict(row)) for row in rows}

    def change_incident(
        self, key: str, change: Callable[[IncidentRecord | None], IncidentRecord | None]
    ) -> IncidentRecord | None:
        """Changes the latest incident of a key, or opens one, under the registry's write lock.

        Args:
            key: What it is about.
            change: Takes the latest incident of the key, None if there never was one. Returns how it shall be, without
                `id` to open another, or None to leave everything as it is.

        Returns:
            What `change` returned, with its number.

        Raises:
            InvalidRequestError: If the record is not plain JSON.
        """
        self._database.migrate()
        columns = tables.incident.c
        with self._database.writing() as connection:
            statement = select(tables.incident).where(columns.key == key).order_by(columns.id.desc()).limit(1)
            row = connection.execute(statement).mappings().one_or_none()
            record = change(None if row is None else _incident(dict(row)))
            if record is None:
                return None
            values = {
                "key": key,
                "finding": _json(record.finding, f"finding of incident {key!r}"),
                "partitions": list(record.partitions),
                "opened_at": record.opened_at,
                "changed_at": record.changed_at,
                "resolved_at": record.resolved_at,
                "notified_at": record.notified_at,
                "pending": record.pending,
                "deliveries": _json(record.deliveries, f"deliveries of incident {key!r}"),
            }
            if record.id is not None:
                connection.execute(update(tables.incident).where(columns.id == record.id).values(values))
                return record
            return replace(record, id=connection.scalar(insert(tables.incident).values(values).returning(columns.id)))

    def close(self) -> None:
        """Closes all connections. The registry may be used again; the next call opens new ones."""
        self._database.close()


def _feature(row: Sequence[Any]) -> Feature:
    number, name, version, entity, dtype, description, owner, ttl, tags, group, created_at, window, default = row
    return Feature(
        id=number,
        ref=FeatureRef(name, version),
        entity=entity,
        dtype=Dtype.parse(dtype),
        description=description,
        owner=owner,
        online_ttl_seconds=ttl,
        tags=tags,
        group=group,
        created_at=created_at,
        window=None if window is None else WindowSpec(**window),
        default_json=default,
    )


def _group(row: Sequence[Any], features: Sequence[Feature]) -> RegisteredGroup:
    name, entity, keys, about, owner, description, layout, partitioning, lookback, code_version, created_at, fresh = row
    return RegisteredGroup(
        name=name,
        entity=Entity(entity, {column: _KEY_TYPES[dtype] for column, dtype in keys}, about),
        features=tuple(features),
        owner=owner,
        description=description,
        online_layout=cast("Literal['feature', 'row', 'window']", layout),
        partitioning=cast("Literal['daily', 'hourly']", partitioning),
        lookback_seconds=lookback,
        code_version=code_version,
        created_at=created_at,
        freshness_seconds=fresh,
    )


def _incident(row: Mapping[str, Any]) -> IncidentRecord:
    return IncidentRecord(**{**row, "partitions": tuple(row["partitions"])})


def _reference(text: str) -> FeatureRef:
    name, version = FeatureRef.parse(text)
    return FeatureRef(name, version or 1)


def _known(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _json(value: Any, where: str) -> Any:
    try:
        return plain_json(value)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"The {where} cannot be stored as JSON: {error}. Use dicts, lists, texts, numbers, booleans and None."
        ) from None
