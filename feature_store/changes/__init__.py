"""The one write path: rows become changes, and changes go into both stores.

Materialization, ingest, pushes, streams and Spark obtain rows and deliver them here; nobody else writes rows.

- `admission`: which rows are accepted;
- `write_path`: given rows -> changes against the offline store -> online;
- `settling`: entities whose online row is not what the offline store says.
"""
