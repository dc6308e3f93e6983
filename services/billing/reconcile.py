"""Compares Stripe's own lists with the ledger, and delivers again what was not heard.

A comparison applies the facts of an object and looks at what that changed, then takes it back: so it finds exactly
what the webhook would have done, and cannot disagree with it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import stripe

from services.billing import facts
from services.billing.database import Database, Event
from services.billing.facts import Fact, Object
from services.billing.reader import PAGE, Reader, every, find
from services.billing.webhook import UNKNOWN_SHAPE, FailedError, Webhook
from services.project import RefusedError


class Books:
    """Both sides. Methods raise stripe.StripeError and UnavailableError."""

    def __init__(self, database: Database, client: stripe.StripeClient) -> None:
        self._database = database
        self._api = client.v1
        self._reader = Reader(client)
        self._webhook = Webhook(database, self._reader)

    async def undelivered(self, since: int) -> AsyncIterator[tuple[Event, str]]:
        """Events since a time (seconds; Stripe keeps 30 days) that no endpoint accepted, with their status here.

        The status is `unheard`, `failed`, or `processed` or `ignored` where only the answer got lost.
        """
        params: Any = {"created": {"gte": since}, "delivery_success": False, "limit": PAGE}
        async for item in every(await self._api.events.list_async(params)):
            _, status = await self._database.start_read(item["id"])
            yield Event(item["id"], item["type"], item["data"]["object"]), status or "unheard"

    async def failed(self) -> list[Object]:
        """The events that could not be applied, the oldest first."""
        rows = await self._database.rows("stripe_events", status="failed")
        return sorted(rows, key=lambda row: str(row["received_at"]))

    async def replay(self, event_id: str) -> str:
        """Apply an event again; its status, or what is wrong. One that was applied changes nothing."""
        item = await find(self._api.events, event_id)
        if item is None:
            return "failed: Stripe has not kept the event; reconcile instead"
        try:
            return await self._webhook.apply(Event(item["id"], item["type"], item["data"]["object"]))
        except FailedError as error:
            return f"failed: {error}"

    async def differences(self, since: int, *, apply: bool) -> AsyncIterator[Object]:
        """What differs for objects made since a time: {source, id, what, is, should_be} or {source, id, trouble}.

        And for subscriptions that run here, however old they are. With `apply` it is made to agree. Trouble with what
        is, by all that is known, another product's that a customer of this project has comes with `is_elsewhere`.
        """
        created: Any = {"created": {"gte": since}, "limit": PAGE}
        # In this order, so that what pays for something comes before what gives it back.
        lists: list[tuple[str, Any, Callable[[Object], Awaitable[Sequence[Fact]]]]] = [
            ("subscription", self._api.subscriptions.list_async(created | {"status": "all"}), self._of_subscription),
            ("checkout", self._api.checkout.sessions.list_async(created), self._of_checkout),
            ("invoice", self._api.invoices.list_async(created), self._of_invoice),
            ("refund", self._api.refunds.list_async(created), self._of_return),
            ("dispute", self._api.disputes.list_async(created), self._of_return),
        ]
        heard_of: set[str] = set()
        for source, page, read in lists:
            # Stripe's lists have the newest first.
            for item in reversed([item async for item in every(await page)]):
                heard_of.add(item["id"])
                async for difference in self._compare(item, read, apply=apply):
                    yield {"source": source, "id": item["id"]} | difference
        for subscription_id in await self._database.running_subscriptions():
            if subscription_id not in heard_of:
                async for difference in self._compare({"id": subscription_id}, self._of_subscription, apply=apply):
                    yield {"source": "subscription", "id": subscription_id} | difference

    async def _compare(
        self, item: Object, read: Callable[[Object], Awaitable[Sequence[Fact]]], *, apply: bool
    ) -> AsyncIterator[Object]:
        ticket, _ = await self._database.start_read()
        try:
            found = await self._database.reconcile(await read(item), ticket, apply=apply)
        except RefusedError as error:
            yield {"trouble": str(error)}
            return
        except stripe.InvalidRequestError as error:
            yield {"trouble": f"Stripe refused a read: {error.user_message or error}"}
            return
        except UNKNOWN_SHAPE as error:
            yield {"trouble": f"{type(error).__name__}: {error}"}
            return
        for difference in found["differences"] or []:
            yield difference
        for trouble in found["troubles"]:
            yield {"trouble": trouble, "is_elsewhere": not found["is_ours"]}

    async def _of_subscription(self, item: Object) -> Sequence[Fact]:
        return await self._reader.subscription(item["id"])

    async def _of_checkout(self, item: Object) -> Sequence[Fact]:
        return await self._reader.checkout(item["id"])

    async def _of_invoice(self, item: Object) -> Sequence[Fact]:
        return await self._reader.invoice(item["id"])

    async def _of_return(self, item: Object) -> Sequence[Fact]:
        intent_id = facts.identifier(item.get("payment_intent"))
        return await self._reader.payment(intent_id) if intent_id else []
