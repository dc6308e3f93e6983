"""`dtf stripe`: the catalogue at Stripe, missed events, and the books compared."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from local.stack import Stack
from local.stripe import SECRET_KEY, Account
from tests.billing import stripe_double
from tests.billing.shop import PACKAGE, Shop
from tests.billing.stripe_double import StripeDouble
from tests.database.personas import Connection, People

PRICES = {"subscription_plans": "monthly_price", "pay_as_you_go_packages": "price"}


class Operator:
    """Runs `dtf stripe` against the stack and a double."""

    def __init__(self, stack: Stack, stripe_url: str) -> None:
        self.environment = {
            "SUPABASE_URL": stack.state.api_url,
            "SUPABASE_SECRET_KEY": stack.state.secret_key,
            "STRIPE_SECRET_KEY": SECRET_KEY,
            "STRIPE_API_URL": stripe_url,
            "COLUMNS": "250",
        }

    def run(self, *arguments: str, status: int = 0) -> Result:
        result = CliRunner().invoke(app, ["stripe", *arguments], env=self.environment)
        assert result.exit_code == status, result.output + str(result.exception)
        return result

    def json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", status=status).stdout)


@pytest.fixture
def empty() -> Iterator[StripeDouble]:
    with stripe_double.serve() as double:
        yield double


@pytest.fixture
def catalogue(local_stack: Stack, empty: StripeDouble, shop: Shop, db: Connection) -> Iterator[Operator]:
    tables = ("subscription_plans", "pay_as_you_go_packages")
    kept = {table: db.execute(f"select * from public.{table}").fetchall() for table in tables}
    for table in tables:
        db.execute(f"update public.{table} set stripe_price_id = null, stripe_product_id = null")
    yield Operator(local_stack, empty.url)
    for table, rows in kept.items():
        for row in rows:
            db.execute(
                f"update public.{table} set stripe_price_id = %s, stripe_product_id = %s where id = %s",
                (row["stripe_price_id"], row["stripe_product_id"], row["id"]),
            )


def for_sale(account: Account) -> dict[str, tuple[int, bool]]:
    return {
        account.objects[price["product"]]["name"]: (price["unit_amount"], bool(price["recurring"]))
        for price in account.all("price", active=True)
    }


def test_the_catalogue_is_brought_to_stripe_once(catalogue: Operator, empty: StripeDouble, db: Connection) -> None:
    planned = catalogue.json("sync", "--dry-run")
    assert empty.account.objects == {}
    assert catalogue.json("sync") == planned
    assert for_sale(empty.account) == {
        "basic": (999, True),
        "starter": (2499, True),
        "10 credits": (799, False),
        "20 credits": (1499, False),
        "50 credits": (2999, False),
    }
    rows = db.execute(
        "select name, stripe_price_id, stripe_product_id from public.subscription_plans order by sort_order"
    ).fetchall()
    assert rows[0]["stripe_price_id"] is None, "the free plan is not sold"
    for row in rows[1:]:
        assert empty.account.objects[row["stripe_price_id"]]["product"] == row["stripe_product_id"]
    assert catalogue.json("sync") == []
    assert "as it is here" in catalogue.run("sync").stderr


def test_another_amount_makes_another_price_and_retires_the_old(
    catalogue: Operator, empty: StripeDouble, db: Connection
) -> None:
    catalogue.run("sync")
    change = "update public.subscription_plans set monthly_price = %s where name = 'basic'"
    db.execute(change, (11.49,))
    try:
        assert [step["action"] for step in catalogue.json("sync")] == ["create price", "retire price"]
    finally:
        db.execute(change, (9.99,))
    assert for_sale(empty.account)["basic"] == (1149, True)
    assert len(empty.account.all("price", product=empty.account.all("price", active=True)[0]["product"])) == 2


def test_what_exists_at_stripe_is_adopted(catalogue: Operator, empty: StripeDouble, db: Connection) -> None:
    catalogue.run("sync")
    db.execute("update public.subscription_plans set stripe_price_id = null, stripe_product_id = null")
    prices = len(empty.account.all("price"))
    assert {step["action"] for step in catalogue.json("sync")} == {"adopt price"}
    assert len(empty.account.all("price")) == prices


def test_the_catalogue_is_brought_to_another_stripe_anew(
    catalogue: Operator, empty: StripeDouble, local_stack: Stack
) -> None:
    """As after a restart of the stand-in, or with the key of another account."""
    catalogue.run("sync")
    with stripe_double.serve() as other:
        elsewhere = Operator(local_stack, other.url)
        elsewhere.run("sync")
        assert for_sale(other.account) == for_sale(empty.account)
        assert elsewhere.json("sync") == []


def test_a_price_of_another_rhythm_is_not_adopted(catalogue: Operator, empty: StripeDouble, db: Connection) -> None:
    product = empty.account.product("10 credits")["id"]
    yearly = {"interval": "year", "interval_count": 1, "usage_type": "licensed"}
    price = empty.account.price(799, product=product, recurring=True) | {"recurring": yearly}
    empty.account.objects[price["id"]].update(price)
    db.execute("update public.pay_as_you_go_packages set stripe_product_id = %s where id = %s", (product, PACKAGE))
    catalogue.run("sync")
    (row,) = db.execute(
        "select stripe_price_id from public.pay_as_you_go_packages where id = %s", (PACKAGE,)
    ).fetchall()
    assert empty.account.objects[row["stripe_price_id"]]["recurring"] is None


def test_what_is_not_sold_any_more_is_retired(catalogue: Operator, empty: StripeDouble, db: Connection) -> None:
    catalogue.run("sync")
    change = "update public.pay_as_you_go_packages set is_active = %s where name = '50 credits'"
    db.execute(change, (False,))
    try:
        assert [step["action"] for step in catalogue.json("sync")] == ["retire price"]
        assert "50 credits" not in for_sale(empty.account)
    finally:
        db.execute(change, (True,))
    assert catalogue.json("sync")[0]["action"] == "create price"


def as_in_the_dashboard(account: Account, name: str, cents: int, db: Connection) -> Any:
    """The price of a plan whose product was made by hand, which always has a default price."""
    price = account.price(cents, product=account.product(name)["id"], recurring=True)
    account.objects[price["product"]]["default_price"] = price["id"]
    db.execute("update public.subscription_plans set stripe_product_id = %s where name = %s", (price["product"], name))
    return price


def test_a_product_with_a_default_price_gets_another_one(
    catalogue: Operator, empty: StripeDouble, db: Connection
) -> None:
    old = as_in_the_dashboard(empty.account, "basic", 500, db)
    product = empty.account.objects[old["product"]]
    planned = catalogue.json("sync", "--dry-run")
    assert catalogue.json("sync") == planned
    assert [step["action"] for step in planned if step["name"] == "basic"] == [
        "create price",
        "move default price",
        "retire price",
    ]
    assert (old["active"], empty.account.objects[product["default_price"]]["unit_amount"]) == (False, 999)
    assert set(for_sale(empty.account)) == {"basic", "starter", "10 credits", "20 credits", "50 credits"}
    assert catalogue.json("sync") == []


def test_a_default_price_of_what_is_not_sold_any_more_is_retired(
    catalogue: Operator, empty: StripeDouble, db: Connection
) -> None:
    price = as_in_the_dashboard(empty.account, "basic", 999, db)
    change = "update public.subscription_plans set is_active = %s where name = 'basic'"
    db.execute(change, (False,))
    try:
        actions = [step["action"] for step in catalogue.json("sync") if step["name"] == "basic"]
    finally:
        db.execute(change, (True,))
    assert actions == ["unset default price", "retire price"]
    assert (price["active"], empty.account.objects[price["product"]]["default_price"]) == (False, None)


def failed(steps: list[Any]) -> set[str]:
    return {step["name"] for step in steps if step["action"] == "failed"}


def test_a_row_that_stripe_refuses_keeps_none_of_the_others_from_being_for_sale(
    catalogue: Operator, empty: StripeDouble, db: Connection
) -> None:
    price = as_in_the_dashboard(empty.account, "basic", 999, db)
    empty.faults[price["product"]] = 400
    steps = catalogue.json("sync", status=1)
    assert failed(steps) == {"basic"}
    assert "broken on purpose" in str(steps)
    assert {"starter", "10 credits", "20 credits", "50 credits"} <= set(for_sale(empty.account))
    empty.faults.clear()
    assert [step["name"] for step in catalogue.json("sync")] == ["basic"]


def test_a_row_that_the_database_refuses_keeps_none_of_the_others_from_being_for_sale(
    catalogue: Operator, empty: StripeDouble, db: Connection
) -> None:
    price = as_in_the_dashboard(empty.account, "basic", 999, db)
    (starter,) = db.execute("select id from public.subscription_plans where name = 'starter'").fetchall()
    empty.account.price(2499, product=price["product"], recurring=True, lookup_key=f"plan:{starter['id']}")
    steps = catalogue.json("sync", status=1)
    assert failed(steps) == {"starter"}
    assert {"10 credits", "20 credits", "50 credits"} <= set(for_sale(empty.account))


def test_another_currency_than_the_catalogues_sells_nothing(catalogue: Operator, empty: StripeDouble) -> None:
    catalogue.environment["BILLING_CURRENCY"] = "eur"
    told = catalogue.run("sync", status=1)
    assert "BILLING_CURRENCY is eur, and the prices of the catalogue are in usd" in " ".join(told.output.split())
    assert for_sale(empty.account) == {}


@pytest.fixture
def whole_prices(db: Connection) -> Iterator[None]:
    """Prices without decimals, for a currency that has none."""
    before = {
        table: db.execute(f"select id, {column} as price from public.{table}").fetchall()
        for table, column in PRICES.items()
    }
    for table, column in PRICES.items():
        db.execute(f"update public.{table} set {column} = round({column} * 100)")
    yield
    db.execute("update public.catalogue_settings set currency = 'USD'")
    for table, column in PRICES.items():
        for row in before[table]:
            db.execute(f"update public.{table} set {column} = %s where id = %s", (row["price"], row["id"]))


def test_a_catalogue_in_yen_is_sold_in_yen(
    catalogue: Operator, empty: StripeDouble, db: Connection, whole_prices: None
) -> None:
    db.execute("update public.catalogue_settings set currency = 'JPY'")
    catalogue.json("sync")
    assert for_sale(empty.account)["10 credits"] == (799, False)
    assert {price["currency"] for price in empty.account.objects.values() if price["object"] == "price"} == {"jpy"}


# Missed events and differences.


@pytest.fixture
def market(catalogue: Operator, empty: StripeDouble, people: People, db: Connection) -> Shop:
    """Sells at that Stripe until the test is over."""
    db.execute("delete from public.stripe_events where status = 'failed'")
    # Those that other tests began at a Stripe of theirs.
    db.execute("update public.subscription_history set status = 'cancelled' where stripe_subscription_id is not null")
    return Shop(people, empty.account)


def test_events_that_nobody_heard_are_replayed(catalogue: Operator, market: Shop) -> None:
    buyer = market.buyer()
    market.account.refund(market.buy(buyer), 400)
    outcomes = catalogue.json("replay")
    assert [row["outcome"] for row in outcomes] == ["processed"] * 3
    assert market.people.balance(buyer.person) == 7
    assert catalogue.json("replay") == []


def test_a_failed_event_is_replayed(catalogue: Operator, market: Shop, empty: StripeDouble) -> None:
    buyer = market.buyer()
    market.buy(buyer)
    (event,) = market.account.events(buyer.customer)
    empty.faults["checkout/sessions"] = 500
    assert catalogue.json("replay", event["id"], status=1)[0]["outcome"].startswith("failed")
    empty.account.delivered.add(event["id"])
    empty.faults.clear()
    assert {"id": event["id"], "outcome": "processed"} in catalogue.json("replay", status=0)
    assert market.people.balance(buyer.person) == 12


def test_an_event_that_stripe_has_not_kept_is_left_to_the_comparison(catalogue: Operator, market: Shop) -> None:
    assert "reconcile" in catalogue.json("replay", "evt_long_ago", status=1)[0]["outcome"]


def test_the_books_are_compared_and_mended(catalogue: Operator, market: Shop) -> None:
    packs, member = market.buyer(), market.buyer()
    market.account.refund(market.buy(packs), 400)
    subscription = market.subscribe(member)
    market.account.renew(subscription)
    found = catalogue.json("reconcile", status=1)
    assert {row["source"] for row in found} == {"subscription", "checkout", "invoice", "refund", "event"}
    assert (market.people.balance(packs.person), market.people.balance(member.person)) == (2, 2), "nothing changed"
    assert "expired" not in catalogue.run("reconcile", status=1).stdout

    catalogue.run("reconcile", "--apply")
    assert (market.people.balance(packs.person), market.people.balance(member.person)) == (7, 42)
    market.account.delivered |= {event["id"] for event in market.account.events()}
    assert catalogue.json("reconcile") == []
    assert "agrees with Stripe" in catalogue.run("reconcile").stderr


def test_an_old_subscription_whose_end_got_lost_is_found(catalogue: Operator, market: Shop) -> None:
    member = market.buyer()
    subscription = market.subscribe(member)
    catalogue.run("reconcile", "--apply")
    market.account.cancel(subscription)
    for item in market.account.objects.values():
        item["created"] -= 60 * 24 * 3600
    market.account.delivered |= {event["id"] for event in market.account.events()}
    (found,) = [row for row in catalogue.json("reconcile", status=1) if row["what"].startswith("subscription")]
    assert (found["id"], found["should_be"]["status"]) == (subscription["id"], "cancelled")
    catalogue.run("reconcile", "--apply")
    assert market.holdings(member)["subscription_status"] == "cancelled"
    assert catalogue.json("reconcile") == []


def test_an_object_that_cannot_be_read_is_trouble_and_no_more(catalogue: Operator, market: Shop) -> None:
    member, buyer = market.buyer(), market.buyer()
    (invoice,) = market.account.invoices(market.subscribe(member))
    del invoice["lines"]["data"][0]["period"]
    hidden = market.account.objects.pop(market.order(buyer, market.pack))
    troubles = [row for row in catalogue.json("reconcile", "--apply", status=1) if "trouble" in row]
    assert {row["source"] for row in troubles} == {"invoice", "checkout"}
    assert f"No such checkout.session: '{hidden['id']}'" in str(troubles)
    assert market.holdings(member)["subscription_status"] == "basic"


def test_trouble_is_told_and_does_not_stop_the_rest(catalogue: Operator, market: Shop) -> None:
    stranger, buyer = market.buyer(), market.buyer()
    session = market.order(stranger, market.prices["basic"])
    unknown = market.account.price(500, recurring=True)
    market.account.objects[session]["line_items"] = [{"price": unknown["id"]}]
    market.account.pay(session)
    market.buy(buyer)
    troubles = [row for row in catalogue.json("reconcile", "--apply", status=1) if "trouble" in row]
    assert [(row["source"], unknown["id"] in row["trouble"]) for row in troubles] == [("invoice", True)]
    assert market.people.balance(buyer.person) == 12


def test_an_end_that_was_not_heard_is_found_whatever_the_price(catalogue: Operator, market: Shop) -> None:
    member = market.buyer()
    subscription = market.subscribe(member)
    catalogue.run("reconcile", "--apply")
    market.account.move(subscription, market.account.price(500, recurring=True))
    market.account.add_item(subscription, market.account.price(300, recurring=True))
    market.account.cancel(subscription)
    catalogue.run("reconcile", "--apply")
    assert market.holdings(member)["subscription_status"] == "cancelled"


@pytest.mark.parametrize("share", [0.5, None])
def test_money_at_a_price_that_no_plan_has_is_trouble_until_one_has_it(
    catalogue: Operator, market: Shop, db: Connection, share: float | None
) -> None:
    member = market.buyer()
    subscription = market.subscribe(member)
    catalogue.run("reconcile", "--apply")
    custom = market.account.price(500, recurring=True)
    if share:
        invoice = market.account.change(subscription, custom, share)
    else:
        market.account.move(subscription, custom)
        invoice = market.account.renew(subscription)
    for _ in range(2):
        (found,) = [row for row in catalogue.json("reconcile", "--apply", status=1) if "trouble" in row]
        assert (found["id"], custom["id"] in found["trouble"]) == (invoice["id"], True)
    assert market.people.balance(member.person) == 22

    change = "update public.subscription_plans set stripe_product_id = %s where name = 'starter'"
    db.execute(change, (custom["product"],))
    for _ in range(2):
        catalogue.run("reconcile", "--apply")
    # Half a starter for half a basic, less what cents cannot tell; or a month of it.
    assert market.people.balance(member.person) == (2 + 20 + 19 if share else 2 + 20 + 60)
    (row,) = member.person.sql("select trouble from public.billing_invoices where id = %s", invoice["id"])
    assert row["trouble"] is None


def test_what_a_customer_has_of_another_product_is_listed_and_is_no_trouble(catalogue: Operator, market: Shop) -> None:
    member = market.buyer()
    price = market.account.price(4900, recurring=True)
    subscription = market.account.pay(market.account.session(member.customer, price)["id"])
    market.account.refund(market.account.payment_of(market.account.invoices(subscription)[0]), 1000)
    market.account.pay(market.account.session(market.account.customer()["id"], price)["id"])
    before = market.holdings(member)
    rows = catalogue.json("reconcile", "--apply")
    assert {(row["source"], row["is_elsewhere"]) for row in rows} == {
        (source, True) for source in ("subscription", "checkout", "invoice", "refund")
    }, "and nothing of strangers"
    assert market.holdings(member) == before
    assert "ignored" in catalogue.run("reconcile", "--apply").stdout


def test_an_event_that_was_ignored_is_replayed_when_a_plan_has_its_price(
    catalogue: Operator, market: Shop, db: Connection
) -> None:
    member = market.buyer()
    unknown = market.account.price(500, recurring=True)
    market.account.pay(market.account.session(member.customer, unknown)["id"])
    (paid,) = [event for event in market.account.events(member.customer) if event["type"] == "invoice.paid"]
    assert catalogue.json("replay", paid["id"]) == [{"id": paid["id"], "outcome": "ignored"}]
    change = "update public.subscription_plans set stripe_product_id = %s where name = 'basic'"
    db.execute(change, (unknown["product"],))
    assert catalogue.json("replay", paid["id"]) == [{"id": paid["id"], "outcome": "processed"}]
    assert market.people.balance(member.person) == 22


def test_a_wrong_key_is_told_in_one_line(local_stack: Stack, stripe: StripeDouble) -> None:
    operator = Operator(local_stack, stripe.url)
    operator.environment["STRIPE_SECRET_KEY"] = "sk_test_wrong"
    told = operator.run("sync", status=1).stderr
    assert "Invalid API Key" in told
    assert "sk_test_wrong" not in told
