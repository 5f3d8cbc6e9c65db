"""What a person reads of a check's result: its summary, and the picture of what has failed, as Markdown."""

from __future__ import annotations

from feature_store.monitoring.findings import CheckResult, Picture
from feature_store.monitoring.histogram import markdown_image

_PICTURED = "\n\n"
"""Stands between a summary, which is one paragraph, and its picture."""


def description(result: CheckResult) -> str:
    """Returns what the UI shows of a check first, as Markdown: its summary, and of a failed one the histogram."""
    if result.passed or result.picture is None:
        return result.summary
    legend = f"`{result.picture.feature}`: the bars are this partition, the line is the baseline."
    return f"{result.summary}{_PICTURED}{legend}\n\n{image(result.picture)}"


def with_note(description: str | None, note: str) -> str:
    """Returns a check's description with a sentence behind its summary, before the picture."""
    summary, paragraph, picture = (description or "").partition(_PICTURED)
    return f"{summary} {note}{paragraph}{picture}" if note else f"{summary}{paragraph}{picture}"


def summary_of(description: str | None) -> str:
    """Returns the summary out of a check's description, for those who cannot see pictures."""
    return (description or "").partition(_PICTURED)[0]


def image(picture: Picture) -> str:
    """Returns a picture as Markdown."""
    return markdown_image(picture.svg, f"{picture.feature}: bars are this partition, the line is the baseline")
