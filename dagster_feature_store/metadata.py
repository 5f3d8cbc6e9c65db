"""What the Dagster UI shows of a feature group: column schemas, and the numbers that it plots per partition."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.names import EVENT_TIMESTAMP, INGESTED_AT
from feature_store.definitions.rules import column_rules
from feature_store.definitions.values import value_json
from feature_store.durations import duration_text

if TYPE_CHECKING:
    from feature_store.monitoring.findings import CheckResult
    from feature_store.transform.materialization import MaterializedPartition

_PREVIEW_ROWS = 5

_ADDRESS = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
"""What Dagster takes for an e-mail address."""

_NO_LABEL = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST_LABEL = 63


def column_schema(group: FeatureGroup) -> dg.TableSchema:
    """Returns the columns of the group's files, with dtypes, descriptions, rules and times to live."""
    keys = [
        dg.TableColumn(
            column, str(dtype), f"Join key of entity {group.entity.name}.", dg.TableColumnConstraints(nullable=False)
        )
        for column, dtype in group.entity.key_dtypes.items()
    ]
    times = [
        dg.TableColumn(
            EVENT_TIMESTAMP, "timestamp", "When the row became known, UTC.", dg.TableColumnConstraints(nullable=False)
        ),
        dg.TableColumn(
            INGESTED_AT, "timestamp", "When the store wrote it, UTC.", dg.TableColumnConstraints(nullable=False)
        ),
    ]
    rules = column_rules(group.schema)
    features = [
        dg.TableColumn(
            spec.ref.column,
            str(spec.dtype),
            spec.description,
            dg.TableColumnConstraints(
                nullable=rules[spec.ref.column].nullable,
                other=list(rules[spec.ref.column].texts),
            ),
            tags={
                **spec.tags,
                "version": f"v{spec.ref.version}",
                **(
                    {"window": spec.window.reach_text}
                    if spec.window
                    else {"ttl": duration_text(spec.ttl, most_units=4)}
                ),
                **({} if spec.default is None else {"default": value_json(spec.default)}),
            },
        )
        for spec in group.features
    ]
    return dg.TableSchema([*keys, times[0], *features, times[1]])


def event_columns(schema: pl.Schema) -> dg.TableSchema:
    """Returns the columns of a source's events, as its files or tables have them."""
    return dg.TableSchema(
        [
            dg.TableColumn(name, "timestamp" if dtype.base_type() is pl.Datetime else str(dtype).lower())
            for name, dtype in schema.items()
        ]
    )


def owners(owner: str) -> list[str]:
    """Returns an owner as Dagster takes it: an e-mail address as it is, all else as a team."""
    return [owner if _ADDRESS.fullmatch(owner) or owner.startswith("team:") else f"team:{owner}"]


def tags(given: Mapping[str, str]) -> dict[str, str]:
    """Returns tags as Dagster takes them: other characters become `_`, and what is too long is cut."""
    return {_label(key) or "_": _label(value) for key, value in given.items()}


def _label(text: str) -> str:
    return _NO_LABEL.sub("_", text)[:_LONGEST_LABEL]


_PLOTTED = ("expected_rows", "null_rate/", "psi/")
"""Numbers of checks, by how their names begin, that are plotted over partitions."""


def partition_metadata(partition: MaterializedPartition, judged: Iterable[CheckResult]) -> dict[str, Any]:
    """Returns the numbers of one partition, which the UI plots over partitions.

    Those of checks are among them: the UI plots a check's own over the time of its evaluation, which is one instant for
    a year that is computed at once.

    Args:
        partition: The partition.
        judged: What its checks have found.
    """
    profile = partition.profile
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": profile.rows,
        "rows_changed": partition.changed,
        "rows_withdrawn": partition.withdrawn,
        "entities": profile.entities,
        "size_kb": round(partition.file.size / 1024, 1),
        "path": dg.MetadataValue.path(str(partition.file.path)),
    }
    if partition.misplaced is not None:
        metadata["events_without_time"] = partition.misplaced.without_time
        metadata["events_elsewhere"] = partition.misplaced.elsewhere
        metadata["misplaced_events"] = "; ".join(partition.misplaced.examples)
    for column, feature in profile.features.items():
        if feature.mean is not None:
            metadata[f"mean/{column}"] = rounded(feature.mean)
    for result in judged:
        metadata.update((name, rounded(value)) for name, value in result.numbers.items() if name.startswith(_PLOTTED))
    return metadata


def preview(rows: pl.LazyFrame) -> dg.MarkdownMetadataValue:
    """Returns the first rows of a table as Markdown."""
    head = rows.head(_PREVIEW_ROWS).collect()
    lines = [
        "| " + " | ".join(head.columns) + " |",
        "|" + "---|" * head.width,
        *("| " + " | ".join(_cell(value) for value in row) + " |" for row in head.iter_rows()),
    ]
    return dg.MetadataValue.md("\n".join(lines))


def rounded(number: float) -> float:
    """Returns a number with as many digits as a person reads; integers stay as they are."""
    return number if isinstance(number, int) else float(f"{number:.5g}")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return f"[{len(value)} values]"
    return str(value).replace("|", "\\|")
