"""Opens the Dagster UI from a terminal: `dagster dev`, quiet, with the address as its last line.

Run by `make ui`, as `python -m dagster_feature_store.ui`. Without DAGSTER_HOME, Dagster keeps its records in `.dagster`
of the working directory, where `make` and the command line look for them, too.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

# The command `dg dev`, which is to take its place, is in a package that brings forty others along.
_QUIET = ("-W", "ignore:Function `dev_command` is superseded")

_SETTINGS = "telemetry:\n  enabled: false\nnux:\n  enabled: false\n"
"""Dagster's own settings, where there are none: it would warn of that."""

_SECONDS_BETWEEN_LOOKS = 0.5


def main(arguments: list[str] | None = None) -> int:
    """Runs the webserver and the daemon until one of them ends, or Ctrl-C; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dagster_feature_store.ui", description="Opens the Dagster UI.")
    parser.add_argument("--port", type=int, default=3000)
    # Dagster warns of the dagster.yaml of a project, which `make` has copied to where it looks.
    parser.add_argument("--log-level", default="error", help="what webserver and daemon say, for instance info")
    asked = parser.parse_args(arguments)
    home = Path(os.environ.get("DAGSTER_HOME") or ".dagster").resolve()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        (home / "dagster.yaml").write_text(_SETTINGS)
    # A shell lets what it starts in the background ignore Ctrl-C, and Dagster would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    options = ["--port", str(asked.port), "--log-level", asked.log_level]
    process = subprocess.Popen(  # noqa: S603 - this interpreter, with our own arguments
        [sys.executable, *_QUIET, "-m", "dagster", "dev", *options], env={**os.environ, "DAGSTER_HOME": str(home)}
    )
    # Dagster shuts its servers down at Ctrl-C alone, which reaches it from the terminal.
    signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
    try:
        while process.poll() is None and not _listens(asked.port):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        if process.poll() is None:
            sys.stdout.write(f"The Dagster UI, until Ctrl-C: http://localhost:{asked.port}\n")
            sys.stdout.flush()
        return process.wait()
    except KeyboardInterrupt:
        process.wait()
        return 0


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
