"""A shop with its servers and its daemon, and what can go wrong with each of them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Self

import polars as pl

from tests.chaos.location import MOST_CENTS, START
from tests.servers.daemon import end_daemon, kill_all_of, processes_of, start_daemon
from tests.servers.listeners import HttpListener
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

CLOCK = START + timedelta(days=400)
CUSTOMERS = 6

MONITORING = """
telemetry: {enabled: false}
run_queue: {dequeue_interval_seconds: 1}
run_monitoring: {enabled: true, start_timeout_seconds: 30, poll_interval_seconds: 2}
run_retries: {enabled: false}
"""
"""As dagster.yaml, on a fast clock."""


class World:
    """Starts servers and the daemon on entering; all of them are gone after leaving.

    Args:
        folder: An empty folder.
        dice: Decides what lands.
    """

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.folder = folder
        self.dice = dice
        self.log = folder / "daemon.log"
        self.days = 0
        self.bad: set[int] = set()
        self.features = 1
        self._story: list[str] = []
        self._begin = time.monotonic()
        self._home = folder / "home"
        self._offline = folder / "offline"
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.redis = stack.enter_context(RedisServer(tcp=True))
            self.postgres = stack.enter_context(PostgresServer())
            self.webhook = stack.enter_context(HttpListener())
            self._offline.mkdir()
            self.has_disk = _mounted(self._offline)
            if self.has_disk:
                stack.callback(subprocess.run, ["umount", "--lazy", self._offline], check=True)
            stack.callback(self.end_daemons)
            self._home.mkdir()
            (self._home / "dagster.yaml").write_text(MONITORING)
            (self.folder / "features").write_text("1")
            self.settings = {
                "DAGSTER_HOME": str(self._home),
                "SHOP_LANDING": str(self.folder / "landing"),
                "SHOP_FEATURES": str(self.folder / "features"),
                "FEATURE_STORE_OFFLINE": str(self._offline),
                "FEATURE_STORE_ONLINE": self.redis.url,
                "FEATURE_STORE_REGISTRY": self.postgres.create_database(),
                "FEATURE_STORE_CLOCK": CLOCK.isoformat(),
                "FEATURE_STORE_ALERT_WEBHOOK": self.webhook.url,
            }
            for _ in range(6):
                self.land_next_day()
            self.start_daemon()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # What lands.

    def land_next_day(self) -> None:
        """A day lands, of each source."""
        self.days += 1
        self._land(self.days - 1, "orders")
        self._land(self.days - 1, "visits")

    def land_late_orders(self) -> None:
        """A day that has landed lands again, with more orders."""
        self._land(self.dice.randrange(self.days), "orders", late=True)

    def land_bad_day(self) -> None:
        """A day lands again with an order that the schema rejects."""
        day = self.dice.randrange(self.days)
        self.bad.add(day)
        self._land(day, "orders", is_bad=True)

    def mend_bad_days(self) -> None:
        """All bad days land again as they should be."""
        for day in sorted(self.bad):
            self._land(day, "orders", late=True)
        self.bad.clear()

    def add_feature(self) -> None:
        """The function computes one more feature, and is deployed: the daemon starts anew."""
        self.features += 1
        (self.folder / "features").write_text(str(self.features))
        self.end_daemons()
        self.start_daemon()

    def _land(self, day: int, source: str, *, late: bool = False, is_bad: bool = False) -> None:
        count = CUSTOMERS + (self.dice.randrange(1, 4) if late else 0)
        begin = START + timedelta(days=day)
        rows = [
            (
                f"c{number % CUSTOMERS}",
                begin + timedelta(minutes=97 * number + self.dice.randrange(60)),
                10 * number + day,
            )
            for number in range(count)
        ]
        if is_bad:
            rows.append(("c0", begin + timedelta(hours=23), MOST_CENTS + 1))
        schema = {"customer": pl.String, "event_timestamp": pl.Datetime("us", "UTC"), "amount": pl.Int64}
        path = Path(self.settings["SHOP_LANDING"]) / source / f"date={begin:%Y-%m-%d}" / "events.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(".events")
        pl.DataFrame(rows, schema=schema, orient="row").write_parquet(scratch)
        scratch.replace(path)

    # What goes wrong. Each is over when its block ends.

    @contextmanager
    def killed_run(self) -> Iterator[None]:
        """A run's process is killed, at whatever it does, if there is one."""
        runs = [
            pid for pid in processes_of(self._home) if b"spawn_main" in _command(pid) or b"execute_run" in _command(pid)
        ]
        if runs:
            with suppress(ProcessLookupError):
                os.kill(self.dice.choice(runs), signal.SIGKILL)
        yield

    @contextmanager
    def dead_machine(self) -> Iterator[None]:
        """The daemon, its code servers and all runs are killed; it comes back."""
        self._kill_all()
        yield
        self.start_daemon()

    @contextmanager
    def stopped_daemon(self) -> Iterator[None]:
        """The daemon is stopped for a while, as a deployment does it."""
        self.end_daemons()
        yield
        self.start_daemon()

    @contextmanager
    def second_daemon(self) -> Iterator[None]:
        """Two daemons run for a while."""
        self.start_daemon()
        yield
        end_daemon(self._daemons.pop(0))

    @contextmanager
    def killed_code_server(self) -> Iterator[None]:
        """The code server is killed; the daemon starts another."""
        for pid in processes_of(self._home):
            if b"grpc" in _command(pid) or b"code-server" in _command(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        yield

    @contextmanager
    def lost_redis(self) -> Iterator[None]:
        """Redis is away, and has lost all when it is back."""
        self.redis.kill()
        yield
        self.redis.start()

    @contextmanager
    def lost_registry(self) -> Iterator[None]:
        """The registry's server crashes, and recovers."""
        self.postgres.kill()
        yield
        self.postgres.start()

    @contextmanager
    def failing_webhook(self) -> Iterator[None]:
        """The webhook answers with errors."""
        self.webhook.answers = [503] * 100_000
        yield
        self.webhook.answers = []

    @contextmanager
    def hanging_webhook(self) -> Iterator[None]:
        """The webhook takes what is sent, and does not answer."""
        self.webhook.hold.clear()
        yield
        self.webhook.hold.set()

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """The disk of the offline store is full."""
        filler = self._offline / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"\0" * 2**16):
                pass
        yield
        filler.unlink()

    def causes(self) -> list[Callable[[], AbstractContextManager[None]]]:
        """Returns what can go wrong here."""
        found = [
            self.killed_run,
            self.killed_run,
            self.dead_machine,
            self.stopped_daemon,
            self.second_daemon,
            self.killed_code_server,
            self.lost_redis,
            self.lost_registry,
            self.failing_webhook,
            self.hanging_webhook,
        ]
        return [*found, self.full_disk] if self.has_disk else found

    # The daemon.

    def start_daemon(self) -> None:
        """Starts a daemon; what may already run stays."""
        self._daemons.append(start_daemon("tests.chaos.location", {**os.environ, **self.settings}, self.log))

    def end_daemons(self) -> None:
        """Ends all daemons, and what they have started."""
        while self._daemons:
            end_daemon(self._daemons.pop())
        self._kill_all()

    def _kill_all(self) -> None:
        kill_all_of(self._home)
        for process in self._daemons:
            process.wait()
        self._daemons.clear()

    def say(self, what: str) -> None:
        """Keeps what happens, for who reads a failure."""
        self._story.append(f"{time.monotonic() - self._begin:6.1f} s  {what}")

    def story(self) -> str:
        """Returns what has happened, a line each."""
        return "\n".join(self._story)

    def rest(self, least: float, most: float) -> None:
        """Lets time pass, at random."""
        time.sleep(self.dice.uniform(least, most))


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _mounted(folder: Path) -> bool:
    """Gives a folder a small disk of its own, where this process may do that."""
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
