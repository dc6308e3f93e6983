"""What every image engine takes and gives: the interface between the worker and the picture code.

An engine is synchronous and runs inside a child process. Pictures travel as bytes; results, errors and
provider calls are plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol, TypeAlias

from pydantic import BaseModel

from services.images.engines.settings import EngineSettings

MAX_FILE_BYTES = 50 * 1024 * 1024
"""The largest file that an operation reads and storage takes."""

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One call to a hosted provider, successful or not, as it is kept in the API usage log.

    `response_time` is in seconds, `cost` in US dollars (None: not known from the reply).
    """

    api_provider: str
    model: str | None = None
    request_data: dict[str, JSON] = field(default_factory=dict)
    response_data: dict[str, JSON] = field(default_factory=dict)
    status_code: int | None = None
    response_time: float = 0.0
    cost: Decimal | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class ExtraFile:
    """A file that comes with a result, such as the white below a print.

    `name` (small letters) is how programs find it and a part of its storage key, `title` what people read.
    """

    name: str
    title: str
    data: bytes
    media_type: str
    extension: str


@dataclass(frozen=True, slots=True)
class EngineResult:
    """A finished picture with what is to be said about it.

    `width` and `height` are in pixels (for an SVG: of its viewBox), `thumbnail` is a WebP of at most
    512 px on its longer side, `confidence` lies in 0..1, `details` is JSON kept with the operation.
    """

    data: bytes
    media_type: str
    extension: str
    width: int
    height: int
    thumbnail: bytes
    label: str | None = None
    confidence: float | None = None
    warnings: tuple[str, ...] = ()
    details: dict[str, JSON] = field(default_factory=dict)
    calls: tuple[ProviderCall, ...] = ()
    files: tuple[ExtraFile, ...] = ()


class EngineError(Exception):
    """An operation that did not succeed.

    `message` is shown to the user: the thing, the cause and the next step. `retryable` says whether the
    same request may succeed later, `retry_after` (seconds) when the provider said so, `calls` what was
    asked of providers on the way.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        calls: tuple[ProviderCall, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.retry_after = retry_after
        self.calls = calls


class ConfiguredEngine:
    """Keeps the settings that an engine is built with."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings


class Engine(Protocol):
    """One way of doing one operation; `name` is written as the operation's `api_provider`.

    Its class is called with the EngineSettings.
    """

    @property
    def name(self) -> str:
        """The name kept as `api_provider`."""

    @property
    def operation_type(self) -> str:
        """The operation this engine does."""

    @property
    def options_model(self) -> type[BaseModel]:
        """The model `run` takes its options in."""

    def run(self, source: bytes | None, options: Any) -> EngineResult:
        """Do the operation on the file `source` (None when the operation needs none).

        `options` is an instance of `options_model`. Raises EngineError when there is no result.
        """
