"""The Dagster page as a person sees it, in a real browser."""

from __future__ import annotations

import pytest

from feature_assets import flights

pytestmark = [pytest.mark.needs_browser, pytest.mark.timeout(240)]


def test_the_lineage_page_shows_every_group_between_its_source_and_the_training_set(rendered):
    page = rendered("/assets/flight_delay?view=lineage&lineageScope=upstream&lineageDepth=5")
    names = [group.name for group in flights.FEATURE_GROUPS] + ["flight_delay", "flight_arrivals", "aircraft_registry"]
    assert [name for name in names if name not in page] == []
