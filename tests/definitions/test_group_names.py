"""Names that a feature group cannot have in every part of the store are rejected where it is defined."""

from __future__ import annotations

import pytest

from feature_store.errors import DefinitionError
from tests.orders import Orders, some_orders, spending


@pytest.mark.parametrize("name", ["context", "config", "lambda", "type", "features"])
def test_a_word_that_dagster_takes_for_no_asset_is_rejected(name):
    with pytest.raises(DefinitionError, match=f"'{name}' cannot name a feature group: Dagster takes no asset"):
        spending(Orders(some_orders()), name=name)


@pytest.mark.parametrize("name", ["count", "split", "date", "group", "value", "index"])
def test_lawful_names_are_taken(name):
    assert spending(Orders(some_orders()), name=name).name == name
