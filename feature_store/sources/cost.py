"""What it has cost to ask a database: shown in logs and in the metadata of what was found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Cost:
    """What some statements have cost.

    Attributes:
        statements: How many there were.
        rows: Rows that they returned.
        seconds: How long they took, together.
    """

    statements: int = 0
    rows: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.statements} statements, {self.rows:,} rows, {self.seconds:.2f} s"


_LOOKS: dict[str, Cost] = {}


def remember_look(source: str, cost: Cost) -> None:
    """Keeps what the latest look at a source has cost, for `cost_of_look`."""
    _LOOKS[source] = cost


def cost_of_look(source: str) -> Cost | None:
    """Returns what the latest look of this process at a source has cost; None where it is not counted.

    Args:
        source: Name of the source.
    """
    return _LOOKS.get(source)
