"""Messages: what people read of an incident, as text, as Slack blocks and as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from feature_store.alerts.findings import WHOLE
from feature_store.alerts.incidents import OPENED, RECOVERED, REMINDER
from feature_store.durations import duration_text
from feature_store.registry.records import IncidentRecord

NUMBERS_SHOWN = 10
PARTITIONS_LISTED = 100
_TITLE_LENGTH = 150
_BLOCK_LENGTH = 2900
_COLORS = {"error": "#d64545", "warning": "#e0a100", RECOVERED: "#3f9c5a"}


@dataclass(frozen=True, slots=True)
class Message:
    """One message about one incident.

    Attributes:
        event: `opened`, `reminder` or `recovered`.
        incident: The registry's number of the incident.
        key: What it is about.
        title: One line.
        severity: `error` or `warning`.
        summary: What was measured.
        facts: Labelled lines: owner, feature, partitions, since when.
        numbers: The measurements, by name.
        remedy: What to do; empty where nothing is to be done.
        link: URL of the page that shows it; None where no base URL is set.
        run_link: URL of the run in which it was seen, likewise.
        partitions: The partitions that failed.
        opened_at: When it was found (UTC).
        resolved_at: When it was well again (UTC), None while it is open.
    """

    event: str
    incident: int
    key: str
    title: str
    severity: str
    summary: str
    facts: Mapping[str, str]
    numbers: Mapping[str, float | str]
    remedy: str
    link: str | None
    run_link: str | None
    partitions: Sequence[str]
    opened_at: datetime
    resolved_at: datetime | None

    def text(self) -> str:
        """Returns the message as plain text, the title in the first line."""
        lines = [self.title, ""]
        if self.summary:
            lines += [self.summary, ""]
        lines += [f"{name}: {value}" for name, value in self.facts.items()]
        if self.numbers:
            lines += ["", *(f"  {name} = {shown(value)}" for name, value in self.numbers.items())]
        if self.remedy:
            lines += ["", f"What to do: {self.remedy}"]
        if self.link:
            lines += ["", self.link]
        if self.run_link:
            lines.append(self.run_link)
        return "\n".join(lines)

    def json(self) -> dict[str, Any]:
        """Returns the message for programs: the body of the generic webhook."""
        return {
            "event": self.event,
            "incident": self.incident,
            "key": self.key,
            "title": self.title,
            "severity": self.severity,
            "summary": self.summary,
            **{name.replace(" ", "_"): value for name, value in self.facts.items() if name in {"group", "owner"}},
            "numbers": dict(self.numbers),
            "partitions": list(self.partitions[-PARTITIONS_LISTED:]),
            "partition_count": len(self.partitions),
            "remedy": self.remedy,
            "link": self.link,
            "run_link": self.run_link,
            "opened_at": _iso(self.opened_at),
            "resolved_at": None if self.resolved_at is None else _iso(self.resolved_at),
        }

    def slack(self) -> dict[str, Any]:
        """Returns the message as the body of a Slack-compatible incoming webhook."""
        fields = [
            {"type": "mrkdwn", "text": f"*{_escaped(name)}*\n{_escaped(value)}"[:_BLOCK_LENGTH]}
            for name, value in self.facts.items()
        ]
        blocks: list[dict[str, Any]] = [
            {"type": "header", "text": {"type": "plain_text", "text": self.title[:_TITLE_LENGTH]}},
        ]
        if self.summary:
            blocks.append(_section(_escaped(self.summary)))
        blocks.append({"type": "section", "fields": fields[:10]})
        if self.numbers:
            table = "\n".join(f"{name} = {shown(value)}" for name, value in self.numbers.items())
            blocks.append(_section(f"```{_escaped(table)}```"))
        if self.remedy:
            blocks.append(_section(f"*What to do* {_escaped(self.remedy)}"))
        links = [f"<{link}|{name}>" for name, link in (("Open the page", self.link), ("Run", self.run_link)) if link]
        if links:
            blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": "  ".join(links)}]})
        color = _COLORS[RECOVERED] if self.event == RECOVERED else _COLORS.get(self.severity, _COLORS["error"])
        # The text is what a notification shows; the blocks stand in an attachment, for the colour at their side.
        return {"text": _escaped(self.title), "attachments": [{"color": color, "blocks": blocks}]}


def message_of(record: IncidentRecord, event: str, *, base_url: str | None, now: datetime) -> Message:
    """Returns the message that an incident's event deserves.

    Args:
        record: The incident, recorded.
        event: `opened`, `reminder` or `recovered`.
        base_url: Base URL of the Dagster page, None for no links.
        now: The present, UTC.
    """
    finding = record.finding
    failed = [key for key in finding["failed"] if key != WHOLE]
    recovered = event == RECOVERED
    what = {OPENED: "", REMINDER: "Still: ", RECOVERED: "Recovered: "}[event]
    still = [key for key in record.partitions if key != WHOLE]
    span = partition_span(failed)
    facts = {
        "group": finding["group"],
        "groups": ", ".join(finding.get("groups", ())),
        "feature": ", ".join(finding["features"]),
        "owner": finding["owner"],
        "partitions": "" if recovered else f"{span}{_of_all(finding)}",
        "since": f"{_iso(record.opened_at)}{_lasted(record, now) if recovered else ''}",
        "passes again": partition_span([key for key in finding["passed"] if key != WHOLE]) if recovered else "",
        "still failing": partition_span(still) if recovered else "",
        "severity": "" if recovered else finding["severity"],
    }
    if event == OPENED and record.resolved_at is not None:
        newest = max(finding["passed"], default=WHOLE)
        facts["by now"] = f"{newest} passes" if newest != WHOLE else "it is over"
        facts["by now"] += ": no further message follows"
    assert record.id is not None
    return Message(
        event=event,
        incident=record.id,
        key=record.key,
        title=_line(f"{what}{finding['title']}{f' ({span})' if span and not recovered else ''}"),
        severity=finding["severity"],
        summary="" if recovered else finding["summary"],
        facts={name: _line(value) for name, value in facts.items() if value},
        numbers={} if recovered else dict(list(finding["numbers"].items())[:NUMBERS_SHOWN]),
        remedy="" if recovered else finding["remedy"],
        link=_url(base_url, finding["link"]),
        run_link=_url(base_url, f"/runs/{finding['run_id']}" if finding["run_id"] else ""),
        partitions=still if recovered else failed,
        opened_at=record.opened_at,
        resolved_at=record.resolved_at,
    )


def partition_span(keys: Sequence[str]) -> str:
    """Returns some partition keys as one short text: `2013-02-09`, or `3 partitions, 2013-02-09 to 2013-02-11`."""
    if len(keys) <= 1:
        return "".join(keys)
    return f"{len(keys):,} partitions, {min(keys)} to {max(keys)}"


def shown(value: float | str) -> str:
    """Returns a measurement in at most six digits."""
    return value if isinstance(value, str) else f"{value:.6g}"


def _of_all(finding: Mapping[str, Any]) -> str:
    failed, passed = len(finding["failed"]), len(finding["passed"])
    return f"; {failed} of {failed + passed:,} looked at" if passed and list(finding["failed"]) != [WHOLE] else ""


def _lasted(record: IncidentRecord, now: datetime) -> str:
    return f", for {duration_text((record.resolved_at or now) - record.opened_at, most_units=1)}"


def _url(base_url: str | None, path: str) -> str | None:
    return f"{base_url.rstrip('/')}{path}" if base_url and path else None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _line(text: str) -> str:
    # A line break in a title would end a mail's header.
    return " ".join(text.split())


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:_BLOCK_LENGTH]}}


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
