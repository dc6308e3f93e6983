"""The billing functions of the database, as the service calls them. Each may be repeated without harm."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import stamina
from supabase import AsyncClient

from services.billing.facts import IDENTIFIER, Fact, Object
from services.project import UnavailableError, request
from services.settings import SettingsError

ATTEMPTS = 3
PAGE = 1000  # rows
RETRY_SECONDS = 5.0  # within which another try is begun
CALL_TIMEOUT = 30.0  # seconds

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Event:
    """What is kept of an event: no names and no addresses."""

    id: str
    type: str
    item: Object

    @property
    def payload(self) -> Object:
        """Ids only."""
        customer = self.item.get("customer")
        ids = {
            "object": self.item.get("object"),
            "object_id": self.item.get("id"),
            "customer": customer.get("id") if isinstance(customer, dict) else customer,
        }
        return {name: value for name, value in ids.items() if isinstance(value, str) and IDENTIFIER.fullmatch(value)}


class Database:
    """Calls with the secret key. All methods raise UnavailableError, and RefusedError where that is said."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def ask(self) -> None:
        """Ask for anything at all. Raises RefusedError."""

        async def select() -> None:
            await self._client.table("subscription_plans").select("id").limit(1).execute()

        await _repeated("subscription_plans", select)

    async def start_read(self, event_id: str | None = None) -> tuple[int, str | None]:
        """A ticket for a read, and the status of the event where it was heard before."""
        found = await self._call("start_stripe_read", p_event_id=event_id)
        return found["ticket"], found["status"]

    async def apply(self, event: Event, facts: Sequence[Fact], ticket: int) -> Object:
        """Write an event with its effect. Raises RefusedError."""
        row: Object = await self._call(
            "apply_stripe_event",
            p_event_id=event.id,
            p_type=event.type,
            p_payload=event.payload,
            p_facts=facts,
            p_ticket=ticket,
        )
        return row

    async def fail(self, event: Event, error: str) -> None:
        """Write that an event could not be applied."""
        await self._call(
            "fail_stripe_event", p_event_id=event.id, p_type=event.type, p_payload=event.payload, p_error=error
        )

    async def reconcile(self, facts: Sequence[Fact], ticket: int, *, apply: bool) -> Object:
        """What facts would change, or do change. Raises RefusedError."""
        found: Object = await self._call("reconcile_stripe", p_facts=facts, p_ticket=ticket, p_apply=apply)
        return found

    async def place_order(self, user_id: str, price_id: str) -> Object:
        """An order for a price. Raises RefusedError."""
        row: Object = await self._call("place_billing_order", p_user_id=user_id, p_stripe_price_id=price_id)
        return row

    async def attach_session(self, order_id: str, session_id: str) -> None:
        """Note the payment page of an order. Raises RefusedError where the order is closed."""
        await self._call("attach_checkout_session", p_order_id=order_id, p_session_id=session_id)

    async def link_customer(self, user_id: str, customer_id: str, email: str | None) -> str:
        """Give an account a customer unless it has one; the one it has. Raises RefusedError.

        `email` is the address that Stripe was told of that customer.
        """
        return str(
            await self._call("link_stripe_customer", p_user_id=user_id, p_stripe_customer_id=customer_id, p_email=email)
        )

    async def rows(self, table: str, columns: str = "*", **equal: Any) -> list[Object]:
        """Rows of a table whose columns equal the given values."""

        async def select() -> list[Object]:
            query = self._client.table(table).select(columns)
            for column, value in equal.items():
                query = query.eq(column, value)
            data: Any = (await query.execute()).data
            return list(data)

        found: list[Object] = await _repeated(table, select)
        return found

    async def currency(self, expected: str | None) -> str:
        """The currency of the catalogue in small letters, as Stripe writes it.

        Raises SettingsError where another one is expected, and RefusedError.
        """
        (row,) = await self.rows("catalogue_settings", "currency")
        currency = str(row["currency"]).lower()
        if expected not in (None, currency):
            raise SettingsError(
                f"BILLING_CURRENCY is {expected}, and the prices of the catalogue are in {currency}. Unset it, or"
                f" change the catalogue with: dtf plans currency {str(expected).upper()}"
            )
        return currency

    async def running_subscriptions(self) -> list[str]:
        """The subscriptions in Stripe that have not ended here."""
        column, found = "stripe_subscription_id", [""]

        async def more() -> list[str]:
            query = self._client.table("subscription_history").select(column).neq("status", "cancelled")
            data: Any = (await query.gt(column, found[-1]).order(column).limit(PAGE).execute()).data
            return [row[column] for row in data]

        while page := await _repeated("subscription_history", more):
            found += page
        return found[1:]

    async def update(self, table: str, row_id: str, values: Object) -> None:
        """Change a row by its id."""

        async def write() -> None:
            await self._client.table(table).update(values).eq("id", row_id).execute()

        await _repeated(table, write)

    async def _call(self, function: str, **arguments: Any) -> Any:
        async def call() -> Any:
            return (await self._client.rpc(function, arguments).execute()).data

        return await _repeated(function, call)


async def _repeated(what: str, call: Callable[[], Awaitable[T]]) -> T:
    """Make a call, again where it got no answer."""
    async for attempt in stamina.retry_context(
        UnavailableError, attempts=ATTEMPTS, timeout=RETRY_SECONDS, wait_initial=0.05, wait_max=0.5, wait_jitter=0.1
    ):
        with attempt:
            async with request(what, CALL_TIMEOUT):
                return await call()
    raise AssertionError("not reached")
