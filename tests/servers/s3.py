"""A private S3 server for tests: moto's, in a process of its own.

`with S3Server() as server: root = server.new_root()`. `server.environment` are the variables by which any AWS client
finds it.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from tests.servers.redis import free_port

BUCKET = "feature-store-tests"


class S3Server:
    """Starts on entering, is killed on leaving; nothing of it remains."""

    def __enter__(self) -> Self:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._numbers = itertools.count(1)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.s3_server", "-H", "127.0.0.1", "-p", str(self.port)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not self._has_bucket():
            assert self._process.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.url)

    def new_root(self) -> str:
        """Returns a prefix that nothing lies below; what means something in keys and patterns is only a name."""
        return f"s3://{BUCKET}/it's a [root]*/{next(self._numbers)}"

    def _has_bucket(self) -> bool:
        request = urllib.request.Request(f"{self.url}/{BUCKET}", method="PUT")
        try:
            with urllib.request.urlopen(request):
                return True
        except (urllib.error.URLError, OSError):
            return False


def environment(url: str) -> dict[str, str]:
    """Returns the variables by which AWS clients find a server, and nothing else that this machine may know."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "correct-horse-battery",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
