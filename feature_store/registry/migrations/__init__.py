"""Migrations of the registry: `env.py` runs them on the connection it is given, `versions/` holds one file each.

`feature_store.registry.database` is what starts them; no `alembic.ini` exists.
"""
