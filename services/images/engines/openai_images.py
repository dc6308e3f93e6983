"""Generation by OpenAI's image models.

One attempt is one HTTP request: the SDK's own retries are off, because the queue retries, and every request
that was made is reported as a ProviderCall, so that its cost is booked whatever came of it.
https://developers.openai.com/api/docs/api-reference/images/create
"""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import openai
from PIL import Image
from pydantic import BaseModel, Field, ValidationError

from services.images.engines.base import JSON, ConfiguredEngine, EngineError, EngineResult, ProviderCall
from services.images.engines.decode import Pixels, decode
from services.images.engines.encode import png_result
from services.images.engines.options import GenerateOptions
from services.images.engines.settings import EngineSettings
from services.waiting import retry_after

# The models take any square whose side is a multiple of 16; above 2560 x 1440 px it is experimental.
_MIN_SIDE = 1024
_MAX_SIDE = 1920
_SIDE_STEP = 16

_CONNECT_TIMEOUT_SECONDS = 10.0
_MAX_RETRY_AFTER_SECONDS = 3600.0

# Codes of prompts that were refused, rather than requests that were wrong.
_REFUSAL_CODES = frozenset({"moderation_blocked", "content_policy_violation"})
_REFUSAL_PHRASE = "safety system"
_REFUSED = (
    "OpenAI refused this prompt under its content rules. Describe the picture differently, without real "
    "people, brands or violence."
)
_RETRYABLE_STATUSES = frozenset({408, 409, 429})
# Replies that waiting does not mend.
_NO_BUDGET_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})

# What the user reads while only the operator can mend it; what to mend is in the call's error message.
_NOT_AVAILABLE = "This operation is not available at the moment; your credits are back. Try again later."

_PRICE_UNIT = Decimal(1_000_000)
_MAX_LOGGED_ERROR = 300


class _InputDetails(BaseModel):
    text_tokens: int = 0
    image_tokens: int = 0


class _Usage(BaseModel):
    input_tokens: int
    output_tokens: int
    input_tokens_details: _InputDetails | None = None


class _Image(BaseModel):
    b64_json: str


class _Reply(BaseModel):
    # The SDK's own model takes any JSON without complaint; this one does not.
    data: list[_Image] = Field(min_length=1)
    usage: _Usage | None = None


class OpenAIImagesEngine(ConfiguredEngine):
    """Makes artwork from a prompt with an OpenAI image model."""

    name = "openai"
    operation_type = "generate"
    options_model = GenerateOptions

    def __init__(self, settings: EngineSettings) -> None:
        if settings.openai_api_key is None:
            raise ValueError("OPENAI_API_KEY is not set")
        super().__init__(settings)
        self._key = settings.openai_api_key.get_secret_value()
        self._client = openai.OpenAI(
            api_key=self._key,
            base_url=settings.openai_base_url,
            timeout=openai.Timeout(settings.openai_timeout_seconds, connect=_CONNECT_TIMEOUT_SECONDS),
            max_retries=0,
        )

    def run(self, source: bytes | None, options: GenerateOptions) -> EngineResult:
        """Ask for one picture on a transparent background; `source` and `font` are not used.

        The result is brought to `options.size`. Raises EngineError: retryable for rate limits, server
        faults and lost connections, permanent for refusals and faults of the configuration.
        """
        request = self._request(options)
        started = time.monotonic()
        try:
            reply = self._client.images.with_raw_response.generate(**request)
        except openai.APIError as error:
            raise self._explain(error, self._failed_call(request, started, error)) from error
        call = ProviderCall(
            api_provider=self.name,
            model=self._settings.openai_image_model,
            request_data=request,
            response_data={"request_id": reply.headers.get("x-request-id")},
            status_code=reply.status_code,
            response_time=time.monotonic() - started,
        )
        return self._read_reply(reply.text, call, options.size)

    def _request(self, options: GenerateOptions) -> dict[str, Any]:
        side = min(max(options.size, _MIN_SIDE), _MAX_SIDE) // _SIDE_STEP * _SIDE_STEP
        color = f" The main colour is {options.color}." if options.color else ""
        return {
            "model": self._settings.openai_image_model,
            "prompt": options.prompt + color,
            "n": 1,
            "size": f"{side}x{side}",
            "quality": self._settings.openai_image_quality,
            "background": "transparent",
            "output_format": "png",
        }

    def _read_reply(self, body: str, call: ProviderCall, size: int) -> EngineResult:
        try:
            reply = _Reply.model_validate_json(body)
        except ValidationError as error:
            raise _unusable(call, "the reply is not the documented JSON") from error
        call = self._with_usage(call, reply.usage)
        try:
            picture = decode(base64.b64decode(reply.data[0].b64_json, validate=True))
        except (binascii.Error, EngineError) as error:
            raise _unusable(call, f"the reply's picture could not be used: {error}") from error
        return png_result(
            _resize(picture.pixels, size),
            details={
                "model": call.model,
                "generated_width": picture.width,
                "generated_height": picture.height,
            },
            calls=(call,),
        )

    def _with_usage(self, call: ProviderCall, usage: _Usage | None) -> ProviderCall:
        if usage is None:
            return call
        details = usage.input_tokens_details or _InputDetails(text_tokens=usage.input_tokens)
        cost = (
            details.text_tokens * self._settings.openai_text_input_price
            + details.image_tokens * self._settings.openai_image_input_price
            + usage.output_tokens * self._settings.openai_output_price
        ) / _PRICE_UNIT
        return replace(call, response_data={**call.response_data, "usage": usage.model_dump()}, cost=cost)

    def _failed_call(self, request: dict[str, Any], started: float, error: openai.APIError) -> ProviderCall:
        response: dict[str, JSON] = {"code": error.code, "type": error.type}
        status = None
        if isinstance(error, openai.APIStatusError):
            status = error.status_code
            response["request_id"] = error.request_id
        return ProviderCall(
            api_provider=self.name,
            model=self._settings.openai_image_model,
            request_data=request,
            response_data=response,
            status_code=status,
            response_time=time.monotonic() - started,
            cost=_failed_cost(error),
            error_message=self._log_message(error)[:_MAX_LOGGED_ERROR],
        )

    def _log_message(self, error: openai.APIError) -> str:
        """What the operator reads in the usage log: the provider's reason and, if there is one, the remedy."""
        if not isinstance(error, openai.APIStatusError):
            return error.message
        if error.status_code in (401, 403):
            # The reply to a wrong key repeats parts of the key.
            return "Credentials rejected. Check OPENAI_API_KEY and what it may use."
        message = error.message.replace(self._key, "…")
        if error.code in _NO_BUDGET_CODES:
            return f"Raise the budget of the OpenAI project. {message}"
        if _is_refusal(error) or error.status_code in _RETRYABLE_STATUSES or error.status_code >= 500:
            return message
        return f"Check OPENAI_IMAGE_MODEL and OPENAI_IMAGE_QUALITY. {message}"

    def _explain(self, error: openai.APIError, call: ProviderCall) -> EngineError:
        if isinstance(error, openai.APITimeoutError):
            waited = f"{self._settings.openai_timeout_seconds:g} s"
            return EngineError(
                f"OpenAI did not answer within {waited}. It is tried again.", retryable=True, calls=(call,)
            )
        if not isinstance(error, openai.APIStatusError):
            return EngineError("OpenAI could not be reached. It is tried again.", retryable=True, calls=(call,))
        status = error.status_code
        if error.code in _NO_BUDGET_CODES:
            return EngineError(_NOT_AVAILABLE, calls=(call,))
        if status == 429:
            return EngineError(
                "OpenAI is busy (rate limit). It is tried again later.",
                retryable=True,
                retry_after=_retry_after(error),
                calls=(call,),
            )
        if status >= 500 or status in _RETRYABLE_STATUSES:
            return EngineError(
                f"OpenAI had a fault of its own (HTTP {status}). It is tried again.",
                retryable=True,
                retry_after=_retry_after(error),
                calls=(call,),
            )
        return EngineError(_REFUSED if _is_refusal(error) else _NOT_AVAILABLE, calls=(call,))


def _is_refusal(error: openai.APIStatusError) -> bool:
    return error.code in _REFUSAL_CODES or (error.status_code == 400 and _REFUSAL_PHRASE in error.message.lower())


def _failed_cost(error: openai.APIError) -> Decimal | None:
    """Nothing for a request that was turned away before any work; None where work may have been done.

    OpenAI bills the tokens of finished work. A picture can be finished and then held back by moderation, or
    lost with the connection.
    """
    if isinstance(error, openai.APIStatusError):
        turned_away = (error.status_code < 500 and not _is_refusal(error)) or error.status_code == 503
    else:
        # By name, because the SDK has changed its HTTP library before; both kept these names.
        turned_away = type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")
    return Decimal(0) if turned_away else None


def _unusable(call: ProviderCall, reason: str) -> EngineError:
    return EngineError(
        "OpenAI's answer could not be used. It is tried again.",
        retryable=True,
        calls=(replace(call, error_message=reason[:_MAX_LOGGED_ERROR]),),
    )


def _retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds to wait from `Retry-After` (seconds or an HTTP date) or `retry-after-ms`."""
    headers = error.response.headers
    milliseconds = retry_after(headers.get("retry-after-ms", ""))
    seconds = milliseconds / 1000 if milliseconds is not None else retry_after(headers.get("retry-after", ""))
    return None if seconds is None else min(seconds, _MAX_RETRY_AFTER_SECONDS)


def _resize(pixels: Pixels, size: int) -> Pixels:
    """Bring the longer side to `size` px; edges are mixed with premultiplied alpha."""
    image = Image.fromarray(pixels).convert("RGBA")
    scale = size / max(image.size)
    target = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if target != image.size:
        image = image.convert("RGBa").resize(target, Image.Resampling.LANCZOS).convert("RGBA")
    return np.asarray(image)
