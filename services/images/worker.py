"""The worker's loop: claims operations while slots are free, and stops without losing any.

It looks into the queue at its start, whenever it is woken (an insert, a freed slot, a warm child) and every
few seconds. What it is told is never trusted to be complete; the queue is what counts.
"""

import asyncio
import time
from collections.abc import Iterable

import structlog

from services.claims import Claims
from services.images.health import Metrics
from services.images.job import Job, Outcome
from services.images.pool import Pool
from services.images.queue import Completion, Lease, Queue
from services.images.settings import WorkerSettings
from services.images.storage import Storage
from services.project import RefusedError, UnavailableError
from services.waiting import jittered, wait_for

UNREACHABLE_WAIT = (0.1, 0.7)  # seconds, first and longest; with jitter always below one second
REFUSED_WAIT = 5.0  # seconds
HAND_BACK_SECONDS = 5.0  # for telling the queue, after the grace is over

log = structlog.get_logger(__name__)


class Worker:
    """Claims operations and works on up to `settings.concurrency` of them at a time."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        queue: Queue,
        storage: Storage,
        pool: Pool,
        metrics: Metrics,
        wake: asyncio.Event,
    ) -> None:
        """`wake` may be set by anyone who thinks that there is something to claim."""
        self._settings = settings
        self._queue = queue
        self._storage = storage
        self._pool = pool
        self._metrics = metrics
        self._wake = wake
        self._hand_back = asyncio.Event()
        self._stopping = False
        self._jobs: set[asyncio.Task[None]] = set()
        self._claims = Claims(*UNREACHABLE_WAIT)

    def stop(self) -> None:
        """Stop claiming and finish what runs; called again, hand it back at once."""
        if self._stopping:
            self._hand_back.set()
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Work until stopped. Raises RefusedError when the first claim is refused."""
        try:
            while not self._stopping:
                self._wake.clear()
                await wait_for(self._wake, await self._look())
            await self._drain()
        finally:
            for job in self._jobs:
                job.cancel()
            await asyncio.gather(*self._jobs, return_exceptions=True)

    async def _look(self) -> float:
        """Claim for the free slots and return the seconds until the next look."""
        poll = jittered(self._settings.poll_seconds)
        if pause := self._storage.outage.seconds_left:
            self._metrics.looked()
            return pause
        free = self._slots() - len(self._jobs)
        if free <= 0:
            if self._pool.warm:  # without a child that starts, the worker is stuck and says so
                self._metrics.looked()
            return poll
        try:
            leases = await self._queue.claim(free, self._operation_types())
        except UnavailableError as error:
            return jittered(self._claims.unanswered(error), 0.4)
        except RefusedError as error:
            self._claims.refused(error)
            return REFUSED_WAIT
        self._claims.answered()
        self._metrics.looked()
        for lease in leases:
            self._start(lease)
        return 0 if leases else poll

    def _slots(self) -> int:
        # Children that are being replaced cannot take work, so nothing is claimed for them.
        return min(1 if self._storage.outage.lasts else self._settings.concurrency, self._pool.warm)

    def _operation_types(self) -> Iterable[str]:
        return self._settings.operation_types or self._pool.providers

    async def _complete(self, lease: Lease, completion: Completion) -> None:
        """Record a result, and fill the slot of its job with the same request."""
        if self._stopping or len(self._jobs) > self._slots():
            await self._queue.complete(lease, completion)
            return
        for next_lease in await self._queue.complete_and_claim(lease, completion, self._operation_types()):
            self._start(next_lease)

    def _start(self, lease: Lease) -> None:
        task = asyncio.create_task(self._process(lease))
        self._jobs.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        self._wake.set()

    async def _process(self, lease: Lease) -> None:
        operation = lease.operation
        structlog.contextvars.bind_contextvars(  # of this task alone
            operation_id=str(operation.id),
            user_id=str(operation.user_id),
            operation_type=operation.operation_type,
            attempt=operation.attempts,
        )
        job = Job(
            lease,
            queue=self._queue,
            storage=self._storage,
            pool=self._pool,
            hand_back=self._hand_back,
            complete=self._complete,
        )
        log.info("operation_started")
        self._metrics.claimed(operation.operation_type)
        started, outcome = time.monotonic(), Outcome.UNREPORTED
        try:
            # A claim that was answered after the signal to stop goes back untouched.
            outcome = await (job.release() if self._stopping else job.run())
        except Exception:
            log.exception("job_crashed")
            outcome = Outcome.CRASHED
        finally:
            self._metrics.finished(operation.operation_type, outcome, time.monotonic() - started)

    async def _drain(self) -> None:
        """Let running jobs finish within the grace, then have them handed back."""
        log.info("worker_stopping", operations=len(self._jobs))
        if self._jobs:
            hand_back = asyncio.create_task(self._hand_back.wait())
            finished = asyncio.create_task(self._finish())
            await asyncio.wait(
                {finished, hand_back},
                timeout=self._settings.shutdown_grace_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._hand_back.set()
            await asyncio.wait({finished, hand_back}, timeout=HAND_BACK_SECONDS)
            finished.cancel()
        if self._jobs:
            log.error("operations_left_to_their_leases", operations=len(self._jobs))
        log.info("worker_stopped")

    async def _finish(self) -> None:
        while self._jobs:  # a completion under way may still bring an operation, which goes back
            await asyncio.wait(set(self._jobs))
