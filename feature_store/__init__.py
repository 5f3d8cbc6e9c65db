"""An ML feature store."""
