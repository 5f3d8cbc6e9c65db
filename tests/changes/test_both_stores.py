"""Both stores are a function of what was given last: a seeded share of `histories`, which by hand runs thousands."""

from __future__ import annotations

import pytest

from tests.changes.histories import run_histories
from tests.servers.redis import RedisServer

STEPS = 30
FOUND_A_FAULT: dict[str, list[int]] = {"feature": [20216, 30002, 30018, 40696, 90595, 120831], "row": [30192, 120831]}
"""Seeds of histories that once ended with a difference."""


@pytest.mark.parametrize("layout", ["feature", "row"])
def test_after_each_step_both_stores_hold_what_was_given_last(layout):
    with RedisServer() as server:
        assert run_histories(server.url, range(5000, 5002), STEPS, layout) == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("layout", ["feature", "row"])
def test_ten_histories_and_those_that_found_a_fault(layout):
    with RedisServer() as server:
        seeds = [*range(10), *FOUND_A_FAULT[layout]]
        assert run_histories(server.url, seeds, STEPS, layout) == len(seeds)
