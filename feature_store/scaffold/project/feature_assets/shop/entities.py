"""What the features describe."""

from __future__ import annotations

from feature_store import Entity

CUSTOMER = Entity("customer", {"customer": str}, "A customer of the shop, by number, such as c07.")
