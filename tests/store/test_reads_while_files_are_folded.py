"""Compaction removes the files that it has folded: no read beside it may fail, or answer something else."""

from __future__ import annotations

import threading
from datetime import timedelta

import polars as pl
import pytest

from feature_store import FixedClock
from feature_store.store import FeatureStore
from tests.store.scores import NOON, scores_group

FOLDS = 12


def row(number: int) -> pl.DataFrame:
    event = NOON - timedelta(hours=2) + timedelta(seconds=number)
    return pl.DataFrame({"customer": ["ann"], "event_timestamp": [event], "score": [number]})


@pytest.mark.slow
def test_reads_beside_a_compaction_answer_what_they_should(tmp_path, redis_url):
    def opened() -> FeatureStore:
        registry = f"sqlite:///{tmp_path}/registry.db"
        return FeatureStore(offline=tmp_path / "offline", online=redis_url, registry=registry, clock=FixedClock(NOON))

    group = scores_group("row")
    with opened() as store:
        store.apply([group])
        store.ingest(group, row(0))
        done = threading.Event()
        failures: list[str] = []
        reads = 0

        def read() -> None:
            nonlocal reads
            while not done.is_set():
                try:
                    answer = store.get_offline_features(["ann"], ["score"], [NOON])["score"].item()
                    store.check_consistency(group.name)
                    store.monitor.check_freshness(group)
                except Exception as error:  # noqa: BLE001 - any of them is the failure that is looked for
                    failures.append(repr(error))
                else:
                    reads += 1
                    if answer is None:
                        failures.append("no value")

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for number in range(1, FOLDS + 1):
            with opened() as another:  # each with a file of its own
                another.ingest(group, row(number))
            store.compact(group)
        done.set()
        for reader in readers:
            reader.join()
    assert failures == []
    assert reads > FOLDS
