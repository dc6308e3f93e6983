"""The outbox as the service sees it: the functions of the database that move a mail."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

import stamina
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from supabase import AsyncClient

from services.project import RefusedError, UnavailableError, call

RPC_TIMEOUT = 10.0  # seconds
EXPAND_TIMEOUT = 65.0  # seconds; the database gives the expansion of campaigns 55
LEASE_SECONDS = 120
"""How long the database waits for word of a claimed mail before it counts as unknown."""

LONGEST_ERROR = 1000


class Outcome(StrEnum):
    """What became of a claimed mail."""

    SENT = "sent"
    RETRY = "retry"
    """Nothing was accepted; it may be tried again."""
    FAILED = "failed"
    """It is refused for good."""
    UNKNOWN = "unknown"
    """The call was begun and nobody here knows whether it was accepted; it is never begun again by itself."""


class ClaimedEmail(BaseModel):
    """A mail that nobody else may send. `data` holds what its template may name, but for what the service adds."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    user_id: UUID
    recipient: str
    type: str
    category: str
    subject: str
    html_content: str
    text_content: str | None
    sendgrid_template_id: str | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """Mails that were claimed together, under one token. `deadline` is in monotonic seconds of this machine."""

    token: UUID
    emails: list[ClaimedEmail]
    deadline: float


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one mail. `retry_seconds` is the least wait; what is not counted was not the mail's fault; after a
    bounce its address gets essential mails only."""

    email_id: UUID
    outcome: Outcome
    message_id: str | None = None
    error: str | None = None
    retry_seconds: float | None = None
    is_counted: bool = True
    is_bounce: bool = False


class Outbox:
    """Claims mails and reports what became of them."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._unanswered_claim: UUID | None = None

    async def claim(self, limit: int) -> Claim:
        """Claim up to `limit` mails. Raises UnavailableError and RefusedError. Is not repeated here.

        One without an answer may have been heard: the next goes under the same id, and gets what was taken then.
        """
        token = self._unanswered_claim = self._unanswered_claim or uuid4()
        # Counted from before the request, so that the lease never looks longer here than in the database.
        deadline = time.monotonic() + LEASE_SECONDS
        params = {"p_limit": limit, "p_lease_seconds": LEASE_SECONDS, "p_claim_id": str(token)}
        rows = await call(self._client, "claim_emails", params, RPC_TIMEOUT)
        self._unanswered_claim = None
        try:
            return Claim(token, TypeAdapter(list[ClaimedEmail]).validate_python(rows), deadline)
        except ValidationError as error:
            raise RefusedError(f"claim_emails answered what is no mail: {error.error_count()} problems") from error

    async def settle(self, token: UUID, results: Iterable[Result]) -> None:
        """Tell what became of mails of a claim, until that is heard. Raises RefusedError.

        Telling it twice changes nothing, and late news of a mail that counts as unknown is still news.
        """
        params = {"p_lease_token": str(token), "p_results": [_as_json(result) for result in results]}
        async for attempt in stamina.retry_context(
            UnavailableError, attempts=None, timeout=None, wait_initial=0.1, wait_max=5, wait_jitter=0.5
        ):
            with attempt:
                await call(self._client, "settle_emails", params, RPC_TIMEOUT)

    async def expand_campaigns(self, limit: int) -> int:
        """Queue mails of a campaign that is due, and complete those that are over; returns how many campaigns moved.

        None moves when there is nothing left to do. Raises UnavailableError and RefusedError.
        """
        return len(await call(self._client, "expand_email_campaigns", {"p_limit": limit}, EXPAND_TIMEOUT))

    async def record_events(self, events: list[dict[str, str | None]]) -> dict[str, int]:
        """Write what was heard of mails; may be repeated. Raises UnavailableError and RefusedError."""
        counts: dict[str, int] = await call(self._client, "record_email_events", {"p_events": events}, RPC_TIMEOUT)
        return counts

    async def unsubscribe(self, user_id: str) -> None:
        """Send a user no more marketing mails; may be repeated. Raises UnavailableError and RefusedError."""
        await call(self._client, "unsubscribe_from_emails", {"p_user_id": user_id}, RPC_TIMEOUT)


def _as_json(result: Result) -> dict[str, Any]:
    return {
        "id": str(result.email_id),
        "outcome": result.outcome,
        "message_id": result.message_id,
        "error": None if result.error is None else _storable(result.error),
        "retry_seconds": None if result.retry_seconds is None else round(result.retry_seconds),
        "is_counted": result.is_counted,
        "is_bounce": result.is_bounce,
    }


def _storable(text: str) -> str:
    """A text as Postgres can keep it: without NUL and halves of characters, which a provider's JSON may hold."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")[:LONGEST_ERROR]
