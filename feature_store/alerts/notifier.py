"""Alerts: takes findings, keeps incidents in the registry, tells people once, and remembers who could not be told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from feature_store.alerts.channels import Channel
from feature_store.alerts.findings import Finding
from feature_store.alerts.incidents import after
from feature_store.alerts.message import message_of
from feature_store.clock import Clock
from feature_store.errors import AlertError
from feature_store.registry.records import IncidentRecord
from feature_store.registry.registry import Registry

RETRY_AFTER = timedelta(minutes=1)
"""Time to the next round of a message. It does not grow: nobody can say when a channel answers again, and what it has
missed does not wait for long after it does."""

GIVEN_UP_AFTER = timedelta(days=1)
"""A message that could not be delivered for so long is given up, and stays visible as an error."""

_SENDING = "it is being sent"

_log = logging.getLogger("feature_store.alerts")


@dataclass(frozen=True, slots=True)
class Notice:
    """What became of one message.

    Attributes:
        key: What its incident is about.
        event: `opened`, `reminder` or `recovered`.
        title: Its title.
        delivered: Channels that have it.
        errors: Why others do not, by channel.
    """

    key: str
    event: str
    title: str
    delivered: tuple[str, ...]
    errors: dict[str, str]


class Alerts:
    """Turns findings into messages: one per incident, and one when it is well again.

    A channel that fails never raises: the error is logged, kept with the incident, and tried again in later rounds.

    Args:
        registry: Keeps the incidents; migrated if need be.
        channels: Carry the messages.
        clock: Tells the present. People live by the wall clock, also where the store replays another time.
        base_url: Base URL of the Dagster page, None for no links.
    """

    def __init__(
        self, registry: Registry, channels: Sequence[Channel], clock: Clock, *, base_url: str | None = None
    ) -> None:
        self._registry = registry
        self._channels = {channel.name: channel for channel in channels}
        self._clock = clock
        self._base_url = base_url

    def report(self, findings: Iterable[Finding]) -> list[Notice]:
        """Takes findings, and delivers what they make worth telling, with what earlier rounds could not deliver.

        Reporting the same findings again changes nothing.

        Raises:
            RegistryError: If the registry does not answer: without it nobody knows what has been told.
        """
        changed = self.note(findings)
        return self.deliver(changed)

    def note(self, findings: Iterable[Finding]) -> list[IncidentRecord]:
        """Takes findings, and leaves their messages in the registry for `deliver`: nothing is sent, nothing waits.

        Returns:
            The incidents of which there is something to tell.

        Raises:
            RegistryError: If the registry does not answer.
        """
        self._registry.migrate()
        found = list(findings)
        known = self._registry.incidents([finding.key for finding in found])
        changed = []
        for finding in found:
            # Most findings are good news about what was never bad: they need no write.
            if after(known.get(finding.key), finding, self._clock.now()) is None:
                continue
            record = self._registry.change_incident(finding.key, self._change(finding))
            if record is not None and record.pending:
                changed.append(record)
        return changed

    def deliver(self, noted: Sequence[IncidentRecord] = ()) -> list[Notice]:
        """Sends the messages that have not been sent, and again those that could not be, once their pause is over.

        Args:
            noted: What was noted a moment ago, here.

        Raises:
            RegistryError: If the registry does not answer.
        """
        self._registry.migrate()
        told = {record.key for record in noted}
        waiting = [
            record
            for record in self._registry.incidents().values()
            if record.pending and record.key not in told and _is_due(record, self._clock.now())
        ]
        silent: set[str] = set()
        notices = (self._deliver(record, silent) for record in [*noted, *waiting])
        return [notice for notice in notices if notice is not None]

    def open_incidents(self) -> list[IncidentRecord]:
        """Returns the incidents that are open, the oldest first."""
        self._registry.migrate()
        found = self._registry.incidents().values()
        return sorted((record for record in found if record.resolved_at is None), key=lambda record: record.opened_at)

    def _change(self, finding: Finding) -> Callable[[IncidentRecord | None], IncidentRecord | None]:
        return lambda record: after(record, finding, self._clock.now())

    def _deliver(self, record: IncidentRecord, silent: set[str]) -> Notice | None:
        """Sends a pending message to all channels that do not have it yet; `silent` collects those that failed.

        None if another process has begun to send it: of two daemons one does.
        """
        assert record.pending is not None
        if self._registry.change_incident(record.key, _begun(record, self._channels, self._clock.now())) is None:
            return None
        message = message_of(record, record.pending, base_url=self._base_url, now=self._clock.now())
        deliveries: dict[str, Any] = {}
        for name, channel in self._channels.items():
            before = record.deliveries.get(name, {})
            if before.get("error", "") is None:
                deliveries[name] = before
                continue
            attempts = before.get("attempts", 0)
            if name in silent:
                # A dead channel costs its timeout once in a round, not once a message.
                deliveries[name] = before or {"error": "not tried, as it failed a moment before", "attempts": 0}
                continue
            try:
                channel.send(message)
                error = None
            except AlertError as failure:
                error = str(failure)
                silent.add(name)
                _log.error("An alert was not delivered. %s (%s)", error, message.title)
            deliveries[name] = {"error": error, "attempts": attempts + 1, "at": self._clock.now().isoformat()}
        self._registry.change_incident(record.key, _delivered(record, deliveries, self._clock.now()))
        return Notice(
            key=record.key,
            event=record.pending,
            title=message.title,
            delivered=tuple(name for name, delivery in deliveries.items() if delivery["error"] is None),
            errors={name: delivery["error"] for name, delivery in deliveries.items() if delivery["error"] is not None},
        )


def _is_due(record: IncidentRecord, now: datetime) -> bool:
    """Tells whether a pending message is to be sent; one that has failed a moment ago is not."""
    if not record.deliveries:
        return True
    last = max((one["at"] for one in record.deliveries.values() if "at" in one), default=None)
    since = record.changed_at if last is None else datetime.fromisoformat(last)
    return now - since >= RETRY_AFTER


def _begun(
    sent: IncidentRecord, channels: Iterable[str], now: datetime
) -> Callable[[IncidentRecord | None], IncidentRecord | None]:
    """Returns the change that notes who sends a message, None where somebody does; who dies over it is followed."""

    def change(record: IncidentRecord | None) -> IncidentRecord | None:
        if record is None or (record.id, record.pending, record.deliveries) != (
            sent.id,
            sent.pending,
            sent.deliveries,
        ):
            return None
        deliveries = dict(record.deliveries)
        for name in channels:
            before = deliveries.get(name, {})
            if before.get("error", "") is not None:
                attempts = before.get("attempts", 0)
                deliveries[name] = {"error": _SENDING, "attempts": attempts, "at": now.isoformat()}
        return replace(record, deliveries=deliveries)

    return change


def _delivered(
    sent: IncidentRecord, deliveries: dict[str, Any], now: datetime
) -> Callable[[IncidentRecord | None], IncidentRecord | None]:
    """Returns the change that notes who has been told; what has changed meanwhile stays."""
    is_late = now - sent.changed_at >= GIVEN_UP_AFTER
    settled = all(one["error"] is None or (is_late and one["attempts"] > 0) for one in deliveries.values())

    def change(record: IncidentRecord | None) -> IncidentRecord | None:
        if record is None or record.id != sent.id or record.pending != sent.pending:
            return None
        told = any(one["error"] is None for one in deliveries.values())
        return replace(
            record,
            pending=None if settled else record.pending,
            notified_at=now if told else record.notified_at,
            deliveries=deliveries,
        )

    return change
