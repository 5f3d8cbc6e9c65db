"""The command that finds out what is wrong with an installation: doctor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from feature_store.cli.context import load, open_store, settings_of
from feature_store.cli.output import examples, print_properties, print_table, size
from feature_store.clock import SystemClock, parse_clock
from feature_store.errors import (
    FeatureStoreError,
    OnlineStoreError,
    RegistryError,
    SettingsError,
    UnknownFeatureError,
)
from feature_store.settings import Setting, Settings, contradictions, environment
from feature_store.settings import settings as all_settings

if TYPE_CHECKING:
    from redis import Redis

_SKEW_SECONDS = 1.0
_NEARLY_FULL = 0.9
_LITTLE_SPACE = 2**30
_LISTED = 5


@click.command(epilog=examples("feature-store doctor"))
def doctor() -> None:
    """Find out what is wrong, and the remedy.

    Checks settings, clock, definitions, what lies beside the events of sources, registry, both stores and the room that
    is left; and whether partitions, online values and training sets are what the definitions ask for. Starts the
    embedded server if it is the one in use.
    Exit code 1 if there is a problem.
    """
    settings = settings_of()
    environ = environment()
    listed = [(each.title, _shown(each, settings, environ)) for each in all_settings()]
    print_properties("setting", listed)
    examinations: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("settings", _settings),
        ("clock", _clock),
        ("definitions", _definitions),
        ("sources", _sources),
        ("registry", _registry),
        ("offline store", _offline),
        ("online store", _online),
        ("features", _features),
    )
    outcomes = [(name, *_examined(examine, settings)) for name, examine in examinations]
    print_table(["part", "result", "detail"], outcomes)
    problems = [name for name, result, _ in outcomes if result != "ok"]
    if problems:
        raise click.ClickException(f"{len(problems)} problem(s): {', '.join(problems)}.")


def _examined(examine: Callable[[Settings], str], settings: Settings) -> tuple[str, str]:
    try:
        return "ok", examine(settings)
    except FeatureStoreError as error:
        return "problem", str(error)


def _shown(setting: Setting, settings: Settings, environ: Mapping[str, str]) -> str:
    """Returns what goes by a setting: its value, or what it means that it is unset."""
    value = getattr(settings, setting.name)
    # Where the embedded parts lie is worth knowing.
    is_place = setting.name in {"offline", "registry", "stream_state"}
    return setting.display(value if is_place else setting.read(environ))


def _settings(settings: Settings) -> str:
    del settings
    disagreeing = [name for name in contradictions() if name.startswith("FEATURE_STORE_")]
    if disagreeing:
        raise SettingsError(
            f"The environment and .env say different things of {', '.join(disagreeing)}: this command follows the "
            "environment, Dagster's own commands follow .env. Set a variable in one of the two."
        )
    return "the environment and .env agree"


def _clock(settings: Settings) -> str:
    clock = parse_clock(settings.clock)
    kind = "the wall clock" if clock.is_live else "stands still, to replay history"
    return f"{clock.now().isoformat()}, {kind}"


def _definitions(settings: Settings) -> str:
    del settings
    try:
        loaded = load(None)
    except FeatureStoreError:
        raise
    except Exception as error:  # the module is the user's and may raise anything
        raise SettingsError(
            f"Importing the definitions raised {type(error).__name__}: {error}. Correct the module."
        ) from error
    return f"{len(loaded.groups)} feature groups, {len(loaded.training_sets)} training sets"


def _sources(settings: Settings) -> str:
    from feature_store.definitions.source import InspectedSource

    if settings.definitions is None:
        return "not looked at: FEATURE_STORE_DEFINITIONS names no module"
    try:
        groups = load(None).groups.values()
    except Exception:  # noqa: BLE001  told by the examination of the definitions
        return "not looked at: the definitions cannot be loaded"
    sources = {group.source.name: group.source for group in groups}
    told = []
    for name, source in sorted(sources.items()):
        phrases = source.passed_over() if isinstance(source, InspectedSource) else ()
        if phrases:
            more = f" and {len(phrases) - _LISTED} more" if len(phrases) > _LISTED else ""
            told.append(f"{name} passes over {', '.join(phrases[:_LISTED])}{more}")
    return "; ".join([f"{len(sources)} sources", *told])


def _registry(settings: Settings) -> str:
    from feature_store.registry.registry import Registry

    registry = Registry(settings.registry, parse_clock(settings.clock))
    try:
        catalog = registry.catalog()
    finally:
        registry.close()
    declared = set() if settings.definitions is None else _declared_groups()
    unapplied = sorted(declared - catalog.groups.keys())
    if unapplied:
        raise UnknownFeatureError(f"Not registered: {', '.join(unapplied)}. Run `feature-store apply`.")
    return f"{registry!r}, {len(catalog.groups)} groups, {len(catalog.features)} live features"


def _declared_groups() -> set[str]:
    try:
        return set(load(None).groups)
    except Exception:  # noqa: BLE001  told by the examination of the definitions
        return set()


def _offline(settings: Settings) -> str:
    from feature_store.offline.store import OfflineStore
    from feature_store.storage.location import storage_of

    root = OfflineStore(settings.offline).root
    room = storage_of(root).room(root)
    if room.free_bytes is not None and room.free_bytes < _LITTLE_SPACE:
        raise SettingsError(
            f"Only {size(room.free_bytes)} are free where {room.folder} lies: nothing more can be written when they "
            "are used up. Make room, or let FEATURE_STORE_OFFLINE name another place."
        )
    return f"{root}, writable" if room.folder == root else f"{root}, to be made at the first write"


def _online(settings: Settings) -> str:
    from redis import Redis

    from feature_store.online.embedded import EmbeddedRedis
    from feature_store.online.store import OnlineStore

    clock = parse_clock(settings.clock)
    url = settings.online or EmbeddedRedis().ensure()
    with OnlineStore.connect(url, clock) as store:
        store.ping()
    if "+" in url.partition(":")[0]:
        return "answers; memory, persistence and eviction of a cluster, or behind Sentinel, are in each server's INFO"
    with Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as connection:
        return _judged(connection, embedded=settings.online is None)


def _features(settings: Settings) -> str:
    if settings.definitions is None:
        return "not looked at: FEATURE_STORE_DEFINITIONS names no module"
    from feature_store.reconcile.differences import (
        differences_of_partitions,
        differences_of_training_sets,
        differences_online,
    )

    try:
        loaded = load(None)
    except Exception:  # noqa: BLE001  told by the examination of the definitions
        return "not looked at: the definitions cannot be loaded"
    groups, training_sets = loaded.groups.values(), loaded.training_sets.values()
    with open_store() as store:
        found = [
            *differences_of_partitions(groups, store.offline, store.clock),
            *differences_of_training_sets(training_sets, store.offline),
        ]
        # What is wrong with the registry and the online store is told by the examinations of those.
        with suppress(OnlineStoreError, RegistryError):
            found += differences_online(groups, store.catalog(), store.offline, store.online, store.clock)
    if found:
        raise FeatureStoreError(" ".join(map(str, found)))
    return "partitions, online values and training sets are what the definitions ask for"


def _judged(connection: Redis, *, embedded: bool) -> str:
    from redis.exceptions import NoPermissionError, RedisError

    try:
        info: dict[str, Any] = connection.info()
        seconds, micros = connection.time()
    except NoPermissionError as error:
        return f"answers; memory, persistence and eviction are not visible to this user ({error})"
    except RedisError as error:
        raise OnlineStoreError(f"The online store answers PING but not INFO: {error}.") from None
    here = SystemClock().now()
    ahead = (datetime.fromtimestamp(seconds, UTC) - here).total_seconds() + micros / 1e6
    facts = [
        "embedded" if embedded else "",
        f"{info.get('server_name', 'redis')} {info.get('valkey_version') or info.get('redis_version')}",
        f"{size(info['used_memory'])} used of {size(info['maxmemory']) if info['maxmemory'] else 'no limit'}",
        f"snapshots {info.get('rdb_last_bgsave_status', 'unknown')}",
        f"append-only file {'on' if info.get('aof_enabled') else 'off'}",
        f"eviction {info.get('maxmemory_policy')}",
        f"clock {round(ahead, 2) + 0.0:+.2f} s",
    ]
    problems = list(_problems(info, ahead))
    if problems:
        raise OnlineStoreError(" ".join(problems))
    return ", ".join(filter(None, facts))


def _problems(info: dict[str, Any], ahead: float) -> Iterator[str]:
    limit, policy = info["maxmemory"], info.get("maxmemory_policy")
    if limit and policy != "noeviction":
        yield (
            f"Eviction policy {policy!r} drops live values when memory is full, and they read as missing: "
            "`CONFIG SET maxmemory-policy noeviction`."
        )
    if limit and info["used_memory"] > _NEARLY_FULL * limit:
        yield (
            f"{size(info['used_memory'])} of {size(limit)} are used: raise maxmemory, or store wide groups in the row "
            "layout."
        )
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield "The last snapshot failed, and the server may refuse writes: see its log, and the space on its disk."
    if info.get("aof_enabled") and info.get("aof_last_write_status", "ok") != "ok":
        yield "The last write to the append-only file failed: see the server's log, and the space on its disk."
    if info.get("role") == "slave":
        yield "It is a read-only replica: let FEATURE_STORE_ONLINE name the primary."
    if abs(ahead) > _SKEW_SECONDS:
        yield (
            f"Its clock is {ahead:+.1f} s from this machine's, so keys expire at other times than readers expect: "
            "synchronize both clocks (NTP)."
        )
