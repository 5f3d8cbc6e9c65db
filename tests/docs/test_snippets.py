"""Every Python block of the documentation runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from feature_assets import flights
from feature_store import FeatureStore
from feature_store.definitions.group import FeatureGroup
from feature_store.settings import Settings
from tests.docs.readers import FLIGHT_DAYS, READERS, Reader
from tests.docs.snippets import ROOT, pages, run, snippets
from tests.servers.redis import RedisServer

MOST_FRAGMENTS = 2
"""Blocks that run nowhere. One more needs a better reason than that it is hard."""

SLOW = {"docs/conformance.md": pytest.mark.gate}  # it starts processes

FLIGHT_GROUPS = (flights.plane_punctuality, flights.plane_profile, flights.origin_weather, flights.route_punctuality)


@pytest.fixture(scope="module")
def flights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flights")


@pytest.fixture(scope="module")
def flights_settings(flights_folder: Path) -> Iterator[Settings]:
    with RedisServer() as server:
        yield Settings(
            offline=str(flights_folder / "offline"),
            online=f"{server.url}?socket_timeout=20",
            registry=f"sqlite:///{flights_folder}/registry.db",
            clock="2013-01-06T00:00:00Z",
            definitions="feature_assets.flights",
            stream_state=str(flights_folder / "streams"),
        )


@pytest.fixture(scope="module")
def flights_groups(flights_folder: Path) -> dict[str, FeatureGroup]:
    """Groups whose sources lie in the folder, with some days of each."""
    found = {}
    for group in FLIGHT_GROUPS:
        source = replace(group.source, root=flights_folder / "data" / group.source.name.removeprefix("flight_"))
        flights.land(source.name, *map(date.fromisoformat, FLIGHT_DAYS), folder=source.root)
        found[group.name] = replace(group, source=source)
    return found


@pytest.fixture(scope="module")
def flights_store(flights_settings: Settings, flights_groups: dict[str, FeatureGroup]) -> Iterator[FeatureStore]:
    with FeatureStore.open(flights_settings) as store:
        store.apply(list(flights_groups.values()))
        for group in flights_groups.values():
            store.materialize(group, *FLIGHT_DAYS)
        yield store


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=SLOW.get(page, ())) for page in pages() if any(snippets(page))],
)
def test_the_blocks_of_a_page_run(page, request, tmp_path, monkeypatch):
    assert page in READERS, f"{page} has blocks: say in tests/docs/readers.py what its reader has at hand."
    reader = Reader(request, tmp_path, monkeypatch)
    steps = READERS[page](reader)
    for snippet in snippets(page):
        if snippet.reason is None:
            assert next(steps, "no step") is None, f"{page}:{snippet.line}: readers.py has a `yield` too few."
            run(snippet, reader.module, reader.replaced)
    # The rest of the steps looks at what came of it.
    assert next(steps, "no step") == "no step", f"{page}: readers.py has a `yield` too many."


def test_few_blocks_are_left_out():
    left_out = [f"{snippet.page}:{snippet.line}" for page in pages() for snippet in snippets(page) if snippet.reason]
    assert len(left_out) <= MOST_FRAGMENTS, left_out


@pytest.mark.parametrize("page", pages())
def test_no_block_is_overlooked(page):
    fences = re.findall(r"^ *(?:```|~~~) *(?:py|python|python3)\b", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    assert len(list(snippets(page))) == len(fences)
