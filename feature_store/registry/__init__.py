"""The registry: what is registered, in SQL.

`Registry` (in `registry.registry`) is the only way in; `tables` and `migrations/` hold the schema, `database` the
connections and locks, `apply` the rules of registering, `records` the plain values that go in and out. Feature values
do not belong here: they lie in the offline and the online store.
"""
