"""How results look: tables on a terminal, tab-separated lines in a pipe, JSON on demand.

Results go to stdout; hints, timings and progress to stderr, so that a pipe carries data alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from feature_store.durations import duration_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

_ELEMENTS_SHOWN = 4
_KIB = 1024.0


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Prints a table: ruled on a terminal, a header and tab-separated lines otherwise.

    Args:
        columns: Headings.
        rows: One cell per heading; see `shown`.
        title: Stands above the table on a terminal.
    """
    console = _console()
    if not console.is_terminal:
        for row in (columns, *rows):
            click.echo("\t".join(shown(cell, full=True) for cell in row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        # Text, not markup: a value such as "[red]" is shown as it is.
        table.add_row(*(Text(shown(cell)) for cell in row))
    console.print(table)


def print_properties(name: str, properties: Iterable[tuple[str, object]]) -> None:
    """Prints named values, one a line."""
    print_table([name, ""], properties)


def print_json(value: Any) -> None:
    """Prints a value as JSON: floats and integers exact, times in ISO format, NaN as null."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def examples(*commands: str) -> str:
    """Returns the end of a command's help: lines that can be copied."""
    # The backspace keeps click from joining the lines.
    return "\n".join(["\b", "Examples:" if len(commands) > 1 else "Example:", *(f"  {line}" for line in commands)])


def hint(text: str) -> None:
    """Prints a remark for people to stderr."""
    click.echo(text, err=True)


def progress_bar() -> Progress:
    """Returns a progress bar on stderr, invisible where that is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = _console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def shown(value: object, *, full: bool = False) -> str:
    """Returns a value as text of one line.

    Args:
        value: None is `null`, a datetime ISO in UTC, a mapping `key=value`. Text with control characters is quoted:
            no feature's value can write to the terminal.
        full: Whether long embeddings are shown whole.
    """
    if isinstance(value, str):
        text = value if value.isprintable() else repr(value)
    elif isinstance(value, datetime):
        text = value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    elif isinstance(value, timedelta):
        text = duration_text(value)
    elif value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, dict):
        text = " ".join(f"{key}={shown(item)}" for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        few = value if full else value[:_ELEMENTS_SHOWN]
        more = f", ... {len(value)} in all" if len(few) < len(value) else ""
        text = f"[{', '.join(shown(item) for item in few)}{more}]"
    else:
        text = str(value)
    return text


def size(octets: float) -> str:
    """Returns a number of bytes in a readable unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if octets < _KIB:
            return f"{octets:.0f} {unit}" if unit == "B" else f"{octets:.1f} {unit}"
        octets /= _KIB
    return f"{octets:.1f} TiB"


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(file=sys.stderr if stderr else sys.stdout, highlight=False)
