"""A made-up history and label frame of any size, seeded: entities by Zipf's law, ties, nulls, both kinds of keys.

The exponent of Zipf's law is mild: the most frequent of 200,000 entities has three rows of a thousand. With a steeper
one, systems that join each label with all rows of its entity do not come to an end.

History is written by the store's own writers, so that a benchmark reads what production reads. What is measured, and
how, is no concern of this module.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from feature_store.catalog import Catalog, Feature, RegisteredGroup
from feature_store.clock import to_micros
from feature_store.definitions.dtypes import FLOAT
from feature_store.definitions.entity import Entity
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT, FeatureRef
from feature_store.frames import TIMESTAMP_TYPE
from feature_store.offline.store import OfflineStore
from feature_store.partitions import Window
from feature_store.rows.polars_schema import row_schema

START = datetime(2023, 1, 1, tzinfo=UTC)
NO_TTL_SECONDS = 100 * 365 * 86_400
FEATURES = 10
LABEL_TIME = "label_time"
LABEL_ID = "label_id"
_FORMAT = 3
_MICROS_PER_DAY = 86_400_000_000
_EXPONENT = 0.8
_NULL_SHARE = 0.05
_TIE_SHARE = 0.01
_UNKNOWN_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a history is, and of what kind.

    Attributes:
        history: Rows of each group.
        days: Days that they are spread over, one partition each.
        groups: Groups with the same entity.
        key: `string` or `int`.
        seed: Of the generator.
    """

    history: int
    days: int = 365
    groups: int = 1
    key: str = "string"
    seed: int = 7

    @property
    def entities(self) -> int:
        """How many entities there are; Zipf's law gives most rows to few of them."""
        return max(1_000, self.history // 50)

    @property
    def name(self) -> str:
        """A folder name that tells the shape."""
        return f"{self.history}x{self.days}d-{self.groups}g-{self.key}-{self.seed}"


def catalog(shape: Shape, ttl_seconds: int) -> Catalog:
    """Returns the groups of a history: ten float features each, all with one time to live."""
    entity = Entity("user", {"user_id": str if shape.key == "string" else int})
    return Catalog.of(_group(entity, number, ttl_seconds) for number in range(shape.groups))


def history(folder: Path, shape: Shape) -> OfflineStore:
    """Returns an offline store with a history of a shape, made now if the folder does not hold it yet."""
    root = folder / shape.name / "offline"
    done = folder / shape.name / "history.json"
    wanted = {"format": _FORMAT, **asdict(shape)}
    store = OfflineStore(root)
    if done.exists() and json.loads(done.read_text()) == wanted:
        return store
    shutil.rmtree(folder / shape.name, ignore_errors=True)
    for number, group in enumerate(catalog(shape, 1).groups.values()):
        generator = np.random.default_rng([shape.seed, number])
        odds = _odds(shape)
        counts = np.full(shape.days, shape.history // shape.days)
        counts[: shape.history % shape.days] += 1
        for day, count in enumerate(counts):
            window = Window(START + timedelta(days=day), START + timedelta(days=day + 1))
            rows = _rows(group, shape, generator, odds, window, int(count))
            claim = partial(max, window.end)
            store.replace_partition(group, window, rows.drop(INGESTED_AT), began=window.end, claim=claim, metadata={})
    done.write_text(json.dumps(wanted))
    return store


def labels(folder: Path, shape: Shape, count: int, days: tuple[int, int]) -> Path:
    """Returns a Parquet file of labels: `label_id`, the key, `label_time` and a `target`, in no order.

    Args:
        folder: Where data are kept.
        shape: Of the history that the labels are of.
        count: How many.
        days: First and last day (exclusive) of their times.
    """
    path = folder / shape.name / f"labels-{count}-{days[0]}-{days[1]}.parquet"
    if not path.exists():
        generator = np.random.default_rng([shape.seed, count, *days])
        entities = _draw(generator, _odds(shape), count)
        unknown = generator.random(count) < _UNKNOWN_SHARE
        entities[unknown] += shape.entities
        offsets = generator.integers(days[0] * _MICROS_PER_DAY, days[1] * _MICROS_PER_DAY, count)
        frame = pl.DataFrame(
            {
                LABEL_ID: np.arange(count),
                "user_id": _keys(entities, shape),
                LABEL_TIME: _times(START, offsets),
                "target": generator.random(count) < 0.1,
            }
        )
        temporary = path.with_suffix(".writing")
        frame.write_parquet(temporary)
        temporary.rename(path)
    return path


def _group(entity: Entity, number: int, ttl_seconds: int) -> RegisteredGroup:
    name = f"group_{number}"
    features = tuple(
        Feature(
            number * FEATURES + index,
            FeatureRef(f"g{number}_f{index}", 1),
            entity.name,
            FLOAT,
            "",
            "bench",
            ttl_seconds,
            {},
            name,
            START,
        )
        for index in range(FEATURES)
    )
    return RegisteredGroup(name, entity, features, "bench", "", "feature", "daily", 0, "", START)


def _rows(
    group: RegisteredGroup, shape: Shape, generator: np.random.Generator, odds: np.ndarray, window: Window, count: int
) -> pl.DataFrame:
    entities = _draw(generator, odds, count)
    offsets = generator.integers(0, _MICROS_PER_DAY, count)
    # Some rows repeat the entity and time of another one, ingested later: a correction.
    ties = max(1, int(count * _TIE_SHARE))
    entities[:ties], offsets[:ties] = entities[-ties:], offsets[-ties:]
    ingested = np.full(count, _MICROS_PER_DAY)
    ingested[:ties] += 1
    columns = {
        "user_id": _keys(entities, shape),
        EVENT_TIMESTAMP: _times(window.start, offsets),
        INGESTED_AT: _times(window.start, ingested),
    }
    for index, feature in enumerate(group.features):
        columns[feature.ref.column] = _values(generator, index, count)
    return pl.DataFrame(columns).select(row_schema(group).names())


def _values(generator: np.random.Generator, index: int, count: int) -> pl.Series:
    """Returns floats as features have them: measurements, amounts of money, counts; some are null."""
    if index % 2 == 0:
        values = generator.standard_normal(count)
    elif index % 4 == 1:
        values = np.round(generator.lognormal(3, 1, count), 2)
    else:
        values = generator.poisson(3, count).astype(float)
    nothing = generator.random(count) < _NULL_SHARE
    return pl.select(pl.when(pl.lit(pl.Series(nothing))).then(None).otherwise(pl.lit(pl.Series(values)))).to_series()


def _odds(shape: Shape) -> np.ndarray:
    weights = 1 / (np.arange(shape.entities) + 10) ** _EXPONENT
    return np.cumsum(weights) / weights.sum()


def _draw(generator: np.random.Generator, odds: np.ndarray, count: int) -> np.ndarray:
    return np.searchsorted(odds, generator.random(count)).clip(max=len(odds) - 1)


def _keys(entities: np.ndarray, shape: Shape) -> pl.Series:
    # A bijection that spreads entities over the numbers: frequent ones do not lie together in files sorted by key.
    spread = pl.Series("key", (entities * 7_919_317) % (10 * shape.entities + 7))
    if shape.key == "int":
        return spread
    return spread.to_frame().select(pl.format("u{}", pl.col("key").cast(pl.String).str.zfill(9))).to_series()


def _times(start: datetime, micros: np.ndarray) -> pl.Series:
    return pl.Series(micros + to_micros(start)).cast(TIMESTAMP_TYPE)
