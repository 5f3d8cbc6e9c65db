"""Every setting goes through every door: what one part of the project knows of the store, no other part drops.

The settings, and a value for each, come from their own table: a new one is walked through all doors from its first day.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from dagster_feature_store.resources.feature_store import FeatureStoreResource
from feature_store.errors import SettingsError
from feature_store.settings import Setting, Settings, settings
from feature_store.store import FeatureStore
from tests.doors.walk import DOORS

ROOT = Path(__file__).parents[2]
QUICK = {"library", "command_line"}
GIVEN = {
    # What the doors read before they open a store has to be there.
    "definitions": "tests.cli.stream_shop",
    "server_tokens": '{"team": {"token": "0123456789abcdef", "read": ["*"]}}',
}


def text_of(setting: Setting) -> str:
    return GIVEN.get(setting.name, setting.example)


def variables() -> dict[str, str]:
    """One variable for each setting, none of them the default."""
    given = {}
    for setting in settings():
        given[f"{setting.variable}SECURITY_PROTOCOL" if setting.is_family else setting.variable] = text_of(setting)
    return given


@pytest.fixture(
    scope="module",
    params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DOORS],
)
def found(request, tmp_path_factory) -> dict[str, Any]:
    """The settings of the store behind a door. One half comes from the environment, the other from `.env`."""
    folder = tmp_path_factory.mktemp("door")
    given = list(variables().items())
    (folder / ".env").write_text("".join(f"{name}='{text}'\n" for name, text in given[::2]))
    clean = {name: text for name, text in os.environ.items() if not name.startswith("FEATURE_STORE_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.doors.walk", request.param],
        cwd=folder,
        env={**clean, **dict(given[1::2]), "PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("setting", settings(), ids=lambda setting: setting.name)
def test_a_setting_arrives_behind_a_door(found, setting):
    given = asdict(Settings.from_env(variables()))
    assert given[setting.name] != asdict(Settings.from_env({}))[setting.name]
    assert found[setting.name] == given[setting.name]


@pytest.mark.parametrize("setting", [each for each in settings() if not each.is_family], ids=lambda each: each.name)
def test_a_dagster_resource_overrides_a_setting_and_hands_it_on_to_other_processes(setting, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for other in settings():
        monkeypatch.delenv(other.variable, raising=False)
    resource = FeatureStoreResource(overrides={setting.name: text_of(setting)})
    expected = Settings.from_env({setting.variable: text_of(setting)})
    with resource.open() as store:
        assert store.settings == expected
    assert Settings.from_env(resource.environment()) == expected


def test_settings_become_the_parts_of_a_store(tmp_path, redis_url):
    given = {
        "FEATURE_STORE_OFFLINE": str(tmp_path / "offline"),
        "FEATURE_STORE_ONLINE": redis_url,
        "FEATURE_STORE_REGISTRY": f"sqlite:///{tmp_path}/registry.db",
        "FEATURE_STORE_ENGINE": "duckdb",
        "FEATURE_STORE_CLOCK": "2014-01-02T00:00:00Z",
        "FEATURE_STORE_DEFINITIONS": "tests.cli.stream_shop",
        "FEATURE_STORE_REQUEST_LOG": str(tmp_path / "log"),
        "FEATURE_STORE_REQUEST_LOG_RATE": "1",
    }
    with FeatureStore.open(Settings.from_env(given)) as store:
        assert store.offline.root == tmp_path / "offline"
        assert store.engine.name == "duckdb"
        assert store.clock.now().isoformat() == "2014-01-02T00:00:00+00:00"
        store.apply(list(store.definitions.groups.values()))
        assert (tmp_path / "registry.db").is_file()
        for _ in range(20):
            store.get_online_features("c1", ["shop_habits"])
    import polars as pl

    logged = pl.read_parquet(tmp_path / "log" / "*.parquet")
    assert logged["served_at"].n_unique() == 1
    assert logged.height % 20 == 0
    assert logged.height


def test_a_setting_that_is_none_is_named_with_those_that_are():
    with pytest.raises(SettingsError, match=r"'offlin'\. Did you mean offline"):
        Settings.from_env({}).overridden({"offlin": "here"})


@pytest.mark.parametrize(
    ("name", "text"),
    [("REQUEST_LOG_RATE", "much"), ("REQUEST_LOG_MB", "1.5"), ("DEBUG", "perhaps")],
)
def test_what_cannot_be_read_is_named(name, text):
    with pytest.raises(SettingsError, match=f"FEATURE_STORE_{name}='{text}' is not a .*: write one such as"):
        Settings.from_env({f"FEATURE_STORE_{name}": text})


def test_secrets_are_not_shown():
    given = Settings.from_env(
        {
            "FEATURE_STORE_ONLINE": "redis://user:hunter2@host:6379/0",
            "FEATURE_STORE_REGISTRY": "postgresql://user:hunter2@host/db",
            "FEATURE_STORE_SERVER_TOKENS": "hunter2",
            "FEATURE_STORE_KAFKA_SASL_PASSWORD": "hunter2",
            "FEATURE_STORE_SMTP": "smtp://user:hunter2@host",
        }
    )
    assert "hunter2" not in repr(given)
    for setting in settings():
        assert "hunter2" not in setting.display(getattr(given, setting.name))


def test_no_variable_is_read_or_described_that_the_table_lacks():
    known = {setting.variable for setting in settings()} | {"FEATURE_STORE_TOKEN"}  # of a Feast client, in docs
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for folder in ("feature_store", "feature_assets", "resources", "sensors"):
        files += (ROOT / folder).rglob("*.py")
    for file in files:
        for name in re.findall(r"FEATURE_STORE_[A-Z_]*[A-Z]", file.read_text()):
            is_option = name.startswith("FEATURE_STORE_KAFKA_")
            assert name in known or is_option or name == "FEATURE_STORE_ALERT", f"{file}: {name}"
