"""The stand-in as one server, and where commands find the one that runs."""

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from local.state import write_private
from local.stripe.account import Account
from local.stripe.api import Api
from local.stripe.delivery import Deliveries, Report
from local.stripe.pages import Pages
from local.stripe.simulate import Simulation

# No secrets: they open nothing but a stand-in on this machine.
SECRET_KEY = "sk_test_local"  # noqa: S105
WEBHOOK_SECRET = "whsec_local"  # noqa: S105
ANSWER_SECONDS = 2.0


class LocalStripe:
    """An account with its API and pages at `url`; events go to `forward_to`, or nowhere."""

    def __init__(self, url: str, forward_to: str | None = None, report: Report = lambda *_: None) -> None:
        self.url = url
        self.name = secrets.token_hex(8)
        self.account = Account(url)
        self._deliveries = Deliveries(self.account, forward_to, WEBHOOK_SECRET, report) if forward_to else None
        routes = [
            *Api(self.account, SECRET_KEY).routes,
            *Pages(self.account).routes,
            *Simulation(self.account).routes,
            Route("/healthz", self._healthz),
        ]
        self.app: ASGIApp = Starlette(routes=routes, lifespan=self._lifespan)
        if self._deliveries:
            self.app = _AfterEach(self.app, self._deliveries)

    async def _healthz(self, _: Request) -> Response:
        return JSONResponse({"status": "ok", "name": self.name})

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        if self._deliveries is None:
            yield
            return
        deliveries = asyncio.create_task(self._deliveries.run())
        yield
        deliveries.cancel()
        with suppress(asyncio.CancelledError):
            await deliveries


class _AfterEach:
    """Has new events sent after each answer."""

    def __init__(self, app: ASGIApp, deliveries: Deliveries) -> None:
        self._app = app
        self._deliveries = deliveries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            await send(message)
            self._deliveries.wake()

        await self._app(scope, receive, sent)


def run(listener: socket.socket, stripe: LocalStripe) -> None:
    """Serve until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        stripe.app, log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=3
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def announce(stripe: LocalStripe, directory: Path) -> None:
    """Note below the stack's directory where the stand-in is, for `find`."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(directory / "stripe.json", json.dumps({"url": stripe.url, "name": stripe.name}))


def find(directory: Path) -> str | None:
    """The address of the stand-in that was announced there last, if it still runs."""
    try:
        told = json.loads((directory / "stripe.json").read_text("utf-8"))
        answer = httpx.get(f"{told['url']}/healthz", timeout=ANSWER_SECONDS, trust_env=False).json()
    except (FileNotFoundError, httpx.HTTPError, ValueError):
        return None
    return str(told["url"]) if answer.get("name") == told["name"] else None
