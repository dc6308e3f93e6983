"""How services wait: for a time that differs from process to process, and until something wakes them."""

import asyncio
import random


def jittered(seconds: float, spread: float = 0.25) -> float:
    """A wait somewhat shorter or longer, by up to `spread` of it, so that processes do not go on in step."""
    return seconds * random.uniform(1 - spread, 1 + spread)  # noqa: S311 - nothing secret


async def wait_for(event: asyncio.Event, seconds: float) -> None:
    """Wait until the event is set, or so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
