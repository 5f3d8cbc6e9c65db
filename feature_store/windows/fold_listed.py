"""Windows whose values need each of their events: lists, distinct values, sketches, histograms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from feature_store.windows.columns import lists, masked
from feature_store.windows.ranges import in_chunks, lengths_of
from feature_store.windows.sketches import bucket_values, estimate, place_of_quantile
from feature_store.windows.views import Ranges, View, Window

Ints = npt.NDArray[np.int64]


def listed(view: View, ranges: Ranges, window: Window) -> pl.Series:
    """Returns the greatest or least few values of each range, the first of them first."""
    spec, column = window.spec, view.values
    numbers = view.numbers

    def most(readers: Ints, positions: Ints, count: int) -> pl.Series:
        frame = pl.DataFrame({"reader": readers, "number": numbers[positions]})
        ordered = frame.sort("reader", "number", descending=[False, spec.function == "top"])
        kept = ordered.group_by("reader", maintain_order=True).head(spec.size or 1)
        return lists(lengths_of(kept["reader"], count), column.values(kept["number"].to_numpy()))

    return in_chunks(ranges, most)


def distinct(view: View, ranges: Ranges, window: Window) -> pl.Series:
    """Returns how many values of each range differ, up to a bound; or the least of these, in order."""
    spec, column = window.spec, view.values
    places, distinct = column.distinct
    bound = spec.size or 1

    def different(readers: Ints, positions: Ints, count: int) -> pl.Series:
        frame = pl.DataFrame({"reader": readers, "place": places[positions]}).unique()
        if window.dtype.name != "list":
            return pl.Series(np.minimum(lengths_of(frame["reader"], count), bound))
        kept = frame.sort("reader", "place").group_by("reader", maintain_order=True).head(bound)
        return lists(lengths_of(kept["reader"], count), distinct.gather(kept["place"]))

    return in_chunks(ranges, different)


def approx_distinct(view: View, ranges: Ranges, window: Window) -> pl.Series:
    """Returns about how many values of each range differ."""
    del window
    registers = view.registers

    def about(readers: Ints, positions: Ints, count: int) -> pl.Series:
        packed = registers[positions]
        frame = pl.DataFrame({"reader": readers, "register": packed >> 6, "rank": packed & 63})
        ranks = frame.group_by("reader", "register").agg(pl.col("rank").max())
        weight = (2.0 ** (64 - ranks["rank"].cast(pl.Float64))).alias("weight")
        # Sums of powers of two between 2^10 and 2^63, at most 2048 of them: 64 bits of a float are not enough.
        high = pl.when(pl.col("rank") < 32).then(pl.col("weight") / 2.0**32).otherwise(0.0).sum().alias("high")  # noqa: PLR2004
        low = pl.when(pl.col("rank") >= 32).then(pl.col("weight")).otherwise(0.0).sum().alias("low")  # noqa: PLR2004
        sums = ranks.with_columns(weight).group_by("reader").agg(pl.len().alias("used"), high, low)
        found = np.zeros(count, dtype=np.int64)
        for reader, used, above, below in sums.iter_rows():
            found[reader] = estimate(used, (int(above) << 32) + int(below))
        return pl.Series(found)

    return in_chunks(ranges, about)


def quantile_of(view: View, ranges: Ranges, window: Window) -> pl.Series:
    """Returns about a quantile of each range."""
    buckets = view.buckets
    quantile = window.spec.quantile or 0.5

    def value(readers: Ints, positions: Ints, count: int) -> pl.Series:
        order = np.lexsort((buckets[positions], readers))
        lengths = np.bincount(readers, minlength=count).astype(np.int64)
        starts = np.cumsum(lengths) - lengths
        wanted = {number: place_of_quantile(quantile, number) for number in np.unique(lengths).tolist()}
        places = starts + np.array([wanted[number] for number in lengths.tolist()], dtype=np.int64)
        is_there = lengths > 0
        ordered = buckets[positions][order]
        found = ordered[np.where(is_there, places, 0)] if len(ordered) else np.zeros(count, np.int64)
        return masked(pl.Series(bucket_values(found)), is_there)

    return in_chunks(ranges, value)


def histogram(view: View, ranges: Ranges, window: Window) -> pl.Series:
    """Returns the counts of the most frequent texts of each range, in the order of the texts."""
    spec, column = window.spec, view.values
    places, distinct = column.distinct

    def counted(readers: Ints, positions: Ints, count: int) -> pl.Series:
        frame = pl.DataFrame({"reader": readers, "place": places[positions]})
        counts = frame.group_by("reader", "place").agg(pl.len().cast(pl.Int64).alias("count"))
        kept = (
            counts.sort("reader", "count", "place", descending=[False, True, False])
            .group_by("reader", maintain_order=True)
            .head(spec.size or 1)
            .sort("reader", "place")
        )
        pairs = pl.DataFrame({"key": distinct.gather(kept["place"]), "value": kept["count"]})
        return lists(lengths_of(kept["reader"], count), pairs.to_struct())

    return in_chunks(ranges, counted)
