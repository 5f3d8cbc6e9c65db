"""A process that computes a group once more: `python -m feature_store.conformance.worker FOLDER`.

`processes` writes the folder: a task, and events as Parquet. Here the rows are added, or why there are none.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from datetime import datetime
from pathlib import Path

import polars as pl


def work(folder: Path) -> None:
    """Does the task of a folder.

    Raises:
        LookupError: If the module does not hold the group.
    """
    from feature_store.conformance.processes import find_group
    from feature_store.partitions import Window
    from feature_store.transform.compute import apply_transform

    task = json.loads((folder / "task.json").read_text())
    sys.path[:] = task["path"]
    with contextlib.ExitStack() as stack:
        if task["clock"]:
            import time_machine

            # As a number: a datetime in UTC would set the local time zone, too.
            stack.enter_context(time_machine.travel(datetime.fromisoformat(task["clock"]).timestamp()))
        group = find_group(importlib.import_module(task["module"]), task["group"])
        if group is None:
            raise LookupError(f"Module {task['module']!r} holds no feature group {task['group']!r}")
        for number, bounds in enumerate(task["windows"]):
            window = Window(*map(datetime.fromisoformat, bounds))
            events = pl.read_parquet(folder / f"events-{number}.parquet")
            try:
                rows = apply_transform(group.rows, events.lazy(), window)
            except Exception as error:  # noqa: BLE001 - the function under test may raise anything
                (folder / "failure").write_text(f"{type(error).__name__}: {error}")
                return
            rows.write_parquet(folder / f"rows-{number}.parquet")


if __name__ == "__main__":
    work(Path(sys.argv[1]))
