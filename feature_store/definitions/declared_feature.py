"""What `feature(...)` and `window(...)` leave in a schema. Which type and name the feature has, its class knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from feature_store.definitions.monitor import Monitor
from feature_store.definitions.window_spec import DeclaredWindow


@dataclass(frozen=True, slots=True, eq=False)
class DeclaredFeature:
    """One feature's declaration; `feature` says what each part means. Asked of its class, it is its name.

    Attributes:
        bounds: The rules of its values by their arguments of `feature`: `gt`, `ge`, `lt`, `le` and `isin`.
        default: What readers get for null; None where they get null.
        window: What it is folded from, if it is a windowed feature.
    """

    description: str
    dimension: int | None
    scale: int | None
    default: Any
    ttl: timedelta | None
    nullable: bool
    bounds: Mapping[str, Any]
    tags: Mapping[str, str]
    max_null_rate: float
    monitor: Monitor
    window: DeclaredWindow | None = None
    name: str = field(init=False, default="")

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)

    def __get__(self, instance: object, owner: type | None = None) -> str:
        return self.name


def members_of(schema: type) -> dict[str, Any]:
    """Returns what a schema and the classes that it is made from hold, by name, the nearest first to be taken."""
    return {
        name: value for base in reversed(schema.__mro__) if base is not object for name, value in vars(base).items()
    }
