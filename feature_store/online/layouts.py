"""Which layout a group is stored in: the one place that knows all layouts."""

from __future__ import annotations

from collections.abc import Mapping

from feature_store.catalog import RegisteredGroup
from feature_store.errors import OnlineStoreError
from feature_store.online.feature_layout import FeatureLayout
from feature_store.online.layout import Layout
from feature_store.online.row_layout import RowLayout
from feature_store.online.window_layout import WindowLayout

_LAYOUTS: Mapping[str, Layout] = {"feature": FeatureLayout(), "row": RowLayout(), "window": WindowLayout()}


def layout_of(group: RegisteredGroup) -> Layout:
    """Returns the layout that a group is stored in.

    Raises:
        OnlineStoreError: If this version of the library does not know it.
    """
    try:
        return _LAYOUTS[group.online_layout]
    except KeyError:
        raise OnlineStoreError(
            f"Feature group {group.name!r} is stored in the layout {group.online_layout!r}, which this version does "
            f"not know: declare online_layout as one of {sorted(_LAYOUTS)}."
        ) from None
