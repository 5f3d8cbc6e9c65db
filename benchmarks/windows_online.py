"""Windows online: reads of 20 features beside the bare bytes, bytes per entity, tiles written per second.

    python benchmarks/windows_online.py [--redis redis-server] [--seconds 3] [--entities 50000]

count, sum, mean, max and last over 1 h, 1 d, 7 d and 30 d. It starts a server of its own, on a free port, and ends it.
Times of reads are of one client, in turn and round by round with a bare GET or MGET of the same keys.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from redis import Redis

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.online import server, timed
from feature_store.catalog import Catalog, Feature, RegisteredGroup
from feature_store.clock import FixedClock, SystemClock, to_micros
from feature_store.definitions.dtypes import FLOAT, INT, Dtype
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import FeatureRef
from feature_store.definitions.window_spec import WindowSpec
from feature_store.online.store import OnlineStore
from feature_store.online.window_values import Replacement, WindowValues
from feature_store.store import FeatureStore
from feature_store.windows.extents import Extent
from feature_store.windows.tile_building import TileBuilder
from feature_store.windows.tile_cuts import TileSteps
from feature_store.windows.tile_parts import EntityEvents
from feature_store.windows.tile_schema import TileSchema

NOW = datetime.now(UTC).replace(microsecond=0)
FUNCTIONS = ("count", "total", "mean", "maximum", "last")
LENGTHS = ("1h", "1d", "7d", "30d")
SECONDS = 30 * 86_400


def features(name: str) -> list[Feature]:
    found: list[Feature] = []
    for function in FUNCTIONS:
        for length in LENGTHS:
            extent = Extent.of(length)
            column = None if function == "count" else "amount"
            dtype: Dtype = INT if function == "count" else FLOAT
            spec = WindowSpec(
                function, column, None if column is None else "float", None, None, extent.length, extent.hop
            )
            ref = FeatureRef(f"{name}_{function}_{length}", 1)
            found.append(Feature(len(found), ref, "user", dtype, "", "bench", SECONDS, {}, name, NOW, window=spec))
    return found


def group(name: str) -> RegisteredGroup:
    entity = Entity("user", {"user_id": str})
    return RegisteredGroup(name, entity, tuple(features(name)), "bench", "", "window", "daily", 0, "", NOW)


def events(entities: int, each: int, seed: int = 7) -> EntityEvents:
    """Returns events of the last 30 days, spread evenly, amounts in cents."""
    chance = np.random.default_rng(seed)
    codes = np.repeat(np.arange(entities, dtype=np.int64), each)
    now = to_micros(NOW)
    times = now - 600_000_000 - chance.integers(0, SECONDS * 1_000_000, len(codes))
    times = times[np.lexsort((times, codes))]
    amounts = pl.Series("amount", np.round(chance.uniform(0.01, 1000, len(codes)), 2))
    return EntityEvents(codes, times, times, {"amount": amounts})


def builder(of: RegisteredGroup) -> TileBuilder:
    specs = [feature.window for feature in of.features if feature.window is not None]
    return TileBuilder(TileSchema.of(specs), TileSteps.of(spec.extent for spec in specs), {"amount": FLOAT})


def fill(online: OnlineStore, of: RegisteredGroup, entities: int, each: int) -> list[bytes]:
    build = builder(of)
    values = build.build(events(entities, each), entities, to_micros(NOW)).values
    online.put_schema(of.name, build.schema.fingerprint, build.schema.text)
    replacements = [Replacement(f"user_{n}", b"", 0, value) for n, value in enumerate(values)]
    assert WindowValues(online, of).replace(replacements) == []
    return values


def reads(url: str, port: int, seconds: float) -> None:
    groups = {10: group("few"), 1000: group("many")}
    catalog = Catalog.of(groups.values())
    print(
        f"{'entities':>8} {'events':>7} {'ours p50':>9} {'p99':>9} {'bare p50':>9} {'p99':>9} {'ratio':>6} {'frame':>8}"
    )
    with Redis(port=port) as bare, OnlineStore.connect(url, SystemClock()) as online:
        online.publish(catalog)
        for each, of in groups.items():
            fill(online, of, 1000, each)
        with FeatureStore(online=url) as store:
            for each, of in groups.items():
                for entities in (1, 100, 1000):
                    ids = [f"user_{n}" for n in range(entities)]
                    keys = [f"feature_tiles:{of.name}:{entity_id}" for entity_id in ids]
                    ours: Callable[[], object] = partial(store.get_online_features_batch, ids, [of.name])
                    floor: Callable[[], object] = partial(bare.mget, keys)
                    if entities == 1:
                        ours = partial(store.get_online_features, ids[0], [of.name])
                        floor = partial(bare.get, keys[0])
                    frame = partial(store.get_online_features_frame, ids, [of.name])
                    calls: dict[str, Callable[[], object]] = {"bare": floor, "ours": ours, "frame": frame}
                    took = timed(calls, seconds)
                    mine, least = ([1000 * value for value in took[name]] for name in ("ours", "bare"))
                    print(
                        f"{entities:>8,} {each:>7,} {mine[0]:>7.3f}ms {mine[1]:>7.3f}ms {least[0]:>7.3f}ms "
                        f"{least[1]:>7.3f}ms {mine[0] / least[0]:>6.2f} {1000 * took['frame'][0]:>6.2f}ms"
                    )


def sizes() -> None:
    build = builder(group("sizes"))
    for each in (1, 10, 1_000, 100_000):
        entities = 1 if each > 1000 else 20
        values = build.build(events(entities, each), entities, to_micros(NOW)).values
        print(f"{each:>8,} events: {sum(map(len, values)) / entities:>8,.0f} bytes per entity")


def writes(url: str, entities: int) -> None:
    of = group("written")
    build = builder(of)
    with OnlineStore.connect(url, FixedClock(NOW)) as online:
        values = WindowValues(online, of)
        ids = [f"user_{n}" for n in range(entities)]
        for label, each in (("new entities, 1 event", 1), ("new entities, 10 events", 10)):
            _cleared(online, ids, of)
            given = events(entities, each)
            started = time.perf_counter()
            built = build.build(given, entities, to_micros(NOW)).values
            made = time.perf_counter()
            assert values.replace([Replacement(n, b"", 0, value) for n, value in zip(ids, built, strict=True)]) == []
            ended = time.perf_counter()
            print(
                f"{label}: {entities / (ended - started):>9,.0f} entities/s "
                f"(built {entities / (made - started):,.0f}/s, set {entities / (ended - made):,.0f}/s)"
            )
        later = events(entities, 1)
        later = EntityEvents(later.codes, later.times * 0 + to_micros(NOW) + 3600_000_000, later.times, later.columns)
        after = to_micros(NOW + timedelta(hours=2))
        started = time.perf_counter()
        raws = values.fetch(ids)
        built = build.build(later, entities, after, standing=raws).values
        given_versions = [b"" if raw is None else raw[10:18] for raw in raws]
        tokens = os.urandom(8 * entities)
        joined = [
            Replacement(n, version, 0, value[:10] + tokens[8 * at : 8 * at + 8] + value[18:])
            for at, (n, version, value) in enumerate(zip(ids, given_versions, built, strict=True))
        ]
        assert values.replace(joined) == []
        print(f"one later event joins 10: {entities / (time.perf_counter() - started):>9,.0f} entities/s")


def _cleared(online: OnlineStore, ids: Sequence[str], of: RegisteredGroup) -> None:
    client = online._client()  # noqa: SLF001 - a benchmark
    for entity_id in ids:
        client.ask("DEL", f"feature_tiles:{of.name}:{entity_id}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--redis", default="redis-server")
    parser.add_argument("--seconds", type=float, default=3.0, help="of measuring, for each figure")
    parser.add_argument("--entities", type=int, default=50_000)
    given = parser.parse_args()
    sizes()
    with server(given.redis) as port:
        url = f"redis://127.0.0.1:{port}/0"
        writes(url, given.entities)
        reads(url, port, given.seconds)


if __name__ == "__main__":
    main()
