"""`OnlineReads`: answers requests for online features, for every transport alike.

A request is resolved and prepared once, and remembered until the catalog changes. Then it is read, together with
others where an event loop has several, noted in the request log, and completed with what is computed on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from feature_store.catalog import Catalog, Selection
from feature_store.definitions.feature_service import FeatureService
from feature_store.errors import UnknownFeatureError
from feature_store.forking import renew_in_children
from feature_store.online.reading.answers import (
    Compute,
    Row,
    computed,
    form_read,
    is_computed,
    values_read,
    with_defaults,
)
from feature_store.online.reading.following import FollowedCatalog, Known
from feature_store.online.reading.requests import Features, Request, RequestData, listed, request_of
from feature_store.resolution import Resolution

if TYPE_CHECKING:
    import polars as pl

    from feature_store.online.reading.coalescing import ReadObserver
    from feature_store.online.reading.loops import LoopReads
    from feature_store.online.reading.prepared import FeatureState, Form
    from feature_store.online.store import OnlineStore

T = TypeVar("T")

SHORT = 100
"""Features of a request that is resolved on the event loop; longer ones would hold it, and go to a thread."""


class Log(Protocol):
    """Keeps a sample of what was answered."""

    def samples(self) -> bool:
        """Returns whether the request that was answered just now falls into the sample."""
        ...

    def keep(self, entity_ids: Sequence[str], selections: Sequence[Selection], rows: Sequence[Row]) -> None:
        """Takes note of it: its entities, and the values of the stored features by label."""
        ...


class OnlineReads:
    """Answers requests for online features.

    Threads and event loops may share it, and a forked process may go on with it.

    Args:
        online: Gives the online store.
        registered: Reads the registry's catalog; None where there is no registry.
        resolve: Resolves references against a catalog.
        compute: Computes on-demand features.
        log: Keeps a sample of what is answered; None for no log.
        observer: Is told of every read that an event loop makes; None for nobody.

    Attributes:
        followed: The catalog that reads go by.
    """

    def __init__(
        self,
        online: Callable[[], OnlineStore],
        registered: Callable[[], Catalog] | None,
        resolve: Callable[[Catalog, Sequence[str]], Resolution],
        compute: Compute,
        log: Log | None = None,
        observer: ReadObserver | None = None,
    ) -> None:
        self.followed = FollowedCatalog(online, registered)
        self._online = online
        self._registered = registered
        self._resolve = resolve
        self._compute = compute
        self._log = log
        self._observer = observer
        self._loops: LoopReads | None = None
        renew_in_children(self)

    def for_transport(
        self, resolve: Callable[[Catalog, Sequence[str]], Resolution], observer: ReadObserver | None = None
    ) -> OnlineReads:
        """Returns reads of the same stores, for a transport that has definitions or metrics of its own.

        Args:
            resolve: Resolves references against a catalog.
            observer: Is told of every read that an event loop makes; None for nobody.
        """
        return OnlineReads(self._online, self._registered, resolve, self._compute, self._log, observer)

    def after_fork(self) -> None:
        """Lets a forked process go on with threads and event loops of its own."""
        self._loops = None

    def catalog(self) -> Catalog:
        """Returns the catalog that reads go by.

        Raises:
            OnlineStoreError: If the online store does not answer, or holds no catalog and there is no registry.
        """
        return self.followed.known().catalog

    def request(self, features: Features) -> Request:
        """Returns a list of features, resolved; the same list is resolved once per catalog.

        Raises:
            InvalidRequestError: If nothing is asked for, a reference is malformed, or there are several entities.
            UnknownFeatureError: If a feature is not known.
            OnlineStoreError: If the online store does not answer, or holds no catalog and there is no registry.
        """
        names = _names(features)
        known = self.followed.known()
        found = _remembered(known, names)
        return self._worked_out(known, names, len(names), self._resolver(names)) if found is None else found

    def remembered(self, features: Sequence[str]) -> Request | None:
        """Returns a list of features, resolved, if that was done before and the catalog needs no look; else None."""
        known = self.followed.due()
        return None if known is None else _remembered(known, tuple(features))

    async def arequest(self, features: Features) -> Request:
        """Does what `request` does, without blocking the event loop."""
        names = _names(features)
        known = self.followed.due()
        found = None if known is None else _remembered(known, names)
        return await self.awork_out(names, len(names), self._resolver(names)) if found is None else found

    async def awork_out(self, key: Hashable, features: int, by: Callable[[Catalog], T]) -> T:
        """Returns what follows from the catalog, worked out once for each.

        A feature that it lacks is looked up in the registry: it was registered where the online store could not be
        reached, perhaps.

        Args:
            key: Finds it again.
            features: How many features are asked for.
            by: Works it out by a catalog.

        Raises:
            UnknownFeatureError: If neither knows a feature; and what else `by` raises.
            OnlineStoreError: If the online store does not answer, or holds no catalog and there is no registry.
        """
        known = self.followed.due() or await self._reads_of_loop().look(self.followed)
        found: T | None = known.memo.get(key)
        if found is not None:
            return found
        if features <= SHORT:
            try:
                return _remember(known, key, features, by(known.catalog))
            except UnknownFeatureError:
                # The registry is to be asked, or definitions to be imported.
                pass
        return await self._reads_of_loop().in_thread(self._worked_out, known, key, features, by)

    def values(self, entity_ids: Sequence[str], features: Features, request_data: RequestData) -> list[Row]:
        """Returns what is visible now, a dict per entity; see `FeatureStore.get_online_features_batch`."""
        rows: list[Row] = self._answer("values", entity_ids, features, request_data)
        return rows

    def states(
        self, entity_ids: Sequence[str], features: Features, request_data: RequestData
    ) -> list[dict[str, FeatureState]]:
        """Returns values with statuses and times; see `FeatureStore.get_online_statuses`."""
        return cast("list[dict[str, FeatureState]]", self._answer("states", entity_ids, features, request_data))

    def frame(self, entity_ids: Sequence[str], features: Features, request_data: RequestData) -> pl.DataFrame:
        """Returns what is visible now as a frame; see `FeatureStore.get_online_features_frame`."""
        return cast("pl.DataFrame", self._answer("frame", entity_ids, features, request_data))

    def state(self, entity_id: str, reference: str) -> FeatureState:
        """Returns what readers get of one stored feature, for who explains it: it is not noted in the request log.

        Raises:
            InvalidRequestError: If the reference is malformed, or the entity id none of the feature's entity.
            UnknownFeatureError: If the feature is not known.
            OnlineStoreError: If the online store does not answer, or refuses.
        """
        [states] = self.request([reference]).prepared.states([entity_id])
        return states[reference]

    async def avalues(self, entity_ids: Sequence[str], features: Features, request_data: RequestData) -> list[Row]:
        """Does what `values` does, without blocking the event loop."""
        answer = await self.answer(await self.arequest(features), entity_ids, request_data, "values")
        return cast("list[Row]", answer)

    async def astates(
        self, entity_ids: Sequence[str], features: Features, request_data: RequestData
    ) -> list[dict[str, FeatureState]]:
        """Does what `states` does, without blocking the event loop."""
        answer = await self.answer(await self.arequest(features), entity_ids, request_data, "states")
        return cast("list[dict[str, FeatureState]]", answer)

    async def aframe(self, entity_ids: Sequence[str], features: Features, request_data: RequestData) -> pl.DataFrame:
        """Does what `frame` does, without blocking the event loop."""
        answer = await self.answer(await self.arequest(features), entity_ids, request_data, "frame")
        return cast("pl.DataFrame", answer)

    async def answer(self, request: Request, entity_ids: Sequence[str], request_data: RequestData, form: Form) -> Any:
        """Returns the answer to a request in a form, read together with those of others.

        Raises:
            InvalidRequestError: If an entity id or the request data cannot be used.
            OnlineStoreError: If the online store does not answer, or refuses; there are no partial answers.
        """
        ids = entity_ids if type(entity_ids) in _LISTS else listed(entity_ids, "Entity ids")
        reads = self._reads_of_loop()
        computes = is_computed(request, request_data)
        needed = form_read(form) if computes else form
        read = await reads.read(request, ids, needed)
        if self._log is not None:
            self._note(self._log, request, ids, read, needed)
        if request.defaults:
            read = with_defaults(request, read, needed)
        if not computes:
            return read
        return await reads.in_thread(computed, self._compute, request, form, ids, read, request_data)

    def close(self) -> None:
        """Ends the threads of event loops' reads, once nothing is under way."""
        if self._loops is not None:
            self._loops.close()

    def _answer(self, form: Form, entity_ids: Sequence[str], features: Features, request_data: RequestData) -> Any:
        request = self.request(features)
        ids = entity_ids if type(entity_ids) in _LISTS else listed(entity_ids, "Entity ids")
        computes = is_computed(request, request_data)
        needed = form_read(form) if computes else form
        read = request.prepared.read(needed, ids)
        if self._log is not None:
            self._note(self._log, request, ids, read, needed)
        if request.defaults:
            read = with_defaults(request, read, needed)
        if not computes:
            return read
        return computed(self._compute, request, form, ids, read, request_data)

    @staticmethod
    def _note(log: Log, request: Request, entity_ids: Sequence[str], read: Any, form: Form) -> None:
        if log.samples():
            log.keep(entity_ids, request.resolution.selections, values_read(request, read, form))

    def _resolver(self, names: tuple[str, ...]) -> Callable[[Catalog], Request]:
        return lambda catalog: request_of(self._resolve(catalog, names), catalog, self._online())

    def _worked_out(self, known: Known, key: Hashable, features: int, by: Callable[[Catalog], T]) -> T:
        try:
            found = by(known.catalog)
        except UnknownFeatureError:
            registered = self.followed.otherwise(known.catalog)
            if registered is None:
                raise
            found = by(registered)
        return _remember(known, key, features, found)

    def _reads_of_loop(self) -> LoopReads:
        if self._loops is None:
            from feature_store.online.reading.loops import LoopReads

            self._loops = LoopReads(self._observer)
        return self._loops


_LISTS = frozenset({list, tuple})


def _names(features: Features) -> tuple[str, ...]:
    if type(features) in _LISTS:
        names: Any = features
        return tuple(names)
    return tuple(features.features) if isinstance(features, FeatureService) else listed(features, "Features")


def _remembered(known: Known, names: tuple[str, ...]) -> Request | None:
    try:
        found: Request | None = known.memo.get(names)
    except TypeError:
        # Something that is no text; resolving says what.
        return None
    return found


def _remember(known: Known, key: Hashable, features: int, value: T) -> T:
    known.memo.put(key, value, features)
    return value
