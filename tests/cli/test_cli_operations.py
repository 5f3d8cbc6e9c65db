import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from feature_store.cli.app import cli
from feature_store.cli.output import shown
from feature_store.durations import duration_text
from feature_store.errors import UnknownFeatureError
from feature_store.online.embedded import EmbeddedRedis
from feature_store.store import FeatureStore
from tests.cli.conftest import properties, run_command, table
from tests.servers.redis import RedisServer

COMMANDS = ["apply", "list", "show", "retire", "get", "history", "materialize", "training-set", "test", "doctor"]
COMMANDS += [f"training-set {command}" for command in ("build", "show", "diff", "verify")]


def parts(result):
    """Returns result and detail of each part that the doctor has examined."""
    lines = [line.split("\t") for line in result.stdout.splitlines()]
    return {line[0]: (line[1], line[2]) for line in lines if len(line) == 3}


def test_the_doctor_finds_a_new_store_unapplied_and_then_healthy(run, tmp_path):
    before = parts(run("doctor", code=1))
    assert before["registry"][0] == "problem"
    assert "feature-store apply" in before["registry"][1]
    assert before["offline store"] == ("ok", f"{tmp_path / 'offline'}, to be made at the first write")
    run("apply")
    run("materialize", "spending")
    after = parts(run("doctor"))
    assert {result for result, _ in after.values() if result != "result"} == {"ok"}
    assert after["clock"][1] == "2024-03-10T00:00:00+00:00, stands still, to replay history"
    assert after["definitions"][1] == "2 feature groups, 1 training sets"
    assert after["registry"][1].endswith("2 groups, 4 live features")
    assert after["offline store"][1].endswith("offline, writable")
    assert "valkey 8" in after["online store"][1]
    assert "eviction noeviction" in after["online store"][1]


def test_the_doctor_names_what_is_missing_lost_or_stale_and_how_to_mend_it(run, tmp_path):
    run("apply")
    run("materialize", "spending")
    run("training-set", "build", "churn")
    assert parts(run("doctor"))["features"][0] == "ok"
    for file in (tmp_path / "offline" / "spending" / "date=2024-03-04").iterdir():
        file.unlink()
    outcome, detail = parts(run("doctor", code=1))["features"]
    assert outcome == "problem"
    assert "spending: 1 partition(s) have landed and are not computed." in detail
    assert "churn: Version 1 is stale" in detail
    command = re.search(r"`feature-store (materialize [^`]*)`", detail)[1]
    run(*command.split())
    run("training-set", "build", "churn")
    with FeatureStore.from_env() as store:
        store.online._client().ask("FLUSHDB")
    _, detail = parts(run("doctor", code=1))["features"]
    assert "sampled entities are not online" in detail
    command = re.search(r"`feature-store (monitor repair [^`]*)`", detail)[1]
    run(*command.split())
    assert parts(run("doctor"))["features"][0] == "ok"


def test_the_doctor_sees_groups_that_are_defined_but_not_applied(run, tmp_path):
    (tmp_path / "half_a_shop.py").write_text("from tests.cli.shop import spending\n")
    run("apply", "--definitions", "half_a_shop")
    assert parts(run("doctor", code=1))["registry"][1] == "Not registered: activity. Run `feature-store apply`."


def test_the_doctor_sees_that_the_environment_hides_the_file(run, monkeypatch, tmp_path):
    run("apply")
    (tmp_path / ".env").write_text("FEATURE_STORE_CLOCK=2031-01-01T00:00:00Z\nFEATURE_STORE_ENGINE=duckdb\nOTHER=1\n")
    monkeypatch.setenv("OTHER", "2")
    outcome, detail = parts(run("doctor", code=1))["settings"]
    assert outcome == "problem"
    assert "different things of FEATURE_STORE_CLOCK:" in detail
    (tmp_path / ".env").unlink()
    assert parts(run("doctor"))["settings"][0] == "ok"


def test_the_doctor_never_shows_a_password(run, monkeypatch, tmp_path):
    monkeypatch.setenv("FEATURE_STORE_ONLINE", f"redis://me:s3cret@{tmp_path.name}.invalid:6379/0?password=s3cret")
    monkeypatch.setenv("FEATURE_STORE_REGISTRY", "postgresql://me:s3cret@127.0.0.1:1/registry?password=s3cret")
    result = run("doctor", code=1)
    assert "s3cret" not in result.output
    shown_settings = properties(result)
    assert shown_settings["FEATURE_STORE_ONLINE"].startswith("redis://***@")
    assert shown_settings["FEATURE_STORE_REGISTRY"] == "postgresql://***@127.0.0.1:1/registry?password=***"
    assert parts(result)["online store"][0] == "problem"
    assert parts(result)["registry"][0] == "problem"


@pytest.mark.parametrize("url", ["redis://:p@ss/w0rd@localhost", "redis://user:a?b@localhost/0", "me:p@ss@localhost"])
def test_even_a_malformed_url_shows_no_password(run, monkeypatch, url):
    monkeypatch.setenv("FEATURE_STORE_ONLINE", url)
    output = run("doctor", code=1).output
    assert not any(secret in output for secret in ("p@ss", "w0rd", "a?b"))


def test_the_doctor_reports_every_broken_part_at_once(run, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "bad_shop.py").write_text("raise RuntimeError('out of stock')\n")
    monkeypatch.setenv("FEATURE_STORE_OFFLINE", str(tmp_path / "file" / "offline"))
    monkeypatch.setenv("FEATURE_STORE_DEFINITIONS", "bad_shop")
    monkeypatch.setenv("FEATURE_STORE_CLOCK", "noon")
    result = run("doctor", code=1)
    assert {name for name, (outcome, _) in parts(result).items() if outcome == "problem"} == {
        "clock",
        "definitions",
        "registry",
        "offline store",
        "online store",
    }
    assert "RuntimeError: out of stock" in parts(result)["definitions"][1]
    assert "noon" in parts(result)["clock"][1]


def test_the_doctor_warns_of_a_server_that_may_lose_values(run, monkeypatch):
    with RedisServer(options={"maxmemory": "1gb", "maxmemory-policy": "allkeys-lru"}) as server:
        monkeypatch.setenv("FEATURE_STORE_ONLINE", server.url)
        outcome, detail = parts(run("doctor", code=1))["online store"]
    assert outcome == "problem"
    assert "CONFIG SET maxmemory-policy noeviction" in detail


def test_the_embedded_server_starts_and_stops(environment, tmp_path):
    try:
        assert properties(run_command("redis", "status"))["running"] == "false"
        started = properties(run_command("redis", "start"))
        assert started["running"] == "true"
        assert properties(run_command("redis", "start"))["pid"] == started["pid"]
        assert properties(run_command("redis", "status"))["url"] == started["url"]
        assert "is stopped" in run_command("redis", "stop").stdout
        assert "No embedded server was running" in run_command("redis", "stop").stdout
    finally:
        EmbeddedRedis().stop()


def test_with_no_settings_everything_is_embedded(environment, tmp_path):
    try:
        run_command("apply")
        run_command("materialize", "spending")
        assert table(run_command("get", "c1", "amount_3d"))[0]["value"] == "34"
        assert parts(run_command("doctor"))["online store"][1].startswith("embedded, valkey 8")
        assert (tmp_path / ".feature_store" / "offline" / "spending").is_dir()
    finally:
        EmbeddedRedis().stop()


def test_redis_says_when_the_embedded_server_is_not_the_one_in_use(run):
    assert "names another server" in run("redis", "status").stderr


@pytest.mark.parametrize("switch", [["--debug"], []])
def test_debug_lets_errors_through(shop, monkeypatch, switch):
    if not switch:
        monkeypatch.setenv("FEATURE_STORE_DEBUG", "1")
    result = CliRunner().invoke(cli, [*switch, "get", "c1", "unheard_of"])
    assert isinstance(result.exception, UnknownFeatureError)


@pytest.mark.parametrize("command", [*COMMANDS, "redis start", "redis stop", "redis status"])
def test_every_command_helps_with_an_example(environment, command):
    for option in ("-h", "--help"):
        text = run_command(*command.split(), option).stdout
        assert f"    feature-store {command}" in text
        assert "Example" in text


def test_unknown_commands_are_wrong_usage(environment):
    assert "No such command" in run_command("aply", code=2).stderr


def test_help_needs_no_heavy_module():
    code = (
        "import sys, feature_store.cli.app; "
        "print(*sys.modules.keys() & {'polars', 'duckdb', 'sqlalchemy', 'redis', 'pandera', 'rich', 'numpy'})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_the_console_script_runs_in_a_shell(shop):
    lines = subprocess.run(
        [sys.executable, "-c", "from feature_store.cli import main; main()", "list", "--json"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [group["name"] for group in json.loads(lines)["groups"]] == ["activity", "spending"]


def test_a_terminal_gets_ruled_tables_and_a_pipe_gets_none(shop, monkeypatch):
    assert "\x1b" not in shop("list").output
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    ruled = shop("list").stdout
    assert "\t" not in ruled
    assert "─" in ruled
    assert "amount_3d:v1" in ruled


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0.1, "0.1"),
        ("a\tb\x1b[31m", r"'a\tb\x1b[31m'"),
        ([1.0, None, 2.0, 3.0, 4.0], "[1.0, null, 2.0, 3.0, ... 5 in all]"),
        ({"team": "growth", "pii": "no"}, "team=growth pii=no"),
    ],
)
def test_values_are_one_harmless_line(value, text):
    assert shown(value) == text


def test_durations_are_in_two_units():
    from datetime import timedelta

    spans = [timedelta(days=3, hours=4, minutes=5), timedelta(minutes=65), timedelta(seconds=61), timedelta(0)]
    assert list(map(duration_text, spans)) == ["3d 4h", "1h 5min", "1min 1s", "0s"]
    assert duration_text(timedelta(hours=-2)) == "-2h"
    assert duration_text(timedelta(milliseconds=250)) == "0.25s"
    assert duration_text(timedelta(days=1, minutes=30, seconds=5)) == "1d"
    assert duration_text(timedelta(days=1, minutes=30, seconds=5), most_units=4) == "1d 30min 5s"
