"""The Supabase project as services reach it: one client, and two kinds of trouble.

Trouble that passes (no connection, no answer in time, 5xx, 429) is ApiUnavailableError wherever it happens;
a request that the project understood and refused is ApiRefusedError.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import httpx
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from services.settings import ProjectSettings

# A picture of 50 MiB may take a while, but an open connection that says nothing for this long is dead.
SILENCE_TIMEOUT = 30.0  # seconds
CONNECT_TIMEOUT = 5.0  # seconds
PASSING_STATUSES = frozenset({408, 425, 429})


class ApiUnavailableError(Exception):
    """The API did not answer or answered that it cannot now; the same request may succeed later."""


class ApiRefusedError(Exception):
    """The API refused a request; the same request will be refused again. `code` is the database's, if it was that."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


async def connect(settings: ProjectSettings, http: httpx.AsyncClient) -> AsyncClient:
    """Make the client of the project, acting as `service_role`. Sends nothing yet."""
    options = AsyncClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)
    return await acreate_client(settings.supabase_url, settings.supabase_secret_key.get_secret_value(), options)


def http_client(silence_timeout: float = SILENCE_TIMEOUT) -> httpx.AsyncClient:
    """Make the HTTP client that all requests go through."""
    timeout = httpx.Timeout(silence_timeout, connect=CONNECT_TIMEOUT)
    return httpx.AsyncClient(timeout=timeout, event_hooks={"response": [_raise_if_unavailable]})


async def call(client: AsyncClient, function: str, params: dict[str, Any], seconds: float) -> Any:
    """Call a function of the database and return its answer. Raises ApiUnavailableError and ApiRefusedError."""
    try:
        async with asyncio.timeout(seconds):
            return (await client.rpc(function, params).execute()).data
    except TimeoutError:
        raise ApiUnavailableError(f"{function} got no answer in {seconds:g} s") from None
    except httpx.RequestError as error:
        raise ApiUnavailableError(f"{function}: {type(error).__name__} {error}".rstrip()) from error
    except APIError as error:
        reason = " ".join(text for text in (error.code, error.message) if text)
        raise ApiRefusedError(f"{function} was refused: {reason}", error.code) from error


async def remove_objects(client: AsyncClient, keys: Iterable[str], seconds: float) -> None:
    """Remove objects, named bucket/key, through the Storage API, which removes their bytes too.

    Those that are gone already are passed over. Raises ApiUnavailableError and ApiRefusedError.
    """
    by_bucket: dict[str, list[str]] = {}
    for bucket, _, name in (key.partition("/") for key in keys):
        by_bucket.setdefault(bucket, []).append(name)
    try:
        async with asyncio.timeout(seconds):
            for bucket, names in by_bucket.items():
                await client.storage.from_(bucket).remove(names)
    except (httpx.RequestError, TimeoutError) as error:
        raise ApiUnavailableError(f"removal: {type(error).__name__} {error}".rstrip()) from error
    except StorageApiError as error:
        raise ApiRefusedError(f"removal was refused: {error.message}") from error


async def _raise_if_unavailable(response: httpx.Response) -> None:
    """Tell an outage from an answer here, because the clients above report both as API errors."""
    if response.status_code >= 500 or response.status_code in PASSING_STATUSES:
        raise ApiUnavailableError(f"{response.request.url.path} answered {response.status_code}")
