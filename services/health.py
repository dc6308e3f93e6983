"""What services tell the outside: /healthz for supervisors, /metrics for Prometheus."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.http import http_app


def health_app(check: Callable[[], tuple[bool, dict[str, Any]]], registry: CollectorRegistry) -> Starlette:
    """Make the HTTP app. `check` says whether all is well and what /healthz shows; if it is not, the status is 503."""

    async def healthz(_: Request) -> Response:
        ok, body = check()
        return JSONResponse(body, status_code=200 if ok else 503)

    return http_app([Route("/healthz", healthz), metrics_route(registry)])


def metrics_route(registry: CollectorRegistry) -> Route:
    """/metrics."""

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Route("/metrics", metrics)
