"""One read path: good and bad requests are answered alike, whichever door they come through."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import polars as pl
import pytest

from feature_store.errors import FeatureStoreError, InvalidRequestError, UnknownFeatureError
from feature_store.store import FeatureStore
from tests.servers.redis import RedisServer
from tests.serving.servers import LONG_AGO, NOW, WHEN, Server, fill, open_shop

pytestmark = pytest.mark.slow

STATUSES = {"PRESENT": "present", "NULL_VALUE": "null", "NOT_FOUND": "missing", "OUTSIDE_MAX_AGE": "expired"}


class Ask(NamedTuple):
    ids: list[str]
    features: list[str]
    data: dict[str, list[Any]] | None = None


class Answer(NamedTuple):
    """What a door says: values and statuses, where it tells them; or the kind of its error, and its text."""

    values: list[dict[str, Any]] | None = None
    statuses: list[dict[str, str]] | None = None
    error: int | None = None
    detail: str | None = None


KINDS = {InvalidRequestError: 422, UnknownFeatureError: 404}
Door = Callable[[Ask], Answer]


def of_library(read: Callable[[], Any]) -> Answer:
    try:
        answer = read()
    except FeatureStoreError as error:
        return Answer(error=KINDS[type(error)], detail=str(error))
    if isinstance(answer, pl.DataFrame):
        return Answer(answer.drop("entity_id").to_dicts())
    if any(hasattr(value, "status") for row in answer for value in row.values()):
        return Answer(
            [{label: state.value for label, state in row.items()} for row in answer],
            [{label: state.status for label, state in row.items()} for row in answer],
        )
    return Answer(answer)


def one_by_one(read: Callable[..., dict[str, Any]], ask: Ask) -> list[dict[str, Any]]:
    """An answer to every id by itself, each with its own share of the request data."""
    data = ask.data or {}
    return [
        read(one, ask.features, request_data={name: values[place] for name, values in data.items()} or None)
        for place, one in enumerate(ask.ids)
    ]


def library_doors(store: FeatureStore) -> dict[str, Door]:
    def awaited(read: Callable[..., Any]) -> Callable[[Ask], Answer]:
        async def run(ask: Ask) -> Any:
            try:
                return await read(ask.ids, ask.features, request_data=ask.data)
            finally:
                await store.online.aclose()

        return lambda ask: of_library(lambda: asyncio.run(run(ask)))

    def one(entity_id: str, features: list[str], request_data: Any) -> Any:
        return asyncio.run(store.aget_online_features(entity_id, features, request_data=request_data))

    reads = {
        "batch": store.get_online_features_batch,
        "frame": store.get_online_features_frame,
        "statuses": store.get_online_statuses,
    }
    return {
        "one": lambda ask: of_library(lambda: one_by_one(store.get_online_features, ask)),
        "one, async": lambda ask: of_library(lambda: one_by_one(one, ask)),
        **{
            name: lambda ask, read=read: of_library(lambda: read(ask.ids, ask.features, request_data=ask.data))
            for name, read in reads.items()
        },
        "batch, async": awaited(store.aget_online_features_batch),
        "frame, async": awaited(store.aget_online_features_frame),
        "statuses, async": awaited(store.aget_online_statuses),
    }


def native(server: Server, ask: Ask, *, statuses: bool) -> Answer:
    body: dict[str, Any] = {"entity_ids": ask.ids, "features": ask.features, "statuses": statuses}
    if ask.data is not None:
        body["request_data"] = ask.data
    answer = server.call("POST", "/v1/online-features", body)
    if answer.status != 200:
        return Answer(error=answer.status, detail=answer.json["detail"])
    labels, told = answer.json["features"], answer.json.get("statuses")
    return Answer(
        [dict(zip(labels, row, strict=True)) for row in answer.json["values"]],
        None if told is None else [dict(zip(labels, row, strict=True)) for row in told],
    )


def feast(server: Server, ask: Ask) -> Answer:
    """Feast's references name the view; those that the test asks for are of `spending` and `basket`."""
    views = {"basket_share:v1": "basket:basket_share"}
    body = {
        "features": [views.get(name, f"spending:{name}") for name in ask.features],
        "entities": {"customer": ask.ids, **(ask.data or {})},
    }
    answer = server.call("POST", "/get-online-features", body)
    if answer.status != 200:
        return Answer(error=answer.status, detail=answer.json["detail"])
    columns = answer.json["results"][1:]
    return Answer(
        [dict(zip(ask.features, row, strict=True)) for row in zip(*(c["values"] for c in columns), strict=True)],
        [
            {label: STATUSES[status] for label, status in zip(ask.features, row, strict=True)}
            for row in zip(*(column["statuses"] for column in columns), strict=True)
        ],
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A shop of its own, a store on it, and a server."""
    folder = tmp_path_factory.mktemp("doors")
    with RedisServer() as redis:
        settings = {
            "FEATURE_STORE_OFFLINE": str(folder / "offline"),
            "FEATURE_STORE_ONLINE": redis.url,
            "FEATURE_STORE_REGISTRY": f"sqlite:///{folder / 'registry.db'}",
            "FEATURE_STORE_CLOCK": NOW.isoformat(),
            "FEATURE_STORE_DEFINITIONS": "tests.serving.shop",
            "FEATURE_STORE_SERVER_TOKENS": "",
        }
        with open_shop(settings) as store:
            fill(store)
            server = Server(settings)
            yield store, server
            server.stop()


@pytest.fixture(scope="module")
def doors(shop) -> dict[str, Door]:
    store, server = shop
    return {
        **library_doors(store),
        "HTTP": lambda ask: native(server, ask, statuses=False),
        "HTTP with statuses": lambda ask: native(server, ask, statuses=True),
    }


IDS = ["c0", "c2", "old", "nobody"]
GOOD = [
    Ask(IDS, ["amount_3d", "orders_3d", "last_amount"]),
    Ask(["c3", "c0", "c3"], ["amount_3d"]),
    Ask(["c0", "c1"], ["basket_share:v1", "amount_3d"], {"basket": [5.0, None]}),
    Ask(["nobody"], ["basket_share:v1"], {"basket": [1.0]}),
]


@pytest.mark.parametrize("ask", GOOD)
def test_values_and_statuses_are_the_same_by_every_door(shop, doors, ask):
    answers = {name: door(ask) for name, door in doors.items()} | {"Feast": feast(shop[1], ask)}
    expected = answers["statuses"]
    assert expected.error is None
    assert {name: answer.values for name, answer in answers.items()} == dict.fromkeys(answers, expected.values)
    told = {name: answer.statuses for name, answer in answers.items() if answer.statuses is not None}
    assert told == dict.fromkeys(["statuses", "statuses, async", "HTTP with statuses", "Feast"], expected.statuses)


@pytest.mark.parametrize(
    "ask",
    [Ask([], ["amount_3d"]), Ask([], ["basket_share:v1", "amount_3d"], {"basket": []})],
    ids=["stored", "computed"],
)
def test_nobody_is_answered_nothing_by_every_door(shop, doors, ask):
    answers = {name: door(ask).values for name, door in doors.items()} | {"Feast": feast(shop[1], ask).values}
    assert all(values == [] for values in answers.values()), answers


def test_what_explains_a_status_names_the_same(shop, doors):
    features = ["amount_3d", "orders_3d", "last_amount"]
    statuses = doors["statuses"](Ask(IDS, features)).statuses
    explained = [{name: shop[0].explain(one, name).online.status for name in features} for one in IDS]
    assert explained == statuses
    by_offline = [{name: shop[0].explain(one, name).status for name in features} for one in IDS]
    assert by_offline == statuses


BAD = [
    (Ask(["c0"], []), 422, "No features were asked for"),
    (Ask(["c0"], ["Amount"]), 422, "'Amount' is not a feature reference"),
    (Ask(["c0"], ["amont_3d"]), 404, "Did you mean amount_3d"),
    (Ask(["c0"], ["score:v3"]), 404, "'score' has the live version(s) v1, v2"),
    (Ask(["c0"], ["basket_share:v7"]), 404, "'basket_share' has the version(s) v1, v2"),
    (Ask(["c0"], ["amount_3d", "views_1d"]), 422, "several entities, customer, page"),
    (Ask(["x|a"], ["views_1d"]), 422, "'number' of entity 'page' is an int64, 'x' is not"),
    (Ask(["1|\\a"], ["views_1d"]), 422, "of entity 'page' is spelled '1|a'"),
    (Ask(["7"], ["page_views"]), 422, "has 1 key(s), entity 'page' has 2"),
    (Ask(["c0"], ["basket"]), 422, "Request data basket are missing"),
    (Ask(["c0"], ["basket"], {"basket": ["1"]}), 422, "declared as float, got '1'"),
    (Ask(["c0"], ["basket"], {"basket": [1.0], "more": [1]}), 422, "'more' are of no use"),
    (Ask(["c0"], ["amount_3d"], {"basket": [1.0]}), 422, "'basket' are of no use"),
]


@pytest.mark.parametrize(("ask", "error", "detail"), BAD)
def test_errors_are_the_same_by_every_door(doors, ask, error, detail):
    answers = {name: door(ask) for name, door in doors.items()}
    first = answers["batch"]
    assert first.detail is not None
    assert detail in first.detail
    assert answers == dict.fromkeys(answers, Answer(error=error, detail=first.detail))


@pytest.mark.parametrize(
    ("ids", "features", "detail"),
    [
        ("c0", ["amount_3d"], r"a list, got the text 'c0'"),
        (["c0"], "amount_3d", r"a list, got the text 'amount_3d'"),
        ([b"c0"], ["amount_3d"], r"are text, got b'c0'"),
        (["c0", 7], ["amount_3d"], r"are text, got 7"),
        (["c0", "\ud800"], ["amount_3d"], "lone surrogate"),
        (7, ["amount_3d"], "a list, got 7"),
        (["c0"], None, "a list, got None"),
    ],
)
def test_what_only_python_can_say_is_refused_alike(shop, ids, features, detail):
    for name, door in library_doors(shop[0]).items():
        if not name.startswith("one"):
            answer = door(Ask(ids, features))
            assert (name, answer.error) == (name, 422)
            assert detail in str(answer.detail)


def test_ids_may_come_from_any_iterable(shop):
    store, _ = shop
    asked = ["c0", "c3"]
    for ids in (tuple(asked), iter(asked), dict.fromkeys(asked), pl.Series(asked)):
        assert store.get_online_features_batch(ids, iter(["amount_3d"])) == [{"amount_3d": 10}, {"amount_3d": 40}]


def test_the_doors_hold_the_times_too(shop):
    store, _ = shop
    known, old = store.get_online_statuses(["c0", "old"], ["amount_3d", "basket"], request_data={"basket": [1.0, 1.0]})
    assert (known["amount_3d"].event_timestamp, old["amount_3d"].event_timestamp) == (WHEN, LONG_AGO)
    assert known["basket_share"].status == "present"
    assert known["basket_share"].event_timestamp is None
    assert timedelta(days=2) < NOW - LONG_AGO
