"""Concurrent requests share round trips: counted by Redis itself."""

from __future__ import annotations

import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.slow

ASKS = [
    (["c0"], ["amount_3d"]),
    (["c3", "c1"], ["orders_3d", "amount_3d"]),
    (["c0"], ["traits"]),
    (["7|a\\|b"], ["views_1d"]),
    (["nobody"], ["spending", "score:v1"]),
]


def sample(server, name):
    metrics = server.call("GET", "/metrics").body.decode()
    [found] = [
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == name
    ]
    return found


def test_requests_that_wait_share_one_round_trip(start, shop_redis):
    server = start(FEATURE_STORE_DEFINITIONS="")
    bodies = [{"entity_ids": ids, "features": features} for ids, features in ASKS]
    alone = [server.call("POST", "/v1/online-features", body).json for body in bodies]
    outcomes = {}

    def ask(number):
        outcomes[number] = server.call("POST", "/v1/online-features", bodies[number % len(bodies)])

    with shop_redis.client() as redis:
        before = sample(server, "feature_server_read_seconds_count")
        redis.config_resetstat()
        redis.client_pause(600)
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        calls = redis.info("commandstats")["cmdstat_mget"]["calls"]
    # The first that came was read alone, perhaps with others; all that came while it waited were read together.
    assert sample(server, "feature_server_read_seconds_count") - before <= 3
    assert calls <= 6
    assert sample(server, "feature_server_read_requests_sum") == len(bodies) + 60
    for number, outcome in outcomes.items():
        assert outcome.status == 200
        assert outcome.json == alone[number % len(bodies)]
