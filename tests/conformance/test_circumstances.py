"""What must not matter to a function: each way to depend on it is found by the promise that is named for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from feature_store.conformance import check_conformance
from feature_store.definitions.group import FeatureGroup
from feature_store.partitions import Window
from tests.conformance import functions
from tests.conformance.functions import BROKEN, DAY, DEVIATION_ROUNDED, KEPT, START

pytestmark = pytest.mark.slow

SPAN = Window(START + 20 * DAY, START + 23 * DAY)
ACROSS_PROCESSES = [name for name, (_, promise) in BROKEN.items() if promise == "process"]
IN_ONE_PROCESS = [name for name in BROKEN if name not in ACROSS_PROCESSES]


def outside_of_modules(group: FeatureGroup) -> FeatureGroup:
    """The same group, which no new process can import: starting processes takes seconds."""
    return replace(group)


def assert_found(group: FeatureGroup, promise: str, seed: int = 0) -> None:
    found = {result.name: result for result in check_conformance(group, SPAN, seed=seed)}[promise]
    assert found.passed is False, found.detail
    assert "value is " in found.detail
    assert " instead of " in found.detail


@pytest.mark.parametrize("name", IN_ONE_PROCESS)
def test_a_broken_promise_is_found_and_shows_both_results(name):
    group, promise = BROKEN[name]
    for seed in range(2):
        assert_found(outside_of_modules(group), promise, seed)


@pytest.mark.parametrize("name", ACROSS_PROCESSES)
def test_what_differs_between_processes_is_found(name):
    assert_found(*BROKEN[name])


@pytest.mark.parametrize("name", KEPT)
def test_a_function_that_keeps_its_promises_is_let_through(name):
    results = check_conformance(outside_of_modules(KEPT[name]), SPAN)
    unshown = [result.name for result in results if result.passed is None]
    assert unshown == ["process"]
    assert [result.detail for result in results if result.passed is False or not result.exact] == []


def test_new_processes_give_the_rows_of_a_function_that_keeps_its_promises():
    results = check_conformance(KEPT["table_read_once"], SPAN)
    assert [result.detail for result in results if result.passed is not True] == []


def test_what_a_function_has_kept_is_gone_after_the_test():
    check_conformance(outside_of_modules(BROKEN["first_amount_ever"][0]), SPAN)
    check_conformance(outside_of_modules(BROKEN["scale_of_the_first_call"][0]), SPAN)
    assert functions.FIRST == {}
    assert functions.SCALE == []
    assert functions.amount_when_first_asked.cache_info().currsize == 0


def test_floats_that_differ_by_their_rounding_alone_are_told_of_exact_expressions():
    results = check_conformance(outside_of_modules(DEVIATION_ROUNDED), Window(START + 15 * DAY, START + 29 * DAY))
    assert [result.detail for result in results if result.passed is False] == []
    rounded = [result for result in results if not result.exact]
    assert rounded
    assert all("feature_store.exact" in result.detail and " instead of " in result.detail for result in rounded)


def test_a_look_back_of_the_whole_window_is_long_enough_to_the_microsecond():
    short, promise = BROKEN["look_back_an_hour_short"]
    results = {result.name: result for result in check_conformance(outside_of_modules(short), SPAN)}
    assert "1 microsecond more than the look-back of 6d 23h before a row" in results[promise].detail
    assert results[promise].detail.endswith("Declare a longer look-back.")
    enough = functions.group(short.transform, timedelta(days=7))
    assert all(result.passed is not False for result in check_conformance(enough, SPAN))
