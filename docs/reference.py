"""Writes the tables of the documentation that come from the code: `python -m docs.reference`.

A table stands in its page between two comments, which name it; all else on the page is written by hand.
`tests/docs/test_reference_pages.py` finds pages that are behind the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import dagster as dg
import msgspec
import polars as pl
from sqlalchemy import Column, Dialect, Table
from sqlalchemy.dialects import postgresql

from dagster_feature_store import feature_store_definitions
from feature_store import (
    Entity,
    EventStream,
    FeatureSchema,
    ParquetSource,
    Partitioning,
    TrainingSet,
    feature,
    feature_group,
)
from feature_store.cli.app import cli
from feature_store.registry import tables
from feature_store.settings import settings

PAGES = Path(__file__).parent
WIDTH = 100
"""Columns of the help texts, whatever the terminal of the one who writes them."""

DEFAULT_SECONDS = 30
"""Between two looks of a sensor that says nothing else: Dagster's own."""

MINUTE = 60
PREFIX = "feature_store_"
TRAINING_SET = "any_set"

_TABLE = re.compile(
    r"(?<=<!-- From the code, by `make reference`: )(?P<name>[a-z-]+)( -->\n).*?(?=<!-- End -->)", re.DOTALL
)


def refreshed(page: str) -> str:
    """Returns a page with its tables as the code has them now."""
    return _TABLE.sub(lambda found: f"{found[1]}{found[2]}\n{writers()[found[1]]()}\n\n", page)


def settings_table() -> str:
    """Returns the settings."""
    return _table(
        ("variable", "names", "unset"),
        ((f"`{each.title}`", f"{each.help} For instance `{each.example}`.", each.unset) for each in settings()),
    )


def commands_table() -> str:
    """Returns the commands, each with the first sentence of its help."""
    return _table(
        ("command", "what it does"),
        (
            (f"[`{name}`](commands.md#{name.replace(' ', '-')})", command.get_short_help_str(limit=200))
            for name, command in _commands()
        ),
    )


def command_helps() -> str:
    """Returns what `--help` says of each command."""
    options = cli.context_settings["help_option_names"]
    root = click.Context(cli, info_name="feature-store", terminal_width=WIDTH, help_option_names=options)
    helps = (
        (name, command.get_help(click.Context(command, parent=root, info_name=name))) for name, command in _commands()
    )
    return "\n\n".join(f"## {name}\n\n```text\n{text}\n```" for name, text in helps)


def registry_tables() -> str:
    """Returns the tables of the registry, with their columns."""
    return "\n\n".join(_registry_table(table) for table in tables.metadata.tables.values())


def sensors_table() -> str:
    """Returns the sensors and schedules of a module that has every kind of definition."""
    repository = _every_definition().get_repository_def()
    looks = [
        (each.name, _interval(each.minimum_interval_seconds or DEFAULT_SECONDS), each.description)
        for each in repository.sensor_defs
    ]
    looks += [(each.name, _time_of(str(each.cron_schedule)), each.description) for each in repository.schedule_defs]
    return _table(("name", "looks", "what for"), ((_bare(name), when, text) for name, when, text in looks))


def jobs_table() -> str:
    """Returns the jobs of the same module."""
    defined = _every_definition()
    jobs = {name: defined.resolve_job_def(name) for name in sorted(defined.get_repository_def().job_names)}
    return _table(
        ("name", "what it does"),
        ((_bare(name), _of_any_set(str(job.description))) for name, job in jobs.items() if name.startswith(PREFIX)),
    )


_POSTGRESQL: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]


def writers() -> dict[str, Callable[[], str]]:
    """Returns what writes each table, by the name that stands in its page."""
    return {
        "settings": settings_table,
        "commands": commands_table,
        "command-helps": command_helps,
        "registry": registry_tables,
        "sensors": sensors_table,
        "jobs": jobs_table,
    }


def _table(head: Sequence[str], rows: Iterable[Sequence[str | None]]) -> str:
    return "\n".join(_line(cells) for cells in (head, ["---"] * len(head), *rows))


def _line(cells: Iterable[str | None]) -> str:
    escaped = ((cell or "").replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _commands(group: click.Group = cli, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Yields all commands that do something, with their full names."""
    for name in group.list_commands(click.Context(group)):
        command = group.commands[name]
        if isinstance(command, click.Group):
            yield from _commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def _registry_table(table: Table) -> str:
    columns = _table(
        ("column", "type on PostgreSQL", "meaning"),
        ((f"`{each.name}`", _type_of(each), each.doc) for each in table.columns),
    )
    declared = getattr(tables, f"{''.join(word.title() for word in table.name.split('_'))}Columns")
    return f"### `{table.name}`\n\n{declared.__doc__}\n\n{columns}"


def _type_of(column: Column[Any]) -> str:
    return f"{column.type.compile(_POSTGRESQL)}{', may be null' if column.nullable else ''}"


def _bare(name: str) -> str:
    """Returns a name without the prefix."""
    return f"`{_of_any_set(name.removeprefix(PREFIX))}`"


def _of_any_set(text: str) -> str:
    return text.replace(TRAINING_SET, "NAME")


def _interval(seconds: int) -> str:
    return f"every {seconds} s" if seconds < MINUTE else f"every {seconds // MINUTE} min"


def _time_of(cron: str) -> str:
    """Returns when a schedule looks, in words."""
    minute, hour, *_ = cron.split()
    return f"minute {minute} of every hour" if hour == "*" else f"{int(hour):02}:{int(minute):02} UTC"


def _every_definition() -> dg.Definitions:
    """Returns the definitions of a module of every kind of thing."""

    class Event(msgspec.Struct):
        event_timestamp: datetime
        user: str
        amount: int

    class Schema(FeatureSchema):
        amount: int = feature("Amount")

    class HourlySchema(FeatureSchema):
        hourly_amount: int = feature("Amount")

    module = ModuleType("domain")
    source = ParquetSource("events", "events", start=datetime(2024, 1, 1, tzinfo=UTC))
    declared: dict[str, Any] = {"entity": Entity("user", {"user": str}), "source": source, "owner": "team@example.com"}

    @feature_group(schema=Schema, **declared)
    def daily(events: pl.LazyFrame) -> pl.LazyFrame:
        """One group by the day."""
        return events

    @feature_group(schema=HourlySchema, partitioning=Partitioning.HOURLY, **declared)
    def hourly(events: pl.LazyFrame) -> pl.LazyFrame:
        """Another by the hour."""
        return events

    vars(module).update(
        daily=daily,
        hourly=hourly,
        stream=EventStream(source, Event),
        training_set=TrainingSet(TRAINING_SET, labels=pl.LazyFrame, features=["daily"], owner="team@example.com"),
    )
    return feature_store_definitions(module, automation=True)


def main() -> None:
    """Brings all pages up to date."""
    for page in sorted(PAGES.glob("*.md")):
        written = page.read_text("utf-8")
        if (now := refreshed(written)) != written:
            page.write_text(now, "utf-8")
            click.echo(f"docs/{page.name}")


if __name__ == "__main__":
    main()
