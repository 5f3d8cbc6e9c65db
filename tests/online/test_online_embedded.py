"""The embedded server: one per folder, shared, kept up, its data kept; and what importing the store costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from feature_store.clock import FixedClock
from feature_store.online.embedded import EmbeddedRedis
from feature_store.online.store import OnlineStore
from tests.online.groups import at, catalog, frame, group

ENSURE = "import sys; from pathlib import Path; from feature_store.online.embedded import EmbeddedRedis; "
ENSURE += "sys.stdin.readline(); print(EmbeddedRedis(Path(sys.argv[1])).ensure())"


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path / "redis")
    yield server
    server.stop()


def pid(server: EmbeddedRedis) -> int:
    status = server.status()
    assert status.running
    assert status.pid
    return status.pid


def test_processes_that_start_it_at_once_share_one_server_that_outlives_them(embedded: EmbeddedRedis) -> None:
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", ENSURE, str(embedded.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for starter in starters:
        assert starter.stdin
        starter.stdin.write("go\n")
        starter.stdin.flush()
    urls = {starter.communicate(timeout=30)[0].strip() for starter in starters}
    assert [starter.returncode for starter in starters] == [0, 0, 0]
    assert urls == {embedded.ensure()}
    first = pid(embedded)
    assert (embedded.folder / "redis.pid").read_text().strip() == str(first)
    assert (embedded.folder / "redis.log").read_text().count("Ready to accept connections") == 1
    assert os.getsid(first) != os.getsid(0)


def test_data_is_kept_from_stop_to_start(embedded: EmbeddedRedis) -> None:
    with Redis.from_url(embedded.ensure()) as redis:
        redis.set("key", "value")
    assert embedded.stop()
    assert not embedded.status().running
    assert not embedded.stop()
    with Redis.from_url(embedded.ensure()) as redis:
        assert redis.get("key") == b"value"


def test_a_killed_server_is_replaced(embedded: EmbeddedRedis) -> None:
    embedded.ensure()
    killed = pid(embedded)
    os.kill(killed, signal.SIGKILL)
    with OnlineStore.connect(embedded.ensure(), FixedClock(at(0))) as store:
        store.ping()
    assert pid(embedded) != killed


def test_a_folder_too_deep_for_a_socket(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / ("deep" * 40) / "a folder with spaces")
    with OnlineStore.connect(server.ensure(), FixedClock(at(0))) as store:
        store.ping()
    note = server.folder / "socket.path"
    place = Path(note.read_text()).parent
    assert place.exists()
    assert EmbeddedRedis(server.folder).ensure() == server.ensure()
    assert server.stop()
    assert not note.exists()
    assert not place.exists()


def test_no_url_means_the_embedded_server_started_when_first_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    of = group()
    with OnlineStore.connect(None, FixedClock(at(1))) as store:
        assert not Path(".feature_store").exists()
        try:
            store.write(of, frame(of, [{"user_id": "u", "event_timestamp": at(0), "clicks": 0.5}]))
            assert store.read(["u"], catalog(of).select(["clicks"]), catalog(of)) == [{"clicks": 0.5}]
            assert EmbeddedRedis().status().folder == tmp_path / ".feature_store" / "redis"
        finally:
            EmbeddedRedis().stop()


def test_what_reads_imports_no_dataframes_and_no_database() -> None:
    code = (
        "import sys, feature_store.online.store, feature_store.online.reading.prepared, feature_store.online.client; "
        "print({'polars', 'sqlalchemy', 'dagster', 'pandera', 'pyarrow', 'numpy'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
