"""The wire format: JSON objects (protocol 1.0.0), JSON arrays and binary broadcasts (protocol 2.0.0)."""

import json
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

Frame = str | bytes

MAX_PAYLOAD_BYTES = 3_000_000  # of a broadcast
PUSH_KIND, BROADCAST_KIND = 3, 4  # first byte of a binary frame, from and to the client
BINARY_ENCODING, JSON_ENCODING = 0, 1


class FrameError(ValueError):
    """What arrived is not a frame of the protocol."""


@dataclass(frozen=True, slots=True)
class UserBroadcast:
    """A broadcast whose payload is passed on as it came: `json` text or `binary`."""

    event: str
    encoding: Literal["json", "binary"]
    payload: bytes
    meta: dict[str, Any] | None = None

    def as_json(self) -> str | None:
        """The payload of the `broadcast` event in text frames; None where it is binary."""
        if self.encoding == "binary":
            return None
        meta = "" if self.meta is None else f',"meta":{dumps(self.meta)}'
        return f'{{"event":{dumps(self.event)},"payload":{self.payload.decode()},"type":"broadcast"{meta}}}'


@dataclass(frozen=True, slots=True)
class Message:
    """What a client sent."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: Any


def dumps(value: object) -> str:
    """Compact JSON in ASCII: half a surrogate pair, which is JSON but no text, must not break a frame."""
    return json.dumps(value, separators=(",", ":"))


class Protocol:
    """Version 1.0.0: `{topic, event, payload, ref}`."""

    def decode(self, frame: Frame) -> Message:
        """Raises FrameError."""
        match _parsed(frame):
            case {"topic": str(topic), "event": str(event), "payload": payload, "ref": ref, **rest}:
                return Message(_ref(rest.get("join_ref")), _ref(ref), topic, event, payload)
            case other:
                raise FrameError(f"expected an object with topic, event, payload and ref, got {type(other).__name__}")

    def encode(self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: str) -> Frame:
        """A text frame; `payload` is JSON."""
        return f'{{"topic":{dumps(topic)},"event":{dumps(event)},"payload":{payload},"ref":{dumps(ref)}}}'

    def encode_broadcast(self, topic: str, broadcast: UserBroadcast) -> Frame | None:
        """The frame of a broadcast; None where this version cannot express it."""
        payload = broadcast.as_json()
        return None if payload is None else self.encode(None, None, topic, "broadcast", payload)


class ProtocolV2(Protocol):
    """Version 2.0.0: `[join_ref, ref, topic, event, payload]`, and broadcasts in binary frames."""

    def decode(self, frame: Frame) -> Message:
        """Raises FrameError."""
        if isinstance(frame, bytes):
            return _decode_push(frame)
        match _parsed(frame):
            case [join_ref, ref, str(topic), str(event), payload, *_]:
                return Message(_ref(join_ref), _ref(ref), topic, event, payload)
            case other:
                raise FrameError(f"expected an array of five, got {type(other).__name__}")

    def encode(self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: str) -> Frame:
        """A text frame; `payload` is JSON."""
        return f"[{dumps(join_ref)},{dumps(ref)},{dumps(topic)},{dumps(event)},{payload}]"

    def encode_broadcast(self, topic: str, broadcast: UserBroadcast) -> Frame | None:
        """A binary frame; None where a part is longer than its length byte can say."""
        meta = b"" if broadcast.meta is None else dumps(broadcast.meta).encode()
        parts = [topic.encode(), broadcast.event.encode(), meta]
        if any(len(part) > 255 for part in parts):
            return None
        encoding = JSON_ENCODING if broadcast.encoding == "json" else BINARY_ENCODING
        return bytes([BROADCAST_KIND, *map(len, parts), encoding]) + b"".join(parts) + broadcast.payload


PROTOCOLS = {"1.0.0": Protocol(), "2.0.0": ProtocolV2()}


def _parsed(frame: Frame) -> Any:
    try:
        return json.loads(frame, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FrameError(str(error)) from None


def _refuse_constant(name: str) -> NoReturn:
    """Python would read NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{name} is not JSON")


def _ref(value: object) -> str | None:
    return None if value is None else str(value)


def _decode_push(frame: bytes) -> Message:
    """Kind 3: kind, five lengths, encoding, then join_ref, ref, topic, event, metadata and the payload."""
    if len(frame) < 7 or frame[0] != PUSH_KIND:
        raise FrameError("not a binary broadcast")
    lengths, encoding, position = frame[1:6], frame[6], 7
    parts: list[str] = []
    try:
        for length in lengths:
            parts.append(frame[position : position + length].decode())
            position += length
    except UnicodeDecodeError as error:
        raise FrameError(str(error)) from None
    if position > len(frame):
        raise FrameError("a binary broadcast that ends too early")
    join_ref, ref, topic, event, _metadata = parts
    payload = frame[position:]
    if encoding != JSON_ENCODING:
        return Message(join_ref, ref, topic, "broadcast", UserBroadcast(event, "binary", payload))
    try:
        _parsed(payload.decode())  # it goes into text frames as it is, so it has to be JSON, and in UTF-8
    except UnicodeDecodeError as error:
        raise FrameError(str(error)) from None
    return Message(join_ref, ref, topic, "broadcast", UserBroadcast(event, "json", payload))
