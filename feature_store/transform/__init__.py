"""Runs a group's one pure function: over a day, over a range in one pass, over a micro-batch.

`compute` turns events into feature rows, `validation` decides which rows the stores accept, `materialization` is the
one write path, `conformance` checks a user's function against the contract. Nothing here knows how a store keeps rows.
"""
