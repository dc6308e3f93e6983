"""How services wait: for a time that differs from process to process, as long as they are asked to, and until something
wakes them.
"""

import asyncio
import math
import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def jittered(seconds: float, spread: float = 0.25) -> float:
    """A wait somewhat shorter or longer, by up to `spread` of it, so that processes do not go on in step."""
    return seconds * random.uniform(1 - spread, 1 + spread)  # noqa: S311 - nothing secret


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
