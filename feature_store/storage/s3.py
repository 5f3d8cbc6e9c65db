"""`S3`: buckets.

There are no locks and no renames: objects are replaced on conditions, and what is put last shows the rest.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
import uuid
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from feature_store.storage import s3_folders
from feature_store.storage.folder_names import DATE_PREFIX, date_of
from feature_store.storage.protocol import DatedFile, Draft, FileStat, Item, Result, Room, Seal, Write
from feature_store.storage.s3_conditions import require_conditions
from feature_store.storage.s3_lease import lease
from feature_store.storage.s3_path import SCHEME, S3Path, S3Stat
from feature_store.storage.s3_replacing import replace_object

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import pyarrow.parquet as pq

DEAD_AFTER_SECONDS = 900.0
"""A mark that is as old as this is that of a dead writer."""

_OBJECT_STORE = "object-store"
"""What Polars' errors name when S3 did not answer."""

_S3A = "spark.hadoop.fs.s3a."


class S3:
    """See `protocol.Storage`."""

    renames = False

    def stat(self, path: S3Path) -> FileStat:
        """See `Storage.stat`."""
        return _file_stat(path.stat())

    def dated_files(self, folder: S3Path, first: date | None, last: date | None) -> Iterator[DatedFile[S3Path]]:
        """See `Storage.dated_files`. One listing, of the days from the first to the last."""
        # Keys are listed in their order: a day's begin with its date, and '~' comes after all that can follow it.
        after = f"{DATE_PREFIX}{first.isoformat() if first else ''}"
        until = f"{DATE_PREFIX}{last.isoformat() if last else ''}~"
        for path, stat in folder.objects(after=after, until=until):
            name_of_folder, _, name = path.relative_to(folder).partition("/")
            day = date_of(name_of_folder)
            if day is not None and name and "/" not in name and not name.startswith("."):
                yield DatedFile(day, path, _file_stat(stat))

    def identity(self, path: S3Path, e_tag: str) -> Hashable:
        """See `Storage.identity`."""
        del path
        return e_tag

    def identities(self, paths: Sequence[S3Path]) -> list[Hashable]:
        """See `Storage.identities`. They are listed, some thousand a request, and not asked for one by one."""
        now: dict[S3Path, str] = {}
        for folder, members in groupby(paths, lambda path: path.parent.parent):
            names = [path.parent.name for path in members]
            now |= {path: stat.e_tag for path, stat in folder.objects(after=min(names), until=f"{max(names)}~")}
        return [now.get(path) for path in paths]

    def is_outage(self, error: Exception) -> bool:
        """See `Storage.is_outage`."""
        return _OBJECT_STORE in str(error)

    def digest(self, path: S3Path) -> str:
        """See `Storage.digest`."""
        digest = hashlib.sha256()
        for chunk in path.chunks():
            digest.update(chunk)
        return digest.hexdigest()

    def room(self, place: S3Path) -> Room[S3Path]:
        """See `Storage.room`."""
        probe = place / f".doctor-{uuid.uuid4().hex}"
        probe.put(b"writable")
        probe.unlink()
        require_conditions(place, again=True)
        return Room(place, None)

    def map(self, work: Callable[[Item], Result], items: Sequence[Item], *, at_once: int) -> list[Result]:
        """See `Storage.map`."""
        with ThreadPoolExecutor(at_once, thread_name_prefix="s3") as pool:
            return list(pool.map(work, items))

    def prefetch(self, work: Callable[[Item], object], items: Sequence[Item], *, at_once: int) -> None:
        """See `Storage.prefetch`."""
        if len(items) > 1:
            self.map(work, items, at_once=at_once)

    def footer(self, path: S3Path, identity: Hashable = None) -> pq.FileMetaData:
        """See `Storage.footer`. The footer is read without the rest of the object."""
        from feature_store.storage.s3_footer import object_footer

        found, stat = object_footer(path)
        if identity is not None and stat.e_tag != identity:
            raise FileNotFoundError(f"{path} was replaced after it was listed.")
        return found

    def parquet_file(self, path: S3Path) -> pq.ParquetFile:
        """See `Storage.parquet_file`. The columns that are read are asked for in few requests."""
        import pyarrow.parquet as pq

        return pq.ParquetFile(path.open("rb"), pre_buffer=True)

    def scan_options(self, path: S3Path) -> Mapping[str, Any]:
        """See `Storage.scan_options`."""
        return path.connection.polars_options()

    def object_store_options(self, path: S3Path) -> dict[str, str] | None:
        """See `Storage.object_store_options`."""
        return path.connection.object_store_options()

    def spark_address(self, path: Any) -> str:
        """See `Storage.spark_address`."""
        return f"s3a://{str(path).removeprefix(f'{SCHEME}://')}"

    def spark_options(self, variables: Mapping[str, str]) -> Mapping[str, str]:
        """See `Storage.spark_options`.

        Keys are not among them: S3A looks them up itself, in the usual AWS variables and then in the machine's role.
        """
        options = {}
        endpoint = variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL")
        if endpoint:
            options[f"{_S3A}endpoint"] = endpoint
            options[f"{_S3A}path.style.access"] = "true"
            options[f"{_S3A}connection.ssl.enabled"] = str(urlsplit(endpoint).scheme == "https").lower()
        region = variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION")
        if region:
            options[f"{_S3A}endpoint.region"] = region
        return options

    def spark_packages(self, hadoop: Callable[[], str]) -> Sequence[str]:
        """See `Storage.spark_packages`."""
        return (f"org.apache.hadoop:hadoop-aws:{hadoop()}",)

    def holding(self, folder: S3Path) -> AbstractContextManager[None]:
        """See `Storage.holding`."""
        del folder
        return nullcontext()

    def exclusively(self, path: S3Path) -> AbstractContextManager[None]:
        """See `Storage.exclusively`."""
        return lease(path)

    def replace(self, path: S3Path, prepare: Callable[[], Write | None]) -> bool:
        """See `Storage.replace`."""
        return replace_object(path, prepare)

    @contextmanager
    def mark(self, path: S3Path, content: bytes) -> Iterator[None]:
        """See `Storage.mark`."""
        path.put(content)
        yield
        path.unlink(missing_ok=True)

    def leave_mark(self, path: S3Path, content: bytes) -> None:
        """See `Storage.leave_mark`."""
        path.put(content)

    def marks(self, folder: S3Path) -> list[tuple[S3Path, bytes]]:
        """See `Storage.marks`."""
        found = []
        for path, _ in folder.objects():
            with suppress(FileNotFoundError):  # it has ended meanwhile
                found.append((path, path.read_bytes()))
        return found

    def abandoned_marks(self, folder: S3Path, *, ownerless: bytes) -> list[tuple[S3Path, bytes]]:
        """See `Storage.abandoned_marks`. An owned mark is a dead writer's when it is old."""
        now = time.time()
        return [
            (path, path.read_bytes())
            for path, stat in folder.objects()
            if now - stat.st_mtime_ns / 1e9 > DEAD_AFTER_SECONDS or stat.st_size <= len(ownerless)
        ]

    @contextmanager
    def staging(self, folder: S3Path) -> Iterator[Path]:
        """See `Storage.staging`. Files are staged in the folder for temporary files of this machine."""
        del folder
        with tempfile.TemporaryDirectory(prefix="feature-store-") as local:
            yield Path(local)

    def link(self, source: S3Path, relatives: Iterable[str], staged: Path) -> Mapping[str, S3Path]:
        """See `Storage.link`. S3 copies within itself when the folder is published."""
        del staged
        return {relative: source / relative for relative in relatives}

    def publish_numbered(self, folder: S3Path, draft: Draft[S3Path]) -> int | None:
        """See `Storage.publish_numbered`."""
        return s3_folders.publish_numbered(folder, draft)

    def publish(self, place: S3Path, staged: Path, seal: Seal) -> bool:
        """See `Storage.publish`."""
        return s3_folders.publish(place, staged, seal)

    def numbered(self, folder: S3Path, seal: str) -> list[int]:
        """See `Storage.numbered`."""
        return s3_folders.numbered(folder, seal)

    def restore(self, staged: Path, place: S3Path) -> None:
        """See `Storage.restore`."""
        place.put(staged)


def _file_stat(stat: S3Stat) -> FileStat:
    return FileStat(stat.st_size, stat.st_mtime_ns, stat.e_tag)
