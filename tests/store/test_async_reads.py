"""Reads of event loops: many at once, cancelled, and of loops that end one after another or all at once."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest

from feature_store.errors import OnlineStoreError
from feature_store.store import FeatureStore
from tests.servers.redis import RedisServer
from tests.serving.servers import NOW, fill, open_shop

ASK = ["amount_3d", "orders_3d"]
EXPECTED = {"c0": {"amount_3d": 10, "orders_3d": 1}, "c3": {"amount_3d": 40, "orders_3d": 4}}


@pytest.fixture(scope="module")
def redis(tmp_path_factory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("shop")
    with RedisServer() as server:
        settings = {
            "FEATURE_STORE_OFFLINE": str(folder / "offline"),
            "FEATURE_STORE_ONLINE": server.url,
            "FEATURE_STORE_REGISTRY": f"sqlite:///{folder / 'registry.db'}",
        }
        with open_shop(settings) as store:
            fill(store)
        yield server


@pytest.fixture
def reader(redis) -> Iterator[FeatureStore]:
    from feature_store.clock import FixedClock

    with FeatureStore(online=redis.url, clock=FixedClock(NOW)) as store:
        yield store


def connections(redis: RedisServer) -> int:
    with redis.client() as plain:
        return int(plain.info("clients")["connected_clients"])


async def settled(redis: RedisServer, most: int) -> int:
    """The server notices a closed socket a little later than its client."""
    for _ in range(200):
        if connections(redis) <= most:
            break
        await asyncio.sleep(0.01)
    return connections(redis)


def test_a_thousand_reads_at_once_share_a_few_connections(redis, reader):
    before = connections(redis)

    async def read() -> tuple[list[object], int]:
        ids = [("c0", "c3")[number % 2] for number in range(1_000)]
        answers = await asyncio.gather(*(reader.aget_online_features(one, ASK) for one in ids))
        while_open = connections(redis)
        await reader.aclose()
        return [answer == EXPECTED[one] for answer, one in zip(answers, ids, strict=True)], while_open

    answers, while_open = asyncio.run(read())
    assert all(answers)
    assert while_open - before <= 5


def test_large_reads_frames_and_bad_requests_share_with_others(redis, reader):
    async def read() -> list[object]:
        batch = ["c0", "c3", "nobody"] * 800
        reads = [
            reader.aget_online_features_batch(batch, ASK),
            reader.aget_online_features_frame(batch, ASK),
            reader.aget_online_features("c0", ASK),
            reader.aget_online_features("\ud800", ASK),
            reader.aget_online_features("c3", ["nothing"]),
            reader.aget_online_features("c3", ASK),
        ]
        answers = await asyncio.gather(*reads, return_exceptions=True)
        await reader.aclose()
        return answers

    rows, frame, first, *bad, last = asyncio.run(read())
    assert rows == frame.drop("entity_id").to_dicts() == [EXPECTED["c0"], EXPECTED["c3"], dict.fromkeys(ASK)] * 800
    assert [type(error).__name__ for error in bad] == ["InvalidRequestError", "UnknownFeatureError"]
    assert (first, last) == (EXPECTED["c0"], EXPECTED["c3"])


def test_many_threads_wait_for_a_connection(redis):
    with FeatureStore(online=f"{redis.url}{'&' if '?' in redis.url else '?'}max_connections=3") as reader:
        answers: list[object] = []

        def read() -> None:
            answers.extend(reader.get_online_features_batch(["nobody"], ASK) for _ in range(5))

        threads = [threading.Thread(target=read) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [[dict.fromkeys(ASK)]] * 150


def test_a_cancelled_read_leaves_its_answer_to_nobody(redis, reader):
    async def read() -> list[object]:
        await reader.aget_online_features("c0", ASK)
        answers: list[object] = []
        with redis.client() as plain:
            for _ in range(5):
                plain.execute_command("CLIENT", "PAUSE", 60, "ALL")
                cancelled = [asyncio.create_task(reader.aget_online_features("c0", ASK)) for _ in range(4)]
                kept = asyncio.create_task(reader.aget_online_features("c3", ASK))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                for task in cancelled:
                    task.cancel()
                outcomes = await asyncio.gather(*cancelled, return_exceptions=True)
                assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
                answers += [await kept, await reader.aget_online_features("c3", ASK)]
        await reader.aclose()
        return answers

    assert asyncio.run(read()) == [EXPECTED["c3"]] * 10


def test_who_waits_when_its_loop_ends_is_cancelled(redis, reader):
    async def leave() -> list[asyncio.Task[object]]:
        await reader.aget_online_features("c0", ASK)
        with redis.client() as plain:
            plain.execute_command("CLIENT", "PAUSE", 300, "ALL")
        # One that reads, and others that wait for it.
        waiting = [asyncio.create_task(reader.aget_online_features("c0", ASK)) for _ in range(3)]
        await asyncio.sleep(0.01)
        return waiting

    before = connections(redis)
    assert all(task.cancelled() for task in asyncio.run(leave()))
    assert asyncio.run(reader.aget_online_features("c3", ASK)) == EXPECTED["c3"]
    assert asyncio.run(settled(redis, before + 1)) <= before + 1


def test_loops_that_have_ended_hold_no_connection(redis, reader):
    before = connections(redis)

    def one_after_another() -> None:
        for _ in range(4):
            assert asyncio.run(reader.aget_online_features("c0", ASK)) == EXPECTED["c0"]

    threads = [threading.Thread(target=one_after_another) for _ in range(25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asyncio.run(settled(redis, before + 1)) <= before + 1


def test_a_loop_that_is_only_closed_is_swept_by_the_next(redis, reader):
    before = connections(redis)
    for _ in range(20):
        loop = asyncio.new_event_loop()
        try:
            assert loop.run_until_complete(reader.aget_online_features("c0", ASK)) == EXPECTED["c0"]
        finally:
            loop.close()
    assert asyncio.run(settled(redis, before + 2)) <= before + 2
    reader.close()
    assert asyncio.run(settled(redis, before)) <= before


def test_a_dead_server_fails_all_who_wait_and_the_next_read_recovers(tmp_path):
    with RedisServer() as own:
        settings = {
            "FEATURE_STORE_OFFLINE": str(tmp_path / "offline"),
            "FEATURE_STORE_ONLINE": own.url,
            "FEATURE_STORE_REGISTRY": f"sqlite:///{tmp_path / 'registry.db'}",
        }
        with open_shop(settings) as store:
            fill(store)

            async def read() -> None:
                assert await store.aget_online_features("c0", ASK) == EXPECTED["c0"]
                own.kill()
                answers = await asyncio.gather(
                    *(store.aget_online_features("c0", ASK) for _ in range(50)), return_exceptions=True
                )
                assert {type(answer) for answer in answers} == {OnlineStoreError}
                own.start()
                await asyncio.to_thread(fill, store)
                assert await store.aget_online_features("c0", ASK) == EXPECTED["c0"]
                await store.aclose()

            asyncio.run(read())


def forked(work) -> int:
    """Runs work in a forked process; returns its exit code: 0 if it returned something true."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_forked_processes_read_on_connections_of_their_own(reader):
    def read() -> bool:
        many = [reader.get_online_features(one, ASK) == EXPECTED[one] for one in ("c0", "c3") * 50]
        return all(many) and asyncio.run(reader.aget_online_features("c3", ASK)) == EXPECTED["c3"]

    assert reader.get_online_features("c0", ASK) == EXPECTED["c0"]
    assert asyncio.run(reader.aget_online_features("c0", ASK)) == EXPECTED["c0"]
    assert forked(read) == 0
    assert read()


def test_a_fork_in_the_middle_of_a_loop_leaves_the_parents_connections_alone(reader):
    async def read() -> list[object]:
        answers = [await reader.aget_online_features("c0", ASK)]
        assert forked(lambda: reader.get_online_features("c3", ASK) == EXPECTED["c3"]) == 0
        answers.append(await reader.aget_online_features("c0", ASK))
        await reader.aclose()
        return answers

    assert asyncio.run(read()) == [EXPECTED["c0"]] * 2


def test_what_polars_cannot_compute_after_a_fork_is_an_error_and_no_hang(redis, tmp_path):
    import polars as pl

    from feature_store.clock import FixedClock
    from feature_store.errors import SettingsError
    from tests.serving import shop

    with FeatureStore(online=redis.url, clock=FixedClock(NOW), definitions=shop) as store:
        ask = {"features": ["basket_share:v1"], "request_data": {"basket": 5.0}}
        pl.DataFrame({"a": [1.0]}).select(pl.col("a") + pl.col("a"), b=pl.col("a") * pl.col("a"))
        assert store.get_online_features("c0", **ask) == {"basket_share:v1": 0.5}

        def refused() -> bool:
            try:
                store.get_online_features("c0", **ask)
            except SettingsError as error:
                return "forked" in str(error) and store.get_online_features("c0", ASK) == EXPECTED["c0"]
            return False

        assert forked(refused) == 0
