"""The leak guard: proves on a sample that a training set holds what was visible at each label's time, and no more.

It goes another way than what built the set: manifests as JSON, rows of the set and of the offline store as Arrow reads
them, and the rule of visibility in plain Python, row by row. It must not import a point-in-time engine, nor anything
that one is made of.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from operator import itemgetter
from typing import Any

import pyarrow as pa

from feature_store.storage.location import Location, storage_of
from feature_store.training_sets.leaks import (
    ALTERED,
    DIFFERENT,
    EXPIRED,
    FUTURE,
    MISSING,
    OUTDATED,
    TIE,
    Findings,
    Offender,
    Sample,
    grouped,
)
from feature_store.training_sets.raw_rows import (
    MICROS_PER_DAY,
    Observation,
    bits,
    date_of,
    date_of_micros,
    default_of,
    micros_of,
    moment,
    plain,
    rows_by_entity,
)
from feature_store.training_sets.window_guard import check_windows

SAMPLE_ROWS = 1000


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
    found = Findings()
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
        if any(feature.get("window") for feature in features.values()):
            check_windows(history, group, features, samples, changed_files, found)
        else:
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


def _partitions(version: Location, wanted: Collection[str] | None) -> list[dict[str, Any]]:
    manifests: list[Location] = sorted(version.glob("rows/partition=*/_manifest.json"), key=str)
    parts = [json.loads(path.read_text()) for path in manifests]
    return [part for part in parts if wanted is None or part["partition"] in wanted]


def _sample(
    version: Location, as_of: str, files: Mapping[str, int], *, rows: int, seed: int, stored: Mapping[str, Any]
) -> list[Sample]:
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
        times = micros_of(table.column(as_of))
        values = {name: plain(table.column(name)) for name in columns if name != as_of}
        for number, row in enumerate(inside):
            samples.append(Sample(path, row, times[number], {name: column[number] for name, column in values.items()}))
    return samples


def _check_group(  # a group, what is asked of it, and where to put what is found
    history: Files,
    group: str,
    features: Mapping[str, Any],
    samples: Sequence[Sample],
    changed_files: Collection[str],
    found: Findings,
) -> None:
    """Checks all sampled values of one group."""
    keys = next(iter(features.values()))["join_keys"]
    longest = max(int(feature["ttl_seconds"]) for feature in features.values()) * 1_000_000
    by_entity = grouped(samples, keys)
    defaults = {label: default_of(feature) for label, feature in features.items()}
    days = {day for sample in samples for day in (sample.time - longest, sample.time + MICROS_PER_DAY)}
    if not days:
        return
    columns = {feature["column"] for feature in features.values()}
    changed = sorted(date_of(path) for path in changed_files if path.split("/", 1)[0] == group)
    paths = history(group, date_of_micros(min(days)), date_of_micros(max(days)))
    seen = rows_by_entity(paths, keys, columns, by_entity)
    for entity, of_entity in by_entity.items():
        observations = sorted(seen[entity], key=itemgetter(0, 1, 2, 3))
        events = [observation.event for observation in observations]
        for sample in of_entity:
            for label, feature in features.items():
                ttl = int(feature["ttl_seconds"]) * 1_000_000
                if any(date_of_micros(sample.time - ttl) <= day <= date_of_micros(sample.time) for day in changed):
                    found.skipped += 1
                    continue
                found.checked += 1
                latest = bisect_right(events, sample.time) - 1
                expected = _visible(observations, latest, sample.time, feature["column"], ttl)
                value = sample.values[label]
                expected = defaults[label] if expected is None else expected
                if bits(value) == bits(expected):
                    continue
                kind, event = _explain(observations, latest, value, feature["column"])
                found.add(
                    Offender(
                        kind=kind,
                        file=sample.file,
                        row=sample.row,
                        feature=label,
                        label_time=moment(sample.time),
                        keys=dict(zip(keys, entity, strict=True)),
                        found=value,
                        expected=expected,
                        event_time=None if event is None else moment(event),
                    )
                )


def _visible(observations: Sequence[Observation], latest: int, time: int, column: str, ttl: int) -> Any:
    """The rule: the latest row at or before the time decides, null and expired alike; nothing stands in for it."""
    if latest < 0 or time >= observations[latest].event + ttl:
        return None
    return observations[latest].value(column)


def _explain(observations: Sequence[Observation], latest: int, value: Any, column: str) -> tuple[str, int | None]:
    """Says where a wrong value may come from: of the rows that hold it, the one nearest to the label's time."""
    if value is None:
        return MISSING, None
    wanted = bits(value)
    for position in range(latest, -1, -1):
        observation = observations[position]
        if bits(observation.value(column)) == wanted:
            if position == latest:
                return EXPIRED, observation.event
            return (TIE if observation.event == observations[latest].event else OUTDATED), observation.event
    for observation in observations[latest + 1 :]:
        if bits(observation.value(column)) == wanted:
            return FUTURE, observation.event
    return DIFFERENT, None
