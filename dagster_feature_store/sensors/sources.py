"""How sensors look at sources: at each by itself, so that one that fails or hangs keeps no other from being seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from feature_store.definitions.source import Source, fingerprints

if TYPE_CHECKING:
    from feature_store.reconcile.due import LandedDays

SECONDS = 20.0
"""A look ends after this time: what has not answered by then is reported, and not asked again before it has."""


@dataclass(slots=True)
class SourcesSeen:
    """What a look at sources has seen.

    Attributes:
        landed: The days that have landed, by the source's name.
        errors: Why others could not be looked at, by the source's name.
    """

    landed: dict[str, LandedDays] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "; ".join(f"Source {name!r} was not looked at: {error}" for name, error in sorted(self.errors.items()))


class SourceLooks:
    """Looks at sources, and keeps what it has seen as long as nothing changes there."""

    def __init__(self) -> None:
        self._kept: dict[str, LandedDays] = {}
        self._asked: dict[str, _Look] = {}
        self._lock = threading.Lock()

    def at(self, sources: Iterable[Source], seconds: float = SECONDS) -> SourcesSeen:
        """Returns what lies in some sources now.

        Args:
            sources: The sources; of those of one name the first counts.
            seconds: How long all of them together may take.
        """
        from feature_store.reconcile.due import LandedDays

        until = time.monotonic() + seconds
        seen = SourcesSeen()
        with self._lock:
            looks = {source.name: self._look(source) for source in reversed(list(sources))}
        for name, look in looks.items():
            look.thread.join(max(0.0, until - time.monotonic()))
            if look.thread.is_alive():
                seen.errors[name] = f"it has not answered for {time.monotonic() - look.began:.0f} s."
                continue
            with self._lock:
                if self._asked.get(name) is look:
                    del self._asked[name]
                if look.error is not None:
                    seen.errors[name] = f"{type(look.error).__name__}: {look.error}"
                    continue
                if name not in self._kept or self._kept[name].landed != look.found:
                    self._kept[name] = LandedDays(look.found)
                seen.landed[name] = self._kept[name]
        return seen

    def _look(self, source: Source) -> _Look:
        if source.name not in self._asked:
            self._asked[source.name] = _Look(source)
        return self._asked[source.name]


class _Look:
    def __init__(self, source: Source) -> None:
        self.found: dict[date, str] = {}
        self.error: Exception | None = None
        self.began = time.monotonic()
        self._source = source
        # A daemon: what hangs in a library keeps no process from ending.
        self.thread = threading.Thread(target=self._run, name=f"look at {source.name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.found = fingerprints(self._source, at_rest=True)
        except Exception as error:  # noqa: BLE001 - a source is the user's, or a library's, and may raise anything
            self.error = error
