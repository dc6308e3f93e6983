"""A SendGrid on loopback: the endpoint for sending, with the answers that its reference documents, and with faults.

It speaks HTTP on bare sockets, because what is asked of it includes answers that a web server would never give: none
at all, or half of one.
"""

import asyncio
import json
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

Body = dict[str, Any]

KEY = "SG.double"
FOREVER = 3600.0


@dataclass(frozen=True)
class Fault:
    """What goes wrong with a request. What is `accepted` is sent all the same."""

    status: int = 202
    errors: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0
    """Seconds until the answer."""
    accepted: bool = False
    about: str | None = None
    """What of the request the errors are about."""
    cut_after: int | None = None
    """Bytes of the answer after which the connection ends."""

    @property
    def body(self) -> bytes:
        """The answer of an error as SendGrid writes it."""
        if not self.errors:
            return b""
        errors = [{"message": text, "field": self.about, "help": None} for text in self.errors]
        return json.dumps({"errors": errors}).encode()


SLOW = Fault(delay=1, accepted=True)
SILENT = Fault(delay=FOREVER, accepted=True)
UNANSWERED = Fault(accepted=True, cut_after=0)
HALF_AN_ANSWER = Fault(accepted=True, cut_after=7)


class SendGridDouble:
    """The server. `fault` decides for each mail what goes wrong; by default nothing does."""

    def __init__(self) -> None:
        self.url = ""
        self.key = KEY
        self.accepted: list[Body] = []
        self.requests: list[tuple[float, str]] = []
        """When (monotonic) each mail was asked to be sent, and its id."""
        self.fault: Callable[[Body], Fault | None] = lambda _: None
        self.delay = 0.0
        self.most_at_once = 0
        self.tls: ssl.SSLContext | None = None
        self._at_once = 0
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None

    def reset(self) -> None:
        """Forget what was sent and asked for."""
        self.accepted.clear()
        self.requests.clear()
        self.fault = lambda _: None
        self.key, self.delay, self.most_at_once = KEY, 0.0, 0

    def times_sent(self) -> Counter[str]:
        """How many times each mail was accepted, by our id."""
        return Counter(body["custom_args"]["email_id"] for body in list(self.accepted))

    def sent_to(self, recipient: str) -> list[Body]:
        """The mails that were accepted for an address."""
        return [body for body in list(self.accepted) if _recipient(body) == recipient]

    def asked_for(self, email_id: object) -> list[float]:
        """When the mail was asked to be sent."""
        return [at for at, asked in list(self.requests) if asked == str(email_id)]

    def faulty(self, fault: Fault, times: int = 10**9) -> None:
        """Let so many mails meet a fault."""
        left = iter(range(times))
        self.fault = lambda _: fault if next(left, None) is not None else None

    def start(self) -> None:
        """Begin to listen, on the same port each time."""
        port = int(self.url.rpartition(":")[2] or 0) if self.url else 0
        ready = threading.Event()

        async def serve() -> None:
            self._server = await asyncio.start_server(self._connection, "127.0.0.1", port, backlog=500, ssl=self.tls)
            self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
            ready.set()

        def run() -> None:
            self._loop.run_until_complete(serve())
            self._loop.run_forever()

        if self._loop.is_running():
            asyncio.run_coroutine_threadsafe(serve(), self._loop).result(10)
            return
        threading.Thread(target=run, daemon=True).start()
        assert ready.wait(10)

    def stop(self) -> None:
        """Listen no more: connections are refused."""

        async def close() -> None:
            assert self._server is not None
            self._server.close()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            lines = head.split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            content = await reader.readexactly(int(headers.get("content-length", 0)))
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            try:
                await self._answer(lines[0], headers, content, writer)
            finally:
                self._at_once -= 1
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side went
        finally:
            writer.close()

    async def _answer(
        self, request: str, headers: Mapping[str, str], content: bytes, writer: asyncio.StreamWriter
    ) -> None:
        fault = self._judge(request, headers, content)
        message_id = uuid4().hex[:22]
        if fault.accepted:
            self.accepted.append(json.loads(content) | {"message_id": message_id})
        await asyncio.sleep(self.delay + fault.delay)
        named = {"X-Message-Id": message_id} if fault.status == 202 else {}
        fields = {"Content-Length": str(len(fault.body)), "Connection": "close", **named, **fault.headers}
        lines = [f"HTTP/1.1 {fault.status} Whatever", *(f"{name}: {value}" for name, value in fields.items())]
        answer = "\r\n".join([*lines, "", ""]).encode() + fault.body
        writer.write(answer if fault.cut_after is None else answer[: fault.cut_after])
        await writer.drain()

    def _judge(self, request: str, headers: Mapping[str, str], content: bytes) -> Fault:
        if request != "POST /v3/mail/send HTTP/1.1":
            return Fault(404, ("Not Found",))
        if headers.get("authorization") != f"Bearer {self.key}":
            return Fault(401, ("The provided authorization grant is invalid, expired, or revoked",))
        try:
            body = json.loads(content)
        except ValueError:
            return Fault(400, ("Bad Request",))
        self.requests.append((time.monotonic(), body.get("custom_args", {}).get("email_id", "")))
        if fault := self.fault(body):
            return fault
        if problem := _problem(body):
            return Fault(400, (problem,))
        return Fault(accepted=True)


@contextmanager
def serve(tls: ssl.SSLContext | None = None) -> Iterator[SendGridDouble]:
    """Run a double while the context lasts, by HTTPS where it has a context for it."""
    double = SendGridDouble()
    double.tls = tls
    double.start()
    yield double
    double.stop()


def _recipient(body: Body) -> str:
    recipient: str = body["personalizations"][0]["to"][0]["email"]
    return recipient


def _problem(body: Body) -> str | None:
    """What the API refuses a body for, in its words."""
    if "@" not in body.get("from", {}).get("email", ""):
        return "The from object must be provided for every email send."
    if not body.get("personalizations") or "@" not in _recipient(body):
        return "Does not contain a valid address."
    if "template_id" not in body:
        if not body.get("subject"):
            return "The subject is required."
        if [part["type"] for part in body.get("content", [])] not in (["text/plain", "text/html"], ["text/html"]):
            return "If present, text/plain and text/html may only be provided once, in this order."
        if not all(part["value"] for part in body["content"]):
            return "The content value must be a string at least one character in length."
    return None


def main() -> None:
    """`python -m tests.email.sendgrid_double SECONDS`: accept every mail after so many seconds, until killed."""
    double = SendGridDouble()
    double.delay = float(sys.argv[1])
    double.start()
    print(double.url, flush=True)
    while True:
        time.sleep(FOREVER)


if __name__ == "__main__":
    main()
