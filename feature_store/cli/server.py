"""Commands on the embedded server: redis start, stop, status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from feature_store.cli.context import settings_of
from feature_store.cli.output import examples, hint, print_properties

if TYPE_CHECKING:
    from feature_store.online.embedded import EmbeddedStatus


@click.group()
def redis() -> None:
    """Start or stop the embedded server.

    One Redis-compatible server per working directory. It is used where FEATURE_STORE_ONLINE is not set, and starts by
    itself when it is needed.
    """
    if settings_of().online is not None:
        hint("FEATURE_STORE_ONLINE names another server: the embedded one is not in use.")


@redis.command(epilog=examples("feature-store redis start"))
def start() -> None:
    """Start the embedded server, if it does not run."""
    from feature_store.online.embedded import EmbeddedRedis

    server = EmbeddedRedis()
    server.ensure()
    _show(server.status())


@redis.command(epilog=examples("feature-store redis stop"))
def stop() -> None:
    """Save the data and stop the embedded server."""
    from feature_store.online.embedded import EmbeddedRedis

    click.echo("The embedded server is stopped." if EmbeddedRedis().stop() else "No embedded server was running.")


@redis.command(epilog=examples("feature-store redis status"))
def status() -> None:
    """Show whether the embedded server runs, and where."""
    from feature_store.online.embedded import EmbeddedRedis

    _show(EmbeddedRedis().status())


def _show(state: EmbeddedStatus) -> None:
    print_properties(
        "embedded server",
        [("running", state.running), ("url", state.url), ("pid", state.pid), ("folder", str(state.folder))],
    )
