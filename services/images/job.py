"""One claimed operation, from its claim to exactly one ending, an `Outcome`."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any

import structlog

from services.images.engines import EngineError, EngineResult, ProviderCall
from services.images.pool import ChildCrashError, ChildError, ChildTimeoutError, Pool
from services.images.queue import Completion, Failure, Lease, LeaseLostError, OutcomeUnknownError, Queue
from services.images.storage import Storage
from services.project import RefusedError, UnavailableError

HEARTBEATS_PER_LEASE = 3
THUMBNAIL_TYPE = "image/webp"
STORAGE_RETRY_SECONDS = 10.0
"""Least wait before an operation is tried again after Storage was away; six times as long after each further time."""

# What the owner of an operation reads when the fault is not in the picture.
OUR_FAULT = "Something went wrong on our side while the picture was processed."
STORAGE_AWAY = "Storage could not be reached while the picture was processed."
ENGINE_STOPPED = "The picture could not be processed: the engine stopped while working on it."
TOOK_TOO_LONG = "The picture could not be processed in the time allowed. Try a smaller one."

log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """How a job ended.

    After UNREPORTED (the report got no answer that settles the matter) and CRASHED (a fault of the worker)
    the database knows better, or the lease runs out and the operation is done again.
    """

    COMPLETED = "completed"
    FAILED = "failed"
    RELEASED = "released"
    LEASE_LOST = "lease_lost"
    UNREPORTED = "unreported"
    CRASHED = "crashed"


class Job:
    """Works on one operation while its lease lasts."""

    def __init__(
        self,
        lease: Lease,
        *,
        queue: Queue,
        storage: Storage,
        pool: Pool,
        hand_back: asyncio.Event,
        complete: Callable[[Lease, Completion], Awaitable[None]],
    ) -> None:
        """`hand_back`, once set, makes the job give its operation back; `complete` tells the queue of a result."""
        self._lease = lease
        self._operation = lease.operation
        self._queue = queue
        self._storage = storage
        self._pool = pool
        self._hand_back = hand_back
        self._complete = complete
        self._uploaded: list[str] = []
        self._may_be_completed = False
        self._calls: tuple[ProviderCall, ...] = ()
        self._started = time.monotonic()

    async def run(self) -> Outcome:
        """Do the work and report it.

        While the work lasts, the heartbeat or a hand-back may end it. Afterwards only the answer to the
        report counts: a heartbeat that crosses with it would call a completed operation lost.
        """
        work = asyncio.create_task(self._work())
        heartbeat = asyncio.create_task(self._keep_lease())
        hand_back = asyncio.create_task(self._hand_back.wait())
        try:
            await asyncio.wait({work, heartbeat, hand_back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, heartbeat, hand_back):
                task.cancel()  # leaves finished ones alone; cancelled work kills its child
            await asyncio.gather(work, heartbeat, hand_back, return_exceptions=True)
        if not work.cancelled():
            return await self._settle(work.result())
        if not heartbeat.cancelled():
            return await self._lost(str(heartbeat.exception()))
        return await self.release()

    async def release(self) -> Outcome:
        """Hand the operation back to the queue."""
        try:
            await self._queue.release(self._lease)
        except LeaseLostError as error:
            return await self._lost(str(error))
        except (UnavailableError, RefusedError, OutcomeUnknownError) as error:
            return await self._unreported(error)
        await self._remove_uploads()
        self._log_unconfirmed_calls()
        log.info("operation_released")
        return Outcome.RELEASED

    async def _work(self) -> Completion | Failure:
        """Download, run the engine, upload. Writes nothing to the database and raises nothing."""
        operation = self._operation
        provider = self._pool.providers.get(operation.operation_type)
        try:
            result = await self._pool.run(
                operation.operation_type,
                await self._storage.download(operation.input_url) if operation.input_url else None,
                operation.options,
            )
            self._calls = result.calls
            output = await self._store(result)
        except EngineError as error:
            self._calls = self._calls or error.calls
            return Failure(error.message, error.retryable, error.retry_after, provider, self._calls)
        except ChildCrashError as error:
            log.error("engine_crashed", traceback=str(error))
            return Failure(OUR_FAULT, api_provider=provider)
        except ChildTimeoutError as error:
            # For good, or a picture made to take long would hold a slot as often as there are attempts.
            log.warning("engine_timed_out", error=str(error))
            return Failure(TOOK_TOO_LONG, retryable=False, api_provider=provider)
        except ChildError as error:
            log.warning("engine_died", error=str(error))
            return Failure(ENGINE_STOPPED, api_provider=provider)
        except UnavailableError as error:
            log.warning("storage_unreachable", error=str(error))
            wait = STORAGE_RETRY_SECONDS * 6 ** (operation.attempts - 1)
            return Failure(STORAGE_AWAY, retry_after=wait, api_provider=provider, calls=self._calls)
        except RefusedError as error:
            log.error("storage_refused", error=str(error))
            return Failure(OUR_FAULT, api_provider=provider, calls=self._calls)
        except Exception:
            log.exception("operation_crashed")
            return Failure(OUR_FAULT, api_provider=provider, calls=self._calls)
        return Completion(str(provider), output, time.monotonic() - self._started, self._calls)

    async def _store(self, result: EngineResult) -> dict[str, Any]:
        """Upload result, thumbnail and further files under names of this lease alone, and describe them."""
        operation = self._operation
        stem = f"results/{operation.user_id}/{operation.id}/{operation.lease_token}"
        url, thumbnail_url = f"{stem}.{result.extension}", f"{stem}.thumb.webp"
        files = {f"{stem}.{file.name}.{file.extension}": file for file in result.files}
        self._uploaded = [url, thumbnail_url, *files]
        await self._storage.upload(url, result.data, result.media_type)
        await self._storage.upload(thumbnail_url, result.thumbnail, THUMBNAIL_TYPE)
        for file_url, file in files.items():
            await self._storage.upload(file_url, file.data, file.media_type)
        output: dict[str, Any] = {
            "url": url,
            "thumbnail_url": thumbnail_url,
            "media_type": result.media_type,
            "width": result.width,
            "height": result.height,
            "bytes": len(result.data),
            "label": result.label,
            "confidence": result.confidence,
            "warnings": list(result.warnings),
            "details": result.details,
        }
        if files:
            output["files"] = [
                {
                    "url": file_url,
                    "name": file.name,
                    "title": file.title,
                    "media_type": file.media_type,
                    "bytes": len(file.data),
                }
                for file_url, file in files.items()
            ]
        return output

    async def _keep_lease(self) -> None:
        """Extend the lease until cancelled. Raises LeaseLostError when it is lost or has run out."""
        lease = self._lease
        interval = lease.seconds_left / HEARTBEATS_PER_LEASE
        while True:
            await asyncio.sleep(interval)
            while True:
                try:
                    async with asyncio.timeout(lease.seconds_left):
                        await self._queue.extend(lease)
                    break
                except (TimeoutError, UnavailableError, RefusedError) as error:
                    if not lease.seconds_left:
                        raise LeaseLostError(f"the lease ran out unextended: {str(error) or 'no answer'}") from error
                    await asyncio.sleep(min(0.5, interval / 4, lease.seconds_left))

    async def _settle(self, verdict: Completion | Failure) -> Outcome:
        if isinstance(verdict, Failure):
            return await self._fail(verdict)
        self._may_be_completed = True
        try:
            await self._complete(self._lease, verdict)
        except LeaseLostError as error:
            self._may_be_completed = False
            return await self._lost(str(error))
        except (UnavailableError, OutcomeUnknownError) as error:
            return await self._unreported(error)
        except RefusedError as error:
            log.error("completion_refused", error=str(error))
            return await self._fail(Failure(OUR_FAULT, api_provider=verdict.api_provider, calls=verdict.calls))
        log.info("operation_completed", seconds=round(verdict.processing_time, 3), **_size(verdict))
        return Outcome.COMPLETED

    async def _fail(self, failure: Failure) -> Outcome:
        try:
            status = await self._queue.fail(self._lease, failure)
        except LeaseLostError as error:
            return await self._lost(str(error))
        except (UnavailableError, RefusedError, OutcomeUnknownError) as error:
            return await self._unreported(error)
        log.info("operation_failed", reason=failure.message, status=status)
        self._may_be_completed = False
        await self._remove_uploads()
        return Outcome.FAILED

    async def _lost(self, reason: str) -> Outcome:
        log.warning("lease_lost", reason=reason)
        self._log_unconfirmed_calls()
        await self._remove_uploads()
        return Outcome.LEASE_LOST

    async def _unreported(self, error: Exception) -> Outcome:
        """Leave the operation to its lease."""
        log.error("report_not_delivered", error=str(error))
        self._log_unconfirmed_calls()
        await self._remove_uploads()
        return Outcome.UNREPORTED

    def _log_unconfirmed_calls(self) -> None:
        """Log the calls of providers that may be missing in the database, which takes them with a report only."""
        for call in self._calls:
            log.warning(
                "provider_call_not_confirmed", api_provider=call.api_provider, model=call.model, cost=str(call.cost)
            )

    async def _remove_uploads(self) -> None:
        """Remove what was uploaded, unless it may belong to a completed operation by now."""
        if not self._uploaded or self._may_be_completed:
            return
        try:
            await self._storage.remove(self._uploaded)
        except (UnavailableError, RefusedError) as error:
            log.warning("uploads_left_behind", objects=self._uploaded, error=str(error))


def _size(completion: Completion) -> dict[str, Any]:
    return {key: completion.output[key] for key in ("width", "height", "bytes")}
