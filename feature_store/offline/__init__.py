"""The offline store: all feature values ever computed, as Parquet files, and SQL views over them.

Point-in-time reads are in `point_in_time`. Nothing here knows the online store or the registry.
"""
