"""Plain records that the registry takes and gives, beside those of `feature_store.catalog`.

No connection and no SQL: whoever fills or reads one needs no SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from feature_store.definitions.names import FeatureRef


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What one `Registry.apply` did. Features are references, groups are names.

    Attributes:
        created: Features and groups that were not registered before.
        updated: Those whose description, owner, tags, default, time to live, look-back, code or feature list changed.
        unchanged: Those that were registered exactly so.
        changed_code: Registered groups whose transform or look-back is not the one that was last applied. What is
            stored was computed by the former code until it is materialized again.
    """

    created: tuple[FeatureRef | str, ...]
    updated: tuple[FeatureRef | str, ...]
    unchanged: tuple[FeatureRef | str, ...]
    changed_code: tuple[str, ...]


def lacking_features(group: str, refs: Iterable[FeatureRef]) -> str:
    """Returns what is wrong with a group whose schema lacks live features, and the remedy."""
    texts = [str(ref) for ref in refs]
    them, live = ("it", "is live") if len(texts) == 1 else ("them", "are live")
    commands = ", ".join(f"`feature-store retire {text}`" for text in texts)
    return (
        f"The schema of feature group {group!r} lacks {', '.join(texts)}, which {live}: keep {them} in the schema "
        f"(versions of a feature live side by side), or retire {them} first: {commands}."
    )


@dataclass(frozen=True, slots=True)
class TrainingSetRecord:
    """One version of a training set that was written.

    Attributes:
        name: Name of the training set.
        version: Its version, 1 or more.
        label_fingerprint: Digest of the label frame.
        features: The features, each with the version that was read.
        source_files: Files of the offline store that were read.
        row_count: Number of rows, one per label.
        baseline: Profile of each feature at the time of training, for drift. Plain JSON values; NaN becomes null.
        path: Folder of the version, below the offline store's root. It is no part of what a version is.
        created_at: When it was written. Naive is taken as UTC; the registry gives aware UTC.
    """

    name: str
    version: int
    label_fingerprint: str
    features: tuple[FeatureRef, ...]
    source_files: tuple[str, ...]
    row_count: int
    baseline: Mapping[str, Any]
    path: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TrainingBaseline:
    """What one feature looked like in a training set.

    Attributes:
        name: Name of the training set.
        version: Its version.
        profile: The feature's profile, see `monitoring.baseline.Profile`.
    """

    name: str
    version: int
    profile: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MonitorRecord:
    """One measurement of a feature's distribution.

    Attributes:
        feature_id: The registry's number of the feature.
        n: Number of values, nulls included.
        mean: Mean of the values that are not null; None where there is none (NaN is stored as None, here and below).
        stddev: Their standard deviation.
        null_rate: Share of nulls, 0 to 1.
        minimum: Least value.
        maximum: Greatest value.
        psi: Population stability index against the baseline.
        details: What else was measured. Plain JSON values.
        computed_at: When it was measured. Naive is taken as UTC; the registry gives aware UTC.
    """

    feature_id: int
    n: int
    computed_at: datetime
    mean: float | None = None
    stddev: float | None = None
    null_rate: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    psi: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IncidentRecord:
    """Something that went wrong, from when it was found until it was well again. `feature_store.alerts` has the rules.

    Attributes:
        key: What it is about, such as `check/spending/null_rate`.
        finding: What was last found. Plain JSON values.
        partitions: What is known to fail, in order; the empty text for what has no partitions.
        opened_at: When it was found. Instants are aware UTC.
        changed_at: When it last changed.
        resolved_at: When it was well again; None while it is open.
        notified_at: When people were last told; None while nobody was.
        pending: Which message is still to be delivered: `opened`, `reminder` or `recovered`; None for none.
        deliveries: What became of the message by channel. Plain JSON values.
        id: The registry's number of it; None before it is recorded.
    """

    key: str
    finding: Mapping[str, Any]
    partitions: tuple[str, ...]
    opened_at: datetime
    changed_at: datetime
    resolved_at: datetime | None = None
    notified_at: datetime | None = None
    pending: str | None = None
    deliveries: Mapping[str, Any] = field(default_factory=dict)
    id: int | None = None
