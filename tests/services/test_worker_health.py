"""What supervisors and Prometheus read."""

import asyncio
import socket

import httpx
import pytest

from services.images.health import Metrics, make_app
from services.process import serve
from services.settings import SettingsError

VARIABLE = "WORKER_HTTP_PORT"


def get(metrics: Metrics, *paths: str) -> list[httpx.Response]:
    async def run() -> list[httpx.Response]:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        async with (
            serve(make_app(metrics, 5), "127.0.0.1", port, VARIABLE),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            return [await client.get(path) for path in paths]

    return asyncio.run(run())


def test_a_working_loop_is_healthy() -> None:
    (answer,) = get(Metrics(), "/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_a_loop_that_does_not_look_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Metrics, "last_look_age", 31.0)
    (answer,) = get(Metrics(), "/healthz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "stuck", "last_poll_age_seconds": 31.0}


def test_operations_are_counted_by_type_and_ending() -> None:
    metrics = Metrics()
    for _ in range(2):
        metrics.claimed("upscale")
    metrics.finished("upscale", "completed", 0.3)
    (answer,) = get(metrics, "/metrics")
    lines = set(answer.text.splitlines())
    assert lines >= {
        'dtf_worker_operations_total{event="claimed",operation_type="upscale"} 2.0',
        'dtf_worker_operations_total{event="completed",operation_type="upscale"} 1.0',
        'dtf_worker_operation_seconds_bucket{le="0.5",operation_type="upscale"} 1.0',
        "dtf_worker_operations_in_flight 1.0",
    }
    assert "dtf_worker_last_poll_age_seconds" in answer.text


def test_a_taken_port_is_one_sentence() -> None:
    async def run(port: int) -> None:
        async with serve(make_app(Metrics(), 5), "127.0.0.1", port, VARIABLE):
            raise AssertionError("served")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"WORKER_HTTP_PORT {port} on 127.0.0.1 cannot be opened: Address"):
            asyncio.run(run(port))


def test_without_a_port_nothing_is_served() -> None:
    async def run() -> int:
        async with serve(make_app(Metrics(), 5), "127.0.0.1", None, VARIABLE):
            return len(asyncio.all_tasks())

    assert asyncio.run(run()) == 1
