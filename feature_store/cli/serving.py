"""The command that runs the feature server: serve."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import click

from feature_store.cli.context import definitions_option, load, open_store
from feature_store.cli.output import examples
from feature_store.errors import SettingsError
from feature_store.settings import Settings


@click.command(epilog=examples("feature-store serve", "feature-store serve --host 0.0.0.0 --port 8080"))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=6566, show_default=True, help="Port to listen on; 0: any free one."
)
@click.option("--anonymous", is_flag=True, help="Let anyone read who reaches the server.")
@click.option("--most-values", type=click.IntRange(1), help="Greatest number of entities x features in a request.")
@click.option("--most-bytes", type=click.IntRange(1), help="Greatest size of a request's body.")
@click.option("--most-requests", type=click.IntRange(1), help="Requests in work at once.")
@click.option("--request-seconds", type=click.FloatRange(0.05), help="Time for a client to send a request.")
@click.option("--drain-seconds", type=click.FloatRange(0), help="Time between SIGTERM and the end of accepting.")
@click.option("--log-requests/--no-log-requests", default=True, show_default=True, help="Log every request.")
@definitions_option
def serve(
    *,
    host: str,
    port: int,
    anonymous: bool,
    most_values: int | None,
    most_bytes: int | None,
    most_requests: int | None,
    request_seconds: float | None,
    drain_seconds: float | None,
    log_requests: bool,
    definitions: str | None,
) -> None:
    """Serve online features over HTTP.

    GET /docs shows the routes. Tokens come from FEATURE_STORE_SERVER_TOKENS; without them the server lets anyone read,
    and listens on other addresses than this machine's own only with --anonymous. On-demand features, feature services
    and /push need the definitions module.
    """
    try:
        from feature_store.serving.app import FeatureServer
        from feature_store.serving.server import serve as run
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"The feature server needs the package {error.name!r}: pip install 'feature-store[serve]'."
        ) from None
    import sys

    from feature_store.serving.auth import VARIABLE, Tokens
    from feature_store.serving.limits import Limits
    from feature_store.serving.logs import JsonLog

    tokens = Tokens.from_env()
    if not tokens and not anonymous and not _is_local(host):
        raise SettingsError(
            f"{host} can be reached from elsewhere, and there are no tokens: set {VARIABLE}, or let anyone read with "
            "--anonymous."
        )
    loaded = load(definitions) if definitions or Settings.from_env().definitions else None
    given: dict[str, Any] = {
        "values": most_values,
        "body_bytes": most_bytes,
        "requests": most_requests,
        "request_seconds": request_seconds,
        "drain_seconds": drain_seconds,
    }
    limits = replace(Limits(), **{name: value for name, value in given.items() if value is not None})
    log = JsonLog(sys.stderr.buffer, requests=log_requests)
    with open_store() as store:
        run(FeatureServer(store, loaded, tokens=tokens, limits=limits, log=log), host=host, port=port, limits=limits)


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
