"""Checks that a group's function keeps the promises that the store relies on: pure, entity-local, of bounded look-back.

From them the store may run the function on a day, a year, one shard or a micro-batch and get equal rows. The checks run
the real function on real events, and on events that are moved in time where the real ones do not come near enough to
a limit; they read the source and write nothing. One module per circumstance that must not matter.
"""

from feature_store.conformance.check import check_conformance
from feature_store.conformance.result import ConformanceResult

__all__ = ["ConformanceResult", "check_conformance"]
