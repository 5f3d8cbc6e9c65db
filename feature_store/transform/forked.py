"""Whether Polars works in this process: its threads do not survive a fork, and what needs them waits for ever."""

from __future__ import annotations

import os
import re
from pathlib import Path

from feature_store.errors import SettingsError

_WORKER = re.compile(r"polars-\d+\s*")


def check_polars() -> None:
    """Refuses to compute where Polars would hang.

    Raises:
        SettingsError: If this process was forked from one that had computed with Polars.
    """
    if _state["lost"]:
        raise SettingsError(
            "On-demand features cannot be computed in this process: it was forked from one that had computed with "
            "Polars, whose threads do not survive a fork. Read the first on-demand features after the fork (gunicorn: "
            "in post_fork, or without --preload), or start processes by 'spawn'."
        )


def _look() -> None:
    _state["started"] = _state["lost"] or any(map(_is_worker, Path("/proc/self/task").glob("*/comm")))


def _is_worker(comm: Path) -> bool:
    try:
        return _WORKER.fullmatch(comm.read_text()) is not None
    except OSError:  # the thread has ended
        return False


def _forked() -> None:
    _state["lost"] = _state["started"]


_state = {"started": False, "lost": False}

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_look, after_in_child=_forked)
