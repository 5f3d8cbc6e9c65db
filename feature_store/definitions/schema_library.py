"""Pandera, imported without what its import does to Spark.

Where pyspark is installed, pandera imports the whole of `pyspark.pandas` (two seconds and a warning), and sets
`SPARK_LOCAL_IP` to the loopback address, at which the executors of a cluster would not find their driver. Everything
that the project uses of pandera comes from here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MODULES = ("pyspark", "pyspark.pandas")
_VARIABLES = ("SPARK_LOCAL_IP", "PYARROW_IGNORE_TIMEZONE")


@contextmanager
def _without_spark() -> Iterator[None]:
    hidden = [name for name in _MODULES if name not in sys.modules]
    before = {name: os.environ.get(name) for name in _VARIABLES}
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: an import of it fails
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


with _without_spark():
    import pandera.polars as pandera
    from pandera.errors import SchemaErrors
    from pandera.polars import DataFrameModel

__all__ = ["DataFrameModel", "SchemaErrors", "pandera"]
