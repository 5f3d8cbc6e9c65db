"""The root command: global options, the error boundary, and the list of commands."""

from __future__ import annotations

from typing import Any

import click

from feature_store import __version__
from feature_store.cli.alerts import alerts
from feature_store.cli.backfill import backfill, status
from feature_store.cli.catalog import apply, list_registered, retire, show
from feature_store.cli.conformance import test
from feature_store.cli.doctor import doctor
from feature_store.cli.explain import explain
from feature_store.cli.init import init
from feature_store.cli.monitoring import monitor
from feature_store.cli.reading import get, history
from feature_store.cli.server import redis
from feature_store.cli.serving import serve
from feature_store.cli.streaming import stream
from feature_store.cli.training_sets import training_set
from feature_store.cli.writing import materialize
from feature_store.errors import FeatureStoreError
from feature_store.settings import Settings, listing


class _ErrorBoundary(click.Group):
    """Turns errors of the feature store into one message and exit code 1; any other error is a bug and stays loud."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FeatureStoreError as error:
            if ctx.params["debug"] or _is_debugged():
                raise
            raise click.ClickException(str(error)) from error


def _is_debugged() -> bool:
    try:
        return Settings.from_env().debug
    except FeatureStoreError:
        # Which may be what is told.
        return False


@click.group(
    cls=_ErrorBoundary,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\n" + listing() + "\n\n"
    "These settings come from the environment or a .env file in the working directory; `feature-store doctor` shows "
    "them. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.",
)
@click.version_option(__version__, prog_name="feature-store", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of errors (FEATURE_STORE_DEBUG=1).")
def cli(*, debug: bool) -> None:
    """Register, compute, read and check the features of a feature store."""
    del debug  # read by the error boundary


for _command in (
    init,
    apply,
    list_registered,
    show,
    retire,
    get,
    history,
    explain,
    materialize,
    backfill,
    status,
    training_set,
    serve,
    stream,
    monitor,
    alerts,
    test,
    doctor,
    redis,
):
    cli.add_command(_command)
