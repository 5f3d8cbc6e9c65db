"""Findings: what a monitor saw, good or bad, about one thing. The only thing that it needs to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning"]

WHOLE = ""
"""Stands for the partition of what has none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen about one thing: a check of a feature group, a definition, a store.

    Attributes:
        key: What it is about; findings of one key are one incident. Such as `check/spending/null_rate`.
        title: What is wrong, in a few words: the same for each finding of the key.
        failed: Partitions that fail; `(WHOLE,)` for what has no partitions.
        passed: Partitions that are well.
        severity: `error` for what makes values wrong or missing, `warning` for what a person should look at.
        summary: What was measured, in a sentence or two.
        numbers: The measurements, by name.
        needs_all: Whether each failed partition has to pass before it is well; else a newer one that passes will do.
        group: Feature group or other asset.
        groups: The feature groups that one cause affects, where it is not one alone.
        features: The features that are affected, where it is not all of them.
        owner: Who answers for it.
        remedy: What to do, as a sentence.
        link: Path of the page that shows it, below the base URL.
        run_id: The run in which it was seen, empty for none.
    """

    key: str
    title: str
    failed: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    severity: Severity = "error"
    summary: str = ""
    numbers: Mapping[str, float | str] = field(default_factory=dict)
    needs_all: bool = False
    group: str = ""
    groups: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    owner: str = ""
    remedy: str = ""
    link: str = ""
    run_id: str = ""
