"""What is to be computed is shown, planned and computed; what was told is shown."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta

import polars as pl
import pytest

from feature_store.alerts.findings import WHOLE, Finding
from feature_store.alerts.notifier import Alerts
from feature_store.clock import SystemClock
from feature_store.registry.registry import Registry
from tests.cli import shop as shop_module
from tests.cli.conftest import table
from tests.orders import START, orders


def status(run, group="spending"):
    (found,) = [row for row in table(run("status")) if row["group"] == group]
    return {name: value for name, value in found.items() if value not in {"0", "", group}}


@pytest.fixture
def source(monkeypatch):
    """The shop's source, as it was again after the test."""
    monkeypatch.setattr(shop_module.ORDERS, "events", shop_module.ORDERS.events)
    return shop_module.ORDERS


def add(source, day, amount):
    late = orders(("c1", START + timedelta(days=day - 1, hours=15), amount))
    source.events = pl.concat([source.events, late])


def test_what_has_landed_is_missing_until_it_is_backfilled(shop):
    assert status(shop) == {"missing": "9"}
    (planned,) = table(shop("backfill", "spending", "--plan"))
    assert (planned["first"], planned["last"], planned["partitions"]) == ("2024-03-01", "2024-03-09", "9")
    assert planned["rows foreseen"] == str(len(shop_module.ORDERS.events))
    assert float(planned["seconds foreseen"]) >= 0
    assert status(shop) == {"missing": "9"}
    shop("backfill", "spending")
    assert status(shop) == {"partitions": "9", "last": "2024-03-09"}
    assert table(shop("backfill", "spending")) == []


def test_days_that_changed_are_backfilled_and_a_bad_one_is_held(shop, source):
    shop("backfill", "spending")
    add(source, 2, 7)
    add(source, 7, 5000)
    assert status(shop)["changed"] == "7"
    failed = shop("backfill", "spending", code=1)
    assert "partition 2024-03-07" in failed.output
    assert status(shop) == {"partitions": "9", "last": "2024-03-09", "held": "1"}
    document = json.loads(shop("status", "spending", "--json").stdout)
    ((start, reason),) = document["groups"][0]["reasons"].items()
    assert start.startswith("2024-03-07")
    assert "5000" in reason


def test_incidents_are_shown_until_they_are_over(shop, tmp_path):
    assert table(shop("alerts")) == []
    with closing(Registry(f"sqlite:///{tmp_path / 'registry.db'}", SystemClock())) as registry:
        told = Alerts(registry, [], SystemClock())
        told.report([Finding("model/churn", "The model is off", failed=(WHOLE,), owner="ml@example.com")])
        (row,) = table(shop("alerts"))
        assert (row["incident"], row["owner"], row["over"]) == ("model/churn", "ml@example.com", "")
        told.report([Finding("model/churn", "The model is off", passed=(WHOLE,))])
    assert table(shop("alerts")) == []
    (incident,) = json.loads(shop("alerts", "--all", "--json").stdout)["incidents"]
    assert incident["resolved_at"]
