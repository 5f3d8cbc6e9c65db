"""The process in which the function runs must not matter: hash seed, time zone, threads, clock at import, first call.

Processes of its own import the module that defines the group, compute, and hand rows back as Parquet.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import polars as pl

from feature_store.conformance.probe import Probe
from feature_store.conformance.result import BrokenPromiseError, NotShownError, Verdict
from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.windowed_group import InstantsOf
from feature_store.partitions import Window

_TIMEOUT_SECONDS = 600
_AHEAD = timedelta(days=763, hours=7, minutes=23)


@dataclass(frozen=True, slots=True)
class _Way:
    """How a process differs from this one.

    Attributes:
        said: In words.
        variables: Environment variables.
        windows: What it computes, one after another.
        clock: Where its clock stands when it imports the definitions; None for the real time.
    """

    said: str
    variables: Mapping[str, str]
    windows: list[Window]
    clock: datetime | None = None


def processes(probe: Probe, verdict: Verdict) -> str:
    """Checks that new processes give the same rows."""
    module = _module_of(probe.group)
    ahead = datetime.now(UTC) + _AHEAD
    ways = [
        _Way(
            "In a new process, with another hash seed, whose first run is of the last partition:",
            {"PYTHONHASHSEED": "1"},
            [probe.windows[-1], probe.windows[0]],
        ),
        _Way(
            "In a new process, with another hash seed, where it is 11:17 hours later than UTC, with one thread, begun "
            f"at {ahead.isoformat(sep=' ', timespec='minutes')}:",
            {"PYTHONHASHSEED": "2", "TZ": "LATER-11:17", "POLARS_MAX_THREADS": "1"},
            [probe.span],
            ahead,
        ),
    ]
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / str(number) for number in range(len(ways))]
        started = [_start(probe, module, way, folder) for way, folder in zip(ways, folders, strict=True)]
        try:
            for way, folder, process in zip(ways, folders, started, strict=True):
                _finish(process, folder)
                for number, window in enumerate(way.windows):
                    rows = pl.read_parquet(folder / f"rows-{number}.parquet")
                    verdict.expect(probe.rows_of(probe.events_for(window), window), rows, way.said)
        finally:
            for process in started:
                process.kill()
                process.wait()
    return "New processes, with other hash seeds, time zone, threads, clock and first run, give the same rows."


def find_group(module: object, name: str) -> FeatureGroup | None:
    """Returns the feature group of a name among a module's attributes, None if there is none."""
    groups = (value for value in vars(module).values() if isinstance(value, FeatureGroup))
    return next((group for group in groups if group.name == name), None)


def _module_of(group: FeatureGroup) -> str:
    """Returns the module that another process can import the group from."""
    transform = group.transform.transform if isinstance(group.transform, InstantsOf) else group.transform
    own = getattr(transform, "__module__", None)
    names = [name for name in (own, *list(sys.modules)) if name and name != "__main__"]
    for name in names:
        module = sys.modules.get(name)
        if module is not None and hasattr(module, "__dict__") and _is_in(module, group):
            return name
    raise NotShownError("The group is not an attribute of a module, so a new process cannot import it.")


def _is_in(module: ModuleType, group: FeatureGroup) -> bool:
    found = find_group(module, group.name)
    if found is None or not isinstance(group.transform, InstantsOf):
        return found is group
    # The rows of a windowed group are derived from it, anew each time.
    return found.rows.transform is group.transform


def _start(probe: Probe, module: str, way: _Way, folder: Path) -> subprocess.Popen[str]:
    folder.mkdir()
    for number, window in enumerate(way.windows):
        try:
            probe.events_for(window).write_parquet(folder / f"events-{number}.parquet")
        except pl.exceptions.PolarsError as error:
            raise NotShownError(f"The events cannot be handed to a new process: {error}") from None
    task = {
        "module": module,
        "group": probe.group.name,
        "path": sys.path,
        "clock": way.clock.isoformat() if way.clock else None,
        "windows": [[window.start.isoformat(), window.end.isoformat()] for window in way.windows],
    }
    (folder / "task.json").write_text(json.dumps(task))
    command = [sys.executable, "-m", "feature_store.conformance.worker", str(folder)]
    variables = {**os.environ, **way.variables, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with (folder / "said").open("w") as said:
        # The command is this interpreter and a module of this package.
        return subprocess.Popen(  # noqa: S603
            command, env=variables, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, text=True
        )


def _finish(process: subprocess.Popen[str], folder: Path) -> None:
    try:
        code = process.wait(_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotShownError(f"A new process has not finished within {_TIMEOUT_SECONDS} seconds.") from None
    failure = folder / "failure"
    if failure.exists():
        raise BrokenPromiseError(f"In a new process, the function raised {failure.read_text()}")
    if code:
        lines = (folder / "said").read_text().strip().splitlines()
        raise NotShownError(f"A new process ended with code {code}: {lines[-1] if lines else 'it said nothing'}.")
