"""Any outage heals by itself: a shop's daemon and servers fail at random; in the end all is as if nothing had happened.

pytest -m long tests/chaos                          # a quarter of an hour
SHOP_CHAOS_SECONDS=3600 SHOP_CHAOS_SEED=7 pytest -m long tests/chaos
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from feature_store import FeatureStore
from feature_store.errors import FeatureStoreError
from feature_store.registry.records import IncidentRecord
from feature_store.settings import Settings
from tests.chaos.location import groups
from tests.chaos.world import CLOCK, CUSTOMERS, START, World
from tests.servers.redis import RedisServer

PATIENCE_SECONDS = 240
"""How long healing may take once all causes are gone. Sensors look each two seconds, on a machine that is busy."""

Expected = tuple[object, dict[str, pl.DataFrame]]
"""Answers of a store, and the rows of each group."""

IDS = [f"c{number}" for number in range(CUSTOMERS)]


def storm(world: World, seconds: float) -> Counter[str]:
    """Lets days land and things fail for some time; returns how often what has happened."""
    happened: Counter[str] = Counter()
    until = time.monotonic() + seconds
    causes: list[str] = []
    landings = [world.land_next_day, world.land_late_orders, world.land_bad_day, world.mend_bad_days, world.add_feature]
    while time.monotonic() < until:
        with ExitStack() as over:
            # Each has its turn before one comes again; now and then two at once.
            for _ in range(world.dice.choice([1, 1, 1, 2])):
                causes = causes or world.dice.sample(found := [cause.__name__ for cause in world.causes()], len(found))
                cause = causes.pop()
                world.say(cause)
                over.enter_context(getattr(world, cause)())
                happened[cause] += 1
                world.rest(0.1, 4)
                landing = world.dice.choices(landings, [5, 4, 2, 2, 0.5])[0]
                if landing != world.add_feature or cause in {"lost_redis", "failing_webhook", "full_disk"}:
                    world.say(landing.__name__)
                    landing()
                    happened[landing.__name__] += 1
                world.rest(1, 8)
        world.say("quiet")
        world.rest(0, 12)
    return happened


def rows_of(offline: Path, group: str) -> pl.DataFrame:
    """Returns what lies in the files of a group, but for when it was computed."""
    files = sorted(offline.glob(f"{group}/date=*/*.parquet"))
    rows = pl.concat([pl.read_parquet(file) for file in files], how="diagonal")
    return (
        rows.drop("ingested_at").sort("customer", "event_timestamp").select(sorted(set(rows.columns) - {"ingested_at"}))
    )


def answers(store: FeatureStore, features: int) -> object:
    """Returns all that the store answers: online, and as of the training set's labels."""
    names = ["pages", "last_amount", *(f"amount_{days}d" for days in range(1, features + 1))]
    online = store.get_online_features_batch(IDS, names)
    offline = store.get_offline_features(IDS, names, [CLOCK] * len(IDS))
    return online, offline.select(names).to_dicts()


def fresh(world: World, folder: Path) -> Expected:
    """Returns answers and files of a store that computes all that has landed, once, undisturbed."""
    found = groups(Path(world.settings["SHOP_LANDING"]), world.features)
    first, last = (START.date() + timedelta(days=day) for day in (0, world.days - 1))
    with RedisServer() as redis:
        settings = {
            "FEATURE_STORE_OFFLINE": str(folder / "offline"),
            "FEATURE_STORE_ONLINE": redis.url,
            "FEATURE_STORE_REGISTRY": f"sqlite:///{folder / 'registry.db'}",
            "FEATURE_STORE_CLOCK": CLOCK.isoformat(),
        }
        with FeatureStore.open(Settings.from_env(settings)) as store:
            store.apply(found)
            for group in found:
                store.materialize(group, first.isoformat(), last.isoformat())
            return answers(store, world.features), {
                group.name: rows_of(folder / "offline", group.name) for group in found
            }


def differences(
    world: World, instance: dg.DagsterInstance, expected: tuple[object, dict[str, pl.DataFrame]]
) -> list[str]:
    """Returns what is not yet as it should be."""
    found = []
    unfinished = [run.job_name for run in instance.get_runs() if not run.is_finished]
    if unfinished:
        found.append(f"runs go on: {unfinished}")
    for group, rows in expected[1].items():
        try:
            if not rows_of(Path(world.settings["FEATURE_STORE_OFFLINE"]), group).equals(rows):
                found.append(f"files of {group} differ")
        except (pl.exceptions.PolarsError, OSError, ValueError) as error:
            found.append(f"files of {group}: {error}")
    try:
        with FeatureStore.open(Settings.from_env(world.settings)) as store:
            if answers(store, world.features) != expected[0]:
                found.append("answers differ")
            open_ones = [key for key, record in store.registry.incidents().items() if record.resolved_at is None]
            waiting = [key for key, record in store.registry.incidents().items() if record.pending]
            found += [f"open: {key}" for key in open_ones] + [f"not sent: {key}" for key in waiting]
    except FeatureStoreError as error:
        found.append(str(error))
    return found


def failed_partitions(instance: dg.DagsterInstance) -> set[tuple[str, str]]:
    """Returns the checks that have failed in a run that has ended, with the group."""
    found = set()
    for run in instance.get_runs():
        if run.is_finished and run.status is not dg.DagsterRunStatus.CANCELED:
            for record in instance.get_records_for_run(
                run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
            ).records:
                event = record.event_log_entry.get_dagster_event().asset_check_evaluation_data
                if not event.passed and event.check_name == "schema":
                    found.add((event.asset_key.to_user_string(), event.check_name))
    return found


def check_messages(world: World, incidents: dict[str, IncidentRecord], failed: set[tuple[str, str]]) -> None:
    """Each cause that failed was reported, once; each that was reported is over, and that was said."""
    bodies = world.webhook.bodies
    sent = Counter((body["incident"], body["event"]) for body in bodies)
    twice = [key for key, count in sent.items() if count > 1 and key[1] != "reminder"]
    assert twice == [], [(body["event"], body["key"]) for body in bodies if (body["incident"], body["event"]) in twice]
    titles = {body["key"] for body in bodies}
    assert {f"check/{group}/{check}" for group, check in failed} <= titles
    for incident, event in sent:
        if event == "opened":
            is_over = any(body["incident"] == incident and body["resolved_at"] for body in bodies)
            assert is_over, [body for body in bodies if body["incident"] == incident]
    assert {record.pending for record in incidents.values()} <= {None}


def run(folder: Path, seconds: float, seed: int) -> Counter[str]:
    """Runs a storm and the quiet after it; fails unless everything heals."""
    (folder / "fresh").mkdir()
    with World(folder, random.Random(seed)) as world:
        happened = storm(world, seconds)
        world.mend_bad_days()
        world.say("all is over")
        expected = fresh(world, folder / "fresh")
        with dg.DagsterInstance.get() as instance:
            begin = time.monotonic()
            quiet = 0
            while quiet < 3:
                left = differences(world, instance, expected)
                quiet = 0 if left else quiet + 1
                waited = time.monotonic() - begin
                assert waited < PATIENCE_SECONDS, (
                    f"seed {seed}: {left}\n{world.story()}\n{world.log.read_text()[-6000:]}"
                )
                time.sleep(1)
            happened["seconds to heal"] = round(waited)
            runs = Counter(run.status.value for run in instance.get_runs())
            failed = failed_partitions(instance)
        with FeatureStore.open(Settings.from_env(world.settings)) as store:
            check_messages(world, store.registry.incidents(), failed)
    print(  # noqa: T201 - what a long storm is run for
        f"seed {seed}: {dict(happened)}; runs {dict(runs)}; {len(world.webhook.bodies)} messages"
    )
    return happened


@pytest.mark.slow
@pytest.mark.needs_postgres
@pytest.mark.timeout(600)
def test_a_short_storm(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    run(tmp_path, 60, seed=1)


@pytest.mark.long
@pytest.mark.timeout(0)
def test_a_long_storm(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    run(tmp_path, float(os.environ.get("SHOP_CHAOS_SECONDS", "900")), seed=int(os.environ.get("SHOP_CHAOS_SEED", "7")))
