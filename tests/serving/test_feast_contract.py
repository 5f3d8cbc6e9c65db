"""Feast's HTTP contract, request by request; Feast's own client is tested beside."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

PATH = "/get-online-features"
EPOCH = "1970-01-01T00:00:00Z"


def ask(server, features, entities, **more):
    return server.call("POST", PATH, {"features": features, "entities": entities, **more})


def columns(answer):
    assert answer.status == 200, answer.body
    names = answer.json["metadata"]["feature_names"]
    return {name: result["values"] for name, result in zip(names, answer.json["results"], strict=True)}


def test_the_answer_has_feasts_shape(server):
    answer = ask(server, ["spending:amount_3d", "spending:orders_3d"], {"customer": ["c0", "c2", "old", "nobody"]})
    when, long_ago = "2024-03-09T12:00:00Z", "2024-03-06T00:00:00Z"
    assert answer.json == {
        "metadata": {"feature_names": ["customer", "amount_3d", "orders_3d"]},
        "results": [
            {
                "values": ["c0", "c2", "old", "nobody"],
                "statuses": ["PRESENT"] * 4,
                "event_timestamps": [EPOCH] * 4,
            },
            {
                "values": [10, None, 90, None],
                "statuses": ["PRESENT", "NULL_VALUE", "PRESENT", "NOT_FOUND"],
                "event_timestamps": [when, when, long_ago, EPOCH],
            },
            {
                "values": [1, 3, None, None],
                "statuses": ["PRESENT", "PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"],
                "event_timestamps": [when, when, long_ago, EPOCH],
            },
        ],
    }


def test_fields_are_the_columns_of_the_group_and_views_may_name_versions(server):
    features = ["traits:score", "traits:score_v2"]
    assert columns(ask(server, features, {"customer": ["c0"]})) == {
        "customer": ["c0"],
        "score": [0.1],
        "score_v2": [3.0],
    }
    for reference, value in [("traits@v1:score", 0.1), ("traits@v2:score", 3.0), ("traits@latest:score", 3.0)]:
        assert columns(ask(server, [reference], {"customer": ["c0"]}))["score"] == [value]


def test_features_of_several_entities_are_joined_by_their_keys(server):
    entities = {"customer": ["c0", "c3"], "number": [7, 8], "country": ["a|b", "a|b"]}
    answer = ask(server, ["page_views:views_1d", "spending:amount_3d"], entities)
    assert columns(answer) == {**entities, "views_1d": [5, None], "amount_3d": [10, 40]}


def test_on_demand_features_take_request_data_from_the_entities(server):
    answer = ask(server, ["basket:basket_share", "spending:amount_3d"], {"customer": ["c0", "c3"], "basket": [5, 4.0]})
    assert columns(answer) == {"customer": ["c0", "c3"], "basket_share": [0.5, 0.1], "amount_3d": [10, 40]}
    body = {"feature_service": "checkout", "entities": {"customer": ["c0"], "basket": [5]}, "full_feature_names": True}
    assert columns(server.call("POST", PATH, body)) == {
        "customer": ["c0"],
        "spending__amount_3d": [10],
        "traits__score": [0.1],
        "basket__basket_share": [0.5],
        "basket__basket_share_v2": [50.0],
    }


@pytest.mark.parametrize(
    ("features", "entities", "status", "detail"),
    [
        ([], {"customer": ["c0"]}, 422, "No features were asked for"),
        (["amount_3d"], {"customer": ["c0"]}, 422, "'amount_3d' is not a feature reference: write view:feature"),
        (["spendin:amount_3d"], {"customer": ["c0"]}, 404, "Did you mean spending"),
        (["spending:amont_3d"], {"customer": ["c0"]}, 404, "Did you mean amount_3d"),
        (["traits@v3:score"], {"customer": ["c0"]}, 404, "of version v3"),
        (["spending:amount_3d"], {}, 422, "customer missing"),
        (["spending:amount_3d"], {"customer": ["c0"], "user": ["c0"]}, 422, "'user': no join key"),
        (["spending:amount_3d"], {"customer": [1]}, 422, "declared as str, got 1"),
        (["basket:basket_share"], {"customer": ["c0"]}, 422, "Request data basket are missing"),
        (["basket:basket_share"], {"customer": ["c0"], "basket": []}, 422, "one value per row"),
        (["traits@v2:score", "traits:score"], {"customer": ["c0"]}, 422, "would be called score"),
    ],
)
def test_what_cannot_be_answered_is_a_problem(server, features, entities, status, detail):
    answer = ask(server, features, entities)
    assert answer.status == status
    assert detail in answer.json["detail"]
