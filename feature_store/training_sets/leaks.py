"""What can be wrong with the values of a training set, and what was found to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

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

OFFENDERS_SHOWN = 10


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


@dataclass(slots=True)
class Findings:
    """What was checked, and what is wrong.

    Attributes:
        checked: Values that were compared with the rule.
        skipped: Values that could not be.
        counts: Violations by kind.
        first: The first of them.
    """

    checked: int = 0
    skipped: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    first: list[Offender] = field(default_factory=list)

    def add(self, offender: Offender) -> None:
        """Takes note of a violation."""
        self.counts[offender.kind] += 1
        if len(self.first) < OFFENDERS_SHOWN:
            self.first.append(offender)


@dataclass(frozen=True, slots=True)
class Sample:
    """A row of the training set.

    Attributes:
        file: Its file, below the version's folder.
        row: Row number in the file, from 0.
        time: Its label time, microseconds since 1970.
        values: Its columns.
    """

    file: str
    row: int
    time: int
    values: Mapping[str, Any]


def grouped(samples: Sequence[Sample], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Sample]]:
    """Returns samples by the values of their join keys."""
    found: dict[tuple[Any, ...], list[Sample]] = {}
    for sample in samples:
        found.setdefault(tuple(sample.values[key] for key in keys), []).append(sample)
    return found
