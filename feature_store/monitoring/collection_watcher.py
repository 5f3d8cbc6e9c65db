"""Lists and maps of one feature: their lengths as numbers, and their elements, each by the watcher of its kind."""

from __future__ import annotations

from dataclasses import replace

from feature_store.monitoring.profile import FeatureProfile
from feature_store.monitoring.watching import Seen, Watcher


class CollectionWatcher:
    """Judges one feature's partitions, one after the other; see `monitoring.watching`.

    Args:
        lengths: Judges the lengths; None where the baseline has too few.
        elements: Judges the elements of all lists together, likewise.
    """

    def __init__(self, lengths: Watcher | None, elements: Watcher | None) -> None:
        self._lengths = lengths
        self._elements = elements

    def see(self, profile: FeatureProfile, entities: int, followers: int) -> Seen:
        """Judges the next partition, and learns from it unless something is wrong with it."""
        seen = Seen() if self._lengths is None else self._lengths.see(profile, entities, followers)
        if self._elements is None or profile.elements is None:
            return seen
        elements = self._elements.see(profile.elements, entities, 0)
        finding = seen.finding
        if finding is None and elements.finding is not None:
            finding = replace(elements.finding, text=f"the elements of {elements.finding.text}")
        numbers = {f"element_{name}": value for name, value in elements.numbers.items()}
        return Seen(finding, {**seen.numbers, **numbers}, seen.current)

    def skip(self) -> None:
        """Passes over a partition that does not exist, or has too few values."""
        for each in (self._lengths, self._elements):
            if each is not None:
                each.skip()
