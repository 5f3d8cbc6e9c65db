"""When a change of a feature is worth telling: thresholds, declared with the feature."""

from __future__ import annotations

from dataclasses import dataclass

from feature_store.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Monitor:
    """Thresholds of one feature's checks. `docs/monitoring.md` tells what each means and how the defaults were found.

    Attributes:
        psi_warn: Population stability index against the baseline from which a change of distribution is a warning.
        psi_alert: From which it is an alert.
        z: Forecast errors by which a partition's mean or spread must be off to count as a change.
        null_points: Points, as a share, by which the share of nulls and infinities must have risen as well.
        infinite: Whether infinities are expected. If not, they are a finding where the baseline has none, or fewer.
        drift: Whether the values are compared at all. False for what may change at will.
    """

    psi_warn: float = 0.1
    psi_alert: float = 0.2
    z: float = 6.0
    null_points: float = 0.04
    infinite: bool = False
    drift: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.psi_warn <= self.psi_alert:
            raise DefinitionError(
                f"Monitor(psi_warn={self.psi_warn}, psi_alert={self.psi_alert}): both are above 0 and the warning does "
                "not exceed the alert."
            )
        if self.z <= 0 or not 0 < self.null_points <= 1:
            raise DefinitionError(
                f"Monitor(z={self.z}, null_points={self.null_points}): z is above 0 and null_points a share up to 1."
            )
