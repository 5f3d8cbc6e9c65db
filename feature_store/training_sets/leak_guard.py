"""The leak guard: proves on a sample that a training set holds what was visible at each label's time, and no more.

It goes another way than what built the set: manifests as JSON, rows of the set and of the offline store as Arrow reads
them, and the rule of visibility in plain Python, row by row. It must not import a point-in-time engine, nor anything
that one is made of.
"""

from __future__ import annotations

import json
import math
import random
import struct
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.storage.location import Location, storage_of

FUTURE = "future"
EXPIRED = "expired"
OUTDATED = "outdated"
TIE = "tie"
MISSING = "missing"
DIFFERENT = "different"
ALTERED = "altered_file"

KINDS: Mapping[str, str] = {
    FUTURE: "the value of an event after the label's time",
    EXPIRED: "a value whose time to live was over",
    OUTDATED: "the value of an older row than the latest",
    TIE: "of rows with one event time, the value of one that loses",
    MISSING: "null where a value was visible",
    DIFFERENT: "a value that no row of the entity explains",
    ALTERED: "a file that is not what was written",
}
"""What can be wrong, with what it means."""

SAMPLE_ROWS = 1000
OFFENDERS_SHOWN = 10

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROS_PER_DAY = 86_400_000_000
_NEVER = -(2**63)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


@dataclass(frozen=True, slots=True)
class Offender:
    """One value of a training set that breaks the rule.

    Attributes:
        kind: What is wrong; see `KINDS`.
        file: The set's file, below the version's folder.
        row: Row number in the file, from 0.
        feature: The column; empty where a whole file is meant.
        label_time: The row's label time (UTC).
        keys: The row's join keys.
        found: The value in the training set.
        expected: The value that was visible.
        event_time: Event time (UTC) of the row that explains the value found, if there is one.
    """

    kind: str
    file: str
    row: int = 0
    feature: str = ""
    label_time: datetime | None = None
    keys: Mapping[str, Any] = field(default_factory=dict)
    found: Any = None
    expected: Any = None
    event_time: datetime | None = None

    def __str__(self) -> str:
        if self.kind == ALTERED:
            return f"{self.file}: {KINDS[ALTERED]}"
        event = f", its event is of {self.event_time.isoformat()}" if self.event_time else ""
        label = self.label_time.isoformat() if self.label_time else ""
        keys = " ".join(f"{key}={value!r}" for key, value in self.keys.items())
        return (
            f"{self.feature} of {keys} at {label} is {self.found!r}, {self.expected!r} was visible: "
            f"{KINDS[self.kind]}{event} ({self.file}, row {self.row})"
        )


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What the guard has found.

    Attributes:
        name: The training set.
        version: Its version.
        seed: Chose the sample.
        rows: Rows of the set, of the partitions that were looked at.
        rows_sampled: Rows that were checked.
        features: Stored features of the set; on-demand features are computed of values that it need not hold.
        values_checked: Their values that were compared with the rule.
        values_skipped: Their values that could not be: a file that they depend on has changed since the set was
            written.
        violations: Number of violations by kind; empty if there is none.
        offenders: The first of them.
    """

    name: str
    version: int
    seed: int
    rows: int
    rows_sampled: int
    features: int
    values_checked: int
    values_skipped: int
    violations: Mapping[str, int]
    offenders: Sequence[Offender]

    @property
    def passed(self) -> bool:
        """Whether nothing was wrong, and something was checked where there was something to check."""
        return not self.violations and (self.values_checked > 0 or not self.features)

    def summary(self) -> str:
        """Returns the outcome as one sentence."""
        sampled = f"{self.rows_sampled:,} of {self.rows:,} rows sampled (seed {self.seed})"
        skipped = f", {self.values_skipped:,} skipped (source files changed since)" if self.values_skipped else ""
        checked = f"{self.values_checked:,} values checked{skipped}"
        if self.violations:
            counts = ", ".join(f"{count:,} {kind}" for kind, count in self.violations.items())
            return f"{counts}; {checked}; {sampled}. First: {self.offenders[0]}."
        if not self.features:
            return f"All features are computed on demand: there is no stored value to check; {sampled}."
        if not self.values_checked:
            return f"Nothing could be checked; {checked}; {sampled}."
        return f"No leak: {checked}; {sampled}."


Files = Callable[[str, date, date], Sequence[Location]]
"""Gives the files of a group that belong to the store, of UTC days from one to another, by date and name."""


def check_leaks(
    history: Files,
    version: Location,
    *,
    rows: int = SAMPLE_ROWS,
    seed: int = 0,
    partitions: Collection[str] | None = None,
    changed_files: Collection[str] = (),
) -> LeakReport:
    """Compares sampled rows of a training set with the rule, from the raw files.

    Args:
        history: Lists the raw files.
        version: Folder of the version.
        rows: How many rows to sample; all of them if the set has fewer.
        seed: Chooses the rows.
        partitions: Only rows of these partitions; None for all.
        changed_files: Files below the root that have changed since the set was written: what depends on them is
            skipped.
    """
    manifest = json.loads((version / "manifest.json").read_text())
    parts = [manifest["part"]] if manifest["part"] else _partitions(version, partitions)
    stored = {label: manifest["stored"][label] for label in manifest["features"] if label in manifest["stored"]}
    files = {path: record for part in parts for path, record in part["files"].items()}
    found = _Findings()
    intact = {}
    for path, record in sorted(files.items()):
        if (version / path).is_file() and storage_of(version).digest(version / path) == record["sha256"]:
            intact[path] = int(record["rows"])
        else:
            found.add(Offender(ALTERED, path))
    samples = _sample(version, manifest["as_of"], intact, rows=rows, seed=seed, stored=stored)
    by_group: dict[str, dict[str, Any]] = defaultdict(dict)
    for label, feature in stored.items():
        by_group[feature["group"]][label] = feature
    for group, features in by_group.items():
        _check_group(history, group, features, samples, changed_files, found)
    return LeakReport(
        name=manifest["name"],
        version=manifest["version"],
        seed=seed,
        rows=sum(int(record["rows"]) for record in files.values()),
        rows_sampled=len(samples),
        features=len(stored),
        values_checked=found.checked,
        values_skipped=found.skipped,
        violations=dict(sorted(found.counts.items())),
        offenders=tuple(found.first),
    )


@dataclass(slots=True)
class _Findings:
    checked: int = 0
    skipped: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    first: list[Offender] = field(default_factory=list)

    def add(self, offender: Offender) -> None:
        self.counts[offender.kind] += 1
        if len(self.first) < OFFENDERS_SHOWN:
            self.first.append(offender)


@dataclass(frozen=True, slots=True)
class _Sample:
    """A row of the training set: where it lies, its label time in microseconds since 1970, and its columns."""

    file: str
    row: int
    time: int
    values: Mapping[str, Any]


class _Observation(NamedTuple):
    """A row of the offline store. Of two, the later in this order wins: event time, ingestion, file, place in it."""

    event: int
    ingested: int
    file: int
    position: int
    number: int
    columns: Mapping[str, Sequence[Any]]

    def value(self, column: str) -> Any:
        """Returns a value; null where the row is older than the feature."""
        values = self.columns.get(column)
        return None if values is None else values[self.number]


def _partitions(version: Location, wanted: Collection[str] | None) -> list[dict[str, Any]]:
    manifests: list[Location] = sorted(version.glob("rows/partition=*/_manifest.json"), key=str)
    parts = [json.loads(path.read_text()) for path in manifests]
    return [part for part in parts if wanted is None or part["partition"] in wanted]


def _sample(
    version: Location, as_of: str, files: Mapping[str, int], *, rows: int, seed: int, stored: Mapping[str, Any]
) -> list[_Sample]:
    total = sum(files.values())
    # S311: chance decides which rows are looked at, nothing is kept secret by it.
    chosen = sorted(random.Random(seed).sample(range(total), min(rows, total)))  # noqa: S311
    columns = list(dict.fromkeys([as_of, *stored, *(key for each in stored.values() for key in each["join_keys"])]))
    samples = []
    start = 0
    for path, height in files.items():
        inside = [position - start for position in chosen if start <= position < start + height]
        start += height
        if not inside:
            continue
        table = storage_of(version).parquet_file(version / path).read(columns=columns).take(pa.array(inside))
        times = _micros(table.column(as_of))
        values = {name: _plain(table.column(name)) for name in columns if name != as_of}
        for number, row in enumerate(inside):
            samples.append(_Sample(path, row, times[number], {name: column[number] for name, column in values.items()}))
    return samples


def _check_group(  # a group, what is asked of it, and where to put what is found
    history: Files,
    group: str,
    features: Mapping[str, Any],
    samples: Sequence[_Sample],
    changed_files: Collection[str],
    found: _Findings,
) -> None:
    """Checks all sampled values of one group."""
    keys = next(iter(features.values()))["join_keys"]
    longest = max(int(feature["ttl_seconds"]) for feature in features.values()) * 1_000_000
    by_entity: dict[tuple[Any, ...], list[_Sample]] = defaultdict(list)
    for sample in samples:
        by_entity[tuple(sample.values[key] for key in keys)].append(sample)
    defaults = {label: _default(feature) for label, feature in features.items()}
    days = {day for sample in samples for day in (sample.time - longest, sample.time + _MICROS_PER_DAY)}
    if not days:
        return
    columns = {feature["column"] for feature in features.values()}
    seen: dict[tuple[Any, ...], list[_Observation]] = defaultdict(list)
    changed = sorted(_date_of(path) for path in changed_files if path.split("/", 1)[0] == group)
    for number, path in enumerate(history(group, _date(min(days)), _date(max(days)))):
        for entity, observation in _observations(path, number, keys, columns, by_entity):
            seen[entity].append(observation)
    for entity, of_entity in by_entity.items():
        observations = sorted(seen[entity], key=itemgetter(0, 1, 2, 3))
        events = [observation.event for observation in observations]
        for sample in of_entity:
            for label, feature in features.items():
                ttl = int(feature["ttl_seconds"]) * 1_000_000
                if any(_date(sample.time - ttl) <= day <= _date(sample.time) for day in changed):
                    found.skipped += 1
                    continue
                found.checked += 1
                latest = bisect_right(events, sample.time) - 1
                expected = _visible(observations, latest, sample.time, feature["column"], ttl)
                value = sample.values[label]
                expected = defaults[label] if expected is None else expected
                if _bits(value) == _bits(expected):
                    continue
                kind, event = _explain(observations, latest, value, feature["column"])
                found.add(
                    Offender(
                        kind=kind,
                        file=sample.file,
                        row=sample.row,
                        feature=label,
                        label_time=_moment(sample.time),
                        keys=dict(zip(keys, entity, strict=True)),
                        found=value,
                        expected=expected,
                        event_time=None if event is None else _moment(event),
                    )
                )


def _visible(observations: Sequence[_Observation], latest: int, time: int, column: str, ttl: int) -> Any:
    """The rule: the latest row at or before the time decides, null and expired alike; nothing stands in for it."""
    if latest < 0 or time >= observations[latest].event + ttl:
        return None
    return observations[latest].value(column)


def _explain(observations: Sequence[_Observation], latest: int, value: Any, column: str) -> tuple[str, int | None]:
    """Says where a wrong value may come from: of the rows that hold it, the one nearest to the label's time."""
    if value is None:
        return MISSING, None
    bits = _bits(value)
    for position in range(latest, -1, -1):
        observation = observations[position]
        if _bits(observation.value(column)) == bits:
            if position == latest:
                return EXPIRED, observation.event
            return (TIE if observation.event == observations[latest].event else OUTDATED), observation.event
    for observation in observations[latest + 1 :]:
        if _bits(observation.value(column)) == bits:
            return FUTURE, observation.event
    return DIFFERENT, None


def _observations(
    path: Location, number: int, keys: Sequence[str], columns: Collection[str], wanted: Collection[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], _Observation]]:
    """Yields the rows of a file whose entity is wanted; the file is given its number in the order of files."""
    with storage_of(path).parquet_file(path) as file:
        present = [column for column in columns if column in file.schema_arrow.names]
        table = file.read(columns=[*keys, EVENT_TIMESTAMP, INGESTED_AT, *present], use_threads=False)
    key_type = table.schema.field(keys[0]).type
    first_keys = pa.array([entity[0] for entity in wanted])
    if pa.types.is_date(key_type):  # as times, dates are microseconds here
        first_keys = pc.divide(first_keys, _MICROS_PER_DAY).cast(pa.int32())
    first_keys = first_keys.cast(key_type)
    rows = pc.indices_nonzero(pc.is_in(table.column(keys[0]), value_set=first_keys))
    table = table.take(rows)
    events = _micros(table.column(EVENT_TIMESTAMP))
    ingested = [_NEVER if time is None else time for time in _micros(table.column(INGESTED_AT))]
    values = {column: _plain(table.column(column)) for column in present}
    entities = zip(*(_plain(table.column(key)) for key in keys), strict=True)
    for row, (entity, position) in enumerate(zip(entities, rows.to_pylist(), strict=True)):
        # A row without a time is visible to nobody.
        if entity in wanted and events[row] is not None:
            yield entity, _Observation(events[row], ingested[row], number, position, row, values)


def _plain(column: Any) -> list[Any]:
    """Returns a column as Python values: times in microseconds, NaN as null, as the store knows it."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return _micros(column)
    values: list[Any] = column.to_pylist()
    if pa.types.is_nested(column.type):
        values = list(map(_inner_micros, values))
    return [None if _holds_nan(value) else value for value in values]


def _holds_nan(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_holds_nan, value))
    if isinstance(value, dict):
        return any(map(_holds_nan, value.values()))
    return isinstance(value, float) and math.isnan(value)


def _inner_micros(value: Any) -> Any:
    """Returns a value with the times inside of it in microseconds."""
    if isinstance(value, list):
        return list(map(_inner_micros, value))
    if isinstance(value, dict):
        return {key: _inner_micros(item) for key, item in value.items()}
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    return (value - _EPOCH.date()).days * _MICROS_PER_DAY if isinstance(value, date) else value


def _default(feature: Mapping[str, Any]) -> Any:
    """Returns what a feature of a manifest declares in place of null, as Arrow would read it from the set."""
    if feature.get("default") is None:
        return None
    dtype, value = feature["dtype"], json.loads(feature["default"])
    if dtype.startswith("map["):
        return [{"key": key, "value": _scalar(dtype[4:-1], item)} for key, item in value.items()]
    if dtype.startswith("list["):
        return [_scalar(dtype[5:-1], item) for item in value]
    return _scalar(dtype, value)


def _scalar(dtype: str, value: Any) -> Any:
    if dtype == "float":
        return float(value)
    if dtype in {"timestamp", "date"}:
        moment = datetime.fromisoformat(value)
        return (moment.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
    return Decimal(value) if dtype.startswith("decimal[") else value


def _micros(column: Any) -> list[Any]:
    """Returns times as microseconds since 1970 (UTC); what is finer is cut off."""
    if pa.types.is_date(column.type):
        return [
            None if day is None else day * _MICROS_PER_DAY
            for day in column.cast(pa.date32()).cast(pa.int32()).to_pylist()
        ]
    per_second = _PER_SECOND[column.type.unit]
    ticks = column.cast(pa.int64()).to_pylist()
    return [None if tick is None else tick * 1_000_000 // per_second for tick in ticks]


def _bits(value: Any) -> Any:
    """Returns what two values have in common if and only if they are the same to the bit."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, list):
        return tuple(_bits(element) for element in value)
    if isinstance(value, dict):
        return tuple((key, _bits(item)) for key, item in value.items())
    return type(value), value


def _date_of(path: str) -> date:
    return date.fromisoformat(path.split("/")[1].removeprefix("date="))


def _date(micros: int) -> date:
    return date(1970, 1, 1) + timedelta(days=min(max(micros // _MICROS_PER_DAY, -719_162), 2_932_896))


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
