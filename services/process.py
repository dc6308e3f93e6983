"""A service as a process: settings and logs at its start, an HTTP port, the signals that end it, its exit status."""

import asyncio
import contextlib
import math
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import structlog
import uvicorn
from starlette.applications import Starlette

from services.connections import Connection, Crowd
from services.log import configure_logging
from services.project import RefusedError
from services.proxies import ProxyError, spare_loopback
from services.settings import Settings, SettingsError, load
from services.shortage import is_shortage

GRACE_SECONDS = 10  # for requests under way when the service ends
BACKLOG = 64  # connections that wait; asyncio tries so many at a time, also where there is no file left for any
SHORTAGE_LOG_SECONDS = 60.0

log = structlog.get_logger(__name__)


def run(settings: type[Settings], work: Callable[[Settings], Coroutine[Any, Any, None]]) -> int:
    """Read the settings and do the work of a service; returns the exit status of the process.

    It is 2 where a setting is missing or cannot be used, and 1 where the project refuses the service.
    """
    try:
        spare_loopback()
        read = load(settings)
    except (SettingsError, ProxyError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - logging is not set up yet
        return 2
    configure_logging()
    try:
        asyncio.run(work(read))
    except SettingsError as error:
        log.error("setting_not_usable", error=str(error))
        return 2
    except RefusedError as error:
        log.error(
            "project_refused",
            error=str(error),
            next_step="check SUPABASE_URL and SUPABASE_SECRET_KEY, and that the migrations are applied",
        )
        return 1
    return 0


def at_signal(stop: Callable[[], None]) -> None:
    """Call `stop` at every SIGTERM and SIGINT from now on."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)


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
    server = _Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )
    _log_shortages_seldom()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    log.info("http_opened", port=listener.getsockname()[1])
    try:
        yield
    finally:
        server.should_exit = True
        await serving


def _log_shortages_seldom() -> None:
    """Log once in a while that connections cannot be accepted, of which asyncio tells thousands of times a second."""
    logged_at = -math.inf

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal logged_at
        error = context.get("exception")
        if not (is_shortage(error) and "accept" in context["message"]):
            loop.default_exception_handler(context)
        elif loop.time() - logged_at > SHORTAGE_LOG_SECONDS:
            logged_at = loop.time()
            next_step = "see who holds so many connections, or allow more open files (ulimit -n)"
            log.error("connections_not_accepted", error=str(error), next_step=next_step)

    asyncio.get_running_loop().set_exception_handler(handle)


class _Server(uvicorn.Server):
    """uvicorn with bounds, and without its signal handlers: signals are for the service."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state = Crowd()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield
