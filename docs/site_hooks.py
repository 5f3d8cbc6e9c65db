"""What the site of the documentation has from outside `docs/`: README, contributing, changelog and licence.

They are pages of the site, and the README is its first. Links are written as they work in the repository
(`docs/alerts.md` in the README, `../README.md` in a page here); the site has all of them in one folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ADDED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE")

_LINK = re.compile(r"(?<=\]\()(?:\.\./|docs/)(?=[^)]+\))")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages from outside `docs/`."""
    for name in ADDED:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Turns links of the repository into those of the site."""
    return _LINK.sub("", markdown)
