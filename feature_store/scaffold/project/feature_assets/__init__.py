"""The Dagster code location: feature groups and training sets as assets. What a feature store is, is not known here."""
