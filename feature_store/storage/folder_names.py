"""Names of folders that tell what is in them: `date=YYYY-MM-DD`, a UTC day, and `v1`, `v2`, ..., a numbered version."""

from __future__ import annotations

import re
from datetime import date

DATE_PREFIX = "date="

_NUMBERED = re.compile(r"v(?P<number>[1-9][0-9]{0,8})")


def date_name(day: date) -> str:
    """Returns the name of a day's folder."""
    return f"{DATE_PREFIX}{day.isoformat()}"


def date_of(name: str) -> date | None:
    """Returns the day that a folder is named after, None for another folder."""
    if not name.startswith(DATE_PREFIX):
        return None
    text = name.removeprefix(DATE_PREFIX)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if day.isoformat() == text else None


def number_of(name: str) -> int | None:
    """Returns the number of a version's folder, None for another folder."""
    match = _NUMBERED.fullmatch(name)
    return int(match["number"]) if match else None
