"""Runs what a document tells its readers to run, in a folder, with no setting but what the document sets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

BINARIES = Path(sys.executable).parent


def blocks(document: str, language: str) -> list[str]:
    """Returns a document's code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", document, flags=re.DOTALL | re.MULTILINE)


def commands(document: str) -> list[str]:
    """Returns each console block as a script."""
    return [re.sub(r"^\$ ", "", block, flags=re.MULTILINE) for block in blocks(document, "console")]


def run_script(script: str, folder: Path) -> str:
    """Runs a script, of which every command has to succeed. Returns what it printed."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("FEATURE_STORE_", "DAGSTER_"))
    }
    # A dozen processes: each would compile all of its modules anew.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    # As in an activated environment.
    environment |= {"PATH": f"{BINARIES}{os.pathsep}{environment['PATH']}", "VIRTUAL_ENV": str(BINARIES.parent)}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
