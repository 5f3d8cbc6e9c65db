from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import table
from tests.streaming.pipeline import wait_for_commits

ROOT = Path(__file__).parents[2]


def test_from_landed_events_to_rows_in_both_stores(run, environment, kafka_server, tmp_path):
    environment.setenv("FEATURE_STORE_DEFINITIONS", "tests.cli.stream_shop")
    environment.setenv("FEATURE_STORE_KAFKA", kafka_server.bootstrap)
    environment.setenv("PYTHONPATH", str(ROOT))
    run("apply")
    assert "400 events sent" in run("stream", "publish", "shop-orders", "--partitions", "2").output
    start = "from feature_store.cli import main; main()"
    command = [sys.executable, "-c", start, "stream", "shop_habits", "--linger", "0.05"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as streamer:
        try:
            wait_for_commits(kafka_server, "shop_habits", "shop-orders")
        finally:
            streamer.send_signal(signal.SIGTERM)
        _, errors = streamer.communicate(timeout=60)
    assert streamer.returncode == 0, errors.decode()
    (drained,) = table(run("stream", "drain", "shop_habits"))
    assert int(drained["rows"]) > 300
    assert drained["lag"] == "0"
    assert table(run("stream", "drain", "--all"))[0]["rows"] == "0"
    assert int(table(run("stream", "compact", "shop_habits"))[0]["rows"]) >= 0
    assert "0 dead letters" in run("stream", "replay-dead-letters", "shop_habits").output
    assert table(run("get", "c1", "orders_3d"))[0]["value"] != "null"


def test_what_is_missing_is_named(run, environment):
    environment.setenv("FEATURE_STORE_DEFINITIONS", "tests.cli.stream_shop")
    assert "FEATURE_STORE_KAFKA" in run("stream", "shop_habits", code=1).output
    environment.setenv("FEATURE_STORE_KAFKA", "127.0.0.1:9")
    assert "Did you mean shop-orders?" in run("stream", "publish", "shop-order", code=1).output
    run("stream", "drain", code=2)
