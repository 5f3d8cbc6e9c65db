"""What leakage promises: one model on the features of two hours before departure, and on those of the day's end.

Run by `python -m feature_assets.flights.leakage` after the features are computed. The page `docs/leakage.md` tells what
it shows. The second join is wrong on purpose; nothing else here is part of the example domain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from feature_assets.flights.training_sets import flight_delay, flight_delay_labels
from feature_store.definitions.splits import TimeSplits
from feature_store.errors import MissingSourceError
from feature_store.store import FeatureStore
from feature_store.training_sets.splits import assign

PLOT = Path("docs/images/leakage.svg")
TARGET = "late"
CORRECT = "two hours before departure"
LEAKY = "at the end of the day"

_RIDGE = 1.0
_STEPS = 25
_CONVERGED = 1e-8
_CURVE_POINTS = 101
_SIDE = 300
_MARGIN = 44

Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a model fares on later flights.

    Attributes:
        train_rows: Flights that it was fitted to.
        test_rows: Flights that it was judged by.
        auc: Chance that it ranks a late flight above a punctual one.
        curve: True positive rates at false positive rates from 0 to 1 in equal steps.
    """

    train_rows: int
    test_rows: int
    auc: float
    curve: Numbers


def main() -> None:
    """Fits and judges both models, prints their AUC and draws their ROC curves."""
    with FeatureStore.from_env() as store:
        outcomes = compare(store)
    console = Console(highlight=False)
    table = Table("features as of", "flights fitted", "flights judged", "AUC")
    for column in table.columns[1:]:
        column.justify = "right"
    for as_of, outcome in outcomes.items():
        table.add_row(as_of, f"{outcome.train_rows:,}", f"{outcome.test_rows:,}", f"{outcome.auc:.4f}")
    console.print(table)
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    PLOT.write_text(plot(outcomes))
    console.print(f"ROC curves in {PLOT}")


def compare(store: FeatureStore) -> dict[str, Outcome]:
    """Returns the outcome of the correct join and of the leaky one, on the same flights, split and model.

    Args:
        store: Holds the flights' features.

    Raises:
        MissingSourceError: If no features are computed, or no flights have landed.
    """
    if not store.offline.files("plane_punctuality"):
        raise MissingSourceError("No features of the flights are computed yet: run `make demo` first.")
    labels = flight_delay_labels().collect()
    assert isinstance(flight_delay.splits, TimeSplits)
    # Both are split by the time of the prediction: they fit and judge the very same flights.
    split = assign(flight_delay.splits, labels, flight_delay.as_of)
    day_end = pl.col(flight_delay.as_of).dt.truncate("1d") + pl.duration(days=1)
    outcomes = {}
    for name, frame in {CORRECT: labels, LEAKY: labels.with_columns(day_end)}.items():
        rows = store.training_set(frame, flight_delay.features, as_of=flight_delay.as_of)
        names = [column for column in rows.columns[labels.width :] if rows.schema[column].is_numeric()]
        train, test = (rows.filter(split == part) for part in ("train", "test"))
        outcomes[name] = judge(train.select(names), train[TARGET], test.select(names), test[TARGET])
    return outcomes


def judge(train: pl.DataFrame, train_target: pl.Series, test: pl.DataFrame, test_target: pl.Series) -> Outcome:
    """Fits a logistic regression to some rows and judges it by others.

    Args:
        train: Numeric features, nulls welcome.
        train_target: Whether each flight was late.
        test: The same columns of other flights.
        test_target: Whether each of them was late.
    """
    means, spreads = _scale(train)
    weights = fit(_design(train, means, spreads), train_target.cast(pl.Float64).to_numpy())
    scores = _design(test, means, spreads) @ weights
    rates = roc(test_target.to_numpy(), scores)
    return Outcome(train.height, test.height, auc(test_target.to_numpy(), scores), rates)


def fit(features: Numbers, target: Numbers) -> Numbers:
    """Returns the weights of a ridge logistic regression, by Newton's method.

    Args:
        features: Rows by columns, the first column constant; it is not penalized.
        target: 0 or 1 for each row.
    """
    weights = np.zeros(features.shape[1])
    penalty = np.full(features.shape[1], _RIDGE)
    penalty[0] = 0.0
    for _ in range(_STEPS):
        expected = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
        gradient = features.T @ (target - expected) - penalty * weights
        curvature = (features * (expected * (1 - expected))[:, None]).T @ features + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        weights += step
        if np.abs(step).max() < _CONVERGED:
            break
    return weights


def auc(target: np.ndarray[Any, np.dtype[np.bool_]], scores: Numbers) -> float:
    """Returns the chance that a row of the target scores higher than one that is not; ties count half."""
    ranks = pl.Series(scores).rank("average").to_numpy()
    positives = int(target.sum())
    negatives = len(target) - positives
    return float((ranks[target].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def roc(target: np.ndarray[Any, np.dtype[np.bool_]], scores: Numbers) -> Numbers:
    """Returns the true positive rates at `0, 0.01, ..., 1` of false positives."""
    hits = target[np.argsort(-scores, kind="stable")]
    true_rate = np.concatenate([[0.0], np.cumsum(hits) / hits.sum()])
    false_rate = np.concatenate([[0.0], np.cumsum(~hits) / (~hits).sum()])
    rates: Numbers = np.interp(np.linspace(0, 1, _CURVE_POINTS), false_rate, true_rate)
    return rates


def plot(outcomes: Mapping[str, Outcome]) -> str:
    """Returns the ROC curves as SVG, readable on light and dark pages."""
    far = _MARGIN + _SIDE
    width, font = far + 16, 'font-family="sans-serif" font-size="12"'
    colors = ("#2a7ab9", "#d1495b")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {far + 76}" width="{width}" {font}>',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<path d="M{_MARGIN} 16V{16 + _SIDE}H{far}" fill="none" stroke="#555"/>',
        f'<path d="M{_MARGIN} {16 + _SIDE}L{far} 16" stroke="#bbb" stroke-dasharray="4"/>',
        f'<text x="{_MARGIN + _SIDE / 2}" y="{_SIDE + 36}" text-anchor="middle">punctual flights called late</text>',
        f'<text transform="translate(30 {16 + _SIDE / 2}) rotate(-90)" text-anchor="middle">late flights found</text>',
    ]
    for number, (name, outcome) in enumerate(outcomes.items()):
        y = _SIDE + 56 + 20 * number
        parts += [
            f'<polyline fill="none" stroke="{colors[number]}" stroke-width="2" points="{_points(outcome.curve)}"/>',
            f'<path d="M{_MARGIN} {y - 4}h24" stroke="{colors[number]}" stroke-width="2"/>',
            f'<text x="{_MARGIN + 32}" y="{y}">features {name}: AUC {outcome.auc:.3f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def _points(curve: Sequence[float] | Numbers) -> str:
    steps = len(curve) - 1
    return " ".join(
        f"{_MARGIN + _SIDE * number / steps:.0f},{16 + _SIDE * (1 - rate):.1f}" for number, rate in enumerate(curve)
    )


def _scale(features: pl.DataFrame) -> tuple[Numbers, Numbers]:
    """Returns mean and standard deviation of each column; of a column that does not vary, 1."""
    means = features.mean().fill_null(0).to_numpy()[0].astype(np.float64)
    spreads = features.std().fill_null(1).to_numpy()[0].astype(np.float64)
    return means, np.where(spreads > 0, spreads, 1.0)


def _design(features: pl.DataFrame, means: Numbers, spreads: Numbers) -> Numbers:
    """Returns the columns of the regression: a constant, the scaled features with 0 for null, and which are null."""
    values = features.cast(pl.Float64).to_numpy()
    missing = np.isnan(values)
    scaled = np.where(missing, 0.0, (values - means) / spreads)
    return np.hstack([np.ones((len(values), 1)), scaled, missing.astype(np.float64)])


if __name__ == "__main__":
    main()
