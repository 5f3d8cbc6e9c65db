"""The example's span of time: where its history begins, where it ends, and where a replay of it stands.

Nothing but these instants belongs here.
"""

from __future__ import annotations

from datetime import UTC, datetime

START = datetime(2013, 1, 1, tzinfo=UTC)
"""Start of the first partition. The first flight leaves at 10:17 UTC of that day."""

END = datetime(2014, 1, 2, tzinfo=UTC)
"""End of the last partition, 2014-01-01: flights of 31 December land until 09:01 UTC of the next day."""

REPLAY_END = END
"""Where the store's clock stands in a replay: the instant at which the last partition is complete.

At this instant planes that landed in the last seven days, routes, airports and the aircraft registry are live. The
weather is not: its file ends with the hour that was over at 2013-12-31T00:00Z, and its time to live is hours.
"""
