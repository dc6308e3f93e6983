"""The HTTP side of billing: who may ask, how much, and which status tells what went wrong."""

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import stripe
import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.billing.checkout import CheckoutRequest, PortalRequest, Shop
from services.billing.database import Database
from services.billing.openapi import document
from services.billing.reader import Reader
from services.billing.settings import BillingSettings
from services.billing.tokens import TokenError, Tokens, TokensUnavailableError
from services.billing.webhook import FailedError, Webhook, verify
from services.health import metrics_route
from services.http import ForgedError, WrongRequestError, error_answer, http_app, read_body
from services.project import RefusedError, UnavailableError

LARGEST_EVENT = 1024 * 1024  # bytes
LARGEST_REQUEST = 16 * 1024
WINDOW = 60.0  # seconds

log = structlog.get_logger(__name__)

Body = TypeVar("Body", bound=BaseModel)
Handler = Callable[[Request], Awaitable[Response]]


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "dtf_billing_events",
            "Deliveries of events by what they are about and outcome: processed, ignored, failed, refused.",
            ("subject", "outcome"),
            registry=self.registry,
        )
        self.seconds = Histogram("dtf_billing_event_seconds", "Time to handle a delivery.", registry=self.registry)


class RateLimit:
    """At most so many requests of a user in a minute, in this process."""

    def __init__(self, requests: int) -> None:
        self._requests = requests
        self._times: dict[str, list[float]] = {}

    def check(self, user_id: str) -> None:
        """Count a request. Raises WrongRequestError when it is one too many."""
        now = time.monotonic()
        if len(self._times) > 10_000:
            self._times = {user: times for user, times in self._times.items() if now - times[-1] < WINDOW}
        times = [at for at in self._times.get(user_id, []) if now - at < WINDOW]
        if len(times) >= self._requests:
            raise WrongRequestError(429, "Too many requests", "Try again in a minute.")
        self._times[user_id] = [*times, now]


class Service:
    """The routes."""

    def __init__(self, settings: BillingSettings, database: Database, client: stripe.StripeClient) -> None:
        self._settings = settings
        self._database = database
        self._shop = Shop(settings, database, client)
        self._webhook = Webhook(database, Reader(client))
        self._tokens = Tokens(settings)
        self._limit = RateLimit(settings.requests_per_minute)
        self.metrics = Metrics()

    async def checkout(self, request: Request) -> Response:
        """POST /checkout."""
        user_id = await self._user(request)
        return JSONResponse({"url": await self._shop.checkout(user_id, await _body(request, CheckoutRequest))})

    async def portal(self, request: Request) -> Response:
        """POST /portal."""
        user_id = await self._user(request)
        return JSONResponse({"url": await self._shop.portal(user_id, await _body(request, PortalRequest))})

    async def stripe_event(self, request: Request) -> Response:
        """POST /webhooks/stripe."""
        started = time.monotonic()
        settings, signature = self._settings, request.headers.get("stripe-signature")
        try:
            if not signature:
                raise ForgedError("The signature is missing")
            body = await read_body(request, LARGEST_EVENT)
            event = verify(body, signature, settings.webhook_secrets, is_live=settings.is_live)
        except ForgedError as error:
            self.metrics.events.labels("", "refused").inc()
            log.warning("stripe_event_refused", error=str(error))
            raise WrongRequestError(400, str(error), "Check the endpoint and its secret in Stripe.") from error
        outcome = "failed"
        try:
            outcome = await self._webhook.apply(event)
        except FailedError as error:
            # What went wrong is for the operator's log, not for the sender.
            log.error("stripe_event_failed", event_id=event.id, event_type=event.type, error=str(error))
            raise WrongRequestError(error.status, "The event could not be applied", "Send it again later.") from error
        finally:
            self.metrics.events.labels(self._webhook.subject(event) or "other", outcome).inc()
            self.metrics.seconds.observe(time.monotonic() - started)
        log.info("stripe_event", event_id=event.id, event_type=event.type, status=outcome)
        return JSONResponse({"status": outcome})

    async def healthz(self, _: Request) -> Response:
        """GET /healthz: whether the database answers."""
        try:
            await self._database.ask()
        except UnavailableError:
            return JSONResponse({"status": "database not available"}, status_code=503)
        return JSONResponse({"status": "ok"})

    async def _user(self, request: Request) -> str:
        user_id = await self._tokens.user_id(request.headers.get("authorization"))
        self._limit.check(user_id)
        return user_id


async def _body(request: Request, model: type[Body]) -> Body:
    try:
        return model.model_validate_json(await read_body(request, LARGEST_REQUEST) or b"{}")
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_input=False)
        where = ".".join(str(part) for part in first["loc"])
        raise WrongRequestError(400, f"{where}: {first['msg']}".removeprefix(": "), "See /openapi.json.") from error


async def _error(_: Request, error: Exception) -> Response:
    match error:
        case WrongRequestError():
            return error_answer(error.status, str(error), error.hint)
        case TokenError():
            return error_answer(401, str(error), "Send the user's access token as a bearer token.")
        case RefusedError(status=status) if status < 500:
            return JSONResponse(error.body, status_code=status)
        case stripe.IdempotencyError() | stripe.RateLimitError():
            return error_answer(409, "Another request for the same is under way", "Try again in a moment.")
    # No secrets: the messages of Stripe name keys at most by their last characters.
    log.error("request_failed", error=f"{type(error).__name__}: {error}")
    return error_answer(503, "Payments are not available at the moment", "Try again in a minute.")


ERRORS = (
    WrongRequestError,
    TokenError,
    TokensUnavailableError,
    RefusedError,
    UnavailableError,
    stripe.StripeError,
)


def make_app(settings: BillingSettings, database: Database, client: stripe.StripeClient) -> Starlette:
    """Make the HTTP app."""
    service = Service(settings, database, client)

    async def openapi(_: Request) -> Response:
        return JSONResponse(document())

    routes = [
        Route("/checkout", service.checkout, methods=["POST"]),
        Route("/portal", service.portal, methods=["POST"]),
        Route("/webhooks/stripe", service.stripe_event, methods=["POST"]),
        Route("/healthz", service.healthz),
        metrics_route(service.metrics.registry),
        Route("/openapi.json", openapi),
    ]
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.origins,
        allow_methods=["POST"],
        allow_headers=["authorization", "content-type"],
        max_age=3600,
    )
    return http_app(routes, dict.fromkeys(ERRORS, _error), [cors])
