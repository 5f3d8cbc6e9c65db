"""The online store: the latest visible feature values in Redis or Valkey, for model servers.

`store` is the way in. `keys`, `stamps` and `values` say what is stored; a `layout` says how a group's rows
become keys; `writer` and `reader` hold what is true of every layout (newest wins, the visibility rule, one
round trip); `client` owns connections, timeouts and errors; `embedded` runs a private server. Nothing here
knows the offline store, the registry or Dagster, and reading imports neither Polars nor SQLAlchemy.
"""
