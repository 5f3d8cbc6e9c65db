"""The Spark session: started by the settings, or the one that is there already.

What decides about results is set on a session of our own, so that neither a cluster's defaults nor a notebook's
settings can change a value: the time zone, case sensitivity, how old dates are read.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from feature_store.errors import SettingsError
from feature_store.extras import needs_extra
from feature_store.settings import environment
from feature_store.storage.location import storage_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from feature_store.storage.location import Location

CONF = "FEATURE_STORE_SPARK_CONF"

_FIXED = {
    # A text that is cast, and a time without a zone, are UTC.
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
    "spark.sql.caseSensitive": "true",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}
_PACKAGES = "spark.jars.packages"


def spark_session(places: Iterable[Location | str] = (), *, conf: str | None = None) -> SparkSession:
    """Returns a Spark session with settings of its own, on the Spark application that runs or on a new one.

    A new application is configured the ways that Spark knows (`spark-defaults.conf`, `SPARK_CONF_DIR`,
    `PYSPARK_SUBMIT_ARGS`), and by `conf`; without a master it runs on this machine.

    Args:
        places: What is read and written: a new application then gets what it needs to reach them.
        conf: What `FEATURE_STORE_SPARK_CONF` says; None or empty for nothing.

    Raises:
        SettingsError: If the extra `spark` is not installed, or `conf` is malformed.
    """
    with needs_extra("spark", "FEATURE_STORE_ENGINE=spark, besides Java 17 or newer,"):
        from pyspark.sql import SparkSession
    found = SparkSession.getActiveSession()
    if found is None:
        variables = environment()
        options: dict[str, str] = {}
        packages: list[str] = []
        for storage in {storage_of(place) for place in places}:
            options |= storage.spark_options(variables)
            packages += storage.spark_packages(_hadoop_version)
        options |= given_options(conf)
        if packages:
            options[_PACKAGES] = ",".join(filter(None, [options.get(_PACKAGES), *packages]))
        builder = SparkSession.builder.appName("feature-store")
        for key, value in options.items():
            builder = builder.config(key, value)
        found = builder.getOrCreate()
    context = found.sparkContext
    if (context.master or "").startswith("local") and "PYSPARK_PYTHON" not in os.environ:
        # Executors of this machine have what this process has; by default they would take the first python3 of PATH.
        context.pythonExec = sys.executable
    session = found.newSession()
    for key, value in _FIXED.items():
        session.conf.set(key, value)
    return session


def given_options(text: str | None) -> dict[str, str]:
    """Returns the settings that `FEATURE_STORE_SPARK_CONF` holds: `spark.master=local[4] spark.driver.memory=8g`.

    Raises:
        SettingsError: If a word is not `spark.<name>=<value>`.
    """
    options = {}
    for word in shlex.split(text or ""):
        key, equals, value = word.partition("=")
        if not equals or not key.startswith("spark."):
            raise SettingsError(
                f"{CONF}: {word!r} is not a setting of Spark. Write them as spark.<name>=<value>, separated by "
                "blanks, for instance 'spark.master=local[4] spark.driver.memory=8g'; quote values with blanks."
            )
        options[key] = value
    return options


def _hadoop_version() -> str:
    """Returns the version of Hadoop that the installed pyspark was built with.

    Raises:
        SettingsError: If the installed Spark has no Hadoop client beside it.
    """
    import pyspark

    jars = Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent) / "jars"
    for jar in jars.glob("hadoop-client-api-*.jar"):
        match = re.fullmatch(r"hadoop-client-api-(\d+(?:\.\d+)*)\.jar", jar.name)
        if match:
            return match[1]
    raise SettingsError(
        f"No hadoop-client-api jar in {jars}, so the version of the S3A connector cannot be told: "
        f"name it, {CONF}='spark.jars.packages=org.apache.hadoop:hadoop-aws:<version>'."
    )
