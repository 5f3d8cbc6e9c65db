"""What the outside can call has not changed unnoticed: names, parameters and their defaults, against a snapshot.

A change that is meant is taken over by `pytest tests/test_public_names.py --snapshot-update`; CHANGELOG.md tells it.
"""

from __future__ import annotations

import inspect
import re

import pytest

import dagster_feature_store
import feature_store

PACKAGES = (feature_store, dagster_feature_store)


def described(thing: object) -> object:
    """Returns parameters of what can be called, and of a class its public methods too."""
    if not callable(thing):
        return type(thing).__name__
    try:
        signature = re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(thing)))
    except ValueError:
        return "without a signature"
    if not inspect.isclass(thing) or not thing.__module__.startswith(("feature_store", "dagster_feature_store")):
        return signature
    methods = {
        name: str(inspect.signature(value)) if inspect.isfunction(value) else type(value).__name__
        for name, value in inspect.getmembers_static(thing)
        if not name.startswith("_") and getattr(value, "__module__", thing.__module__).startswith("feature_store")
    }
    return {"": signature, **methods}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_public_names_are_what_they_were(package, snapshot):
    assert {name: described(getattr(package, name)) for name in sorted(package.__all__)} == snapshot


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_all_that_is_public_is_there_and_documented(package):
    for name in package.__all__:
        thing = getattr(package, name)
        if callable(thing) and getattr(thing, "__module__", "").startswith(("feature_store", "dagster_feature_store")):
            assert inspect.getdoc(thing), name
