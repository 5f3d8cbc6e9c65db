"""Running the function again, after other runs, and at another time must not matter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from feature_store.conformance.probe import Probe
from feature_store.conformance.result import Verdict

_AHEAD = timedelta(days=397, hours=5, minutes=17, seconds=11, microseconds=130_007)
_BACK = timedelta(days=1009, hours=13, minutes=41, seconds=29, microseconds=7_919)
"""Such that year, month, weekday, hour, minute and second are others, whenever the checks run."""


def repeatable(probe: Probe, verdict: Verdict) -> str:
    """Checks that a run gives the same rows again, whatever runs came before it in the process."""
    ends = (probe.windows[-1], probe.windows[0])
    fresh = {window: probe.rows_of(probe.events_for(window), window) for window in ends}
    with probe.fresh_state():
        verdict.expect(probe.rows, probe.next_rows_of(probe.events), "A second run on the same events:")
        verdict.expect(probe.rows, probe.next_rows_of(probe.events), "A run right after another on the same events:")
        for window, expected in fresh.items():
            again = probe.next_rows_of(probe.events_for(window), window)
            where = f"rows from {window.start.isoformat()} to {window.end.isoformat()}"
            verdict.expect(expected, again, f"After runs on other events in the same process, {where}:")
        verdict.expect(
            probe.rows, probe.next_rows_of(probe.events), "A run on the same events after runs on parts of them:"
        )
    return "Run again on the same events, and after runs on others, the rows are the same."


def clock(probe: Probe, verdict: Verdict) -> str:
    """Checks that the rows do not depend on when the function runs."""
    # The clock of Python alone is moved: what waits and what measures goes on.
    import time_machine

    now = datetime.now(UTC)
    moments = [now + _AHEAD, now - _BACK]
    for moment in moments:
        with time_machine.travel(moment.timestamp()):
            rows = probe.rows_of(probe.events)
        verdict.expect(probe.rows, rows, f"With the clock at {_minute(moment)} instead of {_minute(now)}:")
    return f"Run with the clock at {' and '.join(_minute(each) for each in moments)}, the rows are the same."


def _minute(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="minutes").removesuffix("+00:00")
