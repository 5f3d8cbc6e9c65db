"""A private PostgreSQL server for tests, started from the binaries of the operating system.

`with PostgresServer() as server: url = server.create_database()`. It listens on a Unix socket in a folder of its own,
so that any number run side by side, and asks for a password as a production server does.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

USER = "feature_store"
PASSWORD = "correct-horse-battery"
MISSING = "needs the PostgreSQL server binaries (on Debian: apt-get install postgresql)"


def find_binaries() -> Path | None:
    """Returns the folder that holds initdb, pg_ctl and postgres, the newest if there are several."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: float(folder.parent.name) if folder.parent.name.replace(".", "").isdigit() else 0,
        reverse=True,
    )
    needed = ("initdb", "pg_ctl", "postgres")
    return next((folder for folder in folders if all((folder / name).exists() for name in needed)), None)


class PostgresServer:
    """Starts on entering, stops on leaving; nothing of it remains."""

    def __init__(self) -> None:
        binaries = find_binaries()
        if binaries is None:
            raise FileNotFoundError(MISSING)
        self._binaries = binaries
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        # A short path of its own: a socket's may have 107 characters, and the server's user must reach it.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._data = self.folder / "data"
        self._account = _account()
        try:
            self._create()
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def kill(self) -> None:
        """Crashes the server: what it has not written is recovered from its log."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def start(self) -> None:
        """Starts a server that was killed."""
        self._run("pg_ctl", "-D", self._data, "-l", self.folder / "log", "-w", "-t", "60", "start")

    def url(self, database: str, *, password: str = PASSWORD, scheme: str = "postgresql") -> str:
        return f"{scheme}://{USER}:{password}@/{database}?host={self.folder}"

    def create_database(self) -> str:
        """Creates an empty database and returns its URL."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def _create(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if self._account:
            for path in (self.folder, secret):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        self._run(
            "initdb", "-D", self._data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}", "-N", "-E", "UTF8"
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self.folder,
            # Nothing has to survive: no waiting for the disk.
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "shared_buffers": "16MB",
            # Neither UTC nor whole hours: what is not converted shows.
            "timezone": "Asia/Kathmandu",
        }
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            cwd=self.folder,
            # The server inherits the descriptors of pg_ctl: a pipe would stay open as long as it runs.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            check=False,
            **(
                {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
                if self._account
                else {}
            ),
        )
        if done.returncode:
            log = self.folder / "log"
            raise RuntimeError(f"{program} failed ({done.returncode}): {log.read_text() if log.exists() else ''}")


def _account() -> pwd.struct_passwd | None:
    # The server refuses to run as root.
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("No account postgres or nobody to run the server as.")
