"""What strangers may hold of a service: connections, bytes and time.

A request counts once it has arrived whole. Until then it has REQUEST_SECONDS, and it gives way where there are too many
connections or too many bytes: the one that has kept us waiting the longest, and where one address holds more than half,
one of that address. So whoever sends a request at once is served, however many only hold what they have.

A body has to say how long it is. In chunks of one byte each, a quarter of a megabyte keeps the parser busy for seconds,
and with two lengths a proxy may believe the other one (request smuggling).
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from services.http import error_answer

CONNECTIONS = 128
HELD_BYTES = 32 * 1024 * 1024  # of requests that are not answered, of all connections
REQUEST_SECONDS = 20.0  # from the connection, or the answer before, to the end of a request
LOG_SECONDS = 60.0

log = structlog.get_logger(__name__)


class Crowd(ServerState):
    """The connections of one server, and the bytes of their unanswered requests."""

    def __init__(self) -> None:
        super().__init__()
        self.held_bytes = 0
        self._logged_at = -math.inf

    def make_room(self) -> None:
        """Let connections go, as far as their peers keep us waiting, until no more is held than may be."""
        if len(self.connections) > CONNECTIONS:
            while len(self._open()) > CONNECTIONS and self._give_up(lambda connection: 1):
                pass
        while self.held_bytes > HELD_BYTES and self._give_up(lambda connection: connection.held_bytes):
            pass

    def _open(self) -> "list[Connection]":
        return [one for one in self.connections if isinstance(one, Connection) and not one.transport.is_closing()]

    def _give_up(self, weight: "Callable[[Connection], int]") -> bool:
        """Let one go; false where none weighs anything that can go."""
        waiting = [connection for connection in self._open() if connection.waits and weight(connection)]
        if not waiting:
            return False
        held: Counter[str] = Counter()
        for connection in waiting:
            held[connection.peer] += weight(connection)
        ((peer, most),) = held.most_common(1)
        if 2 * most > held.total():
            waiting = [connection for connection in waiting if connection.peer == peer]
        min(waiting, key=lambda connection: connection.since).give_up(503)
        self._log()
        return True

    def _log(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._logged_at > LOG_SECONDS:
            self._logged_at = now
            log.warning(
                "connections_given_up",
                connections=len(self._open()),
                held_bytes=self.held_bytes,
                next_step="see who holds so many; a proxy in front that buffers requests keeps them away",
            )


class _Parser(h11.Connection):
    """Refuses bodies in chunks before it reads any."""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Request) and any(name == b"transfer-encoding" for name, _ in event.headers):
            raise h11.RemoteProtocolError("transfer encodings are not taken", 411)
        return event


class Connection(H11Protocol):
    """uvicorn's connection, with bounds."""

    server_state: Crowd

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.conn = _Parser(h11.SERVER)
        self.held_bytes = 0
        self.since = self.loop.time()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def peer(self) -> str:
        """The other side's address."""
        return self.client[0] if self.client else ""

    @property
    def waits(self) -> bool:
        """Whether it is the peer's turn: to send a request, to send the rest of one, or to read an answer."""
        cycle = self.cycle
        return cycle is None or cycle.response_complete or cycle.more_body or self.flow.write_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """It is there."""
        super().connection_made(transport)
        self._look()
        self.server_state.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._hold(0)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some of a request came."""
        self._hold(self.held_bytes + len(data))
        self.server_state.make_room()
        if not self.transport.is_closing():
            super().data_received(data)
            if self.cycle is not None and self.cycle.response_complete:  # what follows a refusal is not kept
                self._hold(0)

    def on_response_complete(self) -> None:
        """A request is answered; nothing of it is kept."""
        self._hold(0)
        self.since = self.loop.time()
        super().on_response_complete()

    def shutdown(self) -> None:
        """End it once it is answered; at once where there is nothing to answer yet."""
        if self.waits:
            self.give_up(503)
        else:
            super().shutdown()

    def give_up(self, status: int) -> None:
        """End it, with this answer where a request has begun and none was given."""
        is_stuck = self.transport.is_closing() or self.transport.get_write_buffer_size() > 0
        if self.conn.our_state is h11.SEND_RESPONSE and not is_stuck:
            self._answer(status, "The request did not arrive in time", "Send it again.")
        self._end()
        if is_stuck:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else an answer was begun
            self._answer(400, "This is no request that is taken here", "Send HTTP/1.1, and a body with Content-Length.")
        self._end()

    def _answer(self, status: int, message: str, hint: str) -> None:
        """Answer in place of the app."""
        answer = error_answer(status, message, hint)
        answer.headers["connection"] = "close"
        head = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
        first = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
        self.transport.write(first + head + b"\r\n" + bytes(answer.body))

    def _end(self) -> None:
        """Close it, and keep the app from answering."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._hold(0)
        self.transport.close()

    def _hold(self, count: int) -> None:
        self.server_state.held_bytes += count - self.held_bytes
        self.held_bytes = count

    def _look(self) -> None:
        """End it where the peer has had its time; else look again when it will have had it."""
        left = REQUEST_SECONDS - (self.loop.time() - self.since) if self.waits else REQUEST_SECONDS
        if left <= 0:
            self.give_up(408)
        else:
            self._timer = self.loop.call_later(left, self._look)
