"""What a peer's process measures: how fast it drains, and how soon it starts a job that arrives alone."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

PAUSE = 0.1  # seconds of idleness before a job that arrives alone
LONGEST_WAIT = 30  # seconds


class Starts:
    """Notes when handlers start; what a handler does beside that is nothing."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._news = asyncio.Event()

    def note(self) -> None:
        """A handler starts now."""
        self.times.append(time.perf_counter())
        self._news.set()

    def rate(self) -> float:
        """Jobs a second, from the first start to the last."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])

    async def pick_ups(self, enqueue: Callable[[], Awaitable[object]], count: int) -> list[float]:
        """Milliseconds from an acknowledged commit to the start of the handler, for `count` jobs one by one."""
        waits = []
        for _ in range(count):
            await asyncio.sleep(PAUSE)
            self._news.clear()
            await enqueue()
            committed = time.perf_counter()
            async with asyncio.timeout(LONGEST_WAIT):
                await self._news.wait()
            waits.append(1000 * (self.times[-1] - committed))
        return waits


def answer(measured: float | list[float]) -> None:
    """Tell the benchmark."""
    json.dump(measured, sys.stdout)
