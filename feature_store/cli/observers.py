"""Tells others what a command has done. Who wants to know is an entry point of the group `feature_store.observers`.

The library knows none of them; `dagster_feature_store` is one: what the command line has computed, Dagster knows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from feature_store.cli.output import hint

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from feature_store.definitions.group import FeatureGroup
    from feature_store.definitions.training_set import TrainingSet
    from feature_store.store import FeatureStore
    from feature_store.training_sets.versions import WrittenTrainingSet
    from feature_store.transform.reports import MaterializationReport

GROUP = "feature_store.observers"


class Observer(Protocol):
    """Wants to know of work. Each method may return a sentence for the one who has started the command."""

    def materialized(self, store: FeatureStore, group: FeatureGroup, report: MaterializationReport) -> str | None:
        """Is told that partitions of a group were materialized."""

    def built(self, definition: TrainingSet, written: WrittenTrainingSet) -> str | None:
        """Is told that a training set was built."""


class Observers:
    """All observers that are installed and have somebody to tell."""

    def __init__(self) -> None:
        from importlib.metadata import entry_points

        found = [_heard(partial(_observer, point)) for point in entry_points(group=GROUP)]
        self._observers: list[Observer] = [observer for observer in found if observer is not None]

    def materialized(self, store: FeatureStore, group: FeatureGroup, report: MaterializationReport) -> None:
        """Tells that partitions were materialized."""
        for observer in self._observers:
            _say(_heard(partial(observer.materialized, store, group, report)))

    def built(self, definition: TrainingSet, written: WrittenTrainingSet) -> None:
        """Tells that a training set was built."""
        for observer in self._observers:
            _say(_heard(partial(observer.built, definition, written)))


def _observer(point: EntryPoint) -> Any:
    return point.load()()


def _heard(tell: Callable[[], Any]) -> Any:
    """Returns what an observer answers; None if it fails: the work goes on, whoever cannot be told of it."""
    try:
        return tell()
    except Exception as error:  # noqa: BLE001 - of code that is not ours
        reason = str(error).partition("\n")[0]
        hint(f"What is done here cannot be reported to others: {type(error).__name__}: {reason}")
        return None


def _say(sentence: str | None) -> None:
    if sentence:
        hint(sentence)
