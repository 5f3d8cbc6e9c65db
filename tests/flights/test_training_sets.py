"""The labels of the example's training set."""

from __future__ import annotations

import dataclasses
from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from feature_assets.flights import END, FEATURE_GROUPS, FIRST_DAY, LAST_DAY, SOURCES, START, flight_delay, land
from feature_assets.flights.training_sets import flight_delay_labels
from feature_store.errors import MissingSourceError
from feature_store.partitions import Window

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def year(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flight_arrivals")
    land("flight_arrivals", FIRST_DAY, LAST_DAY, folder=folder)
    return dataclasses.replace(SOURCES["flight_arrivals"], root=folder)


@pytest.fixture(scope="module")
def labels(year):
    return flight_delay_labels(year).collect()


def test_one_label_for_each_flight_that_arrived(labels):
    assert labels.height == 327_346
    assert labels.columns == ["as_of", "tailnum", "carrier", "dest", "origin", "flight", "late", "arr_delay"]
    assert sum(labels.null_count().row(0)) == 0
    assert labels.select("as_of", "carrier", "flight", "origin").is_unique().all()
    assert (labels["late"] == (labels["arr_delay"] >= 15)).all()
    assert labels["late"].mean() == pytest.approx(0.2447, abs=1e-4)


def test_labels_come_in_one_order(year, labels):
    keys = ["as_of", "carrier", "flight", "origin", "dest", "tailnum"]
    assert_frame_equal(labels, labels.sort(keys))
    assert_frame_equal(labels, flight_delay_labels(year).collect())


def test_the_prediction_is_made_before_the_outcome_is_known(year):
    arrivals = year.scan(Window(START, END))
    lead = arrivals.select(
        (pl.col("event_timestamp") - pl.col("scheduled_departure") + timedelta(hours=2)).min()
    ).collect()
    assert lead.item() > timedelta(hours=2)


def test_no_label_is_a_feature(labels):
    features = {spec.ref.name for group in FEATURE_GROUPS for spec in group.features}
    assert not features & set(labels.columns)
    assert set(flight_delay.features) == {group.name for group in FEATURE_GROUPS}
    assert flight_delay.as_of == "as_of"
    keys = {key for group in FEATURE_GROUPS for key in group.entity.join_keys}
    assert keys <= set(labels.columns)


def test_labels_are_of_the_days_that_have_landed(tmp_path):
    land("flight_arrivals", FIRST_DAY, date(2013, 1, 3), folder=tmp_path)
    arrivals = dataclasses.replace(SOURCES["flight_arrivals"], root=tmp_path)
    assert 2_000 < flight_delay_labels(arrivals).collect().height < 2_600


def test_nothing_landed_and_a_gap_are_errors(tmp_path):
    arrivals = dataclasses.replace(SOURCES["flight_arrivals"], root=tmp_path)
    with pytest.raises(MissingSourceError, match="has not landed"):
        flight_delay_labels(arrivals)
    land("flight_arrivals", FIRST_DAY, FIRST_DAY, folder=tmp_path)
    land("flight_arrivals", date(2013, 1, 3), date(2013, 1, 3), folder=tmp_path)
    with pytest.raises(MissingSourceError, match="2013-01-02"):
        flight_delay_labels(arrivals)
