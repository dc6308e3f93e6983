"""What goes between the worker and its children, and what the worker does not take from one."""

import json
from dataclasses import fields
from decimal import Decimal
from itertools import accumulate
from typing import Any

import pytest

from services.images.engines import EngineError, EngineResult, ExtraFile, ProviderCall
from services.images.frames import (
    PREFIX,
    Crashed,
    FrameError,
    Ready,
    Reply,
    Request,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
    read_lengths,
)

CALL = ProviderCall(
    api_provider="openai",
    model="a model",
    request_data={"size": "1024x1024", "parts": (1, 2.5, None, True)},
    response_data={"usage": {"total": 9}},
    status_code=200,
    response_time=1.25,
    cost=Decimal("0.0400"),
    error_message="none",
)
RESULT = EngineResult(
    data=b"\x00picture\xff",
    media_type="image/svg+xml",
    extension="svg",
    width=3,
    height=2,
    thumbnail=b"thumbnail",
    label="flat art",
    confidence=0.5,
    warnings=("small ✓",),
    details={"colours": ["#ff0000"], "nested": {"deep": [1]}},
    calls=(CALL, ProviderCall("fake")),
    files=(
        ExtraFile("white", "White", b"\x00white\xff", "image/png", "png"),
        ExtraFile("nothing", "Nothing", b"", "application/pdf", "pdf"),
        ExtraFile("overlay", "Thin parts ✓", b"overlay", "image/tiff", "tif"),
    ),
)


def carry(reply: Reply) -> Reply:
    frame = b"".join(encode_reply(reply))
    lengths = read_lengths(frame[: PREFIX.size])
    rest = frame[PREFIX.size :]
    assert len(rest) == sum(lengths)
    ends = list(accumulate(lengths))
    return decode_reply(*(rest[end - length : end] for length, end in zip(lengths, ends, strict=True)))


def test_a_result_arrives_as_it_was_sent() -> None:
    arrived = carry(RESULT)
    assert isinstance(arrived, EngineResult)
    for field in fields(EngineResult):
        if field.name != "calls":
            assert getattr(arrived, field.name) == getattr(RESULT, field.name), field.name
    assert arrived.calls[1] == RESULT.calls[1]
    assert arrived.calls[0].request_data == {"size": "1024x1024", "parts": [1, 2.5, None, True]}
    for name in {field.name for field in fields(ProviderCall)} - {"request_data"}:
        assert getattr(arrived.calls[0], name) == getattr(CALL, name), name


def test_an_error_arrives_as_it_was_sent() -> None:
    arrived = carry(EngineError("busy", retryable=True, retry_after=2.5, calls=(ProviderCall("fake"),)))
    assert isinstance(arrived, EngineError)
    assert (arrived.message, arrived.retryable, arrived.retry_after) == ("busy", True, 2.5)
    assert arrived.calls == (ProviderCall("fake"),)


@pytest.mark.parametrize("reply", [Ready({"upscale": "fake"}), Crashed("Traceback …")])
def test_the_other_replies_arrive(reply: Reply) -> None:
    assert carry(reply) == reply


def test_half_a_character_does_not_cost_the_frame() -> None:
    assert carry(Crashed("file \udcff.png")) == Crashed("file ?.png")


@pytest.mark.parametrize("source", [None, b"", b"picture"])
def test_a_request_arrives_as_it_was_sent(source: bytes | None) -> None:
    request = Request("upscale", source, {"scale": 4})
    _, header, first, *_ = encode_request(request)
    assert decode_request(header, first) == request


VALID: dict[str, Any] = {
    "kind": "result",
    "media_type": "image/png",
    "extension": "png",
    "width": 1,
    "height": 1,
    "label": None,
    "confidence": None,
    "warnings": [],
    "details": {},
    "calls": [],
    "files": [],
}
WHITE: dict[str, Any] = {
    "name": "white", "title": "White", "media_type": "image/png", "extension": "png", "size": 0
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "pickle"},
        {"extension": "png/../../../somebody/else"},
        {"media_type": "text/html"},
        {"width": 0},
        {"confidence": 1.5},
        {"details": []},
        {"details": {"a": float("nan")}},
        {"details": {"a": float("inf")}},
        {"label": {"a": 1}},
        {"calls": [{"api_provider": "fake"}]},
        {"data": "more than asked for"},
        {"files": [WHITE | {"name": "../white"}]},
        {"files": [WHITE | {"extension": "html"}]},
        {"files": [WHITE | {"size": -1}]},
        {"files": [WHITE | {"size": 1}]},
        {"files": [WHITE, WHITE]},
        {"files": [WHITE | {"name": f"white{'x' * n}"} for n in range(9)]},
    ],
)
def test_a_header_with_a_wrong_value_is_refused(changes: dict[str, Any]) -> None:
    assert isinstance(decode_reply(json.dumps(VALID | {"files": [WHITE]}).encode(), b"", b""), EngineResult)
    with pytest.raises(FrameError):
        decode_reply(json.dumps(VALID | changes).encode(), b"", b"")


@pytest.mark.parametrize("header", [b"", b"\xff", b"[", b"[" * 100_000, b'{"kind": "crashed", "traceback": "\\ud800"}'])
def test_a_header_that_is_not_json_is_refused(header: bytes) -> None:
    with pytest.raises(FrameError):
        decode_reply(header, b"", b"")


@pytest.mark.parametrize("lengths", [(1 << 31, 0, 0, 0), (2, 1 << 40, 0, 0), (2, 0, 1 << 63, 0), (2, 0, 0, 1 << 40)])
def test_a_frame_that_announces_too_much_is_refused(lengths: tuple[int, int, int, int]) -> None:
    with pytest.raises(FrameError, match="announces"):
        read_lengths(PREFIX.pack(*lengths))
