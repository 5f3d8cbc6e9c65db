"""The tables of the documentation that come from the code are those of the code."""

from __future__ import annotations

import re

import pytest

from docs.reference import PAGES, refreshed, writers

MARK = re.compile(r"<!-- From the code, by `make reference`: ([a-z-]+) -->")
PLACES = {name: page for page in sorted(PAGES.glob("*.md")) for name in MARK.findall(page.read_text("utf-8"))}


@pytest.mark.parametrize("page", sorted(set(PLACES.values())), ids=lambda page: page.name)
def test_a_page_is_what_the_code_says(page):
    written = page.read_text("utf-8")
    assert refreshed(written) == written, f"docs/{page.name} is behind the code: `make reference` writes it anew."


def test_each_table_stands_on_one_page():
    marks = [name for page in PAGES.glob("*.md") for name in MARK.findall(page.read_text("utf-8"))]
    assert sorted(marks) == sorted(writers())


def test_what_is_behind_the_code_is_written_anew_and_nothing_else():
    mark = "<!-- From the code, by `make reference`: settings -->"
    page = f"# Settings\n\nBefore.\n\n{mark}\nof yesterday\n<!-- End -->\n\nAfter.\n"
    now = refreshed(page)
    assert now.startswith("# Settings\n\nBefore.\n\n<!--")
    assert now.endswith("<!-- End -->\n\nAfter.\n")
    assert "`FEATURE_STORE_OFFLINE`" in now
    assert "of yesterday" not in now
    assert refreshed(now) == now
