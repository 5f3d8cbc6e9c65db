"""Feature groups: features computed by one function from one source for one entity."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from feature_store.clock import to_utc
from feature_store.definitions.entity import Entity
from feature_store.definitions.fingerprint import code_version, libraries_of
from feature_store.definitions.names import RESERVED_COLUMNS, RESERVED_GROUPS, check_name
from feature_store.definitions.rules import rules_version
from feature_store.definitions.schema import DEFAULT_TTL, FeatureSchema, FeatureSpec
from feature_store.definitions.source import Source
from feature_store.definitions.window_spec import OTHER_EVENTS, longest_life
from feature_store.definitions.windowed_group import InstantsOf, instants_of, rows_schema
from feature_store.errors import DefinitionError
from feature_store.partitions import Partitioning, Window

if TYPE_CHECKING:
    import polars as pl

Transform = Callable[["pl.LazyFrame"], "pl.LazyFrame"]
OnlineLayout = Literal["feature", "row", "window"]


@dataclass(frozen=True, slots=True)
class FeatureGroup:
    """Features of one entity, computed by one pure function from one source.

    Attributes:
        name: The group's name: its asset key, its folder, and a feature list in requests.
        entity: What the features describe.
        source: Where its events come from.
        schema: Declares the features.
        transform: Source events in, feature rows out, both Polars lazy frames. Rows carry the join keys,
            `event_timestamp` and one column per feature.
        lookback: A row at `t` may depend on events of its entity in `[t - lookback, t]` and on nothing else.
        owner: Who answers for it: an e-mail address or a team.
        description: What it is, for the catalog; the function's docstring.
        partitioning: UTC days or hours.
        start: Start of the first partition (aware UTC).
        end: End of the last partition, None while it goes on.
        default_ttl: Time to live of features that declare none.
        online_layout: `feature` (one key per feature) or `row` (one value per entity and group).
        min_rows: Rows below which a partition fails its row-count check.
        freshness: How old the newest event of the group may be before it counts as stale: the time that a partition
            covers, and what its source and its computation may take. None where nothing is promised.
        snapshot_every: Keep a snapshot of the latest row per entity at each multiple of this span, counted from
            `start`, in whole days; None for no snapshots.
        tags: Free key-value pairs for the catalog.
    """

    name: str
    entity: Entity
    source: Source
    schema: type[FeatureSchema]
    transform: Transform
    lookback: timedelta
    owner: str
    description: str
    partitioning: Partitioning
    start: datetime
    end: datetime | None = None
    default_ttl: timedelta = DEFAULT_TTL
    online_layout: OnlineLayout = "feature"
    min_rows: int = 1
    freshness: timedelta | None = None
    snapshot_every: timedelta | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name, "feature group")
        if self.name in RESERVED_GROUPS:
            raise DefinitionError(f"{self.name!r} is a name of the store itself and cannot name a feature group.")
        if self.lookback < timedelta(0):
            raise DefinitionError(f"Feature group {self.name!r}: lookback must not be negative, got {self.lookback}.")
        if self.freshness is not None and self.freshness < timedelta(seconds=1):
            raise DefinitionError(f"Feature group {self.name!r}: freshness is at least a second, got {self.freshness}.")
        if self.snapshot_every is not None and (
            self.snapshot_every < timedelta(days=1) or self.snapshot_every % timedelta(days=1)
        ):
            raise DefinitionError(
                f"Feature group {self.name!r}: snapshot_every is whole days, at least one, got {self.snapshot_every}."
            )
        if self.is_windowed:
            self._check_windowed()
        elif self.online_layout == "window" and not isinstance(self.transform, InstantsOf):
            raise DefinitionError(f"Feature group {self.name!r} declares no window: its layout is 'feature' or 'row'.")
        if not self.owner:
            raise DefinitionError(f"Feature group {self.name!r} has no owner: name a team or an e-mail address.")
        names = [spec.ref.name for spec in self.features]
        columns = [spec.ref.column for spec in self.features]
        if self.name in names:
            raise DefinitionError(f"Feature group {self.name!r} has a feature of the same name: rename one of them.")
        clash = sorted({*columns, *names} & set(self.entity.join_keys))
        if clash:
            raise DefinitionError(f"Feature group {self.name!r}: {clash} are join keys and cannot be features too.")

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """The features in the schema's order."""
        return self.schema.specs(self.default_ttl)

    @property
    def is_windowed(self) -> bool:
        """Whether its features are windows, folded by who reads from the events that it stores."""
        return any(spec.window is not None for spec in self.features)

    @property
    def rows(self) -> FeatureGroup:
        """The group as both stores keep it: its features are the columns of its rows, see `windowed_group`.

        It is the group itself where that is not windowed.
        """
        if not self.is_windowed:
            return self
        life = longest_life(spec.window for spec in self.features if spec.window is not None)
        return replace(
            self,
            # mypy takes the `__hash__` of instances for that of their class.
            schema=rows_schema(self.schema),  # type: ignore[arg-type]
            transform=instants_of(self.transform, self.schema, tuple(self.entity.join_keys)),  # type: ignore[arg-type]
            default_ttl=life,
            online_layout="window",
        )

    def _check_windowed(self) -> None:
        taken = {*self.entity.join_keys, *RESERVED_COLUMNS, OTHER_EVENTS}
        for column in (name for spec in self.features if spec.window for name in spec.window.inputs):
            if column in taken:
                raise DefinitionError(
                    f"Feature group {self.name!r}: a window reads the column {column!r}, whose name a join key or the "
                    "store has: give it another name in the group's function."
                )
        if self.lookback:
            raise DefinitionError(
                f"Feature group {self.name!r} declares windows and a lookback: its function gives the events one by "
                "one, and its windows look back. Leave lookback out."
            )
        if self.online_layout == "row":
            raise DefinitionError(
                f"Feature group {self.name!r} declares windows, which have an online layout of their own: leave "
                "online_layout out."
            )
        if self.snapshot_every is not None:
            raise DefinitionError(
                f"Feature group {self.name!r} declares windows: a snapshot of its latest rows is of no use to them. "
                "Leave snapshot_every out."
            )

    def snapshot_days(self, materialized: Sequence[Window]) -> list[date]:
        """Returns the UTC days at whose start a snapshot is due, given the partitions that are materialized.

        Raises:
            DefinitionError: If the group declares no snapshots.
        """
        if self.snapshot_every is None:
            raise DefinitionError(
                f"Feature group {self.name!r} keeps no snapshots: declare snapshot_every=timedelta(days=7), say."
            )
        if not materialized:
            return []
        last = materialized[-1].end
        due = int((last - self.start) / self.snapshot_every)
        return [(self.start + number * self.snapshot_every).date() for number in range(1, due + 1)]

    @property
    def code_version(self) -> str:
        """A digest of the transform, the look-back and the schema's rules: changes when the computation may have.

        Raises:
            DefinitionError: If the transform uses something whose changes could not be seen.
        """
        if self.is_windowed:
            return self.rows.code_version
        with self._named():
            return code_version(self.transform, self.lookback, rules_version(self.schema))

    @property
    def libraries(self) -> dict[str, str]:
        """The distributions that the transform uses, each with its version; no part of the code version."""
        with self._named():
            return libraries_of(self.transform)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except DefinitionError as error:
            raise DefinitionError(f"Feature group {self.name!r}: {error}") from None


def feature_group(
    *,
    entity: Entity,
    source: Source,
    schema: type[FeatureSchema],
    owner: str,
    start: datetime | None = None,
    end: datetime | None = None,
    lookback: timedelta = timedelta(0),
    partitioning: Partitioning = Partitioning.DAILY,
    ttl: timedelta = DEFAULT_TTL,
    online_layout: OnlineLayout = "feature",
    min_rows: int = 1,
    freshness: timedelta | None = None,
    snapshot_every: timedelta | None = None,
    tags: Mapping[str, str] | None = None,
    name: str | None = None,
) -> Callable[[Transform], FeatureGroup]:
    """Makes a feature group of a function; see `FeatureGroup` for the arguments.

    The function's name is the group's name unless `name` is given, its docstring the description. `start`
    defaults to the start of the source, `ttl` is the time to live of features that declare none.
    """

    def decorate(transform: Transform) -> FeatureGroup:
        return FeatureGroup(
            name=name or transform.__name__,
            entity=entity,
            source=source,
            schema=schema,
            transform=transform,
            lookback=lookback,
            owner=owner,
            description=inspect.cleandoc(transform.__doc__ or ""),
            partitioning=partitioning,
            start=to_utc(start or source.start),
            end=to_utc(end) if end else None,
            default_ttl=ttl,
            online_layout=online_layout,
            min_rows=min_rows,
            freshness=freshness,
            snapshot_every=snapshot_every,
            tags=dict(tags or {}),
        )

    return decorate
