"""What the server says of itself: metrics, logs, the list of features, OpenAPI, and that it keeps to it."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from prometheus_client.parser import text_string_to_metric_families
from schemathesis import GenerationMode, openapi
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from tests.serving.servers import TOKENS, WRITER

pytestmark = pytest.mark.slow

PATH = "/v1/online-features"
ASK = {"entity_ids": ["c0"], "features": ["amount_3d"]}


def samples(server):
    text = server.call("GET", "/metrics").body.decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_count_requests_by_route_and_status(server):
    before = samples(server)
    server.call("POST", PATH, ASK)
    server.call("POST", PATH, b"{")
    server.call("GET", "/any/path/at/all")
    after = samples(server)

    def grown(name, **labels):
        key = (name, *sorted(labels.items()))
        return after[key] - before.get(key, 0)

    assert grown("feature_server_requests_total", route=PATH, status="200") == 1
    assert grown("feature_server_requests_total", route=PATH, status="400") == 1
    assert grown("feature_server_requests_total", route="other", status="404") == 1
    assert grown("feature_server_request_seconds_count", route=PATH) == 2
    assert grown("feature_server_values_total") == 1
    assert after["feature_server_catalog_age_seconds",] < 60
    assert after["process_resident_memory_bytes",] > 0
    assert not any("/any/path" in str(key) for key in after)


def test_every_request_is_a_line_of_json(server):
    server.call("POST", PATH, ASK, x_request_id="logged-1")
    line = server.logged(lambda line: line.get("request_id") == "logged-1")
    assert line["time"].endswith("Z")
    assert line["milliseconds"] > 0
    del line["time"], line["milliseconds"]
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": "logged-1",
        "method": "POST",
        "route": PATH,
        "status": 200,
        "caller": "anyone",
        "entities": 1,
        "features": 1,
    }


def test_the_list_tells_all_that_can_be_asked_for(server):
    listing = server.call("GET", "/v1/features").json
    references = {record["reference"]: record for record in listing["features"]}
    assert set(references) >= {"amount_3d:v1", "score:v1", "score:v2", "views_1d:v1"}
    assert references["score:v2"]["current"]
    assert not references["score:v1"]["current"]
    assert references["views_1d:v1"]["join_keys"] == {"number": "int", "country": "string"}
    assert references["taste:v1"]["dtype"] == "embedding[3]"
    [basket] = listing["on_demand"]
    assert basket["request_data"] == {"basket": "float"}
    assert basket["features"] == {"basket_share:v1": "float", "basket_share:v2": "float"}
    assert [service["name"] for service in listing["feature_services"]] == ["checkout", "profile"]


def test_the_examples_of_the_document_work(server, guarded):
    document = server.call("GET", "/openapi.json").json
    assert document["openapi"].startswith("3.1")
    for path, token in ((PATH, None), ("/get-online-features", None)):
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for example in content["examples"].values():
            assert server.call("POST", path, example["value"], token).status == 200
    guarded_document = guarded.call("GET", "/openapi.json").json
    assert guarded_document["paths"][PATH]["post"]["security"] == [{"bearer": []}]
    assert "security" not in document["paths"][PATH]["post"]


def test_the_page_shows_every_route_and_loads_nothing_from_elsewhere(server):
    page = server.call("GET", "/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    text = page.body.decode()
    for path in server.call("GET", "/openapi.json").json["paths"]:
        assert path in text
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", text)
    assert "curl -s localhost:6566/v1/online-features" in text


def test_the_server_keeps_to_its_document(start):
    server = start("--no-log-requests", FEATURE_STORE_SERVER_TOKENS=json.dumps(TOKENS))
    document = openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    checked = set()
    for result in document.get_all_operations():
        operation = result.ok()
        keeps_to_its_document(operation)
        checked.add(f"{operation.method.upper()} {operation.path}")
    assert checked >= {
        f"POST {PATH}",
        "POST /get-online-features",
        "POST /push",
        "GET /v1/features",
        "GET /health/ready",
    }
    assert not [line for line in server.lines if line["level"] == "error"]


def keeps_to_its_document(operation):
    """Sends requests that the document allows, and requests that it does not, and checks all answers against it."""
    # Without a body there is nothing to be wrong.
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if operation.body else [GenerationMode.POSITIVE]
    for mode in modes:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def check(case):
            # That requests without a token are refused is tested elsewhere; this check leaves the header in.
            headers = {"authorization": f"Bearer {WRITER}"}
            # A document cannot say how far ahead of the server's clock a row may lie: such rows are answered with 422.
            refused = [positive_data_acceptance] if "event_timestamp" in str(case.body) else []
            case.call_and_validate(headers=headers, excluded_checks=[ignored_auth, *refused])

        check()


def test_a_server_without_definitions_needs_no_dataframe_library():
    code = (
        "import sys, feature_store.serving.server; print({'polars', 'pandas', 'pyarrow', 'dagster'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
