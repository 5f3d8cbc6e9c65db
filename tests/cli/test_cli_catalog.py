import json

from tests.cli.conftest import properties, table


def test_apply_tells_what_it_did_and_changes_nothing_the_second_time(run):
    first = table(run("apply"))
    assert {"outcome": "created", "kind": "group", "name": "spending"} in first
    assert {"outcome": "created", "kind": "feature", "name": "orders_3d:v1"} in first
    second = table(run("apply", "--definitions", "tests.cli.shop"))
    assert {row["outcome"] for row in second} == {"unchanged"}
    assert {row["name"] for row in second} == {row["name"] for row in first}


def test_apply_refuses_a_changed_dtype_with_one_message(shop):
    result = shop("apply", "--definitions", "tests.cli.careless_shop", code=1)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert "last_amount" in result.stderr
    assert "int" in result.stderr


def test_apply_needs_a_module_that_exists(run):
    result = run("apply", "--definitions", "tests.cli.no_such_shop", code=1)
    assert "'tests.cli.no_such_shop' cannot be imported" in result.stderr


def test_definitions_in_the_working_folder_are_found(shop, tmp_path):
    (tmp_path / "corner_shop.py").write_text("from tests.cli.shop import spending\n")
    assert len(table(shop("apply", "--definitions", "corner_shop"))) == 4


def test_list_shows_every_feature(shop):
    rows = table(shop("list"))
    assert [row["feature"] for row in rows] == ["orders_1h:v1", "orders_3d:v1", "amount_3d:v1", "last_amount:v1"]
    assert rows[2] == {
        "group": "spending",
        "entity": "customer",
        "feature": "amount_3d:v1",
        "dtype": "int",
        "ttl": "5d",
        "owner": "team@example.com",
        "description": "Amount of the orders in the last 3 days, in cents",
    }


def test_list_as_json_is_complete(shop):
    groups = json.loads(shop("list", "--json").stdout)["groups"]
    assert [group["name"] for group in groups] == ["activity", "spending"]
    assert groups[1]["join_keys"] == {"customer": "string"}
    assert groups[1]["features"][1]["online_ttl_seconds"] == 5 * 86_400


def test_a_registry_that_was_never_applied_says_what_to_do(run):
    assert "feature-store apply" in run("list", code=1).stderr


def test_show_a_feature_with_what_is_stored_of_it(shop):
    facts = properties(shop("show", "amount_3d"))
    assert facts["name"] == "amount_3d:v1"
    assert facts["time to live"] == "5d"
    assert facts["files"] == "0"
    shop("materialize", "spending", "--from", "2024-03-03")
    facts = properties(shop("show", "amount_3d:v1"))
    assert facts["partitions"] == "7"
    assert (facts["first partition"], facts["last partition"]) == ("2024-03-03", "2024-03-09")
    assert facts["last written file"].endswith("batch.parquet")
    assert facts["its run id"].startswith("cli-")
    assert facts["its ingested at"].startswith("2024-03-10T00:00:00")


def test_show_a_group_and_an_entity(shop):
    group = shop("show", "spending")
    assert properties(group)["look-back"] == "3d"
    assert "\norders_3d:v1\tcustomer\tint\t2d\t" in group.stdout
    entity = properties(shop("show", "customer"))
    assert entity["groups"] == "activity, spending"
    assert entity["join keys"] == "customer=string"


def test_show_suggests_names(shop):
    assert "Did you mean spending?" in shop("show", "spendings", code=1).stderr
    assert "is not a feature reference" in shop("show", "Spending!", code=1).stderr


def test_retire_asks_and_then_the_feature_is_gone(shop):
    assert "Retire last_amount:v1 for good?" in shop("retire", "last_amount:v1", input="n\n", code=1).stderr
    assert "last_amount:v1" in shop("list").stdout
    shop("retire", "last_amount:v1", "--yes")
    assert "last_amount:v1" not in shop("list").stdout


def test_retire_wants_a_version(shop):
    assert "names no version" in shop("retire", "last_amount", "--yes", code=2).stderr
    assert "is not registered" in shop("retire", "last_amount:v9", "--yes", code=1).stderr
