"""The command line `feature-store`: thin commands over the library, one file per family.

What a command computes belongs to the library; here are options, tables, progress and messages. Every heavy import
stands inside a command, so that `--help` answers at once.
"""


def main() -> None:
    """Runs the command line on the process's arguments, and exits."""
    from feature_store.cli.app import cli

    cli(prog_name="feature-store")
