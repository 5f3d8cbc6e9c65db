"""Past one machine: point-in-time reads and materialization on Spark, by the same rule and the same functions.

Only this package imports pyspark (the extra `spark`). What is visible, how rows are checked and how files are written
is decided in `offline` and `transform`; here is only how that work is spread over executors.
"""
