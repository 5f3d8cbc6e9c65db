"""A project of a user that can be imported."""

from __future__ import annotations

import sys

import pytest

from tests.definitions.projects import Project


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "project")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = Project(tmp_path / "project")
    yield made
    made.forget()
