"""The command that runs the feature server: serve."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import click

from feature_store.cli.context import definitions_option, open_store, settings_of
from feature_store.cli.output import examples
from feature_store.errors import SettingsError
from feature_store.extras import needs_extra
from feature_store.serving.limits import Limits


def _limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds an option for each limit."""
    for name, option, kind, least, default, description in reversed(Limits.options()):
        of = click.IntRange(int(least)) if kind is int else click.FloatRange(least)
        command = click.option(option, name, type=of, default=default, show_default=True, help=description)(command)
    return command


@click.command(epilog=examples("feature-store serve", "feature-store serve --host 0.0.0.0 --port 8080"))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=6566, show_default=True, help="Port to listen on; 0: any free one."
)
@click.option("--anonymous", is_flag=True, help="Let anyone read who reaches the server.")
@_limit_options
@click.option("--log-requests/--no-log-requests", default=True, show_default=True, help="Log every request.")
@definitions_option
def serve(
    *,
    host: str,
    port: int,
    anonymous: bool,
    log_requests: bool,
    definitions: str | None,
    **limits: Any,
) -> None:
    """Serve online features over HTTP.

    GET /docs shows the routes. Tokens come from FEATURE_STORE_SERVER_TOKENS; without them the server lets anyone read,
    and listens on other addresses than this machine's own only with --anonymous. On-demand features, feature services
    and /push need the definitions module.
    """
    with needs_extra("serve", "The feature server"):
        from feature_store.serving.app import FeatureServer
        from feature_store.serving.server import serve as run
    import sys

    from feature_store.serving.auth import VARIABLE, Tokens
    from feature_store.serving.logs import JsonLog

    settings = settings_of(definitions)
    tokens = Tokens.of(settings)
    if not tokens and not anonymous and not _is_local(host):
        raise SettingsError(
            f"{host} can be reached from elsewhere, and there are no tokens: set {VARIABLE}, or let anyone read with "
            "--anonymous."
        )
    log = JsonLog(sys.stderr.buffer, requests=log_requests)
    with open_store(definitions) as store:
        loaded = store.definitions if settings.definitions else None
        app = FeatureServer(store, loaded, tokens=tokens, limits=Limits(**limits), log=log)
        run(app, host=host, port=port)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
