"""The checks of a group's partitions: pure judgements of profiles, named as they appear in the Dagster UI.

What is compared with what is decided in `watchers`; reading profiles and baselines does not belong here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from math import exp, log, log1p, sqrt

from feature_store.definitions.group import FeatureGroup
from feature_store.definitions.schema import FeatureSpec
from feature_store.monitoring.baseline import value_counts
from feature_store.monitoring.chance import FALSE_ALARMS
from feature_store.monitoring.check_names import DRIFT, NULL_RATE, ROW_COUNT, SCHEMA
from feature_store.monitoring.expectation import Series
from feature_store.monitoring.findings import CheckResult, Finding, Picture
from feature_store.monitoring.histogram import histogram
from feature_store.monitoring.missing_watcher import MissingWatcher
from feature_store.monitoring.profile import FeatureProfile, PartitionProfile
from feature_store.monitoring.reference import FIRST_SEASONS, Baseline, first_weeks
from feature_store.monitoring.watchers import watcher
from feature_store.monitoring.watching import LEAST_VALUES, SCALE_FACTOR, Seen, Watcher
from feature_store.partitions import Window

ROWS_Z = 6.0
"""Forecast errors by which a number of rows must be off to be a finding."""

_MOST_PLOTTED = 1000.0

_MOST_TOLD = 5
"""Features of which a summary tells why a training set is not their baseline."""


MOST_REMEMBERED = 56
"""Partitions before a run that are read back, so that its first partition has a forecast."""


class PartitionMonitor:
    """Judges a group's partitions in order of time.

    Args:
        group: The feature group.
        baselines: Baseline by feature column, of training sets. Features without one are compared with the group's
            own first weeks.
        first: Profiles of the group's first partitions after its first look-back, for those; as many as exist of the
            first `FIRST_SEASONS` seasons.
        rejected: Why the newest training set is not the baseline of a feature column; the drift check tells it.
    """

    def __init__(
        self,
        group: FeatureGroup,
        baselines: Mapping[str, Baseline],
        first: Sequence[PartitionProfile] = (),
        *,
        rejected: Mapping[str, str] | None = None,
    ) -> None:
        self._group = group
        self._season = season_of(group)
        self._trained = baselines
        self._rejected = rejected or {}
        self._first = list(first)
        # Until the look-back is full, rows lack a part of their past: such partitions are like no other.
        self._warm = group.start + group.lookback
        self._next: datetime | None = None
        self._rows = Series(self._season)
        level = FALSE_ALARMS / max(len(group.features), 1)
        self._features = {spec.ref.column: _Feature(spec, self._season, level) for spec in group.features}
        for column, baseline in baselines.items():
            if column in self._features:
                self._features[column].establish(baseline, ())
        self._waiting: deque[PartitionProfile] = deque(maxlen=MOST_REMEMBERED)

    def learn(self, history: Sequence[tuple[Window, PartitionProfile]]) -> None:
        """Takes in the partitions before the first one to judge, in order of time."""
        for window, profile in history:
            self._judge(window, profile)

    def judge(self, partitions: Sequence[tuple[Window, PartitionProfile]]) -> list[list[CheckResult]]:
        """Judges the next partitions, whose rows have passed validation, and learns from each what is sound.

        Args:
            partitions: In order of time, later than those before. A group without a baseline of its own takes as many
                of them into it as its first weeks have.

        Returns:
            For each partition one result per check, in the order of `DESCRIPTIONS`.
        """
        wanted = FIRST_SEASONS * self._season - len(self._first)
        warm = [profile for window, profile in partitions if window.start >= self._warm and profile.rows]
        self._first += warm[: max(wanted, 0)]
        return [self._judge(window, profile) for window, profile in partitions]

    def _judge(self, window: Window, profile: PartitionProfile) -> list[CheckResult]:
        warm = window.start >= self._warm
        # A group that ends was cut off somewhere in its last partition: what it lacks there is no fault.
        cut = self._group.end is not None and window.end >= self._group.end
        if warm:
            self._pass_over_gaps(window)
            self._establish(profile)
        seen = {spec.ref.column: self._see(spec, profile) for spec in self._group.features} if warm else {}
        return [
            CheckResult(SCHEMA, passed=True, summary=f"{profile.rows:,} rows satisfy {self._group.schema.__name__}."),
            self._null_rate(profile, {} if cut else seen),
            self._row_count(profile, warm=warm, cut=cut),
            self._drift(profile, {} if cut else seen, warm=warm, cut=cut),
        ]

    def _pass_over_gaps(self, window: Window) -> None:
        length = self._group.partitioning.length
        missing = 0 if self._next is None else min((window.start - self._next) // length, MOST_REMEMBERED)
        for _ in range(missing):
            self._rows.push(None)
            for feature in self._features.values():
                feature.skip()
        self._next = window.end

    def _establish(self, profile: PartitionProfile) -> None:
        """Gives features a baseline of their own as soon as there is one: first weeks, else the newest, with values."""
        for partitions in (self._first, list(self._waiting)):
            missing = {
                column: feature.thresholds
                for column, feature in self._features.items()
                if feature.baseline is None and (column not in self._trained)
            }
            for column, baseline in first_weeks(partitions, self._season, missing).items():
                self._features[column].establish(baseline, self._waiting)
        self._waiting.append(profile)

    def _see(self, spec: FeatureSpec, profile: PartitionProfile) -> tuple[Finding | None, Seen]:
        return self._features[spec.ref.column].see(profile)

    def _null_rate(self, profile: PartitionProfile, seen: Mapping[str, tuple[Finding | None, Seen]]) -> CheckResult:
        rates = {column: feature.missing_rate for column, feature in profile.features.items()}
        findings = []
        for spec in self._group.features:
            column = spec.ref.column
            if column not in rates:  # a partition from before the feature was added
                continue
            if rates[column] > spec.max_null_rate:
                what = "null or infinite" if profile.features[column].infinite else "null"
                text = f"{column}: {rates[column]:.1%} are {what}, {spec.max_null_rate:.1%} allowed"
                findings.append(Finding("nulls", "alert", text, column))
            elif (spike := seen.get(column, (None, None))[0]) is not None:
                findings.append(spike)
        numbers = {f"null_rate/{column}": feature.null_rate for column, feature in profile.features.items()}
        numbers |= {
            f"infinite_rate/{spec.ref.column}": profile.features[spec.ref.column].infinite_rate
            for spec in self._group.features
            if spec.dtype.holds_floats and spec.ref.column in profile.features
        }
        calm = f"Greatest share of nulls and infinities {max(rates.values(), default=0.0):.1%}."
        return _result(NULL_RATE, findings, calm, numbers)

    def _row_count(self, profile: PartitionProfile, *, warm: bool, cut: bool) -> CheckResult:
        group = self._group
        numbers: dict[str, float] = {"rows": profile.rows, "entities": profile.entities}
        calm = f"{profile.rows:,} rows of {profile.entities:,} entities; at least {group.min_rows:,} rows expected."
        findings = []
        if profile.rows < group.min_rows:
            text = f"{profile.rows:,} rows, at least {group.min_rows:,} expected"
            findings.append(Finding("rows", "alert", text))
        forecast = self._rows.forecast() if warm and not cut else None
        if forecast is not None and (expected := exp(forecast.value) - 1) >= LEAST_VALUES:
            numbers["expected_rows"] = round(expected)
            change = log1p(profile.rows) - forecast.value
            z = change / sqrt(forecast.spread**2 + 1 / expected)
            if abs(change) >= log(SCALE_FACTOR) and abs(z) > ROWS_Z and not findings:
                text = f"{profile.rows:,} rows, about {expected:,.0f} expected (z = {z:.1f})"
                findings.append(Finding("rows", "alert", text))
            calm = f"{profile.rows:,} rows of {profile.entities:,} entities; about {expected:,.0f} rows expected."
        if warm:
            self._rows.push(log1p(profile.rows), failed=bool(findings))
        return _result(ROW_COUNT, findings, calm, numbers)

    def _drift(
        self, profile: PartitionProfile, seen: Mapping[str, tuple[Finding | None, Seen]], *, warm: bool, cut: bool
    ) -> CheckResult:
        numbers = {
            f"{name}/{column}": _plottable(value)
            for column, (_, each) in seen.items()
            for name, value in each.numbers.items()
        }
        findings = [each.finding for _, each in seen.values() if each.finding is not None]
        findings.sort(key=lambda finding: finding.level)
        unjudged = None
        if not warm:
            unjudged = "the group's first look-back is not full yet"
        elif cut:
            unjudged = "the group ends with this partition"
        elif not profile.rows:
            unjudged = "no rows"
        elif all(feature.baseline is None for feature in self._features.values()):
            unjudged = "there is no baseline yet"
        calm = "No feature has changed beyond what the partitions before foretell."
        if unjudged:
            calm = f"Not judged: {unjudged}."
        result = _result(DRIFT, findings, calm, numbers, self._picture(findings, seen), self._unused())
        return result if unjudged is None else replace(result, judged=False)

    def _unused(self) -> str:
        """Tells of training sets that are newer than the baseline, and why they are not."""
        told = [
            f"{column} is compared with {self._source(column)}, since {reason}"
            for column, reason in self._rejected.items()
        ]
        more = f"; and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
        return f" {'; '.join(told[:_MOST_TOLD])}{more}." if told else ""

    def _source(self, column: str) -> str:
        feature = self._features.get(column)
        return "nothing yet" if feature is None or feature.baseline is None else feature.baseline.source

    def _picture(self, findings: Sequence[Finding], seen: Mapping[str, tuple[Finding | None, Seen]]) -> Picture | None:
        """Returns the histogram of the first finding's feature, else of the one that is farthest from its baseline."""
        drawn = {column: each for column, (_, each) in seen.items() if each.current}
        chosen = next((finding.feature for finding in findings if finding.feature in drawn), None)
        if chosen is None:
            chosen = max(drawn, key=lambda column: drawn[column].numbers["psi"], default=None)
        if chosen is None:
            return None
        baseline = self._features[chosen].baseline
        assert baseline is not None
        return Picture(chosen, histogram(drawn[chosen].current, value_counts(baseline.profile)))


def season_of(group: FeatureGroup) -> int:
    """Returns after how many partitions a group's series repeat: a week of days, a day of hours."""
    return 7 if group.partitioning.length.days else 24


class _Feature:
    """One feature's watchers.

    Attributes:
        thresholds: The feature's thresholds.
        baseline: What its values are compared with, None as long as there is none.
    """

    def __init__(self, spec: FeatureSpec, season: int, level: float) -> None:
        self.thresholds = spec.monitor
        self.baseline: Baseline | None = None
        self._spec = spec
        self._season = season
        self._level = level
        self._missing = MissingWatcher(spec.ref.column, spec.monitor, season, level)
        self._values: Watcher | None = None

    def establish(self, baseline: Baseline, past: Iterable[PartitionProfile]) -> None:
        """Takes a baseline, and learns from the partitions that came before it."""
        self.baseline = baseline
        self._missing.establish(baseline.profile)
        spec = self._spec
        self._values = watcher(spec.ref.column, spec.dtype, spec.monitor, baseline.profile, self._season, self._level)
        for profile in past:
            self._see_values(profile.features.get(spec.ref.column), profile)

    def see(self, profile: PartitionProfile) -> tuple[Finding | None, Seen]:
        """Judges the next partition: its nulls and infinities, and its values."""
        own = profile.features.get(self._spec.ref.column)
        if own is None or not own.rows:
            self.skip()
            return None, Seen()
        return self._missing.see(own, profile.entities), self._see_values(own, profile)

    def skip(self) -> None:
        """Passes over a partition that does not exist."""
        self._missing.skip()
        if self._values:
            self._values.skip()

    def _see_values(self, own: FeatureProfile | None, profile: PartitionProfile) -> Seen:
        if self._values is None:
            return Seen()
        if own is None or not own.rows:
            self._values.skip()
            return Seen()
        return self._values.see(own, profile.entities, profile.followers)


def _result(
    name: str,
    findings: Sequence[Finding],
    calm: str,
    numbers: Mapping[str, float],
    picture: Picture | None = None,
    note: str = "",
) -> CheckResult:
    summary = f"{'; '.join(finding.text for finding in findings)}." if findings else calm
    return CheckResult(name, not findings, summary + note, numbers, tuple(findings), picture)


def _plottable(value: float) -> float:
    return max(-_MOST_PLOTTED, min(value, _MOST_PLOTTED))
