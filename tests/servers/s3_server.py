"""Moto's S3 server, with one put at a time: `python -m tests.servers.s3_server -H HOST -p PORT`.

S3 decides in one step whether an object may be created; moto looks, and then writes, and of two writers both may win.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from moto.s3.responses import S3Response
from moto.server import main

ONE_AT_A_TIME = threading.RLock()


def one_at_a_time(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*arguments: Any, **options: Any) -> Any:
        with ONE_AT_A_TIME:
            return method(*arguments, **options)

    return call


for name in ("put_object", "_key_response_post"):
    setattr(S3Response, name, one_at_a_time(getattr(S3Response, name)))

if __name__ == "__main__":
    main()
