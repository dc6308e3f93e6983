"""The HTTP side of e-mail: SendGrid tells what became of mails, and people unsubscribe."""

import time
from collections import Counter as Tally
from collections.abc import Callable
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.email import pages
from services.email.events import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    UnreadableError,
    load_key,
    translate,
    verify,
)
from services.email.links import user_of
from services.email.outbox import Outbox
from services.email.settings import EmailSettings
from services.health import health_app
from services.http import ForgedError, WrongRequestError, error_answer, http_app, read_body
from services.project import RefusedError, UnavailableError

# SendGrid sends at most 768 KiB at once.
LARGEST_DELIVERY = 2 * 1024 * 1024  # bytes
BATCH = 1000  # events that are recorded together

log = structlog.get_logger(__name__)


class Metrics:
    """Counters of what comes in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "dtf_email_events",
            "Events by outcome: recorded, duplicates, unknown (of mails that are not ours), ignored.",
            ("outcome",),
            registry=registry,
        )
        self.refused = Counter(
            "dtf_email_deliveries_refused", "Deliveries that were not signed, or not readable.", registry=registry
        )
        self.seconds = Histogram("dtf_email_delivery_seconds", "Time to record a delivery.", registry=registry)
        self.unsubscribed = Counter("dtf_email_unsubscribed", "Uses of links to unsubscribe.", registry=registry)


class Service:
    """The routes."""

    def __init__(self, settings: EmailSettings, outbox: Outbox, registry: CollectorRegistry) -> None:
        self._settings = settings
        self._outbox = outbox
        self._keys = tuple(load_key(key) for key in settings.sendgrid_webhook_public_keys)
        self._metrics = Metrics(registry)

    async def sendgrid_events(self, request: Request) -> Response:
        """POST /webhooks/sendgrid."""
        if not self._keys:
            log.error("email_events_refused", error="SENDGRID_WEBHOOK_PUBLIC_KEY is not set")
            raise WrongRequestError(503, "No events are taken here yet", "Set SENDGRID_WEBHOOK_PUBLIC_KEY.")
        started = time.monotonic()
        signature, timestamp = (request.headers.get(name) for name in (SIGNATURE_HEADER, TIMESTAMP_HEADER))
        try:
            if not signature or not timestamp:
                raise ForgedError("The signature is missing")
            body = await read_body(request, LARGEST_DELIVERY)
            verify(body, signature, timestamp, self._keys, time.time())
            batch = translate(body)
        except (ForgedError, UnreadableError) as error:
            self._metrics.refused.inc()
            log.warning("email_events_refused", error=str(error))
            raise WrongRequestError(400, str(error), "Check the webhook and SENDGRID_WEBHOOK_PUBLIC_KEY.") from error
        tally = Tally(ignored=batch.ignored)
        for start in range(0, len(batch.events), BATCH):
            tally.update(await self._outbox.record_events(batch.events[start : start + BATCH]))
        for outcome, count in tally.items():
            self._metrics.events.labels(outcome).inc(count)
        self._metrics.seconds.observe(time.monotonic() - started)
        log.info("email_events", **tally)
        return JSONResponse(tally)

    async def ask(self, request: Request) -> Response:
        """GET /unsubscribe: a question; it changes nothing."""
        try:
            self._user(request)
        except ForgedError:
            return pages.forged(self._settings.app_url)
        return pages.question(self._settings.sender_name)

    async def unsubscribe(self, request: Request) -> Response:
        """POST /unsubscribe: by the button of the page, or by a mail program (RFC 8058)."""
        try:
            user_id = self._user(request)
            await self._outbox.unsubscribe(user_id)
        except ForgedError:
            return pages.forged(self._settings.app_url)
        except (UnavailableError, RefusedError) as error:
            log.error("unsubscribe_failed", error=str(error))
            return pages.unavailable()
        self._metrics.unsubscribed.inc()
        log.info("unsubscribed", user_id=user_id)
        return pages.done(self._settings.app_url)

    def _user(self, request: Request) -> str:
        return user_of(request.query_params.get("token", ""), self._settings.link_secret)


async def _error(_: Request, error: Exception) -> Response:
    if isinstance(error, WrongRequestError):
        return error_answer(error.status, str(error), error.hint)
    # What went wrong is for the operator's log, not for the sender, who repeats the delivery.
    log.error("email_events_failed", error=str(error))
    return error_answer(503, "The events could not be recorded", "Send them again later.")


def make_app(
    settings: EmailSettings,
    outbox: Outbox,
    check: Callable[[], tuple[bool, dict[str, Any]]],
    registry: CollectorRegistry,
) -> Starlette:
    """Make the HTTP app. `check` says whether all is well and what /healthz shows."""
    service = Service(settings, outbox, registry)
    routes = [
        Route("/webhooks/sendgrid", service.sendgrid_events, methods=["POST"]),
        Route("/unsubscribe", service.ask, methods=["GET"]),
        Route("/unsubscribe", service.unsubscribe, methods=["POST"]),
        *health_app(check, registry).routes,
    ]
    return http_app(routes, dict.fromkeys((WrongRequestError, UnavailableError, RefusedError), _error))
