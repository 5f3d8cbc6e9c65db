"""Dagster's daemon in a process of its own, and all processes that came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]

_PROGRAM = """
import dagster._daemon.controller as controller
# Backfills are looked at every second instead of every thirty; all else is the daemon as it is.
controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 1
from dagster._daemon.cli import cli
cli()
"""


def start_daemon(module: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Starts a daemon over a code location; `environment` names its DAGSTER_HOME, `log` is added to."""
    # Not in the checkout: of what its .env sets, Dagster's commands take that before the environment.
    folder = Path(environment["DAGSTER_HOME"])
    command = [sys.executable, "-c", _PROGRAM, "run", "-m", module]
    environment = {**environment, "PYTHONPATH": str(ROOT)}
    with log.open("ab") as output:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )


def end_daemon(process: subprocess.Popen[bytes]) -> None:
    """Asks a daemon to end, and makes it after a while."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def processes_of(home: Path) -> list[int]:
    """Returns the processes that have a DAGSTER_HOME: daemons, code servers and runs."""
    mark = f"DAGSTER_HOME={home}\0".encode()
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if int(environ.parent.name) != os.getpid() and mark in environ.read_bytes():
                found.append(int(environ.parent.name))
    return found


def kill_all_of(home: Path) -> None:
    """Kills each process that has a DAGSTER_HOME, as a machine that loses its power."""
    for pid in processes_of(home):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
