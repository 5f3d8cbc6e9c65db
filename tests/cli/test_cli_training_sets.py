import json
from itertools import takewhile

import pytest

from tests.cli.conftest import properties


@pytest.fixture
def built(shop, monkeypatch):
    """The shop, with values up to now, and both of its training sets."""
    monkeypatch.setenv("FEATURE_STORE_DEFINITIONS", "tests.cli.training_shop")
    shop("materialize", "spending")
    shop("materialize", "activity", "--partition", "2024-03-09-03:00")
    shop("training-set", "build", "churn")
    shop("training-set", "build", "daily_customers", "--to", "2024-03-07")
    return shop


def block(result, name):
    """Reads the named values between a heading and the next one."""
    lines = result.stdout.split(f"{name}\t\n")[1].splitlines()
    pairs = takewhile(lambda pair: pair[-1], (line.split("\t") for line in lines))
    return {pair[0]: pair[1] for pair in pairs}


def test_build_adds_the_partitions_that_are_missing(built):
    again = built("training-set", "build", "daily_customers")
    shown = properties(again)
    assert (shown["outcome"], shown["partitions built"], shown["partitions"]) == ("partitions added", "2", "8")
    assert properties(built("training-set", "build", "daily_customers"))["outcome"] == "exists: nothing is missing"


def test_build_tells_of_stale_partitions_and_builds_them_on_request(built, monkeypatch):
    monkeypatch.setenv("FEATURE_STORE_DEFINITIONS", "tests.cli.changed_shop")
    built("materialize", "spending", "--partition", "2024-03-06")
    result = built("training-set", "build", "daily_customers")
    assert "Partition 2024-03-07 stays as it is, its inputs have changed since" in result.stderr
    assert "build daily_customers --new-version" in result.stderr
    anew = built("training-set", "build", "daily_customers", "--new-version")
    assert properties(anew)["version"] == "2"
    assert properties(anew)["outcome"] == "created"


def test_build_refuses_what_makes_no_sense(built):
    assert "has no partitions" in built("training-set", "build", "churn", "--from", "2024-03-01", code=1).stderr
    assert "has no partitions" in built("training-set", "build", "churn", "--new-version", code=1).stderr
    late = built("training-set", "build", "daily_customers", "--to", "2024-03-10", code=1).stderr
    assert "is not complete" in late


def test_show_a_version(built):
    result = built("training-set", "show", "churn")
    assert properties(result)["rows"] == "3"
    assert "amount_3d\tamount_3d:v1\tInt64\t33.3%\t5d\n" in result.stdout
    partitioned = built("training-set", "show", "daily_customers:v1")
    assert "2024-03-07\t" in partitioned.stdout
    assert "train\t" in partitioned.stdout
    assert "has no version 7" in built("training-set", "show", "churn:v7", code=1).stderr


def test_show_as_json(built):
    shown = json.loads(built("training-set", "show", "churn", "--json").stdout)
    assert shown["manifest"]["features"]["amount_3d"] == "amount_3d:v1"
    assert shown["parts"][0]["rows"] == 3


def test_diff_two_versions(built):
    result = built("training-set", "diff", "churn", "churn:v1")
    assert properties(result)["rows added"] == "0"
    columns = json.loads(built("training-set", "diff", "churn", "churn", "--json").stdout)["columns"]
    assert {column["changed"] for column in columns} == {0}
    assert "cannot be told apart" not in result.stderr
    assert "write name or name:v2" in built("training-set", "diff", "churn", "churn@2", code=1).stderr


def test_verify_a_version(built):
    result = built("training-set", "verify", "churn", "--rebuild")
    assert block(result, "verified")["outcome"] == "passed"
    assert block(result, "verified")["values checked"] == "12"
    assert block(result, "rebuilt")["outcome"] == "the same bytes"


def test_verify_fails_where_a_file_was_changed(built, tmp_path):
    [path] = (tmp_path / "offline" / "training_sets" / "churn" / "v1" / "rows").glob("*.parquet")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + b" ")
    result = built("training-set", "verify", "churn", code=1)
    assert block(result, "verified")["altered_file"] == "1"
    assert "a file that is not what was written" in result.stderr
