"""`S3Path`: a place in S3 with the methods of `pathlib.Path` that the store uses, each one request or none.

S3 knows objects and no folders: a folder is there as long as an object lies below it. An object is replaced as a whole
by one request, or by the last request of a multipart upload; until then nobody sees anything of it.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import count
from typing import TYPE_CHECKING, Any, Self, TypeVar

from feature_store.errors import InvalidRequestError, StorageError
from feature_store.storage.s3_refusals import Refusal

if TYPE_CHECKING:
    from pathlib import Path

    from obstore import ObjectMeta
    from obstore.store import S3Store

    from feature_store.storage.s3_connection import S3Connection

SCHEME = "s3"
MOST_BYTES_AT_ONCE = 5 * 2**30
"""What S3 takes in one request, and so what can be replaced on a condition."""

_PART_BYTES = 16 * 2**20
_LISTED_AT_ONCE = 1000
_READ_AT_ONCE = 2**16
_PATIENCE = 3
_PATIENCE_TO_REACH = 5.0
"""So many seconds a server may be out of reach; what does not even connect is seldom back in a moment."""

_NOT_FOUND = 404
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0

_Answer = TypeVar("_Answer")

SMALL_BYTES = 8 * 2**20
"""What is larger has more time to be uploaded."""


class ObjectReplacedError(Exception):
    """An object is not the one that was expected: it was replaced, removed or put in place meanwhile."""


@dataclass(frozen=True, slots=True)
class S3Stat:
    """What S3 says of an object, under the names of `os.stat_result`.

    Attributes:
        st_size: Bytes.
        st_mtime_ns: When it was put in place, nanoseconds since 1970; S3 tells whole seconds.
        e_tag: Changes with the content.
    """

    st_size: int
    st_mtime_ns: int
    e_tag: str

    @classmethod
    def of(cls, meta: ObjectMeta) -> Self:
        """Returns what is in an answer of S3."""
        return cls(meta["size"], int(meta["last_modified"].timestamp()) * 1_000_000_000, meta["e_tag"] or "")


@dataclass(frozen=True, order=True)
class S3Path:
    """A place in S3, with or without an object.

    Attributes:
        bucket: The bucket.
        key: The object's key, without a slash at either end; empty for the bucket itself.
        connection: How the bucket is reached.
    """

    bucket: str
    key: str
    connection: S3Connection = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{SCHEME}://{self.bucket}/{self.key}" if self.key else f"{SCHEME}://{self.bucket}"

    def __truediv__(self, other: str | Path) -> S3Path:
        return S3Path(self.bucket, f"{self.key}/{other}".lstrip("/"), self.connection)

    @property
    def name(self) -> str:
        """Last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The end of the name, from its last dot on."""
        stem, dot, end = self.name.rpartition(".")
        return f"{dot}{end}" if stem else ""

    @property
    def parent(self) -> S3Path:
        """The place that this one lies in."""
        return S3Path(self.bucket, self.key.rpartition("/")[0], self.connection)

    def relative_to(self, other: S3Path) -> str:
        """Returns the rest of the key below another place.

        Raises:
            ValueError: If it does not lie there.
        """
        prefix = f"{other.key}/" if other.key else ""
        if self.bucket != other.bucket or not self.key.startswith(prefix):
            raise ValueError(f"{self} does not lie below {other}.")
        return self.key.removeprefix(prefix)

    def stat(self) -> S3Stat:
        """Returns size, time and tag of the object.

        Raises:
            FileNotFoundError: If there is none.
        """
        import obstore

        return S3Stat.of(self._ask(lambda: obstore.head(self.connection.requests, self.key), reads=True))

    def is_file(self) -> bool:
        """Tells whether there is an object."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Tells whether an object lies below."""
        return next(self.objects(), None) is not None

    def objects(self, *, after: str = "", until: str | None = None) -> Iterator[tuple[S3Path, S3Stat]]:
        """Yields all objects below, in the order of their keys: one request for each thousand.

        Args:
            after: Only keys that come after this one; relative to this place.
            until: Nothing from this key on, which is not even listed.
        """
        import obstore

        prefix = f"{self.key}/" if self.key else ""
        last = f"{prefix}{after}" if after else None
        stop = None if until is None else f"{prefix}{until}"

        def listed() -> Any:
            return obstore.list(self.connection.requests, self.key or None, offset=last, chunk_size=_LISTED_AT_ONCE)

        pages: Any = None

        def next_page() -> Any:
            nonlocal pages
            pages = listed() if pages is None else pages
            try:
                return next(pages, None)
            except Exception:
                # The next attempt goes on after what has come, with the connection as it is then.
                pages = None
                raise

        while (page := self._ask(next_page)) is not None:
            for meta in page:
                if stop is not None and meta["path"] >= stop:
                    return
                last = meta["path"]
                yield S3Path(self.bucket, meta["path"], self.connection), S3Stat.of(meta)

    def iterdir(self) -> Iterator[S3Path]:
        """Yields what lies directly below, objects and folders, by name."""
        import obstore

        found = self._ask(lambda: obstore.list_with_delimiter(self.connection.requests, self.key or None))
        keys = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
        yield from (S3Path(self.bucket, key, self.connection) for key in sorted(keys))

    def read_bytes(self) -> bytes:
        """Returns the object's content.

        Raises:
            FileNotFoundError: If there is none.
        """
        import obstore

        return self._ask(lambda: bytes(obstore.get(self.connection.uploads, self.key).bytes()), reads=True)

    def read_text(self) -> str:
        """Returns the object's content, which is UTF-8."""
        return self.read_bytes().decode()

    def read_end(self, size: int) -> tuple[bytes, S3Stat]:
        """Returns the last bytes of the object, as many as there are up to `size`, in one request.

        Raises:
            FileNotFoundError: If there is no object.
        """
        import obstore

        def read() -> tuple[bytes, S3Stat]:
            found = obstore.get(self.connection.requests, self.key, options={"range": {"suffix": size}})
            return bytes(found.bytes()), S3Stat.of(found.meta)

        return self._ask(read, reads=True)

    def read_range(self, start: int, end: int, e_tag: str) -> bytes:
        """Returns a range of bytes of one very object.

        Raises:
            FileNotFoundError: If it is not there any more.
        """
        import obstore

        options: Any = {"range": (start, end), "if_match": e_tag}
        try:
            return self._ask(
                lambda: bytes(obstore.get(self.connection.uploads, self.key, options=options).bytes()), reads=True
            )
        except ObjectReplacedError as error:
            raise FileNotFoundError(f"{self} was replaced while it was read.") from error

    def chunks(self) -> Iterator[bytes]:
        """Yields the object's content, some megabytes at a time."""
        stat = self.stat()
        for start in range(0, stat.st_size, _PART_BYTES):
            yield self.read_range(start, min(start + _PART_BYTES, stat.st_size), stat.e_tag)

    def glob(self, pattern: str) -> Iterator[S3Path]:
        """Yields the objects and folders below that a pattern of names and slashes matches, in order."""
        wanted = pattern.split("/")
        seen = ""
        for path, _ in self.objects():
            names = path.relative_to(self).split("/")[: len(wanted)]
            found = "/".join(names)
            if found != seen and len(names) == len(wanted) and all(map(fnmatchcase, names, wanted)):
                seen = found
                yield self / found

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Opens the object as it is now: once it is replaced, reading fails, and never mixes the two.

        Raises:
            FileNotFoundError: If there is none.
        """
        if mode != "rb":
            raise InvalidRequestError(f"{self} can be opened for reading only, not with mode {mode!r}.")
        return io.BufferedReader(self.open_unbuffered(), _READ_AT_ONCE)

    def open_unbuffered(self) -> io.RawIOBase:
        """Opens the object as `open` does; each read is one request, and each thread has a position of its own."""
        return _ObjectReader(self, self.stat())

    def put(self, content: bytes | Path) -> None:
        """Puts an object in place, as a whole, whatever is there; a large one in parts that show together.

        Args:
            content: Its bytes, or a local file that holds them.
        """
        import obstore

        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        parts: Any = {"use_multipart": size > _PART_BYTES, "chunk_size": _PART_BYTES}
        self._ask(lambda: obstore.put(self._store_of(size), self.key, content, **parts))

    def put_if(self, present: S3Stat | None, content: bytes | memoryview) -> None:
        """Puts an object in place if what is there is still what it was.

        Args:
            present: The object that it takes the place of; None if there is none.
            content: Its bytes.

        Raises:
            ObjectReplacedError: If another object is there by now. It may be this one: where an answer was lost, and
                the request sent again.
            InvalidRequestError: If S3 takes no condition for so large a content.
        """
        import obstore

        size = len(content)
        if size > MOST_BYTES_AT_ONCE:
            raise InvalidRequestError(
                f"{self} would have {size:,} bytes, and S3 replaces at most {MOST_BYTES_AT_ONCE:,} at once: partition "
                "the group by the hour."
            )
        mode: Any = "create" if present is None else {"e_tag": present.e_tag}
        self._ask(lambda: obstore.put(self._store_of(size), self.key, content, mode=mode, use_multipart=False))

    def copy_to(self, target: S3Path) -> None:
        """Copies the object within S3."""
        import obstore

        self._ask(lambda: obstore.copy(self.connection.uploads, self.key, target.key), reads=True)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Removes the object. S3 does not tell whether there was one, so that it may always be missing."""
        del missing_ok
        import obstore

        self._ask(lambda: obstore.delete(self.connection.requests, self.key))

    def _store_of(self, size: int) -> S3Store:
        return self.connection.requests if size <= SMALL_BYTES else self.connection.uploads

    def _ask(self, request: Callable[[], _Answer], *, reads: bool = False) -> _Answer:
        """Sends a request; again if it fails in a way that may pass, or if the credentials can be renewed.

        Args:
            request: Sends it.
            reads: Whether it asks for an object, which may not be there.
        """
        from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError

        began = time.monotonic()
        renewed = False
        for attempt in count():
            try:
                return request()
            except (AlreadyExistsError, PreconditionError) as error:
                raise ObjectReplacedError(str(self)) from error
            except (BaseError, OSError) as error:
                refusal = Refusal.of(error)
                is_missing = isinstance(error, FileNotFoundError | NotFoundError)
                if is_missing and not refusal.status:
                    raise  # a local file that was to be put
                if is_missing and reads and not refusal.lacks_bucket:
                    raise FileNotFoundError(f"There is no object {self}, or no bucket {self.bucket!r}.") from error
                if refusal.is_expired and not renewed and self.connection.renew():
                    renewed = True
                    continue
                patience = (
                    _PATIENCE * self.connection.timeout.total_seconds() if refusal.reached else _PATIENCE_TO_REACH
                )
                pause = min(_FIRST_PAUSE_SECONDS * 2**attempt, _LONGEST_PAUSE_SECONDS)
                if refusal.may_pass and time.monotonic() + pause < began + patience:
                    time.sleep(pause)
                    continue
                if not refusal.has_words and refusal.status:
                    refusal = self._in_words(refusal)
                raise StorageError(
                    f"S3 did not do what was asked of {self}. {self.connection.explained(refusal)} What was cut off is "
                    "completed by doing it again."
                ) from error
        raise AssertionError

    def _in_words(self, refusal: Refusal) -> Refusal:
        """Returns the same refusal as S3 puts it in the answer to a GET, which has room for words."""
        import obstore

        try:
            obstore.get(self.connection.requests, self.key or "_")
        except Exception as error:  # noqa: BLE001  asked for the sake of this error
            found = Refusal.of(error)
            return found if found.has_words and found.status != _NOT_FOUND else refusal
        return refusal


class _ObjectReader(io.RawIOBase):
    """Reads ranges of one object."""

    def __init__(self, path: S3Path, stat: S3Stat) -> None:
        self._path = path
        self._stat = stat
        self._local = threading.local()

    @property
    def _position(self) -> int:
        return getattr(self._local, "position", 0)

    @_position.setter
    def _position(self, value: int) -> None:
        self._local.position = value

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._stat.st_size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        end = min(self._position + len(buffer), self._stat.st_size)
        if end <= self._position:
            return 0
        read = self._path.read_range(self._position, end, self._stat.e_tag)
        buffer[: len(read)] = read
        self._position += len(read)
        return len(read)
