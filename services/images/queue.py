"""The queue as the worker sees it: the functions of the database that move an operation."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import stamina
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from supabase import AsyncClient

from services.images.engines import ProviderCall
from services.project import RefusedError, UnavailableError, call

RPC_TIMEOUT = 10.0  # seconds
LEASE_LOST_CODE = "PT409"


class LeaseLostError(Exception):
    """The operation is no longer this worker's: nothing may be written for it."""


class OutcomeUnknownError(Exception):
    """A report was turned down after an earlier try of it that got no answer and may have been heard."""


class Operation(BaseModel):
    """A claimed operation. `input_url` is `bucket/key`, or None when the operation needs no picture."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    user_id: UUID
    operation_type: str
    options: dict[str, Any]
    input_url: str | None
    attempts: int
    max_attempts: int
    lease_token: UUID


@dataclass(slots=True)
class Lease:
    """The right to work on an operation until `deadline` (monotonic seconds of this machine)."""

    operation: Operation
    deadline: float

    @property
    def seconds_left(self) -> float:
        """Seconds until the lease has run out, at least 0."""
        return max(0.0, self.deadline - time.monotonic())


@dataclass(frozen=True, slots=True)
class Completion:
    """What an operation has made: `output` as stored with it, `processing_time` in seconds."""

    api_provider: str
    output: Mapping[str, Any]
    processing_time: float
    calls: tuple[ProviderCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an operation has made nothing: `message` is for the user, `retry_after` is in seconds."""

    message: str
    retryable: bool = True
    retry_after: float | None = None
    api_provider: str | None = None
    calls: tuple[ProviderCall, ...] = field(default=())


class Queue:
    """Claims operations and reports what became of them."""

    def __init__(self, client: AsyncClient, worker_id: str, lease_seconds: int) -> None:
        self._client = client
        self._worker_id = worker_id
        self._lease_seconds = lease_seconds
        self._unanswered_claims: list[UUID] = []
        # Several heartbeats must fit into one lease, even if the first ones get no answer.
        self._timeout = min(RPC_TIMEOUT, lease_seconds / 3)

    async def claim(self, limit: int, operation_types: Iterable[str]) -> list[Lease]:
        """Claim up to `limit` operations. Raises UnavailableError and RefusedError. Is not repeated here."""
        with self._claim(operation_types) as claim:
            # Counted from before the request, so that the lease never looks longer here than in the database.
            asked_at = time.monotonic()
            rows = await self._call("claim_image_operations", claim | {"p_limit": limit})
            return _leases(rows, asked_at + self._lease_seconds)

    async def extend(self, lease: Lease) -> None:
        """Push the deadline of a lease back. Raises LeaseLostError and UnavailableError."""
        deadline = time.monotonic() + self._lease_seconds
        await self._call_with_lease("extend_image_operation_lease", lease, {"p_lease_seconds": self._lease_seconds})
        lease.deadline = deadline

    async def complete(self, lease: Lease, completion: Completion) -> None:
        """Record the result. Repeats itself until the lease has run out; see `_settle` for errors."""
        await self._settle("complete_image_operation", lease, _result(completion))

    async def complete_and_claim(
        self, lease: Lease, completion: Completion, operation_types: Iterable[str]
    ) -> list[Lease]:
        """Record the result as `complete` does, and claim an operation for the slot that it leaves."""
        with self._claim(operation_types) as claim:
            rows, asked_at = await self._settle(
                "complete_and_claim_image_operation", lease, _result(completion) | claim
            )
            return _leases(rows, asked_at + self._lease_seconds)

    async def fail(self, lease: Lease, failure: Failure) -> str:
        """Record a failure and return the new status: `pending` if it is tried again, else `failed`."""
        row, _ = await self._settle(
            "fail_image_operation",
            lease,
            {
                "p_error_message": failure.message,
                "p_retryable": failure.retryable,
                "p_retry_after_seconds": None if failure.retry_after is None else round(failure.retry_after),
                "p_api_provider": failure.api_provider,
                "p_usage": _usage(failure.calls),
            },
        )
        return _status(row)

    async def release(self, lease: Lease) -> None:
        """Hand the operation back; the attempt does not count."""
        await self._settle("release_image_operation", lease, {})

    @contextmanager
    def _claim(self, operation_types: Iterable[str]) -> Iterator[dict[str, Any]]:
        """Parameters of a claim.

        One without an answer may have been heard: a later claim goes under the same id, and gets what was taken then.
        """
        claim_id = self._unanswered_claims.pop() if self._unanswered_claims else uuid4()
        try:
            yield {
                "p_worker_id": self._worker_id,
                "p_operation_types": sorted(operation_types),
                "p_lease_seconds": self._lease_seconds,
                "p_claim_id": str(claim_id),
            }
        except BaseException:
            self._unanswered_claims.append(claim_id)
            raise

    async def _settle(self, function: str, lease: Lease, params: dict[str, Any]) -> tuple[Any, float]:
        """Deliver the last word on an operation; returns the answer and when (monotonic) it was asked for.

        Repeated while the API is away, which is safe because the database gives the first answer again.
        Raises LeaseLostError and RefusedError when the first answer says so. After a try without an answer
        nobody here knows whether the word was heard: OutcomeUnknownError when a repeat is turned down,
        UnavailableError when the lease has run out first.
        """
        unanswered = False
        async for attempt in stamina.retry_context(
            UnavailableError,
            attempts=None,
            timeout=max(lease.seconds_left, self._timeout),
            wait_initial=0.1,
            wait_max=0.5,
            wait_jitter=0.5,
        ):
            with attempt:
                asked_at = time.monotonic()
                try:
                    return await self._call_with_lease(function, lease, params), asked_at
                except UnavailableError:
                    unanswered = True
                    raise
                except (LeaseLostError, RefusedError) as error:
                    if unanswered:
                        raise OutcomeUnknownError(f"after a try without an answer: {error}") from error
                    raise
        raise AssertionError("stamina ends by returning or raising")

    async def _call_with_lease(self, function: str, lease: Lease, params: dict[str, Any]) -> Any:
        operation = lease.operation
        fence = {"p_operation_id": str(operation.id), "p_lease_token": str(operation.lease_token)}
        return await self._call(function, fence | params)

    async def _call(self, function: str, params: dict[str, Any]) -> Any:
        try:
            return await call(self._client, function, params, self._timeout)
        except RefusedError as error:
            if error.code == LEASE_LOST_CODE:
                raise LeaseLostError(str(error)) from error
            raise


_OPERATIONS = TypeAdapter(list[Operation])


def _leases(rows: Any, deadline: float) -> list[Lease]:
    try:
        return [Lease(row, deadline) for row in _OPERATIONS.validate_python(rows)]
    except ValidationError as error:
        raise RefusedError(
            f"The claim was answered with something else than operations: {error}. "
            "Apply the migrations that belong to this worker."
        ) from error


def _result(completion: Completion) -> dict[str, Any]:
    return {
        "p_api_provider": completion.api_provider,
        "p_output": completion.output,
        "p_processing_time": round(completion.processing_time, 3),
        "p_usage": _usage(completion.calls),
    }


def _status(row: Any) -> str:
    # A function that returns one row is answered with an object, or by some servers with a list of one.
    return str((row[0] if isinstance(row, list) else row)["status"])


def _usage(calls: tuple[ProviderCall, ...]) -> list[dict[str, Any]]:
    return [
        {
            "api_provider": call.api_provider,
            "model": call.model,
            "request_data": call.request_data,
            "response_data": call.response_data,
            "status_code": call.status_code,
            "response_time": round(call.response_time, 3),
            "cost": None if call.cost is None else float(call.cost),
            "error_message": call.error_message,
        }
        for call in calls
    ]
