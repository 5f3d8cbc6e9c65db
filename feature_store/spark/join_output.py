"""The folder that a join of files writes: only ever an empty one, or what an interrupted join has left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JError

from feature_store.errors import FeatureStoreError, InvalidRequestError
from feature_store.spark.failures import reason_of
from feature_store.spark.frames import uri
from feature_store.spark.workers import shared_folder

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_DONE = "_SUCCESS"
_BEGUN = "_join_has_begun"
"""Lies in the folder from before the first file is written until the last one is: what is with it is the join's own."""


class JoinOutput:
    """The folder of a join's answer.

    Args:
        session: Writes it.
        folder: A local path or an `s3://` address.
    """

    def __init__(self, session: SparkSession, folder: str | Path) -> None:
        self._session = session
        self._folder = folder
        self._address = uri(folder, exact=False)

    def check(self) -> None:
        """Checks that nothing lies in the folder but what an interrupted join has left.

        Raises:
            InvalidRequestError: If something else does. Nothing is touched.
        """
        files, path = self._files(), self._path()
        if not files.exists(path):
            return
        if not files.getFileStatus(path).isDirectory():
            raise InvalidRequestError(f"{self._folder} is a file: name a folder for the joined files.")
        held = [status.getPath().getName() for status in files.listStatus(path)]
        if _DONE in held:
            raise InvalidRequestError(
                f"{self._folder} holds a finished join already: name another folder, or delete it."
            )
        if held and _BEGUN not in held:
            raise InvalidRequestError(
                f"{self._folder} holds what no join has written, {min(held)!r} among it, and nothing was touched: name "
                "another folder, or an empty one."
            )

    def write(self, rows: DataFrame) -> None:
        """Writes rows into the folder, in place of what an interrupted join has left.

        Raises:
            StorageError: If workers of the cluster do not see the folder.
            FeatureStoreError: If a task failed.
        """
        from pyspark.errors import PySparkException

        self.check()
        files = self._files()
        files.delete(self._path(), True)
        files.create(self._path(_BEGUN)).close()
        try:
            with shared_folder(self._session, self._folder):
                # Not "overwrite": that would remove the mark, too.
                rows.write.mode("append").parquet(self._address)
        except (PySparkException, Py4JError) as error:
            raise FeatureStoreError(
                f"The joined files were not written to {self._folder}: a task on Spark failed, {reason_of(error)} "
                "Join again: what is there by now is replaced."
            ) from error
        files.delete(self._path(_BEGUN), False)

    def remove(self) -> None:
        """Removes the folder."""
        self._files().delete(self._path(), True)

    def _path(self, name: str = "") -> Any:
        jvm: Any = self._session._jvm  # noqa: SLF001  pyspark has no other way to its file systems
        return jvm.org.apache.hadoop.fs.Path(f"{self._address}/{name}" if name else self._address)

    def _files(self) -> Any:
        conf = self._session._jsparkSession.sessionState().newHadoopConf()  # noqa: SLF001
        return self._path().getFileSystem(conf)
