"""Dagster resources: thin openers of library objects, one file each. No logic of the store lives here."""
