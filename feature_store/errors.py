"""Every error this library raises on purpose.

Each says three things: what is wrong, the offending value, and the remedy. Errors of other libraries
are wrapped where they cross our boundary. Nothing but exception classes and the one helper that
suggests names belongs here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST_NAME = 200


class FeatureStoreError(Exception):
    """Base of all errors of the feature store. Catch this to catch them all."""


class DefinitionError(FeatureStoreError):
    """A definition (entity, schema, group, training set) is malformed, found when it is declared."""


class UnknownFeatureError(FeatureStoreError):
    """A feature, group, entity or training set that is not registered was asked for."""


class RegistryConflictError(FeatureStoreError):
    """A definition contradicts what is registered under the same name and version."""


class RegistryError(FeatureStoreError):
    """The registry did not answer, refused, or holds no tables that this version of the library can use."""


class NeverAppliedError(RegistryError):
    """The registry is new: nothing has been applied yet."""


class RegistryUnreachableError(RegistryError):
    """The registry did not answer, or stayed locked: what was read of it before still holds."""


class InvalidRowsError(FeatureStoreError):
    """Feature rows violate their schema; nothing of the batch was written.

    Attributes:
        group: Name of the feature group.
        failures: One line per violated rule, with a count and first examples.
        partition: Key of the partition that was refused, where it is known.
    """

    def __init__(self, group: str, failures: list[str], remedy: str, partition: str | None = None) -> None:
        self.group = group
        self.failures = failures
        self.remedy = remedy
        self.partition = partition
        listing = "\n".join(f"  - {failure}" for failure in failures)
        where = f", partition {partition}," if partition else ""
        super().__init__(
            f"Rows of feature group {group!r}{where} were refused, nothing was written:\n{listing}\n{remedy}"
        )

    def of_partition(self, key: str) -> InvalidRowsError:
        """Returns the error with the partition named."""
        return InvalidRowsError(self.group, self.failures, self.remedy, key)


class WindowOverflowError(InvalidRowsError):
    """What the events of a window come to is greater than its type can hold.

    The rows are what they were: those of a write are in the offline store, and not online.
    """

    def __init__(self, group: str, failures: list[str], remedy: str, partition: str | None = None) -> None:
        super().__init__(group, failures, remedy, partition)
        self.args = (
            f"Windows of feature group {group!r} hold more than their types can:\n"
            + "\n".join(f"  - {failure}" for failure in failures)
            + f"\n{remedy}",
        )


class TransformError(FeatureStoreError):
    """The function of a feature group raised.

    Attributes:
        group: Name of the feature group.
        reason: What it raised.
        partition: Key of the partition that it was computing, where it is known.
    """

    def __init__(self, group: str, reason: str, partition: str | None = None) -> None:
        self.group = group
        self.reason = reason
        self.partition = partition
        where = f", partition {partition}," if partition else ""
        super().__init__(
            f"The function of feature group {group!r}{where} raised {reason.rstrip('.')}. Nothing of it was written. "
            f"Correct the function or its events, then materialize again; `feature-store test {group}` tries it out."
        )

    def of_partition(self, key: str) -> TransformError:
        """Returns the error with the partition named."""
        return TransformError(self.group, self.reason, key)


class OvertakenError(FeatureStoreError):
    """A run found that its work had been done by one that read its source later: it wrote nothing of it."""


class InvalidRequestError(FeatureStoreError):
    """A read was asked for with arguments that cannot be answered: null keys, wrong lengths, wrong dtypes."""


class MissingSourceError(FeatureStoreError):
    """Source events that a computation needs have not landed."""


class InvalidSourceError(FeatureStoreError):
    """What lies in a source cannot be read as its events: a damaged file, or columns that do not fit together."""


class StorageError(FeatureStoreError):
    """The place where files lie did not answer, or refused; nothing half-written is there."""


class CorruptFileError(FeatureStoreError):
    """A file of the offline store cannot be read as what its place says it is."""


class TrainingSetChangedError(FeatureStoreError):
    """A training set cannot be rebuilt as it was: what it was made of has changed.

    Attributes:
        changes: What has changed, one sentence each.
    """

    def __init__(self, name: str, version: int, changes: list[str]) -> None:
        self.changes = changes
        listing = "\n".join(f"  - {change}" for change in changes)
        super().__init__(
            f"Training set {name!r} v{version} cannot be rebuilt, its inputs have changed:\n{listing}\n"
            "Restore them, or build a new version."
        )


class OnlineStoreError(FeatureStoreError):
    """The online store did not answer, or refused."""


class AlertError(FeatureStoreError):
    """A channel could not deliver an alert. It is logged and kept with the incident, and fails no run."""


class StreamError(FeatureStoreError):
    """A stream cannot go on: no broker, no topic, or events that the group cannot read."""


class DecodingOutageError(FeatureStoreError):
    """What reads messages lacks something that is away, a schema registry, say: the stream waits, and tries again."""


class SettingsError(FeatureStoreError):
    """A setting is missing or malformed."""


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Returns a sentence that names the closest candidates, for the end of an error message."""
    known = sorted(set(candidates))
    if not known:
        return "Nothing is registered yet: run `feature-store apply`."
    # To compare costs the product of both lengths, and what is longer than any name resembles none.
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) if len(name) <= _LONGEST_NAME else []
    if close:
        return f"Did you mean {', '.join(close)}?"
    shown = ", ".join(known[:12])
    more = f", and {len(known) - 12} more" if len(known) > 12 else ""  # noqa: PLR2004
    return f"Known names: {shown}{more}."
