"""Pandera's models of schemas: imported without what that does to Spark, and validating whatever its variables say.

To import this module is to import pandera, and pandas where it is installed: a second. Only what validates rows does.

Where pyspark is installed, pandera imports the whole of `pyspark.pandas` (two seconds and a warning), and sets
`SPARK_LOCAL_IP` to the loopback address, at which the executors of a cluster would not find their driver. Everything
that the project uses of pandera comes from here.

The variables `PANDERA_*`, and `pandera.config.set_config`, are for other pipelines of the machine or the process. They
change nothing in what the stores accept: rows are validated within `full_validation`.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import polars as pl

from feature_store.definitions.declared_feature import DeclaredFeature
from feature_store.definitions.dtypes import Dtype, dtype_of_annotation, embedding
from feature_store.rows.forms import forms_of

_MODULES = ("pyspark", "pyspark.pandas")
_SET_BY_THE_IMPORT = ("SPARK_LOCAL_IP", "PYARROW_IGNORE_TIMEZONE")
_DEPTH = "PANDERA_VALIDATION_DEPTH"
_DEPTHS = ("SCHEMA_ONLY", "DATA_ONLY", "SCHEMA_AND_DATA")


@contextmanager
def _undisturbed() -> Iterator[None]:
    hidden = [name for name in _MODULES if name not in sys.modules]
    before = {name: os.environ.get(name) for name in (*_SET_BY_THE_IMPORT, _DEPTH)}
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: an import of it fails
    if before[_DEPTH] not in _DEPTHS:
        # With a depth that it does not know, pandera cannot be imported at all.
        os.environ.pop(_DEPTH, None)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


with _undisturbed():
    import pandera.polars as pandera
    from pandera.backends.polars.register import register_polars_backends
    from pandera.config import ValidationDepth, config_context, get_config_global
    from pandera.errors import SchemaError, SchemaErrors
    from pandera.polars import DataFrameModel

__all__ = ["SchemaError", "SchemaErrors", "full_validation", "model_of", "pandera"]

_OF_THE_CLASS_ITSELF = ("__dict__", "__weakref__")


@lru_cache(maxsize=4096)
def model_of(schema: type, root: type) -> Any:
    """Returns pandera's model of a schema: its features as fields, all else that its body holds as it is.

    Args:
        schema: The schema.
        root: The class that all schemas are made from. In its place stands pandera's own.
    """
    bases = tuple(
        DataFrameModel if base is root else model_of(base, root) if issubclass(base, root) else base  # type: ignore[arg-type]  # classes are hashable
        for base in schema.__bases__
    )
    body = {
        name: _field(value) if isinstance(value, DeclaredFeature) else value
        for name, value in vars(schema).items()
        if name not in _OF_THE_CLASS_ITSELF
    }
    body["__annotations__"] = {
        name: _in_polars(annotation, vars(schema).get(name))
        for name, annotation in inspect.get_annotations(schema).items()
    }
    return type(schema.__name__, bases, body)


def _in_polars(annotation: Any, declared: Any) -> Any:
    """Returns the Polars type that a feature is annotated with; of other annotations what pandera makes of them."""
    if not isinstance(declared, DeclaredFeature):
        return annotation
    if declared.dimension is not None:
        dtype: Dtype | None = embedding(declared.dimension)
    else:
        dtype = dtype_of_annotation(annotation, scale=declared.scale)
    return annotation if dtype is None else forms_of(dtype).polars(pl)


def _field(declared: DeclaredFeature) -> Any:
    return pandera.Field(nullable=declared.nullable, description=declared.description, **declared.bounds)


@contextmanager
def full_validation() -> Iterator[None]:
    """Within it, pandera checks columns and values, with its own engine for Polars, in this thread or task."""
    if get_config_global().use_narwhals_backend:
        # Which engine checks frames is one choice for the whole process, and the other one need not be installed.
        # `set_config` would register the engines of pandas and Spark anew, too, and warn.
        get_config_global().use_narwhals_backend = False
        register_polars_backends.cache_clear()
        register_polars_backends(use_narwhals_backend=False)
    with config_context(
        validation_enabled=True,
        validation_depth=ValidationDepth.SCHEMA_AND_DATA,
        cache_dataframe=False,
        keep_cached_dataframe=False,
    ):
        yield
