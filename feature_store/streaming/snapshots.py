"""Snapshots of the state, in the offline store: a streamer on any machine goes on where another has left off.

Segments of the state never change, so each is written once; a small file for each partition names those that make up
its snapshot, and is put in place in one step. It is taken after the transaction that its offsets belong to, so it is
never ahead of what Kafka has committed; what lies between is read again.
"""

from __future__ import annotations

import io
import re
from datetime import date
from typing import Any, Protocol

import msgspec
import polars as pl

from feature_store.errors import StreamError
from feature_store.streaming.keyed_log import Segment
from feature_store.streaming.state import GroupState, Lane
from feature_store.streaming.topics import TopicInfo

_LAYOUT = "layout.json"
_SEGMENT = re.compile(r"[0-9a-f]{32}")


class StateFiles(Protocol):
    """Where snapshots lie: `offline.stream_state.StreamStateFiles`."""

    def read(self, name: str) -> bytes | None:
        """Returns the content of a file, None where there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Puts a file in place in one step."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        ...


class Layout(msgspec.Struct):
    """Over which partitions the state of a group is spread.

    Attributes:
        topic_id: Which incarnation of the topic it is of.
        partitions: Number of partitions that the topic had.
        since: Partition to the offset at which its lane begins, where it is not the topic's beginning.
    """

    topic_id: str
    partitions: int
    since: dict[int, int] = {}


class _Manifest(msgspec.Struct):
    topic_id: str
    shape: dict[str, Any]
    offsets: dict[str, int]
    watermark: int
    seeded_from: int | None
    seeded_until: int
    unseen: list[date]
    segments: list[str]


class Snapshots:
    """Saves and loads the lanes of one group's state.

    Args:
        files: Where they lie.
        topic: The topic that the lanes are of.
    """

    def __init__(self, files: StateFiles, topic: TopicInfo) -> None:
        self._files = files
        self._topic = topic
        self._saved: dict[int, set[str]] = {}

    def save(self, number: int, lane: Lane, state: GroupState) -> None:
        """Writes what has changed of a lane since it was saved last."""
        names = [segment.name for segment in lane.events.segments]
        before = self._saved.get(number, set())
        for segment in lane.events.segments:
            if segment.name not in before:
                content = io.BytesIO()
                segment.rows.write_parquet(content, compression="lz4")
                self._files.write(_segment_file(segment.name), content.getvalue())
        manifest = _Manifest(
            self._topic.identity,
            dict(state.shape()),
            lane.offsets,
            lane.watermark,
            lane.seeded_from,
            lane.seeded_until,
            lane.unseen,
            names,
        )
        self._files.write(_manifest_file(number), msgspec.json.encode(manifest))
        for name in before - set(names):
            self._files.remove(_segment_file(name))
        self._saved[number] = set(names)

    def load(self, number: int, state: GroupState) -> Lane | None:
        """Returns a lane as it was saved; None where there is none that fits the topic and the definitions."""
        self._saved.pop(number, None)
        content = self._files.read(_manifest_file(number))
        if content is None:
            return None
        try:
            manifest = msgspec.json.decode(content, type=_Manifest)
            if manifest.topic_id != self._topic.identity or manifest.shape != dict(state.shape()):
                return None
            lane = state.new_lane()
            for name in manifest.segments:
                found = self._files.read(_segment_file(name))
                if found is None:
                    return None  # another streamer has merged it meanwhile
                rows = pl.read_parquet(io.BytesIO(found))
                lane.events.segments.append(Segment.of(rows, lane.events.keys, name))
        except (msgspec.MsgspecError, ValueError, pl.exceptions.PolarsError):
            return None
        lane.offsets, lane.watermark = manifest.offsets, manifest.watermark
        lane.seeded_from, lane.seeded_until = manifest.seeded_from, manifest.seeded_until
        lane.unseen, lane.is_checked = manifest.unseen, True
        self._saved[number] = set(manifest.segments)
        return lane

    def layout(self, *, entities_move: bool) -> Layout:
        """Returns the layout of the state; the present one if there is none yet, or it is of a former topic.

        Args:
            entities_move: Whether a key's move to another partition tears its entity's past apart.

        Raises:
            StreamError: If the topic has another number of partitions than the state.
        """
        content = self._files.read(_LAYOUT)
        if content is not None:
            found = msgspec.json.decode(content, type=Layout)
            if found.topic_id == self._topic.identity and found.partitions == self._topic.partitions:
                return found
            if found.topic_id == self._topic.identity and not entities_move:
                return self._write_layout(found.since)
            if found.topic_id == self._topic.identity:
                raise StreamError(
                    f"Topic {self._topic.name!r} has {self._topic.partitions} partitions, and the state was built with "
                    f"{found.partitions}: keys have moved between partitions, and their past has not. Stop all "
                    "streamers of the group, and run `feature-store stream rebuild GROUP`: the state then begins anew "
                    "at what was read last, and takes the past from the source's files."
                )
        return self.begin({})

    def begin(self, since: dict[int, int]) -> Layout:
        """Begins the state anew, with the partitions that the topic has now."""
        for number in range(self._topic.partitions):
            self._files.remove(_manifest_file(number))
        return self._write_layout(since)

    def _write_layout(self, since: dict[int, int]) -> Layout:
        layout = Layout(self._topic.identity, self._topic.partitions, since)
        self._files.write(_LAYOUT, msgspec.json.encode(layout))
        return layout


def _manifest_file(number: int) -> str:
    return f"partition-{number}.json"


def _segment_file(name: str) -> str:
    if not _SEGMENT.fullmatch(name):
        raise ValueError(f"{name!r} names no segment.")
    return f"{name}.parquet"
