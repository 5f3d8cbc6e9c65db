"""What a request asks for: stored features, on-demand features, and what must be read and passed to answer it.

It knows names only, and needs no Polars: reading belongs to the stores, computing to `transform.on_demand`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from feature_store.catalog import Catalog, Selection
from feature_store.definitions.dtypes import Dtype
from feature_store.definitions.names import FeatureRef
from feature_store.errors import InvalidRequestError, UnknownFeatureError

if TYPE_CHECKING:
    from feature_store.definitions.on_demand import OnDemandFeatures


@dataclass(frozen=True, slots=True)
class Computation:
    """The on-demand features of one function that a request asks for.

    Attributes:
        functions: All features of the function.
        inputs: Column to the stored feature that fills it.
        outputs: Label to the column that holds it.
    """

    functions: OnDemandFeatures
    inputs: Mapping[str, Selection]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Resolution:
    """A request, resolved against a catalog.

    Attributes:
        labels: Names of the answers, in order.
        selections: Stored features to read: those asked for, and inputs of on-demand features.
        computations: On-demand features to compute from them.
        request: Request data that the caller must pass, by name.
    """

    labels: tuple[str, ...]
    selections: tuple[Selection, ...]
    computations: tuple[Computation, ...] = ()
    request: Mapping[str, Dtype] = field(default_factory=dict)


def resolve(catalog: Catalog, requested: Sequence[str], on_demand: Iterable[OnDemandFeatures] = ()) -> Resolution:
    """Resolves references, names of feature groups and names of on-demand features, in order.

    On-demand features are named like stored ones: `name` is the greatest version, `name:vN` that version, and the name
    of the function stands for all of them.

    Args:
        catalog: The stored features.
        requested: What is asked for; see `Catalog.select`.
        on_demand: The on-demand features that may be asked for.

    Raises:
        InvalidRequestError: If nothing is asked for, a reference is malformed, a name is both stored and computed, or
            two functions want request data of one name and of different dtypes.
        UnknownFeatureError: If a name or version is not known.
    """
    functions = {group.name: group for group in on_demand}
    if isinstance(requested, str) or not functions:
        selections = catalog.select(requested)
        return Resolution(tuple(selection.label for selection in selections), tuple(selections))
    refs = {spec.ref: group for group in functions.values() for spec in group.features}
    current = {ref.name: ref for ref in sorted(refs)}
    stored: dict[str, Selection] = {}
    labels: dict[str, tuple[OnDemandFeatures, str] | None] = {}
    for text in requested:
        name, _ = FeatureRef.parse(text)
        if name in functions or name in current:
            if name in catalog.groups or catalog.current(name):
                raise InvalidRequestError(f"{text!r} is both stored and computed on demand: rename one of them.")
            labels |= {label: found for label, found in _named(text, functions, refs, current) if label not in labels}
            continue
        for selection in catalog.select([text]):
            stored.setdefault(selection.label, selection)
            labels.setdefault(selection.label)
    if not labels:
        catalog.select([])
    computations = []
    for group in functions.values():
        outputs = {label: found[1] for label, found in labels.items() if found and found[0] is group}
        if outputs:
            inputs = {}
            for column, text in group.inputs.items():
                [selection] = _input(catalog, group, text)
                inputs[column] = stored.setdefault(selection.label, selection)
            computations.append(Computation(group, inputs, outputs))
    return Resolution(tuple(labels), tuple(stored.values()), tuple(computations), _request(computations))


def resolve_with(
    catalog: Catalog, requested: Sequence[str], on_demand: Callable[[], Iterable[OnDemandFeatures]] | None
) -> Resolution:
    """Does what `resolve` does, and asks for the on-demand features only where the catalog lacks something.

    So a client that reads stored features alone never imports its definitions, nor Polars.

    Args:
        catalog: The stored features.
        requested: What is asked for.
        on_demand: Gives the on-demand features that may be asked for; None if there are none.
    """
    try:
        return resolve(catalog, requested)
    except UnknownFeatureError:
        if on_demand is None:
            raise
    return resolve(catalog, requested, on_demand())


def _named(
    text: str,
    functions: Mapping[str, OnDemandFeatures],
    refs: Mapping[FeatureRef, OnDemandFeatures],
    current: Mapping[str, FeatureRef],
) -> list[tuple[str, tuple[OnDemandFeatures, str]]]:
    name, version = FeatureRef.parse(text)
    if version is None and name in functions:
        group = functions[name]
        return [
            (ref.name if current[ref.name] == ref else str(ref), (group, ref.column))
            for ref in (spec.ref for spec in group.features)
        ]
    ref = current.get(name) if version is None else FeatureRef(name, version)
    if ref is None or ref not in refs:
        known = ", ".join(f"v{other.version}" for other in sorted(refs) if other.name == name) or "none"
        raise UnknownFeatureError(f"On-demand feature {text!r} is not defined: {name!r} has the version(s) {known}.")
    return [(text, (refs[ref], ref.column))]


def _input(catalog: Catalog, group: OnDemandFeatures, text: str) -> list[Selection]:
    try:
        return catalog.select([text])
    except UnknownFeatureError as error:
        raise UnknownFeatureError(f"On-demand features {group.name!r} cannot be computed: {error}") from None


def _request(computations: Iterable[Computation]) -> dict[str, Dtype]:
    request: dict[str, Dtype] = {}
    for computation in computations:
        for name, dtype in computation.functions.request.items():
            if request.setdefault(name, dtype) != dtype:
                raise InvalidRequestError(
                    f"Request data {name!r} are declared as {request[name]} by some on-demand features and as {dtype} "
                    f"by {computation.functions.name!r}: ask for them in requests of their own."
                )
    return request
