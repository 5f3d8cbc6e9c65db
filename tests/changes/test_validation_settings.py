"""No variable of pandera's, nor another pipeline's use of it, opens the stores to rows that break a schema."""

import os
import subprocess
import sys

import pytest

JUDGE = """
from dataclasses import replace

import polars as pl

from feature_store import FeatureSchema, InvalidRowsError, feature
from tests.orders import Orders, some_orders, spending
from feature_store.changes.validation import validate

class Strict(FeatureSchema):
    share: float = feature("A share.", ge=0, le=1)
    visits: int = feature("Visits.", nullable=False)

group = replace(spending(Orders(some_orders())), schema=Strict)
for share, visits in [(-5.0, 1), (0.5, None), (0.5, 1)]:
    rows = pl.DataFrame(
        {"customer": ["c1"], "event_timestamp": [group.start], "share": [share], "visits": [visits]},
        schema_overrides={"visits": pl.Int64},
    )
    try:
        print(validate(group, rows).height)
    except InvalidRowsError as error:
        print(error.failures[0])
"""
EXPECTED = [
    "column 'share' breaks greater_than_or_equal_to(0) in 1 rows, for example -5.0",
    "column 'visits' breaks not_nullable in 1 rows, for example None",
    "1",
]


def judged(before: str = "", **variables: str) -> list[str]:
    program = [sys.executable, "-W", "ignore::FutureWarning", "-c", before + JUDGE]
    done = subprocess.run(program, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "variables",
    [
        {
            "PANDERA_VALIDATION_ENABLED": "False",
            "PANDERA_VALIDATION_DEPTH": "SCHEMA_ONLY",
            "PANDERA_CACHE_DATAFRAME": "True",
            "PANDERA_KEEP_CACHED_DATAFRAME": "True",
        },
        pytest.param(
            {"PANDERA_VALIDATION_DEPTH": "no depth", "PANDERA_USE_NARWHALS_BACKEND": "True"}, marks=pytest.mark.slow
        ),
    ],
    ids=" ".join,
)
def test_rows_are_judged_alike_whatever_the_variables_of_pandera_say(variables):
    assert judged(**variables) == EXPECTED


@pytest.mark.slow
def test_rows_are_judged_alike_in_a_process_that_has_switched_pandera_off():
    before = "import pandera.polars, pandera.config\npandera.config.set_config(validation_enabled=False)\n"
    variables = {"PANDERA_VALIDATION_DEPTH": "DATA_ONLY", "PANDERA_USE_NARWHALS_BACKEND": "True"}
    assert judged(before, **variables) == EXPECTED
