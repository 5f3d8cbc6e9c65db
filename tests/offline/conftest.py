"""The places that the offline store is tested in."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.needs_s3)])
def root(request, tmp_path):
    """A root that nothing lies below: a folder, then a prefix in S3."""
    if request.param == "s3":
        return request.getfixturevalue("s3_root")
    # What means something in SQL and in glob patterns is only a name in the place of a store.
    return tmp_path / "it's a [store]*"
