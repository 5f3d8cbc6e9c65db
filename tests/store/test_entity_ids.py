"""One entity has one id: every other spelling of its keys is refused, by every read."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.definitions.entity import Entity
from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.errors import InvalidRequestError
from tests.orders import Orders, orders

PAIR = Entity("pair", {"number": int, "code": str})
NUMBER = Entity("numbered", {"number": int})
NOON = datetime(2024, 3, 9, 12, tzinfo=UTC)
CODE = "a|b\\"
ID = "1|a\\|b\\\\"


class Views(FeatureSchema):
    views: int = feature("Views.")


class Hits(FeatureSchema):
    hits: int = feature("Hits.")


@feature_group(entity=PAIR, source=Orders(orders()), schema=Views, owner="team")
def pairs(events: pl.LazyFrame) -> pl.LazyFrame:
    return events


@feature_group(entity=NUMBER, source=Orders(orders()), schema=Hits, owner="team")
def numbers(events: pl.LazyFrame) -> pl.LazyFrame:
    return events


@pytest.fixture
def filled(store):
    store.apply([pairs, numbers])
    store.ingest(pairs, pl.DataFrame({"number": [1], "code": [CODE], "event_timestamp": [NOON], "views": [7]}))
    store.ingest(numbers, pl.DataFrame({"number": [1], "event_timestamp": [NOON], "hits": [3]}))
    return store


def answers(store, entity_id: str, name: str):
    group = "pairs" if name == "views" else "numbers"
    return {
        "online": lambda: store.get_online_features(entity_id, [name])[name],
        "batch": lambda: store.get_online_features_batch([entity_id], [name])[0][name],
        "frame": lambda: store.get_online_features_frame([entity_id], [name]).item(0, name),
        "statuses": lambda: store.get_online_statuses([entity_id], [name])[0][name].value,
        "async": lambda: asyncio.run(_aread(store, entity_id, name)),
        "offline": lambda: store.get_offline_features([entity_id], [name], [store.clock.now()]).item(0, name),
        "explain": lambda: store.explain(entity_id, name).value,
        "consistency": lambda: store.check_consistency(group, entity_ids=[entity_id]).passed,
    }


async def _aread(store, entity_id: str, name: str):
    answer = (await store.aget_online_features_batch([entity_id], [name]))[0][name]
    await store.online.aclose()
    return answer


@pytest.mark.parametrize(("entity_id", "name", "value"), [(ID, "views", 7), ("1", "hits", 3)])
def test_the_canonical_id_is_answered_by_every_read(filled, entity_id, name, value):
    reads = answers(filled, entity_id, name)
    assert reads.pop("consistency")()
    assert {read: call() for read, call in reads.items()} == dict.fromkeys(reads, value)


OTHER_ONES = ("01", "+1", " 1", "1 ", "1_0", "\u0661", "-0", "1.0", "1e0", "", str(2**63))


@pytest.mark.parametrize(
    ("entity_id", "name"),
    [
        *((spelling + ID.removeprefix("1"), "views") for spelling in (*OTHER_ONES, "\\1")),
        ("1|\\a\\|b\\\\", "views"),
        ("1|a\\|b\\\\\\", "views"),
        ("1|a\\|b\\", "views"),
        *((spelling, "hits") for spelling in OTHER_ONES),
    ],
)
def test_another_spelling_is_refused_by_every_read(filled, entity_id, name):
    for call in answers(filled, entity_id, name).values():
        with pytest.raises(InvalidRequestError, match="Entity id"):
            call()


@given(st.integers(-(2**63), 2**63 - 1), st.text("ab|\\"))
def test_ids_and_keys_are_one_to_one(number, code):
    entity_id = PAIR.entity_id(number=number, code=code)
    assert PAIR.keys_of(entity_id) == {"number": number, "code": code}


@given(st.text("01|\\a"))
def test_an_id_that_is_read_is_the_one_that_is_written(text):
    try:
        keys = PAIR.keys_of(text)
    except InvalidRequestError:
        return
    assert PAIR.entity_id(**keys) == text
