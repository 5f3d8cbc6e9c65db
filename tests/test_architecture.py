"""The walls of the house: one ordered list of layers, in which arrows point down, and nowhere else.

Every import counts: at the top of a module, inside a function, and for types alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("feature_store", "dagster_feature_store", "resources", "sensors", "feature_assets")

# From the ground up. A module may import what stands in a line above its own, and its own package; those of one line do
# not know one another. A module belongs to the longest name that it lies below. What is new needs a place here.
LAYERS = (
    ("feature_store.errors", "feature_store.forking"),
    (
        "feature_store.durations",
        "feature_store.equality",
        "feature_store.extras",
        "feature_store.scaffold",
        "feature_store.setting_urls",
    ),
    ("feature_store.clock", "feature_store.settings", "feature_store.storage", "feature_store.frame_fingerprint"),
    ("feature_store.partitions",),
    ("feature_store.day_windows", "feature_store.visibility"),
    ("feature_store.definitions.dtypes",),
    ("feature_store.rows.forms",),
    ("feature_store.windows.extents",),
    ("feature_store.definitions",),
    ("feature_store.catalog", "feature_store.exact", "feature_store.rows", "feature_store.hash_sampling"),
    ("feature_store.frames", "feature_store.resolution"),
    ("feature_store.conversion", "feature_store.windows"),
    ("feature_store.offline", "feature_store.online", "feature_store.registry", "feature_store.sources"),
    ("feature_store.alerts", "feature_store.changes", "feature_store.explain_window"),
    ("feature_store.monitoring",),
    ("feature_store.transform", "feature_store.explain"),
    (
        "feature_store.conformance",
        "feature_store.spark",
        "feature_store.streaming",
        "feature_store.training_sets",
    ),
    ("feature_store.engines", "feature_store.reconcile"),
    ("feature_store.store",),
    ("feature_store",),
    ("feature_store.serving",),
    ("feature_store.cli",),
    (
        "dagster_feature_store.compat",
        "dagster_feature_store.compat_backfills",
        "dagster_feature_store.compat_storage",
        "dagster_feature_store.partitions",
        "dagster_feature_store.spark_job",
        "dagster_feature_store.ui",
    ),
    ("dagster_feature_store.metadata", "dagster_feature_store.resources"),
    ("dagster_feature_store.naming",),
    ("dagster_feature_store.check_records",),
    (
        "dagster_feature_store.alerts_page",
        "dagster_feature_store.check_results",
        "dagster_feature_store.dead_runs",
        "dagster_feature_store.held_back",
        "dagster_feature_store.one_asset",
    ),
    ("dagster_feature_store.sensors", "dagster_feature_store.spark_passes"),
    (
        "dagster_feature_store.feature_groups",
        "dagster_feature_store.monitor_checks",
        "dagster_feature_store.refill",
        "dagster_feature_store.snapshots",
        "dagster_feature_store.streams",
        "dagster_feature_store.training_sets",
        "dagster_feature_store.up_to_date",
    ),
    ("dagster_feature_store.jobs",),
    ("dagster_feature_store.command_line", "dagster_feature_store.definitions"),
    ("dagster_feature_store.component",),
    ("dagster_feature_store",),
    ("feature_assets.flights",),
    ("resources",),
    ("sensors",),
    ("feature_assets",),
)
HEIGHTS = {place: height for height, layer in enumerate(LAYERS) for place in layer}

# Libraries that only some places know: each with the places that do.
LIBRARIES = {
    "dagster": ("dagster_feature_store", "resources", "sensors", "feature_assets"),
    "dagster._core": (
        "dagster_feature_store.compat",
        "dagster_feature_store.compat_backfills",
        "dagster_feature_store.compat_storage",
    ),
    "dagster._serdes": ("dagster_feature_store.compat_storage",),
    "dagster_aws": ("resources",),
    "dagster_duckdb": ("resources",),
    "pyspark": ("feature_store.spark",),
    "obstore": ("feature_store.storage",),
}
NEVER = {"feature_assets.flights": ("dagster", "dagster_aws", "dagster_duckdb")}


@dataclass(frozen=True)
class Import:
    """An import: which module, what, on which line."""

    module: str
    name: str
    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.name}"


# Files for others, which `feature-store init` writes: none of them is a module here. tests/cli/test_init.py reads them.
SCAFFOLD = ROOT / "feature_store" / "scaffold" / "project"


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.is_relative_to(SCAFFOLD):
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(module: str, text: str) -> Iterator[Import]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are absolute"
            for alias in node.names:
                # Of a package, a module of its own may be meant.
                whole = f"{node.module}.{alias.name}"
                yield Import(module, whole if whole in MODULES else node.module or "", node.lineno)


@cache
def imports() -> list[Import]:
    return [found for module, path in MODULES.items() for found in imports_of(module, path.read_text())]


def inside() -> list[Import]:
    return [found for found in imports() if found.name.partition(".")[0] in PACKAGES]


def lies_below(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


def place_of(module: str) -> str | None:
    if module == "feature_store":
        return module
    # The package's own name is the place of its public names alone, and of no module that has no other place.
    places = [place for place in HEIGHTS if place != "feature_store" and lies_below(module, place)]
    return max(places, key=len, default=None)


def points_up(found: Import) -> bool:
    own, other = place_of(found.module), place_of(found.name)
    assert own is not None
    assert other is not None, str(found)
    return own != other and HEIGHTS[own] <= HEIGHTS[other]


def test_every_module_has_a_place():
    assert [module for module in MODULES if place_of(module) is None] == []


def test_every_place_is_that_of_a_module():
    assert {place for place in HEIGHTS if not any(place_of(module) == place for module in MODULES)} == set()


def test_arrows_point_down():
    assert [str(found) for found in inside() if points_up(found)] == []


@pytest.mark.parametrize(
    "text",
    [
        "from feature_store.store import FeatureStore",
        "import feature_store.registry.registry",
        "from feature_store.registry import registry",
        "def read():\n    from feature_store.registry.registry import Registry",
        "if TYPE_CHECKING:\n    from feature_store.online.store import OnlineStore",
    ],
)
def test_an_arrow_that_points_up_is_seen(text):
    (found,) = imports_of("feature_store.offline.store", text)
    assert points_up(found)


def test_no_modules_import_one_another():
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found in inside():
        if not lies_below(found.module, found.name):
            graph[found.module].add(found.name)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"These import one another in a circle: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("library", LIBRARIES)
def test_only_some_places_know_a_library(library):
    knowing = [found for found in imports() if lies_below(found.name, library)]
    assert [
        str(found) for found in knowing if not any(lies_below(found.module, place) for place in LIBRARIES[library])
    ] == []


@pytest.mark.parametrize("place", NEVER)
def test_the_example_domain_knows_no_dagster(place):
    assert [
        str(found)
        for found in imports()
        if lies_below(found.module, place) and any(lies_below(found.name, library) for library in NEVER[place])
    ] == []


def test_only_the_storage_asks_of_which_kind_a_place_is():
    assert [
        str(found)
        for found in imports()
        if found.name == "feature_store.storage.s3_path" and not found.module.startswith("feature_store.storage.")
    ] == []
