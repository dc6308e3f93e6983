"""People who only want to hold what a service has: raw sockets, and hundreds of bodies that never end."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path

import psutil

PIECE = 256 * 1024  # bytes
ROUND_SECONDS = 0.05


class Stranger:
    """One connection. `source` is the address on loopback that it comes from."""

    def __init__(self, port: int, sent: bytes = b"", source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))
        self.socket.sendall(sent)

    def __enter__(self) -> "Stranger":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, sent: bytes) -> None:
        """Send more."""
        self.socket.sendall(sent)

    def answer(self) -> tuple[int | None, bytes]:
        """The status and the body of the next answer; no status where the connection ends without one."""
        answer = HTTPResponse(self.socket)
        try:
            answer.begin()
            return answer.status, answer.read()
        except ConnectionError:
            return None, b""

    def status(self) -> int | None:
        """The status of the next answer."""
        return self.answer()[0]

    def ends(self) -> bool:
        """Whether the connection ends, and nothing more is heard before."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def is_open(self) -> bool:
        """Whether nothing was heard and the connection stands."""
        self.socket.setblocking(False)
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        finally:
            self.socket.settimeout(10)


@dataclass
class Flood:
    """What a flood did to a process. Sizes in bytes."""

    before: int
    most: int = 0
    sent: int = 0
    refusals: set[int | None] = field(default_factory=set)

    @property
    def growth(self) -> int:
        """How much more memory the process took than before."""
        return self.most - self.before


@contextmanager
def flood(port: int, process: int, path: str, length: int, headers: dict[str, str], number: int) -> Iterator[Flood]:
    """While the context lasts, so many strangers post bodies of `length` bytes and keep the last one to themselves."""
    watched = psutil.Process(process)
    told = Flood(before=watched.memory_info().rss)
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: x",
        f"Content-Length: {length}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    head = "\r\n".join([*lines, "", ""]).encode()
    body, stop, first_round = bytes(length - 1), threading.Event(), threading.Event()
    with ExitStack() as closed:
        left = {closed.enter_context(Stranger(port)): memoryview(head + body) for _ in range(number)}
        for stranger in left:
            stranger.socket.setblocking(False)

        def push() -> None:
            while not stop.is_set():
                for stranger, rest in left.items():
                    try:
                        sent = stranger.socket.send(rest[:PIECE]) if rest else 0
                    except BlockingIOError:
                        continue
                    except OSError:  # it was shown the door
                        sent = len(rest)
                    left[stranger] = rest[sent:]
                    told.sent += sent
                    told.most = max(told.most, watched.memory_info().rss)
                first_round.set()
                time.sleep(ROUND_SECONDS)

        pushing = threading.Thread(target=push)
        pushing.start()
        first_round.wait()
        try:
            yield told
        finally:
            deadline = time.monotonic() + 20
            while any(left.values()) and time.monotonic() < deadline:
                time.sleep(ROUND_SECONDS)
            stop.set()
            pushing.join()
            answered, _, _ = select.select([stranger.socket for stranger in left], [], [], 0)
            for stranger in left:
                if stranger.socket in answered:
                    stranger.socket.settimeout(1)
                    told.refusals.add(stranger.status())


def tracebacks(log: Path) -> int:
    """How many a log holds."""
    return log.read_text().count("Traceback")
