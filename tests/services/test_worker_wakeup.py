"""Realtime comes late, drops the connection, refuses the subscription: the worker is woken whenever it can be."""

import asyncio
import http
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from services.images import wakeup

LogEvents = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wakeup, "RETRY_WAIT", (0.05, 0.2))


@pytest.fixture
def events() -> Iterator[LogEvents]:
    with structlog.testing.capture_logs() as captured:
        yield captured  # type: ignore[misc]


class Realtime:
    """The part of the protocol that one subscription to Postgres changes needs."""

    def __init__(self) -> None:
        self.missing = False
        self.refusing = False
        self.unpublished = False
        self.paths: list[str] = []
        self.joined: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self._topic = ""

    async def insert(self, connection: ServerConnection) -> None:
        """Tell of one new operation."""
        data = {
            "schema": "public",
            "table": "image_operations",
            "type": "INSERT",
            "commit_timestamp": "2026-01-01T00:00:00.000Z",
            "columns": [{"name": "id", "type": "int4"}],
            "record": {"id": 1},
            "errors": None,
        }
        await self._send(connection, "postgres_changes", {"ids": [1], "data": data})

    async def system(self, connection: ServerConnection, status: str, message: str) -> None:
        """Tell how the subscription to changes stands."""
        payload = {"channel": "images-worker", "extension": "postgres_changes", "status": status, "message": message}
        await self._send(connection, "system", payload)

    def answer_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        return connection.respond(http.HTTPStatus.NOT_FOUND, "no Realtime here") if self.missing else None

    async def handle(self, connection: ServerConnection) -> None:
        async for frame in connection:
            message = json.loads(frame)
            if message["event"] != "phx_join":
                continue
            self._topic = message["topic"]
            if self.refusing:
                reply = {"status": "error", "response": {"reason": "not allowed"}}
                await self._send(connection, "phx_reply", reply, message["ref"])
                continue
            (change,) = message["payload"]["config"]["postgres_changes"]
            response = {"postgres_changes": [change | {"id": 1}]}
            await self._send(connection, "phx_reply", {"status": "ok", "response": response}, message["ref"])
            if self.unpublished:
                await self.system(connection, "error", "Unable to subscribe to changes with given parameters.")
            else:
                self.joined.put_nowait(connection)

    async def _send(self, connection: ServerConnection, event: str, payload: Any, ref: str | None = None) -> None:
        frame = {"topic": self._topic, "event": event, "payload": payload, "ref": ref}
        await connection.send(json.dumps(frame))


def listening(test: Callable[[Realtime, asyncio.Event], Coroutine[Any, Any, None]], **attributes: Any) -> None:
    async def run() -> None:
        realtime = Realtime()
        for name, value in attributes.items():
            setattr(realtime, name, value)
        server: Server
        async with serve(realtime.handle, "127.0.0.1", 0, process_request=realtime.answer_request) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            wake = asyncio.Event()
            listener = asyncio.create_task(wakeup.listen(f"http://127.0.0.1:{port}", "sb_secret_x", wake))
            async with asyncio.timeout(10):
                await test(realtime, wake)
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    asyncio.run(run())


async def woken(wake: asyncio.Event) -> None:
    await wake.wait()
    wake.clear()


def test_a_subscription_and_every_insert_wake_the_worker() -> None:
    async def test(realtime: Realtime, wake: asyncio.Event) -> None:
        connection = await realtime.joined.get()
        await woken(wake)
        for _ in range(2):
            await realtime.insert(connection)
            await woken(wake)
        assert realtime.paths[0].startswith("/realtime/v1/websocket?apikey=sb_secret_x")

    listening(test)


def test_the_server_saying_that_events_may_have_been_missed_wakes_the_worker() -> None:
    async def test(realtime: Realtime, wake: asyncio.Event) -> None:
        connection = await realtime.joined.get()
        await woken(wake)
        await realtime.system(connection, "ok", "Subscribed to PostgreSQL")
        await woken(wake)

    listening(test)


def test_a_lost_connection_is_made_again_and_wakes_the_worker(events: LogEvents) -> None:
    async def test(realtime: Realtime, wake: asyncio.Event) -> None:
        for code in (1000, 1011, 1012):
            connection = await realtime.joined.get()
            await woken(wake)
            await connection.close(code)
        connection = await realtime.joined.get()
        await woken(wake)
        await realtime.insert(connection)
        await woken(wake)

    listening(test)
    assert [event["event"] for event in events][:3] == ["realtime_subscribed", "realtime_away", "realtime_subscribed"]


@pytest.mark.parametrize("trouble", ["missing", "refusing", "unpublished"])
def test_it_is_found_when_it_comes_late_and_its_absence_is_logged_once(events: LogEvents, trouble: str) -> None:
    async def test(realtime: Realtime, wake: asyncio.Event) -> None:
        while len(realtime.paths) < 7:  # noqa: ASYNC110 - the client alone would have given up after five
            await asyncio.sleep(0.01)
        setattr(realtime, trouble, False)
        await realtime.joined.get()
        await woken(wake)
        while len(events) < 2:  # noqa: ASYNC110 - the reply is out, the client has yet to read it
            await asyncio.sleep(0.01)

    listening(test, **{trouble: True})
    assert [event["event"] for event in events] == ["realtime_away", "realtime_subscribed"]
