"""Processes that fork: what a child must not share with its parent is made anew in the child.

Sockets, threads and locks that are held do not survive a fork (gunicorn with `--preload`, `multiprocessing`): two
processes would read each other's answers, and nobody would write what waits for a thread. Whatever holds such things
registers itself here once.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Something that holds sockets, threads or locks."""

    def after_fork(self) -> None:
        """Lets go of them, in the child; the parent's stay as they are."""
        ...


_registered: WeakSet[Forkable] = WeakSet()


def renew_in_children(forkable: Forkable) -> None:
    """Calls `after_fork` in every process that is forked from here on, as long as the object lives."""
    _registered.add(forkable)


def _after_fork() -> None:
    for forkable in list(_registered):
        forkable.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
