"""Tables of files as others change them: deletions, columns that come, events of no time or of one that never is."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import deltalake
import polars as pl
import pytest

from feature_store import DeltaSource, InvalidSourceError, MissingSourceError
from feature_store.partitions import Partitioning
from tests.sources.places import SCHEMA, START, iceberg


def hour(number: int, of_day: int = 1) -> datetime:
    return datetime(2024, 3, of_day, tzinfo=UTC) + timedelta(hours=number)


def rows(*found: tuple[str, datetime | None, int]) -> pl.DataFrame:
    return pl.DataFrame(found, SCHEMA, orient="row")


def source_of(table: Path) -> DeltaSource:
    return DeltaSource(name="orders", table=str(table), start=START, time_column="made_at")


def read(source, first: int, last: int | None = None) -> pl.DataFrame:
    return source.scan(Partitioning.DAILY.span(f"2024-03-{first:02}", f"2024-03-{last or first:02}")).collect()


SENTINEL = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_an_event_that_never_is_lands_no_day_of_a_delta_table(tmp_path, caplog):
    rows(("a", hour(1), 1), ("b", hour(1, 2), 2)).write_delta(tmp_path)
    source = source_of(tmp_path)
    before = source.survey()
    rows(("c", SENTINEL, 3), ("d", hour(2, 2), 4), ("e", None, 5)).write_delta(tmp_path, mode="append")
    after = source.survey()
    assert list(after) == list(before) == [date(2024, 3, 1), date(2024, 3, 2)]
    assert sorted(read(source, 1, 2)["customer"]) == ["a", "b", "d"]
    with pytest.raises(MissingSourceError, match="2024-03-03"):
        read(source, 3)
    assert source.passed_over() == (
        "1 events without a time (made_at is null)",
        "1 events ahead of the present, up to 9999-12-31T23:59:59+00:00",
    )
    assert "passes over 1 events without a time" in caplog.text
    [(day, misplaced)] = source.misplaced(Partitioning.DAILY.span("2024-03-01", "2024-03-02")).items()
    assert (day, misplaced.without_time, misplaced.elsewhere) == (date(2024, 3, 2), 1, 1)
    assert not source.misplaced(Partitioning.DAILY.span("2024-03-01", "2024-03-01"))


@pytest.mark.slow
def test_an_event_that_never_is_lands_no_day_of_an_iceberg_table(tmp_path):
    place = iceberg(tmp_path / "lake")
    place.add(rows(("a", hour(1), 1)))
    place.add(rows(("c", SENTINEL, 3), ("b", hour(1, 2), 2), ("e", None, 5)))
    assert list(place.source.survey()) == [date(2024, 3, 1), date(2024, 3, 2)]
    assert sorted(read(place.source, 1, 2)["customer"]) == ["a", "b"]
    assert len(place.source.passed_over()) == 2


def test_columns_of_a_delta_table_come_and_are_null_before(tmp_path):
    rows(("a", hour(1), 1)).write_delta(tmp_path)
    source = source_of(tmp_path)
    before = source.survey()
    added = rows(("b", hour(1, 2), 2)).with_columns(coupon=pl.lit("x"))
    added.write_delta(tmp_path, mode="append", delta_write_options={"schema_mode": "merge"})
    assert sorted(read(source, 1, 2).select("customer", "coupon").rows()) == [("a", None), ("b", "x")]
    assert read(source, 1).schema == read(source, 1, 2).schema
    after = source.survey()
    assert [day for day in after if after[day] != before.get(day)] == [date(2024, 3, 2)]


def test_a_delete_changes_its_own_day(tmp_path):
    for day in (1, 2, 3):
        rows(("a", hour(1, day), 1), ("b", hour(2, day), 2)).write_delta(tmp_path, mode="append")
    source = source_of(tmp_path)
    before = source.survey()
    deltalake.DeltaTable(tmp_path).delete("customer = 'b' AND made_at < '2024-03-02T00:00:00Z'")
    after = source.survey()
    assert [day for day in after if after[day] != before[day]] == [date(2024, 3, 1)]
    assert read(source, 1)["customer"].to_list() == ["a"]


def test_what_is_no_table_of_times_is_named(tmp_path):
    pl.DataFrame({"customer": ["a"], "made_at": ["yesterday"]}).write_delta(tmp_path)
    with pytest.raises(InvalidSourceError, match=r"'orders'.*'made_at'"):
        source_of(tmp_path).survey()
    (log,) = (tmp_path / "_delta_log").glob("*.json")
    log.write_text("{ no json")
    with pytest.raises(InvalidSourceError, match="cannot be opened"):
        source_of(tmp_path).survey()
