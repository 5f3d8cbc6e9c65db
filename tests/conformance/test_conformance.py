"""Each broken promise is caught by the check that is named for it; a function that keeps them all passes."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store.conformance import ConformanceResult, check_conformance
from feature_store.definitions.entity import Entity
from feature_store.definitions.group import FeatureGroup, feature_group
from feature_store.definitions.schema import FeatureSchema, feature
from feature_store.errors import InvalidRequestError, MissingSourceError
from feature_store.partitions import Window
from feature_store.transform.comparison import difference

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SPAN = Window(START + 10 * DAY, START + 14 * DAY)
ALL = ["repeatable", "clock", "partitions", "entities", "causality", "order", "lookback", "process", "valid"]


class FrameSource:
    """Events in a frame, sorted by time."""

    name = "readings"
    start = START

    def __init__(self, events: pl.DataFrame) -> None:
        self.events = events

    def scan(self, window: Window) -> pl.LazyFrame:
        if window.end > START + 20 * DAY:
            raise MissingSourceError("Source 'readings' has landed for 20 days only.")
        return self.events.lazy().filter(pl.col("event_timestamp").is_between(window.start, window.end, closed="left"))

    def fingerprint(self, day) -> str | None:
        return "1"


def readings() -> pl.DataFrame:
    """One event per sensor every three hours, offset by sensor; whole numbers, so that sums are exact."""
    sensors = [f"s{number}" for number in range(5)]
    records = [
        (sensor, START + step * timedelta(hours=3) + number * timedelta(minutes=7), float((step * 37 + number) % 101))
        for step in range(160)
        for number, sensor in enumerate(sensors)
    ]
    return pl.DataFrame(
        records,
        schema={"sensor": pl.String, "event_timestamp": pl.Datetime("us", "UTC"), "reading": pl.Float64},
        orient="row",
    )


class Total(FeatureSchema):
    total: float = feature("Sum of readings", ge=0)


SOURCE = FrameSource(readings())


def group_of(transform, *, source=SOURCE, lookback: timedelta = DAY, keys=None) -> FeatureGroup:
    decorate = feature_group(
        entity=Entity("sensor", keys or {"sensor": str}), source=source, schema=Total, owner="team", lookback=lookback
    )
    return decorate(transform)


def outcomes(results: list[ConformanceResult]) -> dict[str, bool | None]:
    return {result.name: result.passed for result in results}


def details(results: list[ConformanceResult]) -> dict[str, str]:
    return {result.name: result.detail for result in results}


def failed(group: FeatureGroup, span: Window = SPAN) -> list[str]:
    results = check_conformance(group, span)
    assert [result.name for result in results] == ALL
    assert all(result.detail for result in results)
    return [result.name for result in results if result.passed is False]


def totals_of_a_day(events: pl.LazyFrame) -> pl.LazyFrame:
    """Sum of the last day."""
    totals = events.sort("sensor", "event_timestamp").rolling("event_timestamp", period="1d", group_by="sensor")
    return totals.agg(total=pl.col("reading").sum())


def test_a_function_that_keeps_the_contract_passes_everything():
    assert failed(group_of(totals_of_a_day)) == []


def test_results_do_not_depend_on_the_run():
    group = group_of(totals_of_a_day)
    assert check_conformance(group, SPAN, seed=3) == check_conformance(group, SPAN, seed=3)


def test_the_beginning_of_history_is_no_violation():
    assert failed(group_of(totals_of_a_day), Window(START, START + 3 * DAY)) == []


def test_a_value_relative_to_all_events_at_hand_depends_on_the_run():
    def of_the_run(events: pl.LazyFrame) -> pl.LazyFrame:
        return events.select("sensor", "event_timestamp", total=pl.col("reading") + pl.col("event_timestamp").rank())

    assert "partitions" in failed(group_of(of_the_run))


def test_a_value_relative_to_other_entities_is_not_entity_local():
    def highest_among_sensors(events: pl.LazyFrame) -> pl.LazyFrame:
        hour = pl.col("event_timestamp").dt.truncate("3h")
        highest = pl.col("reading").cum_max().over(hour, order_by="event_timestamp")
        return events.select("sensor", "event_timestamp", total=highest)

    assert failed(group_of(highest_among_sensors)) == ["entities"]


def test_a_value_that_knows_the_next_event_breaks_causality():
    def next_reading(events: pl.LazyFrame) -> pl.LazyFrame:
        following = pl.col("reading").shift(-1).over("sensor", order_by="event_timestamp")
        return events.select("sensor", "event_timestamp", total=following)

    assert failed(group_of(next_reading)) == ["partitions", "causality"]


def test_a_total_stamped_at_the_start_of_its_hours_is_known_too_early():
    def early(events: pl.LazyFrame) -> pl.LazyFrame:
        hours = pl.col("event_timestamp").dt.truncate("12h")
        return events.group_by("sensor", hours).agg(total=pl.col("reading").sum())

    results = check_conformance(group_of(early), SPAN)
    assert [result.name for result in results if result.passed is False] == ["partitions", "causality"]
    [causality] = [result for result in results if result.name == "causality"]
    assert "2024-01-1" in causality.detail
    assert "total is" in causality.detail


def test_taking_the_events_as_they_come_breaks_order():
    def previous(events: pl.LazyFrame) -> pl.LazyFrame:
        return events.select("sensor", "event_timestamp", total=pl.col("reading").shift(1).over("sensor"))

    assert failed(group_of(previous)) == ["order"]


def test_reaching_farther_back_than_declared_is_caught_even_inside_a_partition():
    group = group_of(totals_of_a_day, lookback=timedelta(hours=20))
    assert failed(group) == ["partitions", "lookback"]
    assert failed(group, Window(SPAN.start, SPAN.start + DAY)) == ["partitions", "lookback"]


def test_one_partition_is_cut_into_pieces_all_the_same():
    results = check_conformance(group_of(totals_of_a_day), Window(SPAN.start, SPAN.start + DAY))
    assert outcomes(results)["partitions"] is True


def test_a_sum_that_rounds_by_its_start_is_told_from_an_exact_one():
    tenths = FrameSource(readings().with_columns(pl.col("reading") / 10))

    def running_difference(events: pl.LazyFrame) -> pl.LazyFrame:
        running = pl.col("reading").cum_sum().over("sensor", order_by="event_timestamp")
        return events.with_columns(running=running).select(
            "sensor",
            "event_timestamp",
            total=(pl.col("running") - pl.col("running").shift(1).over("sensor", order_by="event_timestamp")).abs(),
        )

    results = check_conformance(group_of(running_difference, source=tenths), SPAN)
    assert [result.name for result in results if result.passed is False] == []
    inexact = [result for result in results if not result.exact]
    assert "partitions" in [result.name for result in inexact]
    assert all("total is" in result.detail and "feature_store.exact" in result.detail for result in inexact)


def test_a_random_value_is_not_repeatable():
    def random_values(events: pl.LazyFrame) -> pl.LazyFrame:
        return events.select("sensor", "event_timestamp", total=pl.col("reading").shuffle())

    assert "repeatable" in failed(group_of(random_values))


def test_rows_that_the_schema_refuses_are_shown():
    def negative(events: pl.LazyFrame) -> pl.LazyFrame:
        return events.select("sensor", "event_timestamp", total=-pl.col("reading"))

    results = check_conformance(group_of(negative), SPAN)
    assert [result.name for result in results if result.passed is False] == ["valid"]
    assert "total" in results[-1].detail


def test_events_without_the_join_keys_cannot_be_told_apart():
    renamed = FrameSource(readings().rename({"sensor": "device"}))

    def by_device(events: pl.LazyFrame) -> pl.LazyFrame:
        return totals_of_a_day(events.rename({"device": "sensor"}))

    results = check_conformance(group_of(by_device, source=renamed), SPAN)
    assert [result.name for result in results if result.passed is False] == []
    assert outcomes(results)["entities"] is None
    assert "no column sensor" in details(results)["entities"]


def test_a_function_that_raises_on_few_events_fails_with_its_error():
    def needs_all(events: pl.LazyFrame) -> pl.LazyFrame:
        rows = events.select("sensor", "event_timestamp", total="reading")
        if rows.collect()["sensor"].n_unique() < 5:
            raise ValueError("too few sensors")
        return rows

    results = check_conformance(group_of(needs_all), SPAN)
    assert outcomes(results)["entities"] is False
    assert "ValueError: too few sensors" in details(results)["entities"]


def test_a_span_without_rows_says_so():
    def nothing(events: pl.LazyFrame) -> pl.LazyFrame:
        return events.rename({"reading": "total"}).filter(pl.col("total") < 0)

    with pytest.raises(InvalidRequestError, match="has no rows from 2024-01-11"):
        check_conformance(group_of(nothing), SPAN)


def test_a_span_that_has_not_landed_is_an_error():
    with pytest.raises(MissingSourceError):
        check_conformance(group_of(totals_of_a_day), Window(SPAN.start, SPAN.start + 30 * DAY))


def test_a_span_of_broken_partitions_is_an_error():
    with pytest.raises(InvalidRequestError, match="boundary"):
        check_conformance(group_of(totals_of_a_day), Window(SPAN.start, SPAN.start + timedelta(hours=5)))


FLOATS = st.one_of(st.none(), st.sampled_from([0.0, -0.0, float("nan"), 1.0, 1.0 + 2**-52]))


@settings(max_examples=60, deadline=None)
@given(st.lists(FLOATS, min_size=1, max_size=4), st.lists(FLOATS, min_size=1, max_size=4))
def test_frames_are_the_same_exactly_when_their_bits_are(left, right):
    def frame(values):
        columns = {"key": list(range(len(values))), "value": values, "vector": [[value] for value in values]}
        schema = {"key": pl.Int64, "value": pl.Float64, "vector": pl.Array(pl.Float32, 1)}
        return pl.DataFrame(columns, schema=schema)

    same = list(map(repr, left)) == list(map(repr, right))
    assert (difference(frame(left), frame(right), ["key"]) is None) == same
    assert difference(frame(left), frame(left).reverse(), ["key"]) is None


def test_a_difference_names_the_rows_the_columns_and_both_values():
    expected = pl.DataFrame({"key": ["a", "b", "c"], "value": [1.0, None, 3.0]})
    actual = pl.DataFrame({"key": ["a", "b", "d"], "value": [1.0, float("nan"), 3.0]})
    found = difference(expected, actual, ["key"])
    assert found is not None
    assert not found.rounding
    assert found.text == (
        "3 of 3 rows differ: key='b': value is nan instead of None; key='c' is missing; key='d' should not exist."
    )
    assert "columns differ" in str(difference(expected, expected.cast({"value": pl.Float32}), ["key"]))
