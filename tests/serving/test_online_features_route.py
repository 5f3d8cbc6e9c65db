"""`POST /v1/online-features` on a real server: what the library answers, over HTTP."""

from __future__ import annotations

import json
from datetime import timedelta

import polars as pl
import pytest

from feature_store.definitions.group import feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from tests.orders import CUSTOMER
from tests.servers.redis import RedisServer
from tests.serving.servers import LONG_AGO, ODD, TRAITS, WHEN, call_on, open_shop
from tests.serving.shop import ORDERS

pytestmark = pytest.mark.slow

PATH = "/v1/online-features"


@pytest.fixture
def own_redis():
    """For another registry than the shop's: one online store holds one catalog."""
    with RedisServer() as redis:
        yield redis


def ask(server, **body):
    return server.call("POST", PATH, body)


def iso(moment):
    return moment.isoformat().replace("+00:00", "Z")


def test_values_are_rows_in_the_order_of_the_request(server):
    answer = ask(server, entity_ids=["c3", "c0", "nobody", "c3"], features=["amount_3d", "score:v1", "orders_3d"])
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "features": ["amount_3d", "score:v1", "orders_3d"],
        "values": [[40, None, 4], [10, 0.1, 1], [None, None, None], [40, None, 4]],
    }


def test_every_dtype_arrives_exactly(server):
    answer = ask(server, entity_ids=["c0", "odd"], features=["traits"]).json
    assert answer["features"] == ["score:v1", "score", *list(TRAITS)[2:]]
    for row, expected in zip(answer["values"], (TRAITS, ODD), strict=True):
        assert row == [iso(value) if name == "first_seen" else value for name, value in expected.items()]


def test_statuses_say_why_there_is_no_value(server):
    ids = ["c2", "nobody", "old"]
    answer = ask(server, entity_ids=ids, features=["amount_3d", "orders_3d"], statuses=True).json
    assert answer["values"] == [[None, 3], [None, None], [90, None]]
    assert answer["statuses"] == [["null", "present"], ["missing", "missing"], ["present", "expired"]]
    assert answer["event_timestamps"] == [[iso(WHEN)] * 2, [None, None], [iso(LONG_AGO)] * 2]


def test_entities_are_named_by_their_join_keys_too(server):
    keys = {"country": ["a|b", "a"], "number": [7, 7]}
    assert ask(server, entities=keys, features=["views_1d"]).json["values"] == [[5], [None]]
    assert ask(server, entity_ids=["7|a\\|b"], features=["page_views"]).json["values"] == [[5]]
    assert ask(server, entities={"customer": ["c0"]}, features=["orders_3d"]).json["values"] == [[1]]
    assert ask(server, entity_ids=[], features=["orders_3d"]).json["values"] == []


def test_a_feature_service_with_on_demand_features(server):
    body = {"entity_ids": ["c0", "c1"], "feature_service": "checkout", "request_data": {"basket": [5, 2.5]}}
    answer = ask(server, **body).json
    assert answer["features"] == ["amount_3d", "score:v1", "basket_share:v1", "basket_share"]
    assert answer["values"] == [[10, 0.1, 0.5, 50.0], [0, None, float("inf"), float("inf")]]
    with_statuses = ask(server, **body, statuses=True).json
    assert with_statuses["values"] == answer["values"]
    assert with_statuses["statuses"] == [["present"] * 4, ["present", "missing", "present", "present"]]
    assert with_statuses["event_timestamps"][0] == [iso(WHEN)] * 2 + [None] * 2


def test_answers_are_those_of_the_library(server, environment):
    features = ["spending", "traits", "basket", "score:v1"]
    ids = ["c0", "c1", "c2", "c3", "odd", "full", "nobody"]
    baskets = [1.1, 2, None, 0, -0.0, 1e300, 5]
    answer = ask(server, entity_ids=ids, features=features, request_data={"basket": baskets}).json
    with open_shop(environment) as store:
        expected = store.get_online_features_batch(ids, features, request_data={"basket": baskets})
    assert [dict(zip(answer["features"], row, strict=True)) for row in answer["values"]] == [
        {label: iso(value) if label == "first_seen" and value else value for label, value in row.items()}
        for row in expected
    ]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "not valid JSON"),
        (b"{", 400, "not valid JSON"),
        (b'{"entity_ids": ["\xff"]}', 400, "not valid JSON"),
        (b'{"entity_ids": ["\\ud800"]}', 400, "not valid JSON"),
        (b'{"request_data": {"a": ' + b"[" * 100_000, 400, "nested too deeply"),
        ([], 422, "Expected `object`, got `array`"),
        ({"entity_ids": ["c0"]}, 422, "either 'features' or 'feature_service'"),
        ({"entity_ids": ["c0"], "features": ["a"], "feature_service": "b"}, 422, "either 'features' or"),
        ({"features": ["amount_3d"]}, 422, "either 'entity_ids' or 'entities'"),
        ({"entity_ids": ["c0"], "entities": {}, "features": ["amount_3d"]}, 422, "either 'entity_ids' or"),
        ({"entity_ids": ["c0"], "features": []}, 422, "No features were asked for"),
        ({"entity_ids": [1], "features": ["amount_3d"]}, 422, "Expected `str`, got `int` - at `$.entity_ids[0]`"),
        ({"entity_ids": ["c0"], "features": ["amount_3d"], "more": 1}, 422, "unknown field `more`"),
        ({"entity_ids": ["c0"], "features": ["Amount"]}, 422, "'Amount' is not a feature reference"),
        ({"entity_ids": ["c0"], "features": ["amont_3d"]}, 404, "Did you mean amount_3d"),
        ({"entity_ids": ["c0"], "features": ["score:v3"]}, 404, "'score' has the live version(s) v1, v2"),
        ({"entity_ids": ["c0"], "feature_service": "chekout"}, 404, "Did you mean checkout"),
        ({"entity_ids": ["c0"], "features": ["amount_3d", "views_1d"]}, 422, "several entities, customer, page"),
        ({"entity_ids": ["x|a"], "features": ["views_1d"]}, 422, "'number' of entity 'page' is an int64, 'x' is not"),
        ({"entity_ids": ["01|a"], "features": ["views_1d"]}, 422, "is an int64, '01' is not"),
        ({"entity_ids": ["1|\\a"], "features": ["views_1d"]}, 422, "of entity 'page' is spelled '1|a'"),
        ({"entities": {"customer": [1]}, "features": ["amount_3d"]}, 422, "declared as str, got 1"),
        ({"entities": {"user": ["c0"]}, "features": ["amount_3d"]}, 422, "has the join key(s) customer, got user"),
        (
            {"entities": {"number": [1], "country": []}, "features": ["views_1d"]},
            422,
            "lengths {'number': 1, 'country': 0}",
        ),
        ({"entity_ids": ["c0"], "features": ["basket"]}, 422, "Request data basket are missing"),
        ({"entity_ids": ["c0"], "features": ["basket"], "request_data": {"basket": []}}, 422, "one value per entity"),
        ({"entity_ids": ["c0"], "features": ["basket"], "request_data": {"basket": ["1"]}}, 422, "as float, got '1'"),
        ({"entity_ids": ["c0"], "features": ["amount_3d"], "request_data": {"x": [1]}}, 422, "'x' are of no use"),
    ],
)
def test_what_cannot_be_answered_is_a_problem_with_the_remedy(server, body, status, detail):
    answer = server.call("POST", PATH, body)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert detail in problem["detail"]
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_other_routes_methods_and_media_types_are_problems_too(server):
    assert server.call("GET", "/v1/nothing").status == 404
    refused = server.call("GET", PATH)
    assert (refused.status, refused.headers["allow"]) == (405, "POST")
    assert "use POST" in refused.json["detail"]
    for content_type in ("text/plain", "application/x-www-form-urlencoded"):
        assert server.call("POST", PATH, b"{}", content_type=content_type).status == 415
    body = {"entity_ids": ["c0"], "features": ["amount_3d"]}
    assert server.call("POST", PATH, body, content_type="application/json; charset=utf-8").status == 200


def test_a_request_id_is_passed_on_and_others_are_made(server):
    assert server.call("GET", "/health/live", x_request_id="mine-1").headers["x-request-id"] == "mine-1"
    made = {server.call("GET", "/health/live").headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    for strange in ("x" * 129, "a\tb"):
        assert server.call("GET", "/health/live", x_request_id=strange).headers["x-request-id"] != strange


def test_one_connection_serves_request_after_request_errors_among_them(server):
    connection = server.connect()
    for _ in range(3):
        assert call_on(connection, "POST", PATH, {"entity_ids": ["c0"], "features": ["amount_3d"]}).status == 200
        assert call_on(connection, "POST", PATH, b"{").status == 400
        assert call_on(connection, "GET", "/nothing", None).status == 404
    connection.close()


def test_what_is_served_stands_in_the_request_log_whatever_the_route(start, tmp_path):
    log = tmp_path / "log"
    server = start(FEATURE_STORE_REQUEST_LOG=str(log), FEATURE_STORE_REQUEST_LOG_RATE="1")
    ask(server, entity_ids=["c0"], features=["amount_3d"])
    ask(server, entity_ids=["c0"], features=["amount_3d"], statuses=True)
    feast = {"features": ["spending:amount_3d"], "entities": {"customer": ["c0"]}}
    assert server.call("POST", "/get-online-features", feast).status == 200
    body = {"entity_ids": ["c0"], "features": ["basket_share"], "request_data": {"basket": [5]}}
    assert ask(server, **body).json["values"] == [[50.0]]
    assert ask(server, entity_ids=["c0"], features=["unknown"]).status == 404
    server.stop()
    rows = pl.read_parquet(log / "*.parquet")
    assert (
        rows.select("group", "feature", "entity_id", "value").rows() == [("spending", "amount_3d:v1", "c0", "10")] * 4
    )


def test_ten_thousand_features_in_one_request(environment, start, tmp_path, own_redis):
    groups, each = 10, 500
    own = {
        **environment,
        "FEATURE_STORE_ONLINE": own_redis.url,
        "FEATURE_STORE_OFFLINE": str(tmp_path),
        "FEATURE_STORE_REGISTRY": f"sqlite:///{tmp_path}/r.db",
    }
    names = [[f"g{group}_f{number}" for number in range(each)] for group in range(groups)]
    with open_shop(own) as store:
        declared = [wide_group(f"g{number}", columns) for number, columns in enumerate(names)]
        store.apply(declared)
        values = pl.DataFrame([[float(place)] for place in range(each)])
        for group, columns in zip(declared, names, strict=True):
            times = pl.DataFrame({"customer": ["c0"], "event_timestamp": [WHEN], "ingested_at": [WHEN]})
            store.online.write(
                store.registered(group), times.hstack(values.rename(dict(zip(values.columns, columns, strict=True))))
            )
    own["FEATURE_STORE_DEFINITIONS"] = ""
    server = start(**own)
    features = [spelled for columns in names for name in columns for spelled in (name, f"{name}:v1")]
    answer = ask(server, entity_ids=["c0", "nobody"], features=features)
    assert answer.status == 200
    assert answer.json == {
        "features": features,
        "values": [[float(place // 2) for place in range(2 * each)] * groups, [None] * 10_000],
    }
    too_many = ask(server, entity_ids=["c0"] * 11, features=features)
    assert too_many.status == 413
    assert "asks for 110,000 values, one answers at most 100,000" in too_many.json["detail"]


def wide_group(name, columns):
    namespace = {column: feature("A number") for column in columns}
    schema = type(name.title(), (FeatureSchema,), {"__annotations__": dict.fromkeys(columns, float), **namespace})

    def events(events):
        return events

    return feature_group(
        entity=CUSTOMER,
        source=ORDERS,
        schema=schema,
        owner="team@example.com",
        name=name,
        ttl=timedelta(days=2),
        online_layout="row",
    )(events)


def test_the_json_of_numbers_is_exact(server):
    raw = ask(server, entity_ids=["c0"], features=["score:v1", "visits"]).body
    assert json.loads(raw, parse_float=str, parse_int=str)["values"] == [["0.1", "9223372036854775807"]]
