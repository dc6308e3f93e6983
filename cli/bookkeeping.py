"""What `dtf stripe` does where both sides are at hand: Stripe, and the project."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import stripe

from cli.errors import CommandError
from cli.project import take_billing_from_stack
from services.billing import reader
from services.billing.catalogue import Catalogue
from services.billing.database import Database
from services.billing.reconcile import Books
from services.billing.settings import StripeSettings
from services.project import RefusedError, UnavailableError, connect, http_client
from services.settings import SettingsError, load

STRIPE_KEEPS_DAYS = 30  # events

T = TypeVar("T")


def sync(*, dry_run: bool) -> list[dict[str, str]]:
    """Bring plans and packages to Stripe; returns the steps that were taken, or would be. Raises CommandError."""

    async def work(settings: StripeSettings, database: Database, client: stripe.StripeClient) -> list[dict[str, str]]:
        currency = await database.currency(settings.currency)
        catalogue = Catalogue(database, client, currency, dry_run=dry_run)
        return [step.as_dict() async for step in catalogue.sync()]

    return _run(work)


def replay(event: str | None, days: int) -> list[dict[str, str]]:
    """Apply an event again, or all that failed or were not heard; returns ids and outcomes. Raises CommandError."""

    async def work(_: StripeSettings, database: Database, client: stripe.StripeClient) -> list[dict[str, str]]:
        books = Books(database, client)
        if event:
            ids = [event]
        else:
            unheard = [item async for item in books.undelivered(_since(days))]
            ids = [row["id"] for row in await books.failed()]
            # Stripe's list has the newest first.
            ids += [item.id for item, status in reversed(unheard) if status == "unheard"]
        return [{"id": item, "outcome": await books.replay(item)} for item in ids]

    return _run(work)


def differences(days: int, *, apply: bool) -> list[dict[str, Any]]:
    """Where Stripe's lists and the ledger differ; with `apply`, what was done about it. Raises CommandError."""

    async def work(_: StripeSettings, database: Database, client: stripe.StripeClient) -> list[dict[str, Any]]:
        books = Books(database, client)
        found = [item async for item in books.differences(_since(days), apply=apply)]
        found += [
            {"source": "event", "id": event.id, "what": event.type, "is": status, "should_be": "delivered"}
            async for event, status in books.undelivered(_since(min(days, STRIPE_KEEPS_DAYS)))
            if not apply and status in ("unheard", "failed")
        ]
        return found

    return _run(work)


def _run(work: Callable[[StripeSettings, Database, stripe.StripeClient], Awaitable[T]]) -> T:
    """Do something with both sides, and turn their errors into one message."""

    async def run() -> T:
        async with _connected() as both:
            return await work(*both)

    take_billing_from_stack()
    try:
        return asyncio.run(run())
    except (SettingsError, RefusedError, UnavailableError) as error:
        raise CommandError(str(error)) from error
    except stripe.StripeError as error:
        raise CommandError(f"Stripe: {error.user_message or type(error).__name__}") from error


@asynccontextmanager
async def _connected() -> AsyncIterator[tuple[StripeSettings, Database, stripe.StripeClient]]:
    settings = load(StripeSettings)
    async with http_client() as http:
        yield settings, Database(await connect(settings, http)), reader.connect(settings)


def _since(days: int) -> int:
    return int(time.time()) - days * 24 * 3600
