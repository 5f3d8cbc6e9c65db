"""Small pictures: a histogram of current values against a baseline, as SVG that fits into a line of Markdown."""

from __future__ import annotations

import base64
from collections.abc import Sequence

_HEIGHT = 48
_BAR = 12
_GAP = 2
_MOST_BARS = 22


def histogram(current: Sequence[float], baseline: Sequence[float]) -> str:
    """Returns an SVG image: filled bars for the current shares, a line for the baseline's, over the same bins.

    Args:
        current: Counts or shares, one per bin.
        baseline: Likewise.
    """
    bars, line = _shares(current)[:_MOST_BARS], _shares(baseline)[:_MOST_BARS]
    top = max([*bars, *line, 1e-9])
    step = _BAR + _GAP
    filled = "".join(
        f"M{number * step} {_HEIGHT}v-{_tall(share, top)}h{_BAR}V{_HEIGHT}" for number, share in enumerate(bars)
    )
    levels = "".join(f"V{_HEIGHT - _tall(share, top)}h{step}" for share in line)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * step * len(bars)}" height="{2 * _HEIGHT}" '
        f'viewBox="0 0 {step * len(bars)} {_HEIGHT}"><path fill="#79b" d="{filled}"/>'
        f'<path fill="none" stroke="#d52" stroke-width="2" d="M0 {_HEIGHT}{levels}"/></svg>'
    )


def markdown_image(svg: str, title: str) -> str:
    """Returns Markdown that shows an SVG image."""
    return f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})"


def _tall(share: float, top: float) -> int:
    return round((_HEIGHT - 2) * share / top)


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]
