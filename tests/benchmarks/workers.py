"""The simplest workers: Python on one connection that drains a queue and does nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from supabase import acreate_client

from local.stack import StackStatus
from services.images.queue import Failure, Queue
from services.images.wakeup import listen
from tests.benchmarks.peers.times import LONGEST_WAIT, PAUSE
from tests.benchmarks.server import Database

BATCH = 100
LEASE_SECONDS = 60
SETTLE = 2.0  # seconds after a subscription until its changes surely flow

Connection = psycopg.Connection[tuple[Any, ...]]


class Job(NamedTuple):
    """A claimed operation, as far as its completion needs it."""

    id: UUID
    lease_token: UUID
    user_id: UUID


def claim(connection: Connection, limit: int) -> list[Job]:
    """Claim up to `limit` operations."""
    with connection.cursor(row_factory=class_row(Job)) as cursor:
        return cursor.execute(
            "select id, lease_token, user_id from public.claim_image_operations('worker', %s)", (limit,)
        ).fetchall()


def complete(connection: Connection, job: Job) -> None:
    """Record a result."""
    connection.execute(
        "select public.complete_image_operation(%s, %s, 'waifu2x', %s, 1.5)",
        (job.id, job.lease_token, output(job)),
    )


def complete_and_claim(connection: Connection, job: Job) -> list[Job]:
    """Record a result and claim the next, if there is one."""
    with connection.cursor(row_factory=class_row(Job)) as cursor:
        return cursor.execute(
            "select id, lease_token, user_id"
            " from public.complete_and_claim_image_operation(%s, %s, 'waifu2x', %s, 1.5, '[]', 'worker')",
            (job.id, job.lease_token, output(job)),
        ).fetchall()


def output(job: Job) -> Jsonb:
    """What an engine would have left in storage."""
    folder = f"results/{job.user_id}/{job.id}"
    return Jsonb({"url": f"{folder}/1.png", "thumbnail_url": f"{folder}/1.webp"})


def drain(database: Database, batch: int) -> float:
    """Operations a second, claimed `batch` at a time."""
    done = 0
    with database.connect("service_role") as connection:
        started = time.perf_counter()
        while jobs := claim(connection, batch):
            for job in jobs:
                complete(connection, job)
            done += len(jobs)
        return done / (time.perf_counter() - started)


def drain_by_turns(database: Database) -> float:
    """Operations a second, each completed in the call that claims the next."""
    done = 0
    with database.connect("service_role") as connection:
        started = time.perf_counter()
        jobs = claim(connection, 1)
        while jobs:
            jobs = complete_and_claim(connection, jobs[0])
            done += 1
        return done / (time.perf_counter() - started)


def drain_minimal(database: Database, batch: int) -> float:
    """Jobs a second through the minimal queue, claimed and completed `batch` at a time."""
    done = 0
    with database.connect("service_role") as connection:
        started = time.perf_counter()
        while ids := [row[0] for row in connection.execute(MINIMAL_CLAIM.format(limit=batch)).fetchall()]:
            connection.execute(
                "update minimal.jobs set status = 'completed', finished_at = now() where id = any(%s)", (ids,)
            )
            done += len(ids)
        return done / (time.perf_counter() - started)


def pick_ups(stack: StackStatus, count: int) -> list[float]:
    """Milliseconds from the commit of a request to the answer of the claim, with an idle worker's own parts."""
    return asyncio.run(_pick_ups(stack, count))


async def _pick_ups(stack: StackStatus, count: int) -> list[float]:
    client = await acreate_client(stack.api_url, stack.secret_key)
    queue, wake, waits = Queue(client, "worker", LEASE_SECONDS), asyncio.Event(), []
    listener = asyncio.create_task(listen(stack.api_url, stack.secret_key, wake))
    async with asyncio.timeout(LONGEST_WAIT):
        await wake.wait()
    await asyncio.sleep(SETTLE)
    with psycopg.connect(stack.db_url, autocommit=True, options="-c role=authenticated") as connection:
        for number in range(count):
            await asyncio.sleep(PAUSE)
            wake.clear()
            # An account has an id that is its number.
            connection.execute("select api.request(%s)", (UUID(int=number + 1),))
            committed = time.perf_counter()
            async with asyncio.timeout(LONGEST_WAIT):
                await wake.wait()
            (lease,) = await queue.claim(1, ["upscale"])
            waits.append(1000 * (time.perf_counter() - committed))
            await queue.fail(lease, Failure("Only a measurement.", retryable=False))
    listener.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await listener
    return waits


# The limit is a literal: a parameter is planned anew at every call.
MINIMAL_CLAIM = """
with due as (
    select id from minimal.jobs where status = 'pending' order by id limit {limit} for update skip locked
)
update minimal.jobs as j set status = 'processing', started_at = now() from due where j.id = due.id
returning j.id
"""
