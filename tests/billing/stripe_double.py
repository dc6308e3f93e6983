"""The stand-in for Stripe in this process, with faults on purpose. It delivers nothing by itself."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from local.state import free_port
from local.stripe import LocalStripe
from local.stripe.api import ApiError


class StripeDouble(LocalStripe):
    """`faults` maps part of a path to the status that requests to it get, `delays` to seconds."""

    def __init__(self) -> None:
        port = free_port()
        super().__init__(f"http://127.0.0.1:{port}")
        self.faults: dict[str, int] = {}
        self.delays: dict[str, float] = {}
        self._server = uvicorn.Server(
            uvicorn.Config(self._with_faults, interface="asgi3", port=port, log_level="critical", lifespan="off")
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.005)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    async def _with_faults(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = Request(scope).url.path
        for part, seconds in self.delays.items():
            if part in path:
                await asyncio.sleep(seconds)
        for part, status in self.faults.items():
            if part in path:
                answer = ApiError("broken on purpose", kind="api_error", status=status).answer()
                return await answer(scope, receive, send)
        return await self.app(scope, receive, send)


@contextmanager
def serve() -> Iterator[StripeDouble]:
    """Run a double while the context lasts."""
    double = StripeDouble()
    double.start()
    try:
        yield double
    finally:
        double.stop()
