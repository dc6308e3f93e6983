"""`python -m tests.benchmarks.deliveries URL PARALLEL < events`: deliver events (one JSON a line) and time each.

In a process of its own, so that its work is not that of the Stripe that the service reads from. Prints the seconds of
the whole and of each delivery as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import httpx

from local.stripe import WEBHOOK_SECRET, signature


async def main(url: str, parallel: int, bodies: list[bytes]) -> None:
    """Deliver all, so many at a time."""
    waiting = iter(bodies)
    seconds: list[float] = []

    async def deliver(http: httpx.AsyncClient) -> None:
        for body in waiting:
            started = time.perf_counter()
            headers = {"stripe-signature": signature(body, WEBHOOK_SECRET)}
            answer = await http.post(f"{url}/webhooks/stripe", content=body, headers=headers)
            answer.raise_for_status()
            seconds.append(time.perf_counter() - started)

    async with httpx.AsyncClient(timeout=120, limits=httpx.Limits(max_connections=parallel)) as http:
        started = time.perf_counter()
        await asyncio.gather(*(deliver(http) for _ in range(parallel)))
        print(json.dumps({"total": time.perf_counter() - started, "each": seconds}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.stdin.buffer.read().splitlines()))
