"""Finds the Python blocks of the documentation, and runs those of a page in order, in one module.

What the reader of a page has already (a store, a feature group, a label frame) comes from `readers.py`. A block that
cannot run is marked on its page, by a comment above it that gives the reason: `<!-- Fragment: needs a cluster -->`.
"""

from __future__ import annotations

import ast
import asyncio
import linecache
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(
    r"(?:^<!-- Fragment: (?P<reason>[^\n]+) -->\n)?^```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Snippet:
    """A Python block of a page: where it begins, its code, and why it does not run, if it does not."""

    page: str
    line: int
    code: str
    reason: str | None

    def compiled(self, code: str) -> CodeType:
        """Returns code that tells its errors by the lines of the page, and may wait for answers."""
        path = str(ROOT / self.page)
        linecache.checkcache(path)
        return compile("\n" * self.line + code, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def pages() -> list[str]:
    """Returns all pages, by their paths in the repository."""
    return ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]


def snippets(page: str) -> Iterator[Snippet]:
    """Yields the Python blocks of a page, in order."""
    text = (ROOT / page).read_text("utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("code"))
        yield Snippet(page, line, found["code"], found["reason"])


def run(snippet: Snippet, module: ModuleType, replaced: dict[str, str]) -> None:
    """Runs a block in a module.

    Args:
        snippet: The block.
        module: What the blocks before it have defined.
        replaced: Places that a reader has and a test has not, each with the one that stands for it.
    """
    code = snippet.code
    for theirs, ours in replaced.items():
        code = code.replace(theirs, ours)
    sys.modules[module.__name__] = module
    try:
        waiting = eval(snippet.compiled(code), vars(module))
        if waiting is not None:
            asyncio.run(waiting)
    finally:
        del sys.modules[module.__name__]
