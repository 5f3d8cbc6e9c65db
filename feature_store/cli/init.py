"""The command that makes a project: init."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from feature_store.cli.output import examples

_MERGE = """\
Add to the module of your own Definitions, below `defs = ...`:

  import dagster as dg
  from dagster_feature_store import feature_store_definitions

  defs = dg.Definitions.merge(defs, feature_store_definitions("{module}"))
"""
_FIRST_COMMANDS = """\
  feature-store apply                               registers the features
  feature-store materialize --all                   computes them, into Parquet and Redis
  feature-store get c07 customer_spending           what is online of one customer
  feature-store training-set build buys_again       what was known at each label's time
"""
_COLLAPSED = "data/purchases/"


@click.command(epilog=examples("feature-store init my-shop", "feature-store init --into ."))
@click.argument("name", required=False)
@click.option(
    "--into",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Add to the project in this folder. Only files that are missing are written.",
)
def init(name: str | None, *, into: Path | None) -> None:
    """Make a project that runs at once.

    NAME becomes a folder in the working directory, with one feature group, a training set, the days of data that they
    are made of, a Dagster code location over them, and a README of the way to a first group of your own. It needs no
    setting but those of its .env: without Redis, an embedded server starts by itself.

    A folder of that name that holds anything is left as it is. --into adds to a project that is there: it overwrites
    nothing, says what it wrote and what it left alone, and which line adds the features to your Definitions. Files
    that say what a project is, such as pyproject.toml, are then left to the project, if it has one of them.
    """
    if (name is None) == (into is None):
        raise click.UsageError(
            "Name the new project, `feature-store init NAME`, or the folder of one that is there, "
            "`feature-store init --into .`."
        )
    if into is None:
        assert name is not None
        _create(name)
    else:
        _add(into)


def _create(name: str) -> None:
    from feature_store.scaffold.project_files import create_project

    written = create_project(name, Path.cwd())
    click.echo(f"Made {name}/ with {len(written)} files. Next:\n")
    click.echo(f"  cd {name}\n{_FIRST_COMMANDS}", nl=False)
    click.echo("  make ui                                           Dagster, at http://localhost:3000\n")
    click.echo(f"{name}/README.md goes on from there, to a group of your own. `feature-store redis stop` stops the")
    click.echo("embedded Redis that the commands start.")


def _add(folder: Path) -> None:
    from feature_store.scaffold.project_files import DEFINITIONS, add_to_project

    added = add_to_project(folder)
    _list("Wrote", added.written)
    _list("Left alone, for it is there", added.left)
    _list("Not written, for the project says itself what it is", added.own)
    click.echo()
    click.echo(_MERGE.format(module=DEFINITIONS))
    if ".env" in added.left:
        click.echo(
            f"Add to .env, which is yours:\n\n  FEATURE_STORE_DEFINITIONS={DEFINITIONS}\n"
            "  FEATURE_STORE_CLOCK=2024-01-15T00:00:00Z   # only while you try the example's data\n"
        )
    if ".gitignore" not in added.written:
        click.echo("Add to .gitignore: .feature_store/ (the embedded stores).\n")
    click.echo(f"Then, in {folder}:\n\n{_FIRST_COMMANDS}", nl=False)


def _list(heading: str, paths: Iterable[str]) -> None:
    """Prints paths, the days of data as one."""
    shown = [path for path in paths if not path.startswith(_COLLAPSED)]
    days = sum(path.startswith(_COLLAPSED) for path in paths)
    if days:
        shown.append(f"{_COLLAPSED} ({days} files)")
    if shown:
        click.echo(f"{heading}:")
        for path in sorted(shown):
            click.echo(f"  {path}")
