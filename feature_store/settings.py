"""Settings: from the environment and a `.env` file beside it, never from anywhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dotenv import dotenv_values

from feature_store.errors import SettingsError

EMBEDDED_FOLDER = Path(".feature_store")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the store keeps things. Unset means embedded: a folder in the checkout, Redis from a wheel, SQLite.

    Attributes:
        offline: Folder or `s3://` prefix of the offline store.
        online: URL of the online store; None for the embedded server.
        registry: SQLAlchemy URL of the registry.
        engine: Engine of point-in-time reads: `sweep`, `duckdb`, `auto` for the cheaper of the two, or `spark`, which
            also materializes.
        clock: `system`, or an ISO timestamp at which the store's present stands (a replay of history).
        definitions: Python module that holds the feature groups, for the command line.
        kafka: Bootstrap servers; None for no stream.
        request_log: Folder that keeps a sample of what was served; None for no log.
        request_log_rate: Share of requests that are kept, above 0, up to 1.
        request_log_mb: Size of that folder in MiB beyond which the oldest files go.
    """

    offline: str
    online: str | None
    registry: str
    engine: str
    clock: str | None
    definitions: str | None
    kafka: str | None
    request_log: str | None = None
    request_log_rate: float = 0.01
    request_log_mb: int = 256

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Reads `FEATURE_STORE_*` from the environment, else from `.env` in the working directory.

        Args:
            environ: Read instead of the environment and the file, if given.
        """
        if environ is None:
            environ = environment()
        home = embedded_folder().resolve()
        return cls(
            offline=environ.get("FEATURE_STORE_OFFLINE") or str(home / "offline"),
            online=environ.get("FEATURE_STORE_ONLINE") or None,
            registry=environ.get("FEATURE_STORE_REGISTRY") or f"sqlite:///{home / 'registry.db'}",
            engine=environ.get("FEATURE_STORE_ENGINE") or "auto",
            clock=environ.get("FEATURE_STORE_CLOCK") or None,
            definitions=environ.get("FEATURE_STORE_DEFINITIONS") or None,
            kafka=environ.get("FEATURE_STORE_KAFKA") or None,
            request_log=environ.get("FEATURE_STORE_REQUEST_LOG") or None,
            request_log_rate=_number(environ, "FEATURE_STORE_REQUEST_LOG_RATE", float, 0.01),
            request_log_mb=_number(environ, "FEATURE_STORE_REQUEST_LOG_MB", int, 256),
        )


Number = TypeVar("Number", int, float)


def _number(environ: Mapping[str, str], name: str, kind: Callable[[str], Number], default: Number) -> Number:
    text = environ.get(name)
    if not text:
        return default
    try:
        return kind(text)
    except ValueError:
        raise SettingsError(f"{name}={text!r} is not a number: write one such as {default}, or unset it.") from None


def environment() -> dict[str, str]:
    """Returns the variables of the environment, and those of `.env` in the working directory that it does not set."""
    from_file = {key: value for key, value in dotenv_values(".env").items() if value is not None}
    return {**from_file, **os.environ}


def embedded_folder() -> Path:
    """Returns the folder of the embedded parts: `.feature_store` in the working directory."""
    return EMBEDDED_FOLDER


def contradictions() -> list[str]:
    """Returns the names of variables that the environment and `.env` in the working directory set differently."""
    from_file = dotenv_values(".env")
    return sorted(name for name, value in from_file.items() if os.environ.get(name, value) != value)
