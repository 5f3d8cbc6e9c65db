"""Feast's own Python client, unchanged and in an environment of its own, reads from our server and writes to it."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.serving.servers import ODD, READER, ROOT, TRAITS, WHEN, WRITER, open_shop

FEAST = Path(os.environ.get("FEAST_PYTHON", ROOT / ".venv-feast" / "bin" / "python"))

pytestmark = [
    pytest.mark.needs_feast,
    pytest.mark.skipif(
        not FEAST.exists(),
        reason="Feast's client is not installed: no Python at FEAST_PYTHON or .venv-feast/bin/python",
    ),
]


def rows(*customers):
    return [{"customer": customer} for customer in customers]


ROW = {"customer": "feast", "event_timestamp": WHEN.isoformat(), "orders_3d": 2, "amount_3d": 7, "last_amount": 3}
WRITE = ("write", {"view": "spending", "rows": [ROW]})
CALLS = {
    "all": (
        WRITER,
        "get",
        {"features": [f"traits:{name}" for name in TRAITS if name != "taste"], "rows": rows("c0", "odd")},
    ),
    "two views": (
        WRITER,
        "get",
        {"features": ["spending:amount_3d", "traits:score"], "rows": rows("c3", "c2", "c0", "c3")},
    ),
    "full names": (WRITER, "get", {"features": ["spending:amount_3d"], "rows": rows("c0"), "full_feature_names": True}),
    "service": (WRITER, "get", {"features": "profile", "rows": rows("full")}),
    "unknown": (WRITER, "get", {"features": ["spending:amount"], "rows": rows("c0")}),
    "wrong token": ("some-token-that-nobody-has", "get", {"features": ["spending:amount_3d"], "rows": rows("c0")}),
    "allowed": (READER, "get", {"features": ["spending:amount_3d"], "rows": rows("c0")}),
    "forbidden": (READER, "get", {"features": ["traits:score"], "rows": rows("c0")}),
    "refused": (READER, *WRITE),
    "written": (WRITER, *WRITE),
    "read back": (WRITER, "get", {"features": ["spending:amount_3d", "spending:last_amount"], "rows": rows("feast")}),
}


@pytest.fixture(scope="module")
def answers(guarded, tmp_path_factory):
    """What Feast's client is answered to all calls, made in turn by one process: to import Feast takes seconds."""
    url = f"http://127.0.0.1:{guarded.port}"
    request = {"folder": str(tmp_path_factory.mktemp("feast")), "url": url, "calls": CALLS}
    done = subprocess.run(
        [FEAST, Path(__file__).with_name("feast_client.py")],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": request["folder"], "FEAST_USAGE": "False"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def seconds(moment):
    return int(moment.timestamp())


def test_values_of_all_dtypes_come_through(answers):
    assert answers["all"] == {
        "customer": ["c0", "odd"],
        **{name: [TRAITS[name], ODD[name]] for name in ("score", "score_v2", "nickname", "subscribed", "visits")},
        "first_seen": [seconds(TRAITS["first_seen"]), seconds(ODD["first_seen"])],
    }


def test_views_are_joined_and_what_is_missing_is_none(answers):
    assert answers["two views"] == {
        "customer": ["c3", "c2", "c0", "c3"],
        "amount_3d": [40, None, 10, 40],
        "score": [None, None, 0.1, None],
    }
    assert answers["full names"] == {"customer": ["c0"], "spending__amount_3d": [10]}


def test_a_feature_service_and_embeddings_come_through(answers):
    assert list(answers["service"]) == ["customer", *TRAITS]
    assert answers["service"]["taste"] == [[0.5, 0.25, -1.0]]


def test_errors_carry_our_words(answers):
    assert "Feature view 'spending' has no feature 'amount'" in answers["unknown"]
    assert "amount_3d" in answers["unknown"]


def test_the_clients_token_decides(answers):
    assert "401" in answers["wrong token"]
    assert answers["allowed"] == {"customer": ["c0"], "amount_3d": [10]}
    assert "reader may not read 'traits'" in answers["forbidden"]
    assert "reader may not write 'spending'" in answers["refused"]


def test_rows_that_the_client_writes_are_in_both_stores(answers, environment):
    assert answers["written"] is None
    assert answers["read back"] == {"customer": ["feast"], "amount_3d": [7], "last_amount": [3]}
    with open_shop(environment) as store:
        history = store.get_offline_features(["feast"], ["amount_3d"], [datetime(2024, 3, 9, 13, tzinfo=UTC)])
        assert history["amount_3d"].to_list() == [7]
