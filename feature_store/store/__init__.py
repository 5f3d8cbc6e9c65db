"""The feature store itself: one facade, and what its verbs do, a module for each area.

It knows all other parts of the library and wires them together; none of them knows it. What a part does belongs to
that part: here stands only who calls whom, and in which order.
"""

from feature_store.store.facade import FeatureStore
from feature_store.store.parts import Connections

__all__ = ["Connections", "FeatureStore"]
