"""Brings the catalogue to Stripe: a product for each plan and package, and a price that says what it costs now.

`subscription_plans` and `pay_as_you_go_packages` are the truth. Prices in Stripe cannot be changed: another amount is
another price of the same product, and the old one is retired. What runs on the old one stays on it.

A row that Stripe or the database refuses is told and keeps none of the others from being for sale.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import stripe

from services.billing.database import Database
from services.billing.facts import Object, identifier
from services.billing.money import to_smallest
from services.billing.once import create_once
from services.billing.reader import PAGE, every, find
from services.project import RefusedError


@dataclass(frozen=True)
class Table:
    """One of the two tables: `kind` as in lookup keys and metadata, `amount` the column of the price."""

    name: str
    kind: str
    amount: str
    recurring: Object | None


TABLES = (
    Table("subscription_plans", "plan", "monthly_price", {"interval": "month"}),
    Table("pay_as_you_go_packages", "package", "price", None),
)


# What is wrong with one row: refused by Stripe or the database, or an amount that the currency does not have.
ROW_ERRORS = (stripe.InvalidRequestError, RefusedError, ValueError)


@dataclass(frozen=True)
class Step:
    """Something that is different in Stripe, and is made to agree; or, where the action is `failed`, why it is not."""

    action: str
    kind: str
    name: str
    detail: str

    def as_dict(self) -> dict[str, str]:
        """For output."""
        return {"action": self.action, "kind": self.kind, "name": self.name, "detail": self.detail}


class Catalogue:
    """Compares, and makes agree unless `dry_run`. Raises stripe.StripeError, UnavailableError, RefusedError."""

    def __init__(self, database: Database, client: stripe.StripeClient, currency: str, *, dry_run: bool) -> None:
        self._database = database
        self._api = client.v1
        self._currency = currency
        self._dry_run = dry_run

    async def sync(self) -> AsyncIterator[Step]:
        """What was, or would be, done, step after step. Doing it again does nothing but try what failed."""
        for table in TABLES:
            for row in await self._database.rows(table.name):
                try:
                    async for step in self._sync_row(table, row):
                        yield step
                except ROW_ERRORS as error:
                    yield Step("failed", table.kind, row["name"], getattr(error, "user_message", None) or str(error))

    async def _sync_row(self, table: Table, row: Object) -> AsyncIterator[Step]:
        amount = Decimal(str(row[table.amount] or 0))
        found = await self._find(table, row)
        if not row["is_active"] or amount == 0:
            # What is free, or not sold any more, needs no price.
            async for step in self._retire(table, row, found, keep=None):
                yield step
            return
        product = await self._product_of(row, found)
        if product is None:
            yield Step("create product", table.kind, row["name"], "")
            product = await self._create_product(table, row)
        elif (product.get("name"), product.get("active")) != (row["name"], True):
            yield Step("update product", table.kind, row["name"], product["id"])
            if not self._dry_run:
                await self._api.products.update_async(product["id"], {"name": row["name"], "active": True})

        wanted = (to_smallest(amount, self._currency), self._currency, table.recurring and ("month", 1))
        current = next((price for price in found if price["active"] and _terms(price) == wanted), None)
        if current is None:
            yield Step("create price", table.kind, row["name"], f"{amount} {self._currency.upper()}")
            current = await self._create_price(table, row, product, wanted[0])
        elif current["id"] != row["stripe_price_id"]:
            yield Step("adopt price", table.kind, row["name"], current["id"])
        if not self._dry_run:
            ids = {"stripe_price_id": current["id"], "stripe_product_id": product["id"]}
            if any(row[name] != value for name, value in ids.items()):
                await self._database.update(table.name, row["id"], ids)
        async for step in self._retire(table, row, found, keep=current):
            yield step

    async def _find(self, table: Table, row: Object) -> list[Object]:
        """The prices of a row: of its product, with its lookup key, and the one it names."""
        found: dict[str, Object] = {}
        if row["stripe_product_id"]:
            params: Any = {"product": row["stripe_product_id"], "limit": PAGE}
            found |= {price["id"]: price async for price in every(await self._api.prices.list_async(params))}
        by_key: Any = {"lookup_keys": [_lookup_key(table, row)]}
        found |= {price["id"]: price async for price in every(await self._api.prices.list_async(by_key))}
        if row["stripe_price_id"] and row["stripe_price_id"] not in found:
            named = await find(self._api.prices, row["stripe_price_id"])
            found |= {named["id"]: named} if named else {}
        # The one that the row names comes first, so that it is kept where several would do.
        return sorted(found.values(), key=lambda price: (price["id"] != row["stripe_price_id"], -price["created"]))

    async def _product_of(self, row: Object, found: list[Object]) -> Object | None:
        product_id = row["stripe_product_id"] or next((identifier(price["product"]) for price in found), None)
        return await find(self._api.products, product_id) if product_id else None

    async def _create_product(self, table: Table, row: Object) -> Object:
        if self._dry_run:
            return {"id": None}
        params: Any = {"name": row["name"], "metadata": {table.kind: row["id"]}}
        return (await create_once(self._api.products.create_async, f"product:{row['id']}", params)).to_dict()

    async def _create_price(self, table: Table, row: Object, product: Object, amount: int) -> Object:
        if self._dry_run:
            return {"id": None, "product": product["id"]}
        params: Any = {
            "product": product["id"],
            "currency": self._currency,
            "unit_amount": amount,
            "lookup_key": _lookup_key(table, row),
            "transfer_lookup_key": True,
            "metadata": {table.kind: row["id"]},
        }
        if table.recurring is not None:
            params["recurring"] = table.recurring
        return (await self._api.prices.create_async(params)).to_dict()

    async def _retire(
        self, table: Table, row: Object, found: list[Object], *, keep: Object | None
    ) -> AsyncIterator[Step]:
        if keep is None and row["stripe_price_id"] and not self._dry_run:
            await self._database.update(table.name, row["id"], {"stripe_price_id": None})
        for price in found:
            if not price["active"] or (keep is not None and price["id"] == keep["id"]):
                continue
            async for step in self._free_of_default(table, row, price, keep):
                yield step
            yield Step("retire price", table.kind, row["name"], price["id"])
            if not self._dry_run:
                await self._api.prices.update_async(price["id"], {"active": False})

    async def _free_of_default(
        self, table: Table, row: Object, price: Object, keep: Object | None
    ) -> AsyncIterator[Step]:
        """Make another price the default of the product, or none: as long as it is, Stripe archives no price."""
        product_id = str(identifier(price["product"]))
        product = await find(self._api.products, product_id)
        if product is None or identifier(product.get("default_price")) != price["id"]:
            return
        heir = keep if keep is not None and identifier(keep["product"]) == product_id else None
        yield Step("move default price" if heir else "unset default price", table.kind, row["name"], product_id)
        if not self._dry_run:
            # An empty one unsets it.
            await self._api.products.update_async(product_id, {"default_price": heir["id"] if heir else ""})


def _lookup_key(table: Table, row: Object) -> str:
    return f"{table.kind}:{row['id']}"


def _terms(price: Object) -> tuple[int | None, str, tuple[str, int] | None]:
    recurring = price.get("recurring")
    rhythm = (recurring["interval"], int(recurring.get("interval_count") or 1)) if recurring else None
    return price.get("unit_amount"), price["currency"], rhythm
