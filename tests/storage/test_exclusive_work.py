"""One process at a time works on something as a whole, on a local disk and in S3; who dies is waited for no longer."""

from __future__ import annotations

import threading
import time

import pytest

from feature_store.storage.location import Location, open_location, storage_of
from feature_store.storage.s3_lease import lease


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.needs_s3)])
def place(request: pytest.FixtureRequest, tmp_path) -> Location:
    if request.param == "local":
        return open_location(tmp_path / "work" / "lease", setting="root")
    return open_location(f"{request.getfixturevalue('s3_root')}/work/lease", setting="root")


def test_blocks_of_one_path_follow_one_another(place):
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(3):
            with storage_of(place).exclusively(place):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.02)
                inside.pop()

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == [1] * 9


@pytest.mark.needs_s3
def test_a_holder_that_died_is_waited_for_no_longer_than_its_signs_of_life_may_fail(s3_root):
    place = open_location(f"{s3_root}/work/lease", setting="root")
    place.put(b"somebody:7")
    begin = time.monotonic()
    with lease(place, abandoned_after=1):
        waited = time.monotonic() - begin
        assert not place.read_bytes().startswith(b"somebody")
    assert 1 <= waited < 10
    assert not place.is_file()


@pytest.mark.needs_s3
def test_a_holder_that_lives_keeps_it(s3_root):
    place = open_location(f"{s3_root}/work/lease", setting="root")
    entered = threading.Event()

    def wait_for_it() -> None:
        with lease(place, abandoned_after=1):
            entered.set()

    with lease(place, renewed_every=0.2, abandoned_after=1):
        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        assert not entered.wait(3)
    assert entered.wait(5)
    waiting.join()
