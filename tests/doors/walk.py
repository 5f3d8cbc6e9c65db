"""Goes through one door into a feature store, in a process of its own: `python -m tests.doors.walk DOOR`.

As soon as the door has opened its store, the settings by which it stands are printed, and the process ends.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from feature_store.store import FeatureStore


def library() -> None:
    with FeatureStore.from_env():
        pass


def command_line() -> None:
    _command("list")


def feature_server() -> None:
    _command("serve", "--port", "0")


def streamer() -> None:
    _command("stream", "run", "shop_habits")


def spark_job() -> None:
    from dagster_pipes import encode_param

    from dagster_feature_store.spark_job import main

    extras = {"module": "tests.cli.stream_shop", "group": "shop_habits", "first": "2024-03-01", "last": "2024-03-01"}
    context = {
        "asset_keys": None,
        "code_version_by_asset_key": None,
        "provenance_by_asset_key": None,
        "partition_key": None,
        "partition_key_range": None,
        "partition_time_window": None,
        "run_id": "walk",
        "job_name": None,
        "retry_number": 0,
        "extras": extras,
    }
    Path("context.json").write_text(json.dumps(context))
    os.environ["DAGSTER_PIPES_CONTEXT"] = encode_param({"path": str(Path("context.json").absolute())})
    os.environ["DAGSTER_PIPES_MESSAGES"] = encode_param({"path": str(Path("messages.jsonl").absolute())})
    main()


def dagster() -> None:
    from resources.feature_store import feature_store

    with feature_store.open():
        pass


DOORS: dict[str, Callable[[], None]] = {
    door.__name__: door for door in (library, command_line, feature_server, streamer, spark_job, dagster)
}


def _command(*words: str) -> None:
    from feature_store.cli.app import cli

    cli(list(words))


def _told(opened: Callable[..., FeatureStore]) -> Callable[..., FeatureStore]:
    def open_and_tell(*arguments: Any, **more: Any) -> FeatureStore:
        store = opened(*arguments, **more)
        assert store.settings is not None
        sys.stdout.write(json.dumps(asdict(store.settings)))
        sys.stdout.flush()
        os._exit(0)

    return open_and_tell


if __name__ == "__main__":
    FeatureStore.open = _told(FeatureStore.open)  # type: ignore[method-assign]
    DOORS[sys.argv[1]]()
    raise SystemExit("The door has not opened a store by FeatureStore.open.")
