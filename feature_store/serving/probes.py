"""Asks what is behind the server whether it answers, without waiting for what hangs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from feature_store.errors import FeatureStoreError

TRUSTED_SECONDS = 0.5
"""How long an answer is believed."""

PATIENCE_SECONDS = 0.9
"""How long a question may stay open before the part is said to fail; below the second that load balancers wait."""

Answer = TypeVar("Answer")


class Probe:
    """Asks one part. Any number of askers share a question, and there is never more than one.

    It is asked on a thread of its own, so that a part which hangs holds up nothing else, neither requests nor the end
    of the process.

    Args:
        ask: Asks the part; raises a `FeatureStoreError` if it fails.
    """

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self._asked_at = float("-inf")
        self._question: asyncio.Future[str | None] | None = None

    async def failure(self) -> str | None:
        """Returns why the part fails, None if it does not. A part that has not answered for long fails at once."""
        question = self._question
        if question is None or (question.done() and time.monotonic() - self._asked_at > TRUSTED_SECONDS):
            question = self._question = asyncio.wrap_future(on_own_thread(self._failure))
            self._asked_at = time.monotonic()
        patience = self._asked_at + PATIENCE_SECONDS - time.monotonic()
        if patience > 0 and not question.done():
            await asyncio.wait({question}, timeout=patience)
        if not question.done():
            return f"no answer for {time.monotonic() - self._asked_at:.1f} s"
        return question.result()

    def _failure(self) -> str | None:
        try:
            self._ask()
        except FeatureStoreError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a bug: to be read where it is asked
            return f"{type(error).__name__}: {error}"
        return None


def on_own_thread(ask: Callable[[], Answer]) -> Future[Answer]:
    """Asks on a new thread, and returns what will hold the answer. The process does not wait for the thread to end."""
    answer: Future[Answer] = Future()

    def run() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:  # noqa: BLE001 - handed on
            answer.set_exception(error)

    threading.Thread(target=run, name="question", daemon=True).start()
    return answer
