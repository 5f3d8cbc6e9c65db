"""EventStream: the Kafka topic that carries a source's events, and how its messages are read.

Only the declaration. Reading messages is the business of `streaming`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import msgspec

from feature_store.definitions.dtypes import TIMESTAMP, Dtype, dtype_of_annotation, without_none
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import EVENT_TIMESTAMP
from feature_store.definitions.source import Source
from feature_store.definitions.streamed_sources import note_identity
from feature_store.errors import DefinitionError
from feature_store.rows.forms import forms_of

if TYPE_CHECKING:
    import polars as pl

    from feature_store.definitions.group import FeatureGroup

_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,200}")

EpochUnit = Literal["s", "ms", "us"]
"""Unit of a time that is sent as a number since 1970-01-01T00:00:00Z."""


@dataclass(frozen=True, slots=True, eq=False)
class EventStream:
    """A topic that carries the events of a source, one message per event.

    Attributes:
        source: The source whose events these are: what the batch reads as files, the stream reads here.
        schema: A `msgspec.Struct` with one field per column: `event_timestamp: datetime`, and fields of type `str`,
            `int`, `float`, `bool`, `datetime`, `date`, `Decimal`, or `list[T]` or `dict[str, T]` of those, each
            `| None` where null is a value. Decimals have two digits after the point; `Annotated[Decimal,
            msgspec.Meta(extra={"scale": 4})]` has four. Fields that a message has
            beyond these are passed over; a field without a default that it lacks makes it a bad event.
        entity: The entity whose id is the key of each message, so that all events of an entity lie in one partition.
            None for a topic of a single partition.
        topic: Name of the topic; the source's name by default.
        payload: `json`, or `avro`: a zero byte, the schema version in four bytes, and the Avro record.
        versions: Schema versions that are understood. A JSON message tells its version in the header
            `schema-version`; one without the header is of the first of these.
        avro_schemas: Avro schema of each version, as it was written.
        identity: Columns that identify an event: of two that agree in all of these, and in their time, one counts, in
            the stream, where the second is a repeated delivery, and in the source's files alike. All columns by
            default: where equal events may be several, give them an id and name it here.
        allowed_lateness: How far behind the newest event of its partition an event may come. What comes later is a
            dead letter. The state holds this span and the look-back before it.
        most_ahead: How far an event may lie in the store's future.
        epoch: Unit of times that are sent as numbers since 1970: of all fields that are times, or by field. A time may
            still come as ISO text. None: times are ISO text alone.
        decode: Reads the value of a message, in place of `payload`: bytes in, a mapping or a `schema` object out. What
            it raises makes the message a dead letter, with the exception as the reason.
        key_format: How keys are written: `id`, the entity id as text; `json`, an object with the join keys or the bare
            value of a single one; or a function from bytes to a mapping.
        envelope: `debezium` where a message tells a change, with `before`, `after` and `op`: an update replaces the
            event of the same identity, a delete removes it. Needs `identity`.
        tombstones: What a message without a value is: `reject`, a dead letter; `withdraw`, the word that its entity
            is gone, upon which all rows of the entity are withdrawn; `ignore`, nothing.
    """

    source: Source
    schema: type[msgspec.Struct]
    entity: Entity | None = None
    topic: str = ""
    payload: Literal["json", "avro"] = "json"
    versions: tuple[int, ...] = (1,)
    avro_schemas: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    identity: tuple[str, ...] = ()
    allowed_lateness: timedelta = timedelta(hours=1)
    most_ahead: timedelta = timedelta(minutes=5)
    epoch: EpochUnit | Mapping[str, EpochUnit] | None = None
    decode: Callable[[bytes], Any] | None = None
    key_format: Literal["id", "json"] | Callable[[bytes], Mapping[str, Any]] = "id"
    envelope: Literal["debezium"] | None = None
    tombstones: Literal["reject", "withdraw", "ignore"] = "reject"

    def __post_init__(self) -> None:
        object.__setattr__(self, "topic", self.topic or self.source.name)
        if not _TOPIC.fullmatch(self.topic) or self.topic in {".", ".."}:
            raise DefinitionError(
                f"{self.topic!r} cannot name a topic: names are 1 to 200 letters, digits, '.', '_' and '-'."
            )
        if self.payload == "avro":
            object.__setattr__(self, "versions", tuple(sorted(self.avro_schemas)))
        if not self.versions:
            raise DefinitionError(f"Stream {self.topic!r} understands no schema version: name them.")
        columns = self.columns
        if EVENT_TIMESTAMP not in columns:
            raise DefinitionError(f"Stream {self.topic!r}: {self.schema.__name__} has no field {EVENT_TIMESTAMP!r}.")
        unknown = [column for column in self.identity if column not in columns]
        if unknown:
            raise DefinitionError(f"Stream {self.topic!r}: identity names {unknown}, fields are {list(columns)}.")
        wrong = {column: unit for column, unit in self.epochs.items() if unit not in get_args(EpochUnit)}
        if wrong or not self.epochs.keys() <= set(self._times()):
            raise DefinitionError(
                f"Stream {self.topic!r}: epoch={self.epoch!r}. It is 's', 'ms' or 'us', or such a unit by field, of "
                f"{self._times()}."
            )
        if self.envelope is not None and not self.identity:
            raise DefinitionError(
                f"Stream {self.topic!r} carries changes: declare identity=(...), the key of the table, by which an "
                "update and a delete find their event."
            )
        if self.tombstones == "withdraw" and self.entity is None:
            raise DefinitionError(
                f"Stream {self.topic!r}: a message without a value says by its key alone which entity is gone. Declare "
                "entity=..., or tombstones='reject'."
            )
        note_identity(self.source, self.entity, self.event_identity)

    def _times(self) -> list[str]:
        return [name for name, dtype in self.dtypes.items() if dtype == TIMESTAMP]

    @property
    def event_identity(self) -> tuple[str, ...]:
        """Columns in which two events agree that count as one, their time among them.

        Without it one pass over two days would count fewer events than a pass over each.
        """
        return tuple(dict.fromkeys([*(self.identity or self.columns), EVENT_TIMESTAMP]))

    @property
    def epochs(self) -> Mapping[str, EpochUnit]:
        """Unit of each field whose times may come as numbers."""
        if self.epoch is None or isinstance(self.epoch, Mapping):
            return self.epoch or {}
        return dict.fromkeys(self._times(), self.epoch)

    @property
    def name(self) -> str:
        """The topic's name."""
        return self.topic

    @property
    def columns(self) -> dict[str, pl.DataType]:
        """Columns of the events and their Polars types, in the order of the schema's fields.

        Raises:
            DefinitionError: If a field is of another type than those allowed.
        """
        import polars as pl

        return {column: forms_of(dtype).polars(pl) for column, dtype in self.dtypes.items()}

    @property
    def dtypes(self) -> dict[str, Dtype]:
        """Columns of the events and their dtypes, in the order of the schema's fields.

        Raises:
            DefinitionError: If a field is of another type than those allowed.
        """
        dtypes = {}
        for declared in msgspec.structs.fields(self.schema):
            kind, scale = without_none(declared.type), None
            if get_origin(kind) is Annotated:
                kind, *notes = get_args(kind)
                extra = [note.extra or {} for note in notes if isinstance(note, msgspec.Meta)]
                scale = next((each["scale"] for each in extra if "scale" in each), None)
            dtype = dtype_of_annotation(kind, scale=scale)
            if dtype is None:
                raise DefinitionError(
                    f"{self.schema.__name__}.{declared.name} is of type {declared.type}: use str, int, float, bool, "
                    "datetime, date, Decimal, list[T] or dict[str, T] of those, and `| None` where null is a value."
                )
            dtypes[declared.encode_name] = dtype
        return dtypes


def stream_of(group: FeatureGroup, streams: Iterable[EventStream]) -> EventStream:
    """Returns the stream that feeds a group: of its source, and keyed by its entity.

    Raises:
        DefinitionError: If there is none, or several, or its events lack a join key.
    """
    fitting = [
        stream
        for stream in streams
        if stream.source.name == group.source.name and (stream.entity is None or stream.entity == group.entity)
    ]
    keyed = [stream for stream in fitting if stream.entity is not None] or fitting
    if len(keyed) != 1:
        raise DefinitionError(
            f"Feature group {group.name!r} needs one EventStream of source {group.source.name!r} keyed by "
            f"{group.entity.name!r}, there are {len(keyed)}{': ' if keyed else ''}"
            f"{', '.join(stream.topic for stream in keyed)}. Declare EventStream(source=..., entity=...) beside it."
        )
    (stream,) = keyed
    absent = [key for key in group.entity.join_keys if key not in stream.columns]
    if absent:
        raise DefinitionError(
            f"The events of stream {stream.topic!r} have no field {', '.join(absent)}: feature group {group.name!r} "
            "needs its join keys in each event, for its state is kept by entity."
        )
    return stream


def streamed_groups(groups: Iterable[FeatureGroup], streams: Iterable[EventStream]) -> dict[str, EventStream]:
    """Returns the stream of each group that has one, by the group's name.

    Raises:
        DefinitionError: If a group has several, or the events of its stream lack a join key.
    """
    declared = list(streams)
    sources = {stream.source.name for stream in declared}
    return {group.name: stream_of(group, declared) for group in groups if group.source.name in sources}
