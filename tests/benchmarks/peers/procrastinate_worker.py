"""procrastinate, one job at a time: `python -m … <url> install | drain <jobs> | pick_up <jobs>`."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import procrastinate

from tests.benchmarks.peers.times import Starts, answer


async def _main(url: str, command: str, count: int) -> None:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
    starts = Starts()

    async def nothing() -> None:
        starts.note()

    task = app.task(name="nothing")(nothing)
    async with app.open_async():
        if command == "install":
            await app.schema_manager.apply_schema_async()
        elif command == "drain":
            await task.batch_defer_async(*({} for _ in range(count)))
            await app.run_worker_async(concurrency=1, wait=False, install_signal_handlers=False)
            answer(starts.rate())
        else:
            worker = asyncio.create_task(app.run_worker_async(concurrency=1, install_signal_handlers=False))
            await asyncio.sleep(1)  # until it listens
            answer(await starts.pick_ups(task.defer_async, count))
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
