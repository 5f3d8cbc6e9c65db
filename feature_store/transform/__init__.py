"""Runs a group's one pure function: over a day, over a range in one pass, over a micro-batch.

`compute` turns events into feature rows, `comparison` says where rows differ. Which rows the stores accept is a matter
of `changes`, whether a function keeps the contract one of `conformance`. Nothing here knows how a store keeps rows.
"""
