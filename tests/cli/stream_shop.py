"""A definitions module with a stream."""

from __future__ import annotations

from datetime import timedelta

from feature_store.definitions.event_stream import EventStream
from tests.orders import CUSTOMER, Orders
from tests.streaming.pipeline import Order, habits, random_orders

ORDERS = Orders(random_orders(400, customers=6))
shop_habits = habits(ORDERS, "shop_habits")
STREAM = EventStream(ORDERS, Order, CUSTOMER, topic="shop-orders", allowed_lateness=timedelta(days=9))
