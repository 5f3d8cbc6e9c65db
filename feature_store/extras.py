"""What is said where a package of an extra is missing: one sentence, with the extra's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from feature_store.errors import SettingsError

_OURS = ("feature_store", "dagster_feature_store")


@contextmanager
def needs_extra(extra: str | None, purpose: str) -> Iterator[None]:
    """Turns a failing import of the block into one error that says what to install.

    Args:
        extra: The extra that brings the package; None where none does, since the user has named it.
        purpose: What needs it, as the subject of a sentence in the singular.

    Raises:
        SettingsError: If a package that is imported in the block is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OURS:
            raise
        remedy = f"pip install 'feature-store[{extra}]'" if extra else "no extra brings it, install it by itself"
        raise SettingsError(f"{purpose} needs the package {package!r}: {remedy}.") from None
