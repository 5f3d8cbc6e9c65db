"""The definitions that the servers under test serve: a shop's customers, and their pages by country."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from feature_store.definitions.entity import Entity
from feature_store.definitions.feature_service import FeatureService
from feature_store.definitions.group import feature_group
from feature_store.definitions.on_demand import on_demand
from feature_store.definitions.schema import Embedding, FeatureSchema, Timestamp, feature
from tests.orders import CUSTOMER, Orders, some_orders
from tests.orders import spending as spending_over

ORDERS = Orders(some_orders())
PAGE = Entity("page", {"number": int, "country": str}, "A page of the catalogue, by country.")

spending = spending_over(ORDERS)


class Traits(FeatureSchema):
    score: float = feature("How loyal")
    score_v2: float = feature("How loyal, by another measure")
    nickname: str = feature("What the customer is called")
    subscribed: bool = feature("Whether the customer reads the news")
    first_seen: Timestamp = feature("When the customer came first")
    taste: Embedding = feature("What the customer likes", dimension=3)
    visits: int = feature("Visits so far")


@feature_group(entity=CUSTOMER, source=ORDERS, schema=Traits, owner="team@example.com", ttl=timedelta(days=2))
def traits(events: pl.LazyFrame) -> pl.LazyFrame:
    """Traits of customers; the tests ingest them."""
    return events


class Views(FeatureSchema):
    views_1d: int = feature("Views in a day")


@feature_group(entity=PAGE, source=ORDERS, schema=Views, owner="team@example.com", ttl=timedelta(days=2))
def page_views(events: pl.LazyFrame) -> pl.LazyFrame:
    """Views of pages; the tests ingest them."""
    return events


class Basket(FeatureSchema):
    basket_share: float = feature("The basket as a share of the amount of 3 days")
    basket_share_v2: float = feature("The same in percent")


@on_demand(inputs=["amount_3d"], request={"basket": float}, schema=Basket, owner="team@example.com")
def basket(amount_3d: pl.Expr, basket: pl.Expr) -> dict[str, pl.Expr]:
    """How a basket compares to what was spent of late."""
    return {"basket_share": basket / amount_3d, "basket_share_v2": 100 * basket / amount_3d}


checkout = FeatureService("checkout", ["amount_3d", "score:v1", "basket"], owner="team@example.com")
profile = FeatureService("profile", ["traits"], owner="team@example.com")
