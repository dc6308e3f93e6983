"""The OpenAI provider against a local server that speaks its documented replies."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import SecretStr

from services.images.engines import EngineError, EngineResult, EngineSettings, build_engines, run_operation
from tests.services.art import Pixels, badge, decode_png, encode

KEY = "sk-test-0123456789"
USAGE = {
    "input_tokens": 20,
    "input_tokens_details": {"text_tokens": 20, "image_tokens": 0},
    "output_tokens": 1056,
    "total_tokens": 1076,
}


@dataclass
class Provider:
    """What the server answers next, and what it was asked."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)

    def answers(self, status: int, body: Any, **headers: str) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def refuses(self, status: int, code: str | None, message: str, **headers: str) -> None:
        kind = "image_generation_user_error" if status == 400 else "invalid_request_error"
        error = {"message": message, "type": kind, "param": None, "code": code}
        self.answers(status, {"error": error}, **headers)


@pytest.fixture
def provider() -> Iterator[Provider]:
    state = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/images/generations"
            state.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            state.authorizations.append(self.headers["Authorization"])
            time.sleep(state.delay)
            self.send_response(state.status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(state.body)),
                "x-request-id": "req_1",
                **state.headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            # A client that has stopped waiting is part of what is tested.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(state.body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def generate(provider: Provider, timeout: float = 10.0, **options: Any) -> EngineResult:
    settings = EngineSettings(
        openai_api_key=SecretStr(KEY), openai_base_url=provider.url, openai_timeout_seconds=timeout
    )
    return run_operation(build_engines(settings)["generate"], None, {"prompt": "A fox on skis", "size": 512, **options})


def failure(provider: Provider, timeout: float = 10.0) -> EngineError:
    with pytest.raises(EngineError) as caught:
        generate(provider, timeout)
    error = caught.value
    assert len(error.calls) == 1
    assert error.calls[0].api_provider == "openai"
    assert error.calls[0].request_data["prompt"] == "A fox on skis"
    # Neither the user nor a log ever sees the key.
    assert KEY not in error.message
    assert KEY not in repr(error.calls)
    return error


def success(pixels: Pixels | None = None) -> dict[str, Any]:
    picture = base64.b64encode(encode(badge(256) if pixels is None else pixels, "PNG")).decode()
    return {"created": 1_790_000_000, "data": [{"b64_json": picture}], "usage": USAGE}


def test_a_picture_comes_back_in_the_size_asked_for_with_its_cost(provider: Provider) -> None:
    provider.answers(200, success())
    result = generate(provider, color="#ff0000")
    assert decode_png(result.data).shape == (512, 512, 4)
    with Image.open(io.BytesIO(result.data)) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert result.label is None
    (call,) = result.calls
    assert call.cost == Decimal("0.03178")  # 20 x 5 $ + 1056 x 30 $ a million
    assert (call.model, call.status_code, call.error_message) == ("gpt-image-2.5-flare", 200, None)
    assert call.response_data["request_id"] == "req_1"
    assert call.response_time > 0
    (request,) = provider.requests
    assert request["model"] == "gpt-image-2.5-flare"
    assert (request["background"], request["output_format"], request["n"]) == ("transparent", "png", 1)
    assert "#ff0000" in request["prompt"]
    assert provider.authorizations == [f"Bearer {KEY}"]


def assert_only_the_operator_learns(error: EngineError, *details: str) -> None:
    """The user reads one neutral sentence, the usage log what to do."""
    assert not error.retryable
    assert error.message == ("This operation is not available at the moment; your credits are back. Try again later.")
    for detail in details:
        assert detail in str(error.calls[0].error_message)


@pytest.mark.parametrize(
    ("size", "asked"), [(256, "1024x1024"), (1500, "1488x1488"), (2400, "1920x1920"), (4096, "1920x1920")]
)
def test_the_model_is_asked_for_a_size_it_makes(provider: Provider, size: int, asked: str) -> None:
    provider.answers(200, success())
    assert generate(provider, size=size).width == size
    assert provider.requests[0]["size"] == asked


def test_a_blank_picture_is_a_failure_that_was_paid_for(provider: Provider) -> None:
    provider.answers(200, success(np.zeros((256, 256, 4), np.uint8)))
    error = failure(provider)
    assert error.retryable, "the next picture is another one"
    assert error.calls[0].cost == Decimal("0.03178")
    assert "wholly transparent" in str(error.calls[0].error_message)


def test_without_usage_the_cost_is_unknown(provider: Provider) -> None:
    provider.answers(200, {**success(), "usage": None})
    assert generate(provider).calls[0].cost is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after_ms": "2500"}, 2.5),
        ({"retry_after": "999999"}, 3600),
        ({"retry_after": "soon"}, None),
        ({}, None),
    ],
)
def test_a_rate_limit_is_retried_when_the_provider_says(
    provider: Provider, headers: dict[str, str], seconds: float | None
) -> None:
    provider.refuses(429, "rate_limit_exceeded", "Rate limit reached for images per minute.", **headers)
    error = failure(provider)
    assert (error.retryable, error.retry_after) == (True, seconds)
    assert error.calls[0].status_code == 429
    assert len(provider.requests) == 1, "the queue retries, not the SDK"


def test_retry_after_may_be_a_date(provider: Provider) -> None:
    provider.refuses(429, None, "Slow down.", retry_after=formatdate(time.time() + 60, usegmt=True))
    assert failure(provider).retry_after == pytest.approx(60, abs=5)


def test_a_used_up_budget_is_not_retried(provider: Provider) -> None:
    provider.refuses(429, "insufficient_quota", "You exceeded your current quota.")
    error = failure(provider)
    assert_only_the_operator_learns(error, "budget")


@pytest.mark.parametrize("status", [500, 502, 503, 529])
def test_faults_of_the_provider_are_retried(provider: Provider, status: int) -> None:
    provider.answers(status, b"<html>Bad gateway</html>", content_type="text/html")
    error = failure(provider)
    assert error.retryable
    assert error.calls[0].status_code == status
    assert len(provider.requests) == 1


@pytest.mark.parametrize("code", ["moderation_blocked", "content_policy_violation", None])
def test_a_refused_prompt_is_permanent_and_says_what_to_do(provider: Provider, code: str | None) -> None:
    provider.refuses(400, code, "Your request was rejected as a result of our safety system.")
    error = failure(provider)
    assert not error.retryable
    assert "content rules" in error.message
    assert error.calls[0].response_data["code"] == code


def test_a_model_that_cannot_do_it_is_the_operators_business(provider: Provider) -> None:
    provider.refuses(400, "invalid_value", "Transparent background is not supported for this model.")
    assert_only_the_operator_learns(failure(provider), "OPENAI_IMAGE_MODEL", "Transparent background")


@pytest.mark.parametrize(
    ("status", "code", "cost"),
    [
        (429, "rate_limit_exceeded", 0),
        (429, "insufficient_quota", 0),
        (400, "billing_hard_limit_reached", 0),
        (401, "invalid_api_key", 0),
        (400, "invalid_value", 0),
        (503, None, 0),
        # The picture may have been made before it was held back, or before the server failed.
        (400, "moderation_blocked", None),
        (500, None, None),
        (504, None, None),
    ],
)
def test_a_failed_call_costs_nothing_when_it_was_turned_away(
    provider: Provider, status: int, code: str | None, cost: int | None
) -> None:
    provider.refuses(status, code, "No.")
    assert failure(provider).calls[0].cost == cost


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_permanent_and_never_shown(provider: Provider, status: int) -> None:
    provider.refuses(status, "invalid_api_key", f"Incorrect API key provided: {KEY}.")
    assert_only_the_operator_learns(failure(provider), "OPENAI_API_KEY")


def test_a_slow_provider_is_retried(provider: Provider) -> None:
    provider.answers(200, success())
    provider.delay = 1.0
    error = failure(provider, timeout=0.2)
    assert error.retryable
    assert "0.2 s" in error.message
    assert error.calls[0].cost is None, "it may have been at work"
    assert error.calls[0].status_code is None


def test_an_unreachable_provider_is_retried() -> None:
    error = failure(Provider(url="http://127.0.0.1:9/v1"))
    assert error.retryable
    assert "could not be reached" in error.message
    assert error.calls[0].cost == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Welcome to the proxy</html>",
        b"[]",
        {"data": []},
        {"data": "none"},
        {"data": [{"url": "https://example.org/a.png"}]},
        {"data": [{"b64_json": "%%%"}], "usage": USAGE},
        {"data": [{"b64_json": base64.b64encode(b"no picture").decode()}], "usage": USAGE},
    ],
)
def test_an_answer_that_makes_no_sense_is_retried(provider: Provider, body: Any) -> None:
    provider.answers(200, body)
    error = failure(provider)
    assert error.retryable
    assert error.calls[0].error_message


def test_what_a_useless_picture_cost_is_booked_all_the_same(provider: Provider) -> None:
    provider.answers(200, {"data": [{"b64_json": base64.b64encode(b"no picture").decode()}], "usage": USAGE})
    assert failure(provider).calls[0].cost == Decimal("0.03178")
