"""A TCP proxy between a worker and its project that goes silent, or loses answers, on command."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Passes connections on to `upstream`, an http:// address, until told otherwise. Use as a context manager."""

    def __init__(self, upstream: str) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname or "", address.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.silent = False
        """While it is set nothing passes; connections that saw it stay open and dead, as after a pulled cable."""
        self.loses: bytes | None = None
        """Requests whose head contains this are passed on; instead of their answer the connection ends."""
        self.swallows: bytes | None = None
        """Requests whose head contains this are never passed on, nor answered."""
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for open_socket in [self._listener, *self._sockets]:
            _close(open_socket)

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed at the end
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                try:
                    server = socket.create_connection(self._upstream)
                except OSError:
                    _close(client)
                    continue
                self._sockets.append(server)
                Connection(self, client, server).start()


class Connection:
    """One connection of a client and the one made for it; its requests follow one another."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._dead = False
        self._request = b""

    def start(self) -> None:
        threading.Thread(target=self._pass_requests, daemon=True).start()
        threading.Thread(target=self._pass_answers, daemon=True).start()

    def _pass_requests(self) -> None:
        with suppress(OSError):
            while data := self._client.recv(65536):
                if b" HTTP/1.1\r\n" in data:  # the head of a request; its body may come in another piece
                    self._request = data
                    self._dead |= self._proxy.swallows is not None and self._proxy.swallows in data
                self._dead |= self._proxy.silent
                if not self._dead:
                    self._server.sendall(data)
        if not self._dead:
            _close(self._server)

    def _pass_answers(self) -> None:
        with suppress(OSError):
            while data := self._server.recv(65536):
                self._dead |= self._proxy.silent
                if self._proxy.loses and self._proxy.loses in self._request:
                    break
                if not self._dead:
                    self._client.sendall(data)
        if not self._dead:
            _close(self._client)


def _close(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
    connected.close()
