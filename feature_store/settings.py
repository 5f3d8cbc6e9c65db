"""Settings: from the environment and a `.env` file beside it, never from anywhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

EMBEDDED_FOLDER = Path(".feature_store")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the store keeps things. Unset means embedded: a folder in the checkout, Redis from a wheel, SQLite.

    Attributes:
        offline: Folder or `s3://` prefix of the offline store.
        online: URL of the online store; None for the embedded server.
        registry: SQLAlchemy URL of the registry.
        engine: Engine of point-in-time reads.
        clock: `system`, or an ISO timestamp at which the store's present stands (a replay of history).
        definitions: Python module that holds the feature groups, for the command line.
        kafka: Bootstrap servers; None for no stream.
    """

    offline: str
    online: str | None
    registry: str
    engine: str
    clock: str | None
    definitions: str | None
    kafka: str | None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Reads `FEATURE_STORE_*` from the environment, else from `.env` in the working directory.

        Args:
            environ: Read instead of the environment and the file, if given.
        """
        if environ is None:
            from_file = {key: value for key, value in dotenv_values(".env").items() if value is not None}
            environ = {**from_file, **os.environ}
        home = embedded_folder().resolve()
        return cls(
            offline=environ.get("FEATURE_STORE_OFFLINE") or str(home / "offline"),
            online=environ.get("FEATURE_STORE_ONLINE") or None,
            registry=environ.get("FEATURE_STORE_REGISTRY") or f"sqlite:///{home / 'registry.db'}",
            engine=environ.get("FEATURE_STORE_ENGINE") or "duckdb",
            clock=environ.get("FEATURE_STORE_CLOCK") or None,
            definitions=environ.get("FEATURE_STORE_DEFINITIONS") or None,
            kafka=environ.get("FEATURE_STORE_KAFKA") or None,
        )


def embedded_folder() -> Path:
    """Returns the folder of the embedded parts: `.feature_store` in the working directory."""
    return EMBEDDED_FOLDER
