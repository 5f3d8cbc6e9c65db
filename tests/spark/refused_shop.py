"""A definitions module whose source has an amount that the schema refuses, on 5 March."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from tests.orders import START, Orders, orders, some_orders
from tests.orders import spending as spending_over

spending = spending_over(Orders(pl.concat([some_orders(), orders(("c1", START + timedelta(days=4), 5_000))])))
