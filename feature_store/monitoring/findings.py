"""What a check found, and what it says. Plain records, without judgement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "nulls",
    "infinite",
    "stuck",
    "scale",
    "mean",
    "distribution",
    "category",
    "embedding",
    "rows",
    "schema",
    "freshness",
    "online",
]
Level = Literal["warn", "alert"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: What kind of fault it looks like; a feature has at most one kind of drift in one partition.
        level: `alert` for what somebody should look at now, `warn` for what can wait.
        text: One sentence with the numbers.
        feature: The feature's column; None where it is about the whole partition.
    """

    kind: Kind
    level: Level
    text: str
    feature: str | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A histogram of one feature: its current values against the baseline.

    Attributes:
        feature: The feature's column.
        svg: The image.
    """

    feature: str
    svg: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The outcome of one check.

    Attributes:
        name: The check's name.
        passed: Whether it found nothing.
        summary: One sentence with the numbers.
        numbers: Numbers to plot, by name.
        findings: What is wrong, the gravest first.
        picture: The current values against the baseline, where there is something to be drawn.
        judged: Whether there was anything to go by. What is not judged passes, and says why.
    """

    name: str
    passed: bool
    summary: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    picture: Picture | None = None
    judged: bool = True

    @property
    def level(self) -> Level:
        """The gravest level of the findings; `warn` if there are none."""
        return "alert" if any(finding.level == "alert" for finding in self.findings) else "warn"
