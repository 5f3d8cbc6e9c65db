"""Sources that are tables: Delta Lake, Iceberg, warehouses, DuckDB files. Those in date folders are in `definitions`.

Each reads the events of a time range and nothing else. Its packages are extras, imported when it is first used.
"""
