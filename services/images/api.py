"""The Supabase project as the worker reaches it: one client, and two kinds of trouble.

Trouble that passes (no connection, no answer in time, 5xx, 429) is ApiUnavailableError wherever it happens;
a request that the project understood and refused is ApiRefusedError.
"""

import httpx
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from services.images.settings import WorkerSettings

# A picture of 50 MiB may take a while, but an open connection that says nothing for this long is dead.
HTTP_TIMEOUT = httpx.Timeout(30, connect=5)
PASSING_STATUSES = frozenset({408, 425, 429})


class ApiUnavailableError(Exception):
    """The API did not answer or answered that it cannot now; the same request may succeed later."""


class ApiRefusedError(Exception):
    """The API refused a request; the same request will be refused again."""


async def connect(settings: WorkerSettings, http: httpx.AsyncClient) -> AsyncClient:
    """Make the client of the project, acting as `service_role`. Sends nothing yet."""
    options = AsyncClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)
    return await acreate_client(settings.supabase_url, settings.supabase_secret_key.get_secret_value(), options)


def http_client() -> httpx.AsyncClient:
    """Make the HTTP client that all requests go through."""
    return httpx.AsyncClient(timeout=HTTP_TIMEOUT, event_hooks={"response": [_raise_if_unavailable]})


async def _raise_if_unavailable(response: httpx.Response) -> None:
    """Tell an outage from an answer here, because the clients above report both as API errors."""
    if response.status_code >= 500 or response.status_code in PASSING_STATUSES:
        raise ApiUnavailableError(f"{response.request.url.path} answered {response.status_code}")
