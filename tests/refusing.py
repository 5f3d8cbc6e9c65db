"""Places that refuse to be written to, for whoever runs the tests."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VERSION = 0x20080522
_DAC_OVERRIDE = 1


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextmanager
def limited(folder: Path, size: int = 500) -> Iterator[None]:
    """Files may grow to so many bytes and no more: what a full disk is, without one."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """No folder below may be written to, by the administrator neither."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        with _by_permission_only():
            yield
    finally:
        for path in folders:
            path.chmod(0o755)


@contextmanager
def _by_permission_only() -> Iterator[None]:
    """This thread may do what files' permissions say: the administrator is free of them by a capability (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "capset"):
        yield
        return
    header, held = _Header(_VERSION, 0), (_Capabilities * 2)()
    if libc.capget(ctypes.byref(header), held):
        raise OSError(ctypes.get_errno(), "the capabilities of this thread could not be read")
    before = held[0].effective
    held[0].effective = before & ~(1 << _DAC_OVERRIDE)
    libc.capset(ctypes.byref(header), held)
    try:
        yield
    finally:
        held[0].effective = before
        libc.capset(ctypes.byref(header), held)
