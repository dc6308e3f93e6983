"""How services wait: for a time that differs from process to process, as long as they are asked to, and until something
wakes them.
"""

import asyncio
import math
import random
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

SPREAD = 0.25


def jittered(seconds: float, spread: float = SPREAD) -> float:
    """A wait somewhat shorter or longer, by up to `spread` of it, so that processes do not go on in step."""
    return seconds * random.uniform(1 - spread, 1 + spread)  # noqa: S311 - nothing secret


def doubled(first: float, longest: float, times: int) -> float:
    """The first wait, twice as long for each of so many times, and never longer than the longest."""
    return min(longest, first * 2.0 ** min(times, 20))


class Backoff:
    """Waits in a row of failures, in seconds: each twice as long as the one before."""

    def __init__(self, first: float, longest: float) -> None:
        self._bounds = (first, longest)
        self._failures = 0

    def next(self) -> float:
        """How long to wait now."""
        self._failures += 1
        return doubled(*self._bounds, self._failures - 1)

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._failures = 0


class Breaker:
    """Whether something that was away may be asked again: after each pause one request tries.

    Moments are monotonic seconds. A request that was begun before the last trouble says nothing of now.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._since = 0.0
        self._until = 0.0

    @property
    def lasts(self) -> bool:
        """Whether the last trouble is not known to be over."""
        return self._failures > 0

    @property
    def seconds_left(self) -> float:
        """Until the next try."""
        return max(0.0, self._until - time.monotonic())

    def is_news(self, began_at: float) -> bool:
        """Whether a request that was begun then says something of now."""
        return began_at >= self._since

    def fell(
        self, began_at: float, pause: tuple[float, float], *, asked: float | None = None, spread: float = 0.0
    ) -> float:
        """Pause after a failure; returns for how long.

        It is between the first and the longest `pause`, doubled with each failure, or as long as it was `asked` for.
        """
        now = time.monotonic()
        if self.is_news(began_at) or not self.lasts:
            self._failures += 1
            self._since = now
        seconds = asked or jittered(doubled(*pause, self._failures - 1), spread)
        self._until = max(self._until, now + seconds)
        return seconds

    def recovered(self) -> None:
        """The trouble is over."""
        self._failures = 0


def retry_after(text: str) -> float | None:
    """Seconds from now that a Retry-After header asks for, by a number or an HTTP date; None where it is neither."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return None if math.isnan(seconds) else max(seconds, 0.0)


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, or so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
