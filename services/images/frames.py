"""What the worker and its child processes say to each other, in frames that are read without running any code.

A frame is its four lengths (big-endian: 4 bytes for the header, 8 for each part), a JSON header and three parts
of raw bytes: of a request the source, of a result the picture, its thumbnail and its further files. A child works on
hostile files and the worker holds the service key, so every frame of a child is checked against the models below.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from services.images.engines import EngineError, EngineResult, ExtraFile, ProviderCall

PREFIX = struct.Struct(">IQQQ")
MAX_HEADER_BYTES = 16 << 20
MAX_PART_BYTES = 512 << 20  # a multiple of the largest file
MAX_FILES = 8


class FrameError(ValueError):
    """A frame is not what the other side should send."""


@dataclass(frozen=True, slots=True)
class Request:
    """One operation to run."""

    operation_type: str
    source: bytes | None
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """The first frame of a child: it is warm; `providers` maps what it can do to the provider's name."""

    providers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Crashed:
    """The runner raised something else than EngineError."""

    traceback: str


Reply: TypeAlias = Ready | EngineResult | EngineError | Crashed


def read_lengths(prefix: bytes) -> tuple[int, int, int, int]:
    """Lengths of header and parts in bytes. Raises FrameError when they are more than is sensible."""
    header, *parts = PREFIX.unpack(prefix)
    if header > MAX_HEADER_BYTES or max(parts) > MAX_PART_BYTES:
        raise FrameError(f"a frame announces {' + '.join(map(str, (header, *parts)))} bytes")
    first, second, third = parts
    return header, first, second, third


def encode_request(request: Request) -> list[bytes]:
    """Make the frame, as pieces to be written one after the other."""
    header = {
        "operation_type": request.operation_type,
        "options": request.options,
        "has_source": request.source is not None,
    }
    return _frame(header, request.source or b"")


def decode_request(header: bytes, source: bytes) -> Request:
    """Read a frame of the worker, which is trusted."""
    values = json.loads(header)
    return Request(values["operation_type"], source if values["has_source"] else None, values["options"])


def encode_reply(reply: Reply) -> list[bytes]:
    """Make the frame, as pieces. Raises TypeError or ValueError for details that are not JSON."""
    match reply:
        case Ready():
            return _frame({"kind": "ready", "providers": reply.providers})
        case EngineResult():
            header = {"kind": "result"} | _attributes(reply, _Result)
            header["files"] = [_attributes(file, _File) | {"size": len(file.data)} for file in reply.files]
            return _frame(header, reply.data, reply.thumbnail, *(file.data for file in reply.files))
        case EngineError():
            return _frame({"kind": "error"} | _attributes(reply, _Error))
        case Crashed():
            return _frame({"kind": "crashed", "traceback": reply.traceback})


def decode_reply(header: bytes, data: bytes, thumbnail: bytes, files: bytes = b"") -> Reply:
    """Read a frame of a child, which is not trusted. Raises FrameError."""
    try:
        reply = _REPLIES.validate_json(header)
    except ValidationError as error:
        raise FrameError(f"a frame is not valid: {error}") from error
    match reply:
        case _Ready():
            return Ready(reply.providers)
        case _Result():
            calls = tuple(ProviderCall(**call.model_dump()) for call in reply.calls)
            values = reply.model_dump(exclude={"kind", "calls", "files"})
            parts = tuple(_split_files(reply.files, files))
            return EngineResult(data=data, thumbnail=thumbnail, calls=calls, files=parts, **values)
        case _Error():
            calls = tuple(ProviderCall(**call.model_dump()) for call in reply.calls)
            return EngineError(reply.message, retryable=reply.retryable, retry_after=reply.retry_after, calls=calls)
        case _Crashed():
            return Crashed(reply.traceback)


def _check_finite(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    json.dumps(value, allow_nan=False)  # the database could not take it either
    return value


_JsonObject: TypeAlias = Annotated[dict[str, JsonValue], AfterValidator(_check_finite)]


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Call(_Header):
    api_provider: str
    model: str | None
    request_data: _JsonObject
    response_data: _JsonObject
    status_code: int | None
    response_time: float = Field(ge=0)
    cost: Decimal | None = Field(ge=0)
    error_message: str | None


class _Ready(_Header):
    kind: Literal["ready"]
    providers: dict[str, str]


_MediaType: TypeAlias = Literal["image/png", "image/svg+xml", "image/tiff", "application/pdf"]
_Extension: TypeAlias = Literal["png", "svg", "tif", "pdf"]  # it becomes part of the object's name


class _File(_Header):
    name: str = Field(pattern=r"^[a-z]{1,20}$")  # likewise
    title: str = Field(min_length=1, max_length=100)
    media_type: _MediaType
    extension: _Extension
    size: int = Field(ge=0)


class _Result(_Header):
    kind: Literal["result"]
    media_type: _MediaType
    extension: _Extension
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    label: str | None
    confidence: float | None = Field(ge=0, le=1)
    warnings: tuple[str, ...]
    details: _JsonObject
    calls: tuple[_Call, ...]
    files: tuple[_File, ...] = Field(max_length=MAX_FILES)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        if len({file.name for file in self.files}) < len(self.files):
            raise ValueError("two files have the same name")
        return self


class _Error(_Header):
    kind: Literal["error"]
    message: str
    retryable: bool
    retry_after: float | None = Field(ge=0, le=1e9)
    calls: tuple[_Call, ...]


class _Crashed(_Header):
    kind: Literal["crashed"]
    traceback: str


_REPLIES: TypeAdapter[_Ready | _Result | _Error | _Crashed] = TypeAdapter(
    Annotated[_Ready | _Result | _Error | _Crashed, Field(discriminator="kind")]
)


def _split_files(announced: tuple[_File, ...], data: bytes) -> Iterator[ExtraFile]:
    if sum(file.size for file in announced) != len(data):
        raise FrameError("the files of a frame are not as long as it announces")
    start = 0
    for file in announced:
        yield ExtraFile(data=data[start : start + file.size], **file.model_dump(exclude={"size"}))
        start += file.size


def _attributes(reply: object, model: type[_Header]) -> dict[str, Any]:
    return {name: getattr(reply, name) for name in model.model_fields if name not in ("kind", "size")}


def _frame(header: Mapping[str, Any], first: bytes = b"", second: bytes = b"", *files: bytes) -> list[bytes]:
    # Tracebacks may hold half characters, from file names; they are not worth losing the frame.
    text = json.dumps(header, default=_to_json, allow_nan=False, ensure_ascii=False).encode("utf-8", "replace")
    prefix = PREFIX.pack(len(text), len(first), len(second), sum(map(len, files)))
    return [prefix, text, first, second, *files]


def _to_json(value: object) -> Any:
    if isinstance(value, ProviderCall):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
