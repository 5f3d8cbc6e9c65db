"""What the server serves: the store's read path, and the definitions.

The catalog is looked at in the background, so that no request waits for the registry; while the registry does not
answer, what is known serves on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from feature_store.catalog import Catalog
from feature_store.definitions.feature_service import FeatureService
from feature_store.errors import FeatureStoreError, RegistryUnreachableError, UnknownFeatureError, did_you_mean
from feature_store.resolution import Resolution, resolve_with
from feature_store.serving.probes import on_own_thread
from feature_store.store import FeatureStore

if TYPE_CHECKING:
    # What it holds needs Polars and pandera: a server without definitions does without them.
    from feature_store.definitions.loading import LoadedDefinitions
    from feature_store.definitions.on_demand import OnDemandFeatures
    from feature_store.online.reading.coalescing import ReadObserver

START_SECONDS = 10.0
"""How long a server that starts waits for the registry."""


class Served:
    """The feature store behind the server.

    Args:
        store: The feature store.
        definitions: Its on-demand features, feature services, and the groups that may be pushed to; None for none.
        observer: Is told of every read of the online store; None for nobody.

    Attributes:
        reads: Answers requests.

    Raises:
        RegistryError: If the registry refuses, or does not answer and the online store holds no catalog.
    """

    def __init__(
        self, store: FeatureStore, definitions: LoadedDefinitions | None, observer: ReadObserver | None = None
    ) -> None:
        self.store = store
        self.definitions = definitions
        self.reads = store.online_reads.for_transport(
            lambda catalog, features: self.resolution(features, catalog), observer
        )
        self._looked_at = float("-inf")
        # Writes go by it as well: whatever a request needs of the registry is known here.
        store.current_catalog.follow(lambda: self.catalog)
        self._begin()

    @property
    def catalog(self) -> Catalog:
        """The catalog that reads go by."""
        return self.reads.catalog()

    def refresh(self) -> None:
        """Looks at the catalog again, in the online store and in the registry.

        Raises:
            RegistryError: If the registry does not answer; what is published is followed all the same.
        """
        self.reads.followed.refresh()
        self._looked_at = time.monotonic()

    def _begin(self) -> None:
        """Looks for the first time; a published catalog is enough where the registry does not answer."""
        try:
            on_own_thread(self.refresh).result(START_SECONDS)
        except (TimeoutError, RegistryUnreachableError) as error:
            if self.reads.followed.due() is None:
                raise RegistryUnreachableError(
                    f"{str(error) or f'The registry has not answered within {START_SECONDS:g} s.'} The online store "
                    "holds no catalog either: to start, the server needs one of the two."
                ) from None

    def age(self) -> float:
        """Returns the seconds since the catalog was last looked at, and the registry answered."""
        return time.monotonic() - self._looked_at

    @property
    def services(self) -> Mapping[str, FeatureService]:
        """The feature services, by name."""
        return self.definitions.services if self.definitions else {}

    def features_of(self, service: str) -> tuple[str, ...]:
        """Returns the features of a feature service.

        Raises:
            UnknownFeatureError: If there is none of that name.
        """
        found = self.services.get(service)
        if found is None:
            known = did_you_mean(service, self.services) if self.services else "This server has no feature services."
            raise UnknownFeatureError(f"Feature service {service!r} is not defined. {known}")
        return tuple(found.features)

    def promote(self) -> None:
        """Brings rows of all groups online whose time has come.

        Raises:
            OnlineStoreError: If the online store does not answer.
        """
        for group in self.catalog.groups.values():
            self.store.online.pending.promote(group)

    def warm_up(self) -> list[FeatureStoreError]:
        """Connects to the online store and checks all on-demand features, before the first request needs them.

        Returns:
            What is wrong with some of it; all else can be served.
        """
        errors: list[FeatureStoreError] = []
        try:
            self.store.online.ping()
        except FeatureStoreError as error:
            errors.append(error)
        if self.store.request_log is not None:
            self.store.request_log.warm_up()
        if self.definitions and self.definitions.on_demand:
            from feature_store.transform.on_demand import check_row_wise

            for functions in self.definitions.on_demand.values():
                try:
                    [computation] = self.resolution([functions.name]).computations
                    inputs = {column: selection.feature.dtype for column, selection in computation.inputs.items()}
                    check_row_wise(functions, {**inputs, **functions.request})
                except FeatureStoreError as error:
                    errors.append(error)
        return errors

    def resolution(self, features: Sequence[str], catalog: Catalog | None = None) -> Resolution:
        """Resolves features of any number of entities, by the catalog that reads go by if no other is given.

        Raises:
            InvalidRequestError: If the list is empty, or a reference malformed.
            UnknownFeatureError: If a feature is not known.
        """
        return resolve_with(catalog or self.catalog, features, self._on_demand if self.definitions else None)

    def _on_demand(self) -> Iterable[OnDemandFeatures]:
        return self.definitions.on_demand.values() if self.definitions else ()
