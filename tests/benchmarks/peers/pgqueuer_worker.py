"""pgqueuer on asyncpg, 100 jobs at a time: `python -m … <url> install | drain <jobs> | pick_up <jobs>`."""

from __future__ import annotations

import asyncio
import sys

import asyncpg
from pgqueuer.core.qm import QueueManager
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from tests.benchmarks.peers.times import Starts, answer

BATCH = 100


async def _main(url: str, command: str, count: int) -> None:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))
    if command == "install":
        await queries.install()
        return
    manager = QueueManager(Queries(AsyncpgDriver(await asyncpg.connect(url))))
    starts = Starts()

    async def nothing(job: object) -> None:
        starts.note()

    manager.entrypoint("nothing")(nothing)
    if command == "drain":
        await queries.enqueue(["nothing"] * count, [None] * count, [0] * count)
        await manager.run(batch_size=BATCH, mode=QueueExecutionMode.drain)
        answer(starts.rate())
    else:
        worker = asyncio.create_task(manager.run(batch_size=BATCH))
        await asyncio.sleep(1)  # until it listens
        answer(await starts.pick_ups(lambda: queries.enqueue("nothing", None), count))
        manager.shutdown.set()
        await worker


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
