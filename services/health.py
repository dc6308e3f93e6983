"""What services tell the outside: /healthz for supervisors, /metrics for Prometheus."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.settings import SettingsError


def health_app(check: Callable[[], tuple[bool, dict[str, Any]]], registry: CollectorRegistry) -> Starlette:
    """Make the HTTP app. `check` says whether all is well and what /healthz shows; if it is not, the status is 503."""

    async def healthz(_: Request) -> Response:
        ok, body = check()
        return JSONResponse(body, status_code=200 if ok else 503)

    async def prometheus(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[Route("/healthz", healthz), Route("/metrics", prometheus)])


@contextlib.asynccontextmanager
async def serve(app: Starlette, host: str, port: int | None, variable: str) -> AsyncIterator[None]:
    """Serve an app while the context lasts, if a port is set, by `variable`. Raises SettingsError for a taken port."""
    if port is None:
        yield
        return
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise SettingsError(
            f"{variable} {port} on {host} cannot be opened: {error.strerror}. Choose another port."
        ) from error
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals are for the service."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
