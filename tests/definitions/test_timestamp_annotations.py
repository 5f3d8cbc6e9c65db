"""`datetime` in a schema means an instant, however it is written; what cannot mean one is named when it is declared."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Optional

import polars as pl
import pytest

from feature_store.definitions.dtypes import FLOAT, INT, TIMESTAMP
from feature_store.definitions.schema import FeatureSchema, Timestamp, feature
from feature_store.errors import DefinitionError
from tests.orders import Orders, some_orders, spending

SEEN = datetime(2024, 3, 1, 12, 30, tzinfo=UTC)
PARIS = timezone(timedelta(hours=1))


def schema_of(annotation: Any, **given: Any) -> type[FeatureSchema]:
    members = {"__annotations__": {"seen": annotation}, "seen": feature("Last seen.", **given), "__module__": __name__}
    return type("Visit", (FeatureSchema,), members)


@pytest.mark.parametrize(
    "annotation",
    [
        datetime,
        Optional[datetime],  # noqa: UP045 - this spelling is under test
        datetime | None,
        Timestamp,
        Timestamp | None,
        pl.Datetime,
        pl.Datetime("us"),
        pl.Datetime("us", "UTC"),
        Annotated[pl.Datetime, "us", "UTC"],
        "datetime",
        "datetime | None",
        "Optional[datetime]",
        'pl.Datetime("us", "UTC")',
    ],
    ids=str,
)
def test_every_spelling_of_a_datetime_is_a_timestamp(annotation):
    schema = schema_of(annotation)
    [spec] = schema.specs()
    assert spec.dtype == TIMESTAMP
    rows = pl.DataFrame({"seen": [SEEN, None]}, schema={"seen": pl.Datetime("us", "UTC")})
    assert schema.validate(rows).equals(rows)


@pytest.mark.parametrize(
    "annotation",
    [pl.Datetime("ms"), pl.Datetime("us", "Europe/Paris"), Annotated[pl.Datetime, "ns", "UTC"], "pl.Datetime('ns')"],
    ids=str,
)
def test_another_unit_or_zone_is_named_when_it_is_declared(annotation):
    with pytest.raises(DefinitionError, match=r"Visit\.seen is annotated .*: use .*datetime \(UTC, microseconds\)"):
        schema_of(annotation).specs()


@pytest.mark.parametrize(("annotation", "dtype"), [(float | None, FLOAT), ("int | None", INT)], ids=str)
def test_other_types_may_be_written_with_none_too(annotation, dtype):
    [spec] = schema_of(annotation).specs()
    assert spec.dtype == dtype
    with pytest.raises(DefinitionError, match=r"Visit\.seen is annotated with None and declared nullable=False"):
        schema_of(annotation, nullable=False)


@pytest.mark.parametrize("given", [SEEN, SEEN.replace(tzinfo=None), SEEN.astimezone(PARIS)], ids=str)
def test_aware_and_naive_times_come_back_from_both_stores_as_one_instant(store, given):
    group = replace(spending(Orders(some_orders())), schema=schema_of(datetime | None))
    store.apply([group])
    when = datetime(2024, 3, 9, tzinfo=UTC)
    store.ingest(group, pl.DataFrame({"customer": ["c1"], "event_timestamp": [when], "seen": [given]}))
    assert store.get_online_features("c1", ["seen"]) == {"seen": SEEN}
    assert store.get_offline_features(["c1"], ["seen"], [when])["seen"].to_list() == [SEEN]
