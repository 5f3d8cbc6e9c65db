import json

import pytest

from tests.cli.conftest import table


@pytest.fixture
def filled(shop):
    """The shop, with values up to now."""
    shop("materialize", "spending")
    shop("materialize", "activity", "--partition", "2024-03-09-03:00")
    return shop


def test_get_shows_values_with_their_times(filled):
    result = filled("get", "c1", "amount_3d", "orders_1h", "last_amount:v1")
    amount, hour, last = table(result)
    assert amount == {
        "feature": "amount_3d",
        "value": "34",
        "status": "present",
        "event time": "2024-03-09T03:08:00Z",
        "age": "20h 52min",
        "ttl left": "4d 3h",
    }
    assert hour["feature"] == "orders_1h"
    assert last["ttl left"] == "29d 3h"
    assert "Read in " in result.stderr
    assert " ms" in result.stderr


def test_get_a_group_as_json(filled):
    answer = json.loads(filled("get", "c1", "spending", "--json").stdout)
    assert answer["entity_id"] == "c1"
    assert answer["milliseconds"] > 0
    assert [record["feature"] for record in answer["features"]] == ["orders_3d", "amount_3d", "last_amount"]
    assert [record["value"] for record in answer["features"]] == [2, 34, 18]
    assert answer["features"][0]["ttl_left_seconds"] == pytest.approx(2 * 86_400 - 20 * 3600 - 52 * 60)


def test_get_tells_missing_from_expired(filled, monkeypatch):
    assert table(filled("get", "nobody", "amount_3d"))[0]["status"] == "missing"
    monkeypatch.setenv("FEATURE_STORE_CLOCK", "2024-03-20T00:00:00Z")
    [row] = table(filled("get", "c1", "amount_3d"))
    assert (row["value"], row["status"], row["ttl left"]) == ("null", "expired", "0s")


def test_get_needs_features_that_exist(filled):
    assert "Did you mean amount_3d" in filled("get", "c1", "amount_3", code=1).stderr
    assert "Missing argument 'FEATURE...'" in filled("get", "c1", code=2).stderr


def test_get_without_a_server_says_so(shop, monkeypatch, tmp_path):
    monkeypatch.setenv("FEATURE_STORE_ONLINE", f"unix://:secret@{tmp_path / 'nothing.sock'}")
    error = shop("get", "c1", "amount_3d", code=1).stderr
    assert "does not answer" in error
    assert "secret" not in error


def test_history_is_newest_first_and_names_the_files(filled):
    rows = table(filled("history", "c1", "amount_3d", "--limit", "3"))
    assert [row["event_timestamp"][:10] for row in rows] == ["2024-03-09", "2024-03-07", "2024-03-06"]
    assert rows[0]["value"] == "34"
    assert rows[0]["ingested_at"] == "2024-03-10T00:00:00Z"
    assert rows[0]["file"] == "spending/date=2024-03-09/batch.parquet"


def test_history_as_json_and_of_an_unknown_entity(filled):
    rows = json.loads(filled("history", "c1", "amount_3d", "--json").stdout)["rows"]
    assert rows[0]["value"] == 34
    assert table(filled("history", "nobody", "amount_3d")) == []


def test_history_is_of_one_feature(filled):
    assert "name one of them, such as orders_3d" in filled("history", "c1", "spending", code=1).stderr
    filled("history", "c1", "amount_3d", "--limit", "0", code=2)


def test_materialize_all_by_default_to_the_last_complete_partition(shop):
    result = shop("materialize", "--all")
    activity, spending = table(result)
    assert (spending["partitions"], spending["first"], spending["last"]) == ("9", "2024-03-01", "2024-03-09")
    assert (activity["partitions"], activity["last"]) == ("216", "2024-03-09-23:00")
    assert int(spending["rows"]) == int(spending["online"]) + int(spending["not newest"]) + int(spending["expired"])
    assert "activity: 92 of 216 partitions, 2024-03-01-00:00 to 2024-03-04-19:00" in result.stderr


def test_materialize_one_partition_and_again(shop):
    [first] = table(shop("materialize", "spending", "--partition", "2024-03-05"))
    [second] = table(shop("materialize", "spending", "--partition", "2024-03-05"))
    assert first["partitions"] == second["partitions"] == "1"
    assert first["rows"] == first["changed"] == second["rows"] != "0"
    nothing = ["changed", "withdrawn", "online", "not newest", "expired", "pending"]
    assert [second[column] for column in nothing] == ["0"] * len(nothing)


def test_materialize_before_anything_is_complete(shop, monkeypatch):
    monkeypatch.setenv("FEATURE_STORE_CLOCK", "2024-03-01T00:30:00Z")
    result = shop("materialize", "--all")
    assert [row["partitions"] for row in table(result)] == ["0", "0"]
    assert "spending: no partition is complete yet" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["materialize"], 2, "Name one group, or pass --all."),
        (["materialize", "spending", "--all"], 2, "Name one group, or pass --all."),
        (["materialize", "spending", "--partition", "2024-03-05", "--to", "2024-03-06"], 2, "does not go with"),
        (["materialize", "spending", "--partition", "2024-3-5"], 1, "is not the key of a partition (daily)"),
        (["materialize", "activity", "--partition", "2024-03-05"], 1, "is not the key of a partition (hourly)"),
        (
            ["materialize", "spending", "--from", "2024-03-05", "--to", "2024-03-04"],
            1,
            "its end comes before its start",
        ),
        (["materialize", "spending", "--partition", "2024-02-28"], 1, "begins at 2024-03-01"),
        (["materialize", "spending", "--partition", "2024-03-11"], 1, "Partition 2024-03-11 has not begun"),
        (["materialize", "spending", "--partition", "2024-03-10"], 1, "has landed up to 2024-03-09 only"),
        (["materialize", "spendings"], 1, "Did you mean spending?"),
        (["materialize", "spending", "--quick"], 2, "No such option"),
    ],
)
def test_materialize_refuses_what_makes_no_sense(shop, arguments, code, message):
    assert message in shop(*arguments, code=code).stderr


def test_materialize_a_group_that_was_not_applied(run):
    assert "feature-store apply" in run("materialize", "spending", code=1).stderr


def test_a_training_set_is_built_once(filled):
    first = filled("training-set", "build", "churn")
    assert "outcome\tcreated" in first.stdout
    assert "rows\t3" in first.stdout
    assert "\ncustomer\tc1\tc2\tnobody\n" in first.stdout
    assert "\namount_3d\t" in first.stdout
    second = filled("training-set", "build", "churn")
    assert "outcome\texists: equal inputs" in second.stdout
    assert (
        "No training set 'chrun' is defined. Did you mean churn?"
        in filled("training-set", "build", "chrun", code=1).stderr
    )


@pytest.mark.slow
def test_a_group_that_keeps_the_contract(run):
    rows = table(run("test", "spending"))
    assert {row["result"] for row in rows} == {"holds"}
    assert {row["promise"] for row in rows} >= {"partitions", "entities", "causality", "order", "lookback", "valid"}


@pytest.mark.slow
def test_a_group_that_knows_the_future_is_told_so(run):
    result = run("test", "spending", "--definitions", "tests.cli.careless_shop", "--from", "2024-03-02", code=1)
    [causality] = [row for row in table(result) if row["promise"] == "causality"]
    assert causality["result"] == "BROKEN"
    assert "last_amount is None instead of" in causality["detail"]
    assert "breaks" in result.stderr
    assert "causality" in result.stderr


def test_a_group_without_a_complete_partition_cannot_be_tested(run, monkeypatch):
    monkeypatch.setenv("FEATURE_STORE_CLOCK", "2024-03-01T00:30:00Z")
    assert "has no complete partition yet" in run("test", "spending", code=1).stderr
