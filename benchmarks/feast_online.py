"""The online store's benchmark as Feast does it. Runs in Feast's own environment, not in the project's.

Takes one request as JSON from the standard input and prints what it measured as JSON. Seconds and bytes everywhere.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import redis
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

request = json.load(sys.stdin)


def seconds_of(read: Callable[[], object], budget: float) -> list[float]:
    """Returns the sorted times of a call, repeated for a while."""
    for _ in range(20):
        read()
    times = []
    until = time.perf_counter() + budget
    while time.perf_counter() < until or len(times) < 50:
        started = time.perf_counter()
        read()
        times.append(time.perf_counter() - started)
    return sorted(times)


server = redis.Redis(host="127.0.0.1", port=request["port"])
with tempfile.TemporaryDirectory() as folder:
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(Path(folder) / "registry.db"),
            online_store={"type": "redis", "connection_string": f"127.0.0.1:{request['port']}"},
            offline_store={"type": "dask"},
            entity_key_serialization_version=3,
        )
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
    views = {}
    for name, (path, columns) in request["groups"].items():
        source = FileSource(name=f"{name}_source", path=path, timestamp_field="event_timestamp")
        schema = [Field(name=column, dtype=Float64) for column in columns]
        views[name] = FeatureView(name=name, entities=[user], ttl=timedelta(days=1), schema=schema, source=source)
    store.apply([user, *views.values()])
    answer = {"rows": request["rows"], "latency": {}}
    end = datetime.fromisoformat(request["end"])
    for name in views:
        before = server.info("memory")["used_memory"]
        started = time.perf_counter()
        store.materialize(end - timedelta(days=1), end, feature_views=[name])
        if name == "narrow":
            answer["materialize"] = time.perf_counter() - started
            answer["memory"] = (server.info("memory")["used_memory"] - before) / request["rows"]
    for label, (name, count) in request["reads"].items():
        references = [f"{name}:{column}" for column in request["groups"][name][1]]
        rows = [{"user_id": f"user_{n}"} for n in range(count)]
        first = store.get_online_features(references, rows).to_dict()
        assert all(value is not None for value in first[request["groups"][name][1][0]]), "Feast has no values"
        times = seconds_of(lambda: store.get_online_features(references, rows).to_dict(), request["budget"])  # noqa: B023
        answer["latency"][label] = [times[len(times) // 2], times[len(times) * 99 // 100]]
assert end.tzinfo == UTC
print(json.dumps(answer))
