"""The domain: a shop's purchases as a source, a feature group and a training set. Put your own in its place.

All that stands here is found by the command line and by Dagster: export what you add.
"""

from __future__ import annotations

from feature_assets.shop.entities import CUSTOMER
from feature_assets.shop.groups import customer_spending
from feature_assets.shop.sources import PURCHASES
from feature_assets.shop.training_sets import buys_again

__all__ = ["CUSTOMER", "PURCHASES", "buys_again", "customer_spending"]
