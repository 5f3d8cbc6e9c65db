"""The command that checks a user's own feature group against the contract: test."""

from __future__ import annotations

import click

from feature_store.cli.context import definitions_option, load, settings_of
from feature_store.cli.output import examples, hint, print_table
from feature_store.cli.ranges import chosen_span, range_options
from feature_store.errors import InvalidRequestError
from feature_store.partitions import Window

_DEFAULT_PARTITIONS = 7


@click.command(epilog=examples("feature-store test plane_delays --from 2013-02-01 --to 2013-02-07"))
@click.argument("group")
@range_options
@click.option("--seed", default=0, show_default=True, help="Chooses the sampled entities, instants and orders.")
@click.option("--exact", is_flag=True, help="Count a promise as broken, too, where floats differ in the last bits.")
@definitions_option
def test(group: str, first: str | None, last: str | None, seed: int, exact: bool, definitions: str | None) -> None:
    """Check a group against the contract.

    Its function must give the same rows however it is run. On real events, of the last 7 complete partitions by
    default: again, at another time, part by part, entity by entity, in any order, without later events, without events
    before the look-back, in another process. Nothing is written. Exit code 1 if a promise does not hold. A promise that
    holds but for the rounding of floats is shown as `rounds`, and counts as broken with --exact.
    """
    from feature_store.clock import parse_clock
    from feature_store.conformance import check_conformance

    definition = load(definitions).group(group)
    now = parse_clock(settings_of().clock).now()
    span = chosen_span(definition, now, first, last)
    if first is None:
        recent = span.end - _DEFAULT_PARTITIONS * definition.partitioning.length
        span = Window(max(span.start, recent), span.end)
    if span.start == span.end:
        raise InvalidRequestError(
            f"Feature group {group!r} has no complete partition yet, it begins at {definition.start.isoformat()}: "
            "name partitions with --from and --to."
        )
    results = check_conformance(definition, span, seed=seed)
    libraries = ", ".join(f"{name} {version}" for name, version in definition.libraries.items())
    outcomes = {True: "holds", False: "BROKEN", None: "not checked"}
    rows = [(each.name, outcomes[each.passed] if each.exact else "rounds", each.detail) for each in results]
    print_table(["promise", "result", "detail"], rows)
    hint(f"Code version {definition.code_version}, with {libraries or 'no library'}.")
    broken = [each.name for each in results if each.passed is False or (exact and not each.exact)]
    if broken:
        raise click.ClickException(
            f"Feature group {group!r} breaks {len(broken)} of {len(results)} promises: {', '.join(broken)}."
        )
