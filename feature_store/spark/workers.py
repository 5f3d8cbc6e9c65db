"""Whether the workers of a cluster can do what they will be asked for: found out before anything is computed.

Workers are other machines: they have the Python, the modules and the disks that were brought to them. A small job looks
for the library, for the definitions, and for a file that the driver has left in a folder which all must share.
"""

from __future__ import annotations

import importlib
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.errors import FeatureStoreError, SettingsError, StorageError
from feature_store.spark.failures import reason_of
from feature_store.storage.location import open_location

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from feature_store.storage.location import Location

_OF_THIS_MACHINE = re.compile(r"local(\[[^\]]*\])?")
_TASKS_PER_CORE = 2
_SECONDS_PER_TASK = 0.2
"""So long a task stays, that the next one is given to another core."""

_REMEDY = (
    "Bring it to the workers: let PYSPARK_PYTHON name a Python that has it, ship the whole environment by "
    "spark.archives, or modules of yours by spark.submit.pyFiles (docs/spark.md, Code on the workers)."
)


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A file that the driver has left in a folder, for workers to find.

    Attributes:
        folder: The folder that all of them must see, as text.
        name: Name of the hidden folder in it that holds the file.
    """

    folder: str
    name: str

    def require(self) -> None:
        """Checks that this process sees the folder of the driver.

        Raises:
            StorageError: If it does not.
        """
        place = open_location(self.folder, setting="offline")
        try:
            seen = (place / self.name / "driver").read_bytes() == self.name.encode()
        except OSError:
            seen = False
        if not seen:
            raise StorageError(not_shared(self.folder))


def not_shared(folder: str) -> str:
    """Returns what is wrong where a worker does not see a folder, and the remedy."""
    return (
        f"Workers of the Spark cluster do not see the folder {folder} of the driver: what they write there would be on "
        "their own disks. Mount it on all machines at the same path, or let FEATURE_STORE_OFFLINE name a place in S3."
    )


def is_cluster(session: SparkSession) -> bool:
    """Tells whether tasks run in processes that may be on other machines."""
    return _OF_THIS_MACHINE.fullmatch(session.sparkContext.master or "local") is None


@contextmanager
def shared_folder(
    session: SparkSession, folder: Location | str, needed: object = None
) -> Iterator[SharedFolder | None]:
    """Checks that workers see a folder of the driver, and have the code for what they will be given.

    On the threads of this machine nothing is checked.

    Args:
        session: The Spark session.
        folder: What all must see; it is made if it is missing.
        needed: What tasks will be given, None for nothing but Spark's own work.

    Yields:
        What tasks check anew: workers may come later. None on the threads of this machine.

    Raises:
        SettingsError: If workers lack a module.
        StorageError: If they do not see the folder.
        FeatureStoreError: If they cannot run Python at all.
    """
    if not is_cluster(session):
        yield None
        return
    place = open_location(folder, setting="offline")
    shared = SharedFolder(str(place), f".workers-{uuid.uuid4().hex}")
    left = place / shared.name
    try:
        _write(left / "driver", shared.name.encode())
        _check(session, shared, left, needed)
        yield shared
    finally:
        _remove(left)


def _check(session: SparkSession, shared: SharedFolder, left: Location, needed: object) -> None:
    from pyspark import cloudpickle

    # By its name: nothing in the library imports the package that is made of it.
    version = importlib.import_module("feature_store").__version__
    payload = b"" if needed is None else cloudpickle.dumps((needed, shared))  # type: ignore[no-untyped-call]
    local = left if isinstance(left, Path) else None
    answers = _asked(session, _probe(payload, version, str(local or ""), shared.name))
    for answer in answers:
        if answer["missing"]:
            raise SettingsError(
                f"Workers of the Spark cluster lack {answer['missing']} (on {answer['host']}). {_REMEDY}"
            )
        if answer["version"] not in {"", version}:
            raise SettingsError(
                f"Workers of the Spark cluster have feature-store {answer['version']}, the driver has {version} "
                f"(on {answer['host']}). {_REMEDY}"
            )
        if answer["failure"]:
            raise StorageError(
                f"Workers of the Spark cluster cannot work in {shared.folder} (on {answer['host']}): "
                f"{answer['failure']}. {not_shared(shared.folder)}"
            )
        # What a worker has written must be seen here, too: it may have a folder of the same name and content.
        if local is not None and not (local / answer["wrote"]).exists():
            raise StorageError(not_shared(shared.folder))


def _asked(session: SparkSession, probe: Callable[[Iterable[int]], Iterable[dict[str, str]]]) -> list[dict[str, str]]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    context = session.sparkContext
    tasks = max(2, _TASKS_PER_CORE * context.defaultParallelism)
    try:
        return context.parallelize(range(tasks), tasks).mapPartitions(probe).collect()
    except (PySparkException, Py4JError) as error:
        raise FeatureStoreError(
            f"Workers of the Spark cluster could not be asked what they have: {reason_of(error)} Their Python must be "
            f"of the driver's version. {_REMEDY}"
        ) from error


def _probe(
    payload: bytes, version: str, folder: str, nonce: str
) -> Callable[[Iterable[int]], Iterable[dict[str, str]]]:
    """Returns what runs on a worker.

    Spark sends a function in a function by its code, and not by the name of its module, which the worker may lack: it
    must use nothing but Python's own library.
    """
    seconds = _SECONDS_PER_TASK

    def probe(numbers: Iterable[int]) -> Iterable[dict[str, str]]:
        import importlib
        import pathlib
        import pickle
        import socket
        import time
        import uuid

        del numbers
        answer = {"host": socket.gethostname(), "missing": "", "version": "", "failure": "", "wrote": ""}
        try:
            if payload:
                for module in ("pyarrow", "polars", "feature_store"):
                    importlib.import_module(module)
                answer["version"] = importlib.import_module("feature_store").__version__
            if folder:
                seen = (pathlib.Path(folder) / "driver").read_bytes() == nonce.encode()
                answer["wrote"] = uuid.uuid4().hex
                (pathlib.Path(folder) / answer["wrote"]).write_bytes(b"")
                answer["failure"] = "" if seen else "it holds another file"
            # Another version may not even be able to read what it is given.
            if payload and answer["version"] == version:
                _, shared = pickle.loads(payload)  # noqa: S301  what the driver has sent
                if not folder:
                    shared.require()
        except ImportError as error:
            answer["missing"] = f"the module {error.name!r}" if error.name else str(error)
        except Exception as error:  # noqa: BLE001  whatever it is, the driver reports it
            answer["failure"] = f"{type(error).__name__}: {error}"
        time.sleep(seconds)
        return [answer]

    return probe


def _write(path: Any, content: bytes) -> None:
    if isinstance(path, Path):
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    else:
        path.put(content)


def _remove(folder: Any) -> None:
    with suppress(OSError, FeatureStoreError):
        files = list(folder.iterdir())
        for path in files:
            path.unlink()
        if isinstance(folder, Path):
            folder.rmdir()
