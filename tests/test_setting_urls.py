"""Malformed URLs in settings: found when a store is opened, by name and value, without what may be a secret."""

from __future__ import annotations

import pytest

from feature_store.errors import SettingsError
from feature_store.setting_urls import masked
from feature_store.store import FeatureStore
from feature_store.streaming.settings import StreamSettings
from tests.cli.conftest import run_command

SECRET = "hunter2"
MALFORMED = [
    ("FEATURE_STORE_ONLINE", "redis://127.0.0.1:notaport/0", "the port is no number from 1 to 65535"),
    ("FEATURE_STORE_ONLINE", "redis://127.0.0.1:0/0", "the port is no number from 1 to 65535"),
    ("FEATURE_STORE_ONLINE", "redis://127.0.0.1:70000/0", "the port is no number from 1 to 65535"),
    ("FEATURE_STORE_ONLINE", "redis://[::1/0", "it cannot be read"),
    ("FEATURE_STORE_ONLINE", "redis://", "it names no host"),
    ("FEATURE_STORE_ONLINE", f"redis://:{SECRET}@:6379/0", "it names no host"),
    ("FEATURE_STORE_ONLINE", f"redis://me:{SECRET}@host/first", "the database is no number"),
    ("FEATURE_STORE_ONLINE", f"redis://host/-1?password={SECRET}", "the database is no number"),
    ("FEATURE_STORE_ONLINE", f"redis://host/0?db={SECRET}", "it cannot be read"),
    ("FEATURE_STORE_ONLINE", f"redis://host/0?colour={SECRET}", "it cannot be read, or has an unknown option"),
    ("FEATURE_STORE_ONLINE", f"memcached://:{SECRET}@host", "the scheme is unknown"),
    ("FEATURE_STORE_ONLINE", "unix://", "it names no socket"),
    ("FEATURE_STORE_ONLINE", "localhost:6379", "the scheme is unknown"),
    ("FEATURE_STORE_ONLINE", f"redis+cluster://me:{SECRET}@a:1,b:x", "the port is no number from 1 to 65535"),
    ("FEATURE_STORE_ONLINE", "redis+cluster://a:1/3", "a cluster has one database, 0"),
    ("FEATURE_STORE_ONLINE", "redis+sentinel://a:1", "it names no service"),
    ("FEATURE_STORE_REGISTRY", "registry.db", "it begins with no scheme"),
    ("FEATURE_STORE_REGISTRY", f"postgresql://me:{SECRET}@host:port/db", "the port is no number from 1 to 65535"),
    ("FEATURE_STORE_REGISTRY", f"postgresql://me:{SECRET}@host:99999/db", "the port is no number from 1 to 65535"),
    ("FEATURE_STORE_REGISTRY", f"postgresql://me:{SECRET}@[::1/db", "its host cannot be read"),
    ("FEATURE_STORE_REGISTRY", f"mysql://me:{SECRET}@host/db", "it names 'mysql'"),
    ("FEATURE_STORE_REGISTRY", "sqlite://", "it names no file"),
    ("FEATURE_STORE_OFFLINE", f"gs://me:{SECRET}@bucket", "neither a folder nor an S3 prefix"),
    ("FEATURE_STORE_OFFLINE", "s3://", "neither a folder nor an S3 prefix"),
    ("FEATURE_STORE_KAFKA", "broker:notaport", "the port is no number from 1 to 65535"),
    ("FEATURE_STORE_KAFKA", f"kafka://me:{SECRET}@broker:9092", "a server is a host and a port"),
    ("FEATURE_STORE_KAFKA", "one:9092,,two:9092", "a server is a host and a port"),
]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in {setting for setting, _, _ in MALFORMED}:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("setting", "value", "reason"), MALFORMED)
def test_a_malformed_url_is_found_at_opening(setting, value, reason, monkeypatch):
    monkeypatch.setenv(setting, value)
    with pytest.raises(SettingsError) as caught:
        FeatureStore.from_env()
    message = str(caught.value)
    assert message.startswith(setting)
    assert reason in message
    assert masked(value).partition("?")[0].partition(":///")[0] in message
    assert "rite " in message
    assert SECRET not in message


@pytest.mark.parametrize(("setting", "value", "reason"), MALFORMED)
def test_a_malformed_url_stops_the_server_at_its_start(setting, value, reason, monkeypatch):
    monkeypatch.setenv(setting, value)
    refused = run_command("serve", "--port", "0", code=1)
    assert reason in " ".join(refused.stderr.split())
    assert setting in refused.stderr
    assert SECRET not in refused.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"FEATURE_STORE_ONLINE": "redis://host"},
        {"FEATURE_STORE_ONLINE": f"rediss://me:{SECRET}@[::1]:6380/3?socket_timeout=2"},
        {"FEATURE_STORE_ONLINE": f"unix://me:{SECRET}@/run/redis.sock?db=2"},
        {"FEATURE_STORE_ONLINE": f"redis+cluster://me:{SECRET}@a:7000,[::1]"},
        {"FEATURE_STORE_ONLINE": "redis+sentinel://a:26379,b/service/2"},
        {"FEATURE_STORE_REGISTRY": "sqlite:///registry.db"},
        {"FEATURE_STORE_REGISTRY": f"postgresql://me:{SECRET}@[::1]:5432/db?sslmode=require"},
        {"FEATURE_STORE_REGISTRY": "postgresql:///db?host=/run/postgresql"},
        {"FEATURE_STORE_KAFKA": "one:9092, two, [::1]:9093"},
        {"FEATURE_STORE_OFFLINE": "s3://bucket/prefix"},
        {"FEATURE_STORE_OFFLINE": "folder/below"},
    ],
    ids=str,
)
def test_what_is_well_formed_opens_and_connects_to_nothing(variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    FeatureStore.from_env().close()


def test_a_stream_checks_its_servers_as_well(monkeypatch):
    monkeypatch.setenv("FEATURE_STORE_KAFKA", "broker:port")
    with pytest.raises(SettingsError, match="FEATURE_STORE_KAFKA is not a list of Kafka servers"):
        StreamSettings.from_env()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        (f"redis://me:{SECRET}@host:6379/0?password={SECRET}&db=1", "redis://***@host:6379/0?password=***&db=***"),
        (f"redis://me:{SECRET}", "redis://me:***"),
        (f"redis://me:a?{SECRET}@host", "redis://***@host"),
        (f"me:{SECRET}@host:1", "***@host:1"),
        ("sqlite:////a:b/registry.db", "sqlite:////a:b/registry.db"),
    ],
)
def test_masking_shows_the_place_and_no_secret(url, shown):
    assert masked(url) == shown
