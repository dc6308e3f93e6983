"""The Supabase project as services reach it: one client, and two kinds of trouble.

Trouble that passes (no connection, no answer in time, 5xx, 429) is UnavailableError wherever it happens;
a request that the project understood and refused is RefusedError.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError
from supabase import AsyncClient, AsyncClientOptions, AuthError, acreate_client

from services.settings import ProjectSettings

# A picture of 50 MiB may take a while, but an open connection that says nothing for this long is dead.
SILENCE_TIMEOUT = 30.0  # seconds
CONNECT_TIMEOUT = 5.0  # seconds
PASSING_STATUSES = frozenset({408, 425, 429})


class UnavailableError(Exception):
    """The project did not answer or answered that it cannot now; the same request may succeed later."""


class RefusedError(Exception):
    """The project refused a request; the same request will be refused again.

    The text is for logs. `status` is that of the answer to give; where the database refused, `code` is its SQLSTATE,
    `message` is for people, `details` are JSON, and `hint` tells the next step.
    """

    def __init__(
        self,
        text: str,
        *,
        status: int = 500,
        code: str | None = None,
        message: str | None = None,
        details: Any = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.message = message or text
        self.details = details
        self.hint = hint

    @property
    def body(self) -> dict[str, Any]:
        """The refusal as PostgREST puts it, to be passed on."""
        return {"code": self.code, "message": self.message, "details": self.details, "hint": self.hint}


@contextmanager
def answers(what: str) -> Iterator[None]:
    """Turn the errors of a request into UnavailableError and RefusedError; `what` was asked for."""
    try:
        yield
    except httpx.RequestError as error:
        raise UnavailableError(f"{what}: {type(error).__name__} {error}".rstrip()) from error
    except APIError as error:
        code = error.code or ""
        reason = " ".join(text for text in (code, error.message) if text)
        raise RefusedError(
            f"{what} was refused: {reason}",
            # private.refuse() says the status by its SQLSTATE.
            status=int(code[2:]) if code.startswith("PT") and code[2:].isdigit() else 500,
            code=code,
            message=error.message,
            details=error.details,
            hint=error.hint,
        ) from error
    except StorageApiError as error:
        status = int(error.status) if str(error.status).isdigit() else 500
        raise RefusedError(f"Storage refused {what}: {error.message}", status=status) from error
    except AuthError as error:
        raise RefusedError(f"Auth refused {what}: {error.message}") from error


@asynccontextmanager
async def request(what: str, seconds: float) -> AsyncIterator[None]:
    """As `answers`, and what takes longer than so many seconds is without an answer."""
    try:
        with answers(what):
            async with asyncio.timeout(seconds):
                yield
    except TimeoutError:
        raise UnavailableError(f"{what} got no answer in {seconds:g} s") from None


async def connect(settings: ProjectSettings, http: httpx.AsyncClient) -> AsyncClient:
    """Make the client of the project, acting as `service_role`. Sends nothing yet."""
    options = AsyncClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)
    return await acreate_client(settings.supabase_url, settings.supabase_secret_key.get_secret_value(), options)


def http_client(silence_timeout: float = SILENCE_TIMEOUT) -> httpx.AsyncClient:
    """Make the HTTP client that all requests go through."""
    timeout = httpx.Timeout(silence_timeout, connect=CONNECT_TIMEOUT)
    return httpx.AsyncClient(timeout=timeout, event_hooks={"response": [_raise_if_unavailable]})


async def call(client: AsyncClient, function: str, params: dict[str, Any], seconds: float) -> Any:
    """Call a function of the database and return its answer. Raises UnavailableError and RefusedError."""
    async with request(function, seconds):
        return (await client.rpc(function, params).execute()).data


async def remove_objects(client: AsyncClient, keys: Iterable[str], seconds: float) -> list[str]:
    """Remove objects, named bucket/key, through the Storage API, which removes their bytes too.

    Those that are gone already are passed over; returns those that were there. Raises UnavailableError and
    RefusedError.
    """
    by_bucket: dict[str, list[str]] = {}
    for bucket, _, name in (key.partition("/") for key in keys):
        by_bucket.setdefault(bucket, []).append(name)
    removed = []
    async with request("removal", seconds):
        for bucket, names in by_bucket.items():
            removed += [f"{bucket}/{item['name']}" for item in await client.storage.from_(bucket).remove(names)]
    return removed


async def _raise_if_unavailable(response: httpx.Response) -> None:
    """Tell an outage from an answer here, because the clients above report both as API errors."""
    if response.status_code >= 500 or response.status_code in PASSING_STATUSES:
        raise UnavailableError(f"{response.request.url.path} answered {response.status_code}")
