"""A client of Realtime that shows every frame: what the official clients hide is what these tests are about."""

import json
import time
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

import jwt
from websockets.sync.client import ClientConnection, connect

from local.stack import Stack

SECONDS = 20.0  # for what must come, on a busy machine too
QUIET_SECONDS = 0.3  # several times what the server needs to find a change
FOREVER = 4_000_000_000


@dataclass(frozen=True)
class Received:
    """A text frame, whatever its version."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: Any


class Socket:
    """A connection; frames that nobody has asked for yet wait in `seen`."""

    def __init__(self, connection: ClientConnection, vsn: str) -> None:
        self.connection = connection
        self.seen: list[Received | bytes] = []
        self._vsn = vsn
        self._ref = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def push(self, topic: str, event: str, payload: Any, join_ref: str | None = None) -> str:
        """Send a message and return its ref."""
        self._ref += 1
        ref = str(self._ref)
        if self._vsn == "1.0.0":
            frame: Any = {"topic": topic, "event": event, "payload": payload, "ref": ref, "join_ref": join_ref}
        else:
            frame = [join_ref, ref, topic, event, payload]
        self.connection.send(json.dumps(frame))
        return ref

    def join(self, topic: str, token: str | None = None, **config: Any) -> dict[str, Any]:
        """Join `realtime:<topic>` and return the reply's payload."""
        payload = {"config": config} | ({"access_token": token} if token else {})
        ref = self.push(f"realtime:{topic}", "phx_join", payload, join_ref="j")
        return self.reply(ref)

    def reply(self, ref: str) -> dict[str, Any]:
        """The payload of the reply to a message."""
        return dict(self.next("phx_reply", ref=ref).payload)

    def next(self, event: str, seconds: float = SECONDS, **fields: Any) -> Received:
        """The next frame of this kind, now or soon."""
        deadline = time.monotonic() + seconds
        while True:
            for frame in self.seen:
                if not isinstance(frame, Received) or frame.event != event:
                    continue
                if all(getattr(frame, name) == value for name, value in fields.items()):
                    self.seen.remove(frame)
                    return frame
            self._receive(deadline - time.monotonic(), f"no {event} {fields}, but {self.seen}")

    def next_binary(self, seconds: float = SECONDS) -> bytes:
        deadline = time.monotonic() + seconds
        while True:
            for frame in self.seen:
                if isinstance(frame, bytes):
                    self.seen.remove(frame)
                    return frame
            self._receive(deadline - time.monotonic(), f"no binary frame, but {self.seen}")

    def quiet(self, *events: str, seconds: float = QUIET_SECONDS) -> None:
        """Nothing of this kind comes."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._receive(left, "")
            except AssertionError:
                break
        unwanted = [frame for frame in self.seen if isinstance(frame, bytes) or frame.event in events]
        assert not unwanted

    def subscribe(self, *entries: dict[str, Any], topic: str = "changes", token: str | None = None) -> list[int]:
        """Join with subscriptions to changes and wait until they are there; returns their ids."""
        reply = self.join(topic, token, postgres_changes=list(entries))
        assert reply["status"] == "ok"
        assert self.next("system").payload == {
            "extension": "postgres_changes",
            "status": "ok",
            "message": "Subscribed to PostgreSQL",
            "channel": topic,
        }
        return [entry["id"] for entry in reply["response"]["postgres_changes"]]

    def change(self) -> dict[str, Any]:
        """The data of the next change."""
        return dict(self.next("postgres_changes").payload["data"])

    def _receive(self, seconds: float, complaint: str) -> None:
        try:
            frame = self.connection.recv(timeout=max(seconds, 0))
        except TimeoutError:
            raise AssertionError(complaint) from None
        if isinstance(frame, bytes):
            self.seen.append(frame)
        elif self._vsn == "1.0.0":
            fields = json.loads(frame)
            assert set(fields) == {"topic", "event", "payload", "ref"}
            self.seen.append(Received(None, fields["ref"], fields["topic"], fields["event"], fields["payload"]))
        else:
            self.seen.append(Received(*json.loads(frame)))


class Realtime:
    """The server of a stack, and tokens for it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def socket(self, key: str | None = None, vsn: str = "2.0.0") -> Socket:
        return Socket(connect(self.url(key or self.stack.state.publishable_key, vsn), max_size=None), vsn)

    def url(self, key: str | None, vsn: str | None = "2.0.0") -> str:
        query = {name: value for name, value in (("apikey", key), ("vsn", vsn)) if value is not None}
        return f"{self.stack.state.api_url.replace('http', 'ws')}/realtime/v1/websocket?{urlencode(query)}"

    def token(self, **claims: Any) -> str:
        """A signed token, of an authenticated user for ever unless told otherwise; a claim that is None is left out."""
        everything = {"role": "authenticated", "exp": FOREVER} | claims
        told = {name: value for name, value in everything.items() if value is not None}
        return jwt.encode(told, self.stack.state.jwt_secret, algorithm="HS256")
