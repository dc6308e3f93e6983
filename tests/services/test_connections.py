"""What strangers may hold of any service's HTTP side, on real sockets."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import IncompleteRead
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from local.state import free_port
from services import connections, process
from services.http import WrongRequestError, error_answer, http_app, read_body
from tests.services.strangers import Stranger

SECONDS = 0.6  # instead of connections.REQUEST_SECONDS
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LIMIT = 100_000


def post(length: int | str, sent: bytes = b"", path: str = "/") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode() + sent


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class Server:
    """Serves while its context lasts: `/` tells the length of a body, `/slow` thinks first, `/unread` reads none."""

    def __init__(self) -> None:
        self.port = free_port()
        self.may_answer = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    async def _serve(self) -> None:
        async def root(request: Request) -> Response:
            return PlainTextResponse(str(len(await read_body(request, LIMIT))))

        async def slow(request: Request) -> Response:
            await asyncio.to_thread(self.may_answer.wait, 20)
            return await root(request)

        async def unread(_: Request) -> Response:
            return PlainTextResponse("no")

        async def large(_: Request) -> Response:
            return PlainTextResponse("x" * 30_000_000)

        async def refused(_: Request, error: Exception) -> Response:
            assert isinstance(error, WrongRequestError)
            return error_answer(error.status, str(error), error.hint)

        routes = [
            Route(path, handler, methods=["GET", "POST"])
            for path, handler in (("/", root), ("/slow", slow), ("/unread", unread), ("/large", large))
        ]
        app = http_app(routes, {WrongRequestError: refused})
        async with process.serve(app, "127.0.0.1", self.port, "PORT"):
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> "Server":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.may_answer.set()
        if self._thread.is_alive():
            self.end()
        self._loop.close()

    def end(self) -> None:
        """Stop serving, as at SIGTERM."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Server]:
    """Nothing that a stranger does is an error."""
    monkeypatch.setattr(connections, "REQUEST_SECONDS", SECONDS)
    with Server() as server:
        yield server
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", None),
        (b"GET / HT", None),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 9000, None),
        (post(10), 408),
        (post(10, b"123456789"), 408),
    ],
    ids=["nothing", "half a line", "half a head", "no body", "half a body"],
)
def test_a_request_has_so_long_to_arrive(server: Server, sent: bytes, answer: int | None) -> None:
    started = time.monotonic()
    with Stranger(server.port, sent) as stranger:
        assert stranger.status() == answer
        assert SECONDS * 0.9 < time.monotonic() - started < 5
        assert stranger.ends()


def test_one_that_drips_has_no_longer(server: Server) -> None:
    started = time.monotonic()
    with Stranger(server.port, post(1000)) as stranger, suppress(ConnectionError):
        while stranger.is_open():
            stranger.send(b"x")
            time.sleep(0.05)
    assert SECONDS * 0.9 < time.monotonic() - started < 5


def test_what_follows_a_refusal_is_bounded_too(server: Server) -> None:
    with Stranger(server.port, post(1000, path="/unread")) as stranger:
        assert stranger.status() == 200
        assert stranger.ends()


def test_who_does_not_read_the_answer_is_let_go(server: Server) -> None:
    with Stranger(server.port) as stranger:
        stranger.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        stranger.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(3 * SECONDS)
        with pytest.raises(IncompleteRead):
            stranger.answer()


def test_a_request_that_arrived_may_take_its_time(server: Server) -> None:
    with Stranger(server.port, post(3, b"abc", "/slow")) as stranger:
        time.sleep(3 * SECONDS)
        server.may_answer.set()
        assert stranger.status() == 200


def test_a_connection_serves_one_request_after_the_other(server: Server) -> None:
    with Stranger(server.port) as stranger:
        for _ in range(6):
            stranger.send(post(3, b"abc"))
            assert stranger.answer() == (200, b"3")
            time.sleep(SECONDS / 3)


def test_a_length_that_is_too_large_is_refused_unread(server: Server) -> None:
    for length in (LIMIT + 1, 10**15):
        with Stranger(server.port, post(length)) as stranger:
            assert stranger.status() == 413
    with Stranger(server.port, post(LIMIT, bytes(LIMIT))) as stranger:
        assert stranger.answer() == (200, str(LIMIT).encode())


@pytest.mark.parametrize("lengths", ["Transfer-Encoding: chunked", "Content-Length: 4\r\nTransfer-Encoding: chunked"])
def test_a_body_without_a_length_of_its_own_is_refused_with_what_follows(server: Server, lengths: str) -> None:
    chunks = b"1\r\nx\r\n" * 50_000
    with Stranger(server.port, f"POST / HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n".encode()) as stranger:
        started = time.monotonic()
        with suppress(ConnectionError):
            stranger.send(chunks + b"0\r\n\r\n" + GET)
        with Stranger(server.port, GET) as honest:
            assert honest.status() == 200
        assert time.monotonic() - started < 1
        assert stranger.status() in {400, None}
        assert stranger.ends()


def test_what_is_refused_on_a_connection_that_served_is_answered_too(server: Server) -> None:
    with Stranger(server.port, GET) as stranger:
        assert stranger.status() == 200
        stranger.send(CHUNKED)
        assert stranger.status() == 400


def test_a_request_that_breaks_off_is_no_error(server: Server) -> None:
    for sent in (post(10, b"x"), post(10, b"x", "/slow"), CHUNKED + b"5\r\n123", b"GET / HT"):
        Stranger(server.port, sent).socket.close()
    time.sleep(0.2)


def test_what_is_no_http_is_no_error(server: Server) -> None:
    garbage = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\nHost: [::1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
        post("-1"),
        post("1" * 30),
        post("3, 4"),
        CHUNKED + b"zz\r\n",
        CHUNKED.replace(b"POST / ", b"POST /unread ") + b"zz\r\n",
        post(3, b"abc") + b"\0\0\0\0\r\n\r\n",
        post(3, b"abc", "/slow") + b"\0\0\0\0\r\n\r\n",
    ]
    server.may_answer.set()
    for sent in garbage:
        with Stranger(server.port, sent) as stranger:
            assert stranger.status() in {200, 400, 404}, sent
    time.sleep(0.2)
    with Stranger(server.port, GET) as stranger:
        assert stranger.status() == 200


def all_of(stack: ExitStack, server: Server, number: int, sent: bytes, **more: Any) -> list[Stranger]:
    found = [stack.enter_context(Stranger(server.port, sent, **more)) for _ in range(number)]
    time.sleep(0.1)
    return found


def test_where_there_are_too_many_connections_the_longest_wait_gives_way(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 60)
    monkeypatch.setattr(connections, "CONNECTIONS", 4)
    with ExitStack() as stack:
        (busy,) = all_of(stack, server, 1, post(1, b"x", "/slow"))
        (idle,) = all_of(stack, server, 1, b"")
        (begun,) = all_of(stack, server, 1, post(9))
        (later,) = all_of(stack, server, 1, b"")
        honest = all_of(stack, server, 2, GET)
        assert [one.status() for one in honest] == [200, 200]
        assert (idle.status(), begun.status(), later.is_open(), busy.is_open()) == (None, 503, True, True)
        server.may_answer.set()
        assert busy.status() == 200


def test_an_address_that_holds_more_than_half_gives_way_first(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 60)
    monkeypatch.setattr(connections, "CONNECTIONS", 6)
    with ExitStack() as stack:
        one, other = all_of(stack, server, 2, b"")
        greedy = all_of(stack, server, 12, b"", source="127.0.0.2")
        assert one.is_open()
        assert other.is_open()
        assert [stranger.is_open() for stranger in greedy] == [False] * 8 + [True] * 4


def test_where_too_many_bytes_are_held_the_longest_wait_gives_way(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 60)
    monkeypatch.setattr(connections, "HELD_BYTES", 100_000)
    with ExitStack() as stack:
        (light,) = all_of(stack, server, 1, b"")
        heavy = [
            *all_of(stack, server, 1, post(50_000, bytes(40_000))),
            *all_of(stack, server, 1, post(50_000, bytes(40_000))),
        ]
        with Stranger(server.port, post(30_000, bytes(30_000))) as honest:
            assert honest.status() == 200
        assert [one.is_open() for one in (light, heavy[1])] == [True, True]
        assert heavy[0].status() == 503
        # What was given up and what was answered is not counted any more.
        all_of(stack, server, 1, post(50_000, bytes(40_000)))
        assert heavy[1].is_open()


def test_the_end_waits_for_answers_and_not_for_strangers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 60)
    with ExitStack() as stack:
        for sent in (b"", b"GET", post(10, b"x"), post(10, b"x", "/unread")):
            all_of(stack, server, 1, sent)
        (busy,) = all_of(stack, server, 1, post(1, b"x", "/slow"))
        started = time.monotonic()
        threading.Timer(0.5, server.may_answer.set).start()
        server.end()
        assert 0.4 < time.monotonic() - started < 5
        assert busy.status() == 200
