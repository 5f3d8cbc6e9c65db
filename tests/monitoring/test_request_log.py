"""What was served, logged and replayed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from feature_store.clock import FixedClock
from feature_store.errors import SettingsError
from feature_store.monitoring import request_log
from feature_store.monitoring.request_log import RequestLog
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from tests.orders import Orders, some_orders, spending

NOW = datetime(2024, 3, 10, tzinfo=UTC)
FEATURES = ["orders_3d", "amount_3d", "last_amount"]


@pytest.fixture
def group():
    return spending(Orders(some_orders()))


@pytest.fixture
def logging_store(tmp_path, redis_url, clock, group):
    """A store that logs every request, materialized up to the present."""
    log = RequestLog(tmp_path / "log", clock, rate=1)
    with FeatureStore(
        offline=tmp_path / "offline",
        online=redis_url,
        registry=f"sqlite:///{tmp_path / 'registry.db'}",
        clock=clock,
        request_log=log,
    ) as store:
        store.apply([group])
        store.materialize(group, "2024-03-01", "2024-03-09")
        yield store


def test_what_was_served_is_what_a_training_set_says(logging_store):
    logging_store.get_online_features("c1", ["spending"])
    logging_store.get_online_features_batch(["c2", "nobody"], ["last_amount:v1"])
    report = logging_store.replay_requests()
    assert (report.values, report.wrong, report.late, report.skipped) == (5, 0, 0, 0)
    assert report.passed
    assert report.first == report.last == NOW
    assert logging_store.replay_requests(groups=["other"]).values == 0
    assert logging_store.replay_requests(since=NOW + timedelta(seconds=1)).values == 0


def test_a_wrong_answer_is_found(logging_store, group):
    rows = pl.DataFrame(
        {
            "customer": ["c1"],
            "event_timestamp": [NOW - timedelta(minutes=1)],
            "orders_3d": [9],
            "amount_3d": [9],
            "last_amount": [9],
            "ingested_at": [NOW],
        }
    )
    logging_store.online.write(logging_store.registered(group), rows)
    logging_store.get_online_features("c1", ["last_amount"])
    report = logging_store.replay_requests()
    assert (report.values, report.wrong, report.late) == (1, 1, 0)
    (deviation,) = report.deviations
    assert (deviation.entity_id, deviation.feature, deviation.served) == ("c1", "last_amount:v1", 9)


def test_late_data_is_no_wrong_answer(logging_store, group, clock):
    logging_store.get_online_features("c1", ["last_amount"])
    clock.set(NOW + timedelta(hours=1))
    late = pl.DataFrame(
        {
            "customer": ["c1"],
            "event_timestamp": [NOW - timedelta(minutes=1)],
            "orders_3d": [2],
            "amount_3d": [7],
            "last_amount": [7],
        }
    )
    logging_store.ingest(group, late)
    report = logging_store.replay_requests()
    assert (report.wrong, report.late) == (0, 1)
    assert report.passed


def test_a_sample_is_a_share_and_the_answer_belongs_to_its_caller(logging_store, tmp_path, clock):
    log = RequestLog(tmp_path / "sampled", clock, rate=0.2)
    selections = logging_store.catalog().select(["last_amount"])
    answer = {"last_amount": 5}
    for _ in range(500):
        log.offer(["c1"], selections, [answer])
    answer["last_amount"] = 6
    log.close()
    logged = pl.read_parquet(tmp_path / "sampled/*.parquet")
    assert 50 < logged.height < 160
    assert set(logged["value"]) == {"5"}


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 0.1, None, "ü|\n", [0.5, None], True, 2**62])
def test_every_value_reads_back(value, tmp_path, logging_store, clock):
    log = RequestLog(tmp_path / "values", clock, rate=1)
    log.offer(["c1"], logging_store.catalog().select(["last_amount"]), [{"last_amount": value}])
    log.close()
    (text,) = pl.read_parquet(tmp_path / "values/*.parquet")["value"]
    import json

    assert json.loads(text) == value


def test_old_files_go_and_a_flood_is_dropped(tmp_path, logging_store, clock, monkeypatch):
    log = RequestLog(tmp_path / "small", clock, rate=1, most_bytes=5000)
    selections = logging_store.catalog().select(FEATURES)
    for _ in range(10):
        log.offer(["c1"], selections, [dict.fromkeys(FEATURES, 1)])
        log.flush()
    files = sorted(Path(tmp_path / "small").glob("*"))
    assert 1 <= len(files) < 10
    assert sum(file.stat().st_size for file in files) <= 5000
    monkeypatch.setattr(request_log, "MOST_WAITING", 3)
    flooded = RequestLog(tmp_path / "flood", clock, rate=1)
    monkeypatch.setattr(flooded, "_start", lambda: None)
    for _ in range(10):
        flooded.offer(["c1"], selections, [dict.fromkeys(FEATURES, 1)])
    assert flooded.dropped == 7
    log.close()
    flooded.close()


def test_a_request_without_entities_leaves_the_log_at_work(tmp_path, logging_store, clock):
    log = RequestLog(tmp_path / "log2", clock, rate=1)
    selections = logging_store.catalog().select(["last_amount"])
    log.offer([], selections, [])
    log.flush()
    log.offer(["c1"], selections, [{"last_amount": 1}])
    log.close()
    assert (pl.read_parquet(tmp_path / "log2/*.parquet").height, log.dropped) == (1, 0)


def test_a_folder_that_cannot_be_written_costs_no_caller(tmp_path, logging_store, clock):
    (tmp_path / "file").write_text("in the way")
    log = RequestLog(tmp_path / "file", clock, rate=1)
    log.offer(["c1"], logging_store.catalog().select(["last_amount"]), [{"last_amount": 1}])
    log.close()
    assert log.dropped == 1


def test_settings_say_whether_there_is_a_log(tmp_path):
    assert Settings.from_env({}).request_log is None
    named = Settings.from_env({"FEATURE_STORE_REQUEST_LOG": str(tmp_path), "FEATURE_STORE_REQUEST_LOG_RATE": "0.5"})
    assert (named.request_log, named.request_log_rate) == (str(tmp_path), 0.5)
    with pytest.raises(SettingsError, match="FEATURE_STORE_REQUEST_LOG_RATE='much'"):
        Settings.from_env({"FEATURE_STORE_REQUEST_LOG_RATE": "much"})
    with pytest.raises(SettingsError, match="rate=0"):
        RequestLog(tmp_path, FixedClock(NOW), rate=0)


def logged(folder) -> list[tuple[str, str, str]]:
    """Feature, entity and value of all that stands in the log, in order."""
    return sorted(pl.read_parquet(folder / "*.parquet").select("feature", "entity_id", "value").rows())


def test_every_way_to_ask_is_logged_alike(logging_store, tmp_path):
    ids, asked = ["c1", "nobody"], ["last_amount", "amount_3d"]
    reads = {
        "batch": lambda: logging_store.get_online_features_batch(ids, asked),
        "frame": lambda: logging_store.get_online_features_frame(ids, asked),
        "statuses": lambda: logging_store.get_online_statuses(ids, asked),
        "async batch": lambda: asyncio.run(logging_store.aget_online_features_batch(ids, asked)),
        "async frame": lambda: asyncio.run(logging_store.aget_online_features_frame(ids, asked)),
        "async statuses": lambda: asyncio.run(logging_store.aget_online_statuses(ids, asked)),
    }
    found = {}
    for name, read in reads.items():
        read()
        logging_store.request_log.flush()
        found[name] = logged(tmp_path / "log")
        for file in (tmp_path / "log").glob("*.parquet"):
            file.unlink()
    assert len(found["batch"]) == 4
    assert found == dict.fromkeys(reads, found["batch"])
    logging_store.explain("c1", "last_amount")
    logging_store.request_log.flush()
    assert not list((tmp_path / "log").glob("*.parquet")), "to explain an answer is to serve none"


@pytest.mark.parametrize("end", ["closed", "multiprocessing"])
def test_a_forked_process_writes_its_own_log(logging_store, tmp_path, end):
    logging_store.get_online_features("c1", ["last_amount"])
    logging_store.request_log.flush()
    logging_store.get_online_features("c1", ["amount_3d"])  # waits in the parent, and is written by it alone

    def serve() -> None:
        for _ in range(3):
            logging_store.get_online_features("c2", ["last_amount"])

    if end == "multiprocessing":
        child = multiprocessing.get_context("fork").Process(target=serve)
        child.start()
        child.join(30)
        assert child.exitcode == 0
    else:
        child = os.fork()
        if child == 0:
            try:
                serve()
                logging_store.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    logging_store.request_log.flush()
    rows = [(feature, one) for feature, one, _ in logged(tmp_path / "log")]
    assert rows == [("amount_3d:v1", "c1"), ("last_amount:v1", "c1"), *[("last_amount:v1", "c2")] * 3]


LEAVE = """
import os, sys
from datetime import datetime
from feature_store import FeatureStore, FixedClock
from feature_store.monitoring.request_log import RequestLog
clock = FixedClock(datetime(2024, 3, 10))
store = FeatureStore(online=sys.argv[1], clock=clock, request_log=RequestLog(sys.argv[2], clock, rate=1))
store.get_online_features("c1", ["last_amount"])
if os.fork() == 0:
    store.get_online_features("c2", ["last_amount"])
    sys.exit()
os.wait()
"""


@pytest.mark.slow
def test_what_waits_is_written_when_a_process_ends_forked_or_not(logging_store, redis_url, tmp_path):
    subprocess.run([sys.executable, "-c", LEAVE, redis_url, str(tmp_path / "left")], check=True, timeout=60)
    assert [one for _, one, _ in logged(tmp_path / "left")] == ["c1", "c2"]


def test_without_a_log_a_replay_says_what_to_set(store):
    with pytest.raises(SettingsError, match="FEATURE_STORE_REQUEST_LOG"):
        store.replay_requests()
