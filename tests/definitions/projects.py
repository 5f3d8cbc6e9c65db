"""A user's project in a folder: modules that are written, edited and imported anew."""

from __future__ import annotations

import importlib
import shutil
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType


class Project:
    """Modules of a user, beside no package at all."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def load(self, files: Mapping[str, str], main: str = "features") -> ModuleType:
        """Writes modules, forgets those of before, and imports one."""
        shutil.rmtree(self.root, ignore_errors=True)
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        self.forget()
        return importlib.import_module(main)

    def forget(self) -> None:
        """Forgets all modules of the project."""
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(self.root)):
                del sys.modules[name]
        importlib.invalidate_caches()
