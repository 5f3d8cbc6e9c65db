"""Tokens: who may read and write what, on a real server; and what the setting may say."""

from __future__ import annotations

import hashlib
import json

import pytest

from feature_store.errors import SettingsError
from feature_store.serving.auth import Tokens
from tests.cli.conftest import run_command
from tests.serving.servers import READER, WHEN, WRITER, open_shop

pytestmark = pytest.mark.slow

PATH = "/v1/online-features"
SPENDING = {"entity_ids": ["c0"], "features": ["amount_3d"]}
TRAITS = {"entity_ids": ["c0"], "features": ["amount_3d", "score"]}
ROW = {
    "customer": ["new"],
    "event_timestamp": [WHEN.isoformat()],
    "orders_3d": [1],
    "amount_3d": [5],
    "last_amount": [5],
}
PUSH = {"push_source_name": "spending", "df": ROW, "to": "online_and_offline"}


def test_a_token_reads_the_groups_that_it_names(guarded):
    assert guarded.call("POST", PATH, SPENDING, READER).json["values"] == [[10]]
    assert guarded.call("POST", PATH, TRAITS, WRITER).json["values"] == [[10, 3.0]]
    refused = guarded.call("POST", PATH, TRAITS, READER)
    assert refused.status == 403
    assert "reader may not read 'traits'" in refused.json["detail"]
    # What is computed of a group tells of it.
    service = {"entity_ids": ["c0"], "feature_service": "checkout", "request_data": {"basket": [1]}}
    assert guarded.call("POST", PATH, service, READER).status == 403
    assert guarded.call("POST", PATH, service, WRITER).status == 200


def test_the_list_shows_what_the_token_may_read(guarded):
    def groups(token):
        return {record["group"] for record in guarded.call("GET", "/v1/features", token=token).json["features"]}

    assert groups(READER) == {"spending"}
    assert groups(WRITER) == {"spending", "traits", "page_views"}


@pytest.mark.parametrize("path", [PATH, "/get-online-features", "/push", "/write-to-online-store", "/v1/nothing"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer wrong"},
        {"authorization": f"Basic {READER}"},
        {"authorization": f"Bearer {READER}x"},
        {"authorization": f"Bearer {hashlib.sha256(READER.encode()).hexdigest()}"},
    ],
)
def test_without_a_known_token_nothing_is_answered(guarded, path, headers):
    answer = guarded.call("POST", path, SPENDING, **headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/health", "/metrics", "/openapi.json", "/docs"])
def test_probes_metrics_and_documents_need_no_token(guarded, path):
    assert guarded.call("GET", path).status == 200


def test_only_a_token_that_may_write_pushes_rows(server, guarded, environment):
    anonymous = server.call("POST", "/push", PUSH)
    assert (anonymous.status, "may not write 'spending'" in anonymous.json["detail"]) == (403, True)
    assert guarded.call("POST", "/push", PUSH, READER).status == 403
    assert guarded.call("POST", "/push", PUSH, WRITER).status == 200
    ask = {"entity_ids": ["new"], "features": ["amount_3d"]}
    assert guarded.call("POST", PATH, ask, WRITER).json["values"] == [[5]]
    with open_shop(environment) as store:
        assert store.get_offline_features(["new"], ["amount_3d"], [WHEN])["amount_3d"].to_list() == [5]


@pytest.mark.parametrize(
    ("change", "status", "detail"),
    [
        ({"push_source_name": "spendin"}, 404, "Did you mean spending"),
        ({"to": "offline"}, 422, "every row goes to both stores"),
        ({"df": {**ROW, "orders_3d": [0]}}, 422, "'orders_3d' breaks greater_than_or_equal_to(1)"),
        ({"df": {**ROW, "orders_3d": [1.5]}}, 422, "'orders_3d' is declared as int, got 1.5"),
        ({"df": {**ROW, "event_timestamp": ["yesterday"]}}, 422, "'event_timestamp' is declared as timestamp"),
        ({"df": {**ROW, "other": [1]}}, 422, "'other' is neither a join key nor a feature"),
        ({"df": {**ROW, "orders_3d": [1, 2]}}, 422, "one value per row"),
        ({"df": {"customer": ["new"]}}, 422, "column 'event_timestamp' is missing"),
        ({"df": 1}, 422, "Expected `object`, got `int`"),
    ],
)
def test_rows_that_cannot_be_written_are_refused(guarded, change, status, detail):
    answer = guarded.call("POST", "/push", {**PUSH, **change}, WRITER)
    assert answer.status == status
    assert detail in answer.json["detail"]


def test_tokens_never_reach_the_log(guarded):
    secret = "some-secret-that-is-unknown-0001"
    guarded.call("POST", PATH, SPENDING, secret)
    guarded.call("POST", PATH, SPENDING, READER, x_request_id="seen")
    line = guarded.logged(lambda line: line.get("request_id") == "seen")
    assert line["caller"] == "reader"
    logged = json.dumps(guarded.lines)
    for token in (secret, READER, WRITER):
        assert token not in logged
        assert hashlib.sha256(token.encode()).hexdigest() not in logged


def test_tokens_may_stand_in_a_file_as_digests(start, tmp_path):
    digest = hashlib.sha256(READER.encode()).hexdigest()
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps({"reader": {"sha256": digest, "read": ["spending"]}}))
    server = start(FEATURE_STORE_SERVER_TOKENS=str(file), FEATURE_STORE_DEFINITIONS="")
    assert server.call("POST", PATH, SPENDING, READER).status == 200
    assert server.call("POST", PATH, SPENDING, digest).status == 401
    assert server.call("POST", "/push", PUSH, READER).status == 403


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "malformed"),
        ('{"a": {"token": "short"}}', "16 or more printable ASCII"),
        ('{"a": {"token": "long enough but blank"}}', "without blanks"),
        ('{"a": {"sha256": "ABC"}}', "64 hexadecimal digits"),
        ('{"a": {"read": ["spending"]}}', "needs either"),
        ('{"a": {"token": "0123456789abcdef", "sha256": ""}}', "needs either"),
        ('{"a": {"token": "0123456789abcdef", "group": []}}', "unknown field `group`"),
        ('{"a": {"token": "0123456789abcdef"}, "b": {"token": "0123456789abcdef"}}', "'a' and 'b' have the same token"),
    ],
)
def test_a_malformed_setting_is_refused_without_showing_it(text, message):
    with pytest.raises(SettingsError, match=message) as refused:
        Tokens.parse(text)
    assert "0123456789abcdef" not in str(refused.value)


def test_without_tokens_the_server_listens_on_this_machine_alone(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    refused = run_command("serve", "--host", "0.0.0.0", code=1)
    assert "0.0.0.0 can be reached from elsewhere, and there are no tokens" in refused.stderr
    monkeypatch.setenv("FEATURE_STORE_SERVER_TOKENS", "/nowhere/tokens.json")
    assert "no readable file" in run_command("serve", code=1).stderr
