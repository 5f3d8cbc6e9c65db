"""One group on its stream per test: topics and stores of its own, the broker shared."""

from __future__ import annotations

import itertools

import pytest

from tests.streaming.pipeline import open_pipeline

_NUMBERS = itertools.count()


@pytest.fixture
def pipeline(store, kafka_server, tmp_path):
    return open_pipeline(store, kafka_server, tmp_path, f"habits_{next(_NUMBERS)}")
