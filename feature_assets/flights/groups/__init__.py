"""The example's feature groups, one file per entity.

A transform here keeps four promises, and tests hold it to them:

- **Pure**: the rows depend on the events alone.
- **Entity-local**: the rows of an entity depend on its events alone; other entities may be present or not.
- **Causal**: a row at `t` depends on events in `[t - lookback, t]`. Windows are half-open, `(t - period, t]`: an event
  counts for exactly the period, as a value lives for exactly its time to live.
- **Bit-exact**: the same row comes out whether a day, a year or a single entity is computed. Rolling kernels carry
  their sums from one window to the next, and a sum of floats carries its rounding with it: it depends on where the
  pass began. So everything that rolls here is an integer (minutes, counts), exact up to 2^53; a mean or a share is
  one division at the end. That division is of a column by a column: Polars divides a column by a literal by
  multiplying it with the literal's reciprocal, but only where the column has more than one row, so the last bit would
  depend on how many rows a pass computes. A constant factor is written as the multiplication that it is.

Rows come sorted by entity and time: Polars promises no order of groups. Each transform stands whole in one function,
its constants included: so it is read in one piece, and ships to a shard in one piece.
"""
