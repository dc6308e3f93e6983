"""The stand-in for Stripe itself: what it refuses, what its pages do, and how it sends events."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
import stripe as sdk
from starlette.testclient import TestClient
from typer.testing import CliRunner

from cli.errors import CommandError
from cli.main import app
from cli.project import take_billing_from_stack
from cli.stripe import webhook
from local.stack import Stack
from local.state import StackState
from local.stripe import SECRET_KEY, WEBHOOK_SECRET, LocalStripe, Object, pages, server, store
from local.stripe.account import RETRY_DAYS
from services.billing import money, reader
from tests.billing import stripe_double
from tests.billing.stripe_double import StripeDouble
from tests.e2e.worker_process import until


def client(double: StripeDouble, key: str = SECRET_KEY) -> Any:
    """The official client, without its repetitions."""
    made = sdk.StripeClient(
        key, stripe_version=reader.API_VERSION, base_addresses={"api": double.url}, max_network_retries=0
    )
    return made.v1


@pytest.fixture(scope="module")
def stripe() -> Iterator[StripeDouble]:
    """One of its own: with those objects only that it makes itself."""
    with stripe_double.serve() as double:
        yield double


@pytest.fixture
def customer(stripe: StripeDouble) -> str:
    return str(stripe.account.customer(email="ada@example.test")["id"])


@pytest.fixture
def pack(stripe: StripeDouble) -> Object:
    return stripe.account.price(799)


@pytest.fixture
def plan(stripe: StripeDouble) -> Object:
    return stripe.account.price(999, recurring=True)


def checkout(customer: str, price: Object) -> Any:
    """What a payment page is made of."""
    return {
        "mode": "subscription" if price["recurring"] else "payment",
        "customer": customer,
        "line_items": [{"price": price["id"], "quantity": 1}],
        "success_url": "https://app.example.test/paid",
    }


def page(double: StripeDouble, url: str, action: str) -> httpx.Response:
    """Press a button."""
    assert httpx.get(url).status_code == httpx.codes.OK
    return httpx.post(url, data={"action": action})


def subscribe(double: StripeDouble, customer: str, plan: Object) -> Object:
    return double.account.pay(double.account.session(customer, plan)["id"])


# What it refuses.


def test_a_wrong_key_is_refused_and_not_shown(stripe: StripeDouble) -> None:
    with pytest.raises(sdk.AuthenticationError) as refused:
        client(stripe, "sk_test_of_somebody").customers.list()
    assert "of_somebody" not in str(refused.value)


def test_what_billing_does_not_use_is_refused(stripe: StripeDouble) -> None:
    api = client(stripe)
    for kind in (api.coupons, api.payment_methods):
        with pytest.raises(sdk.InvalidRequestError) as refused:
            kind.retrieve("one")
        assert refused.value.http_status == 404
    with pytest.raises(sdk.InvalidRequestError) as refused:
        api.customers.create({"phone": "1"})
    assert (refused.value.code, refused.value.param) == ("parameter_unknown", "phone")


def test_what_is_missing_or_not_there_is_named(stripe: StripeDouble, customer: str, pack: Object) -> None:
    api = client(stripe)
    page = checkout(customer, pack)
    for params, code, param in (
        ({**page, "customer": "cus_nobody"}, "resource_missing", "customer"),
        ({**page, "line_items": [{"price": "price_of_nothing"}]}, "resource_missing", "line_items[0][price]"),
        ({**page, "line_items": ""}, "parameter_missing", "line_items"),
        ({**page, "success_url": ""}, "parameter_missing", "success_url"),
        ({**page, "mode": "subscription"}, None, "mode"),
    ):
        with pytest.raises(sdk.InvalidRequestError) as refused:
            api.checkout.sessions.create(params)
        assert (refused.value.code, refused.value.param) == (code, param)
    api.customers.delete(customer)
    with pytest.raises(sdk.InvalidRequestError, match="No such customer"):
        api.checkout.sessions.create(page)
    assert api.customers.retrieve(customer).deleted
    with pytest.raises(sdk.InvalidRequestError) as refused:
        api.prices.list({"limit": 1000})
    assert refused.value.param == "limit"


def test_what_is_archived_is_not_sold(stripe: StripeDouble, customer: str, pack: Object) -> None:
    api = client(stripe)
    api.products.update(pack["product"], {"active": False})
    page = checkout(customer, pack)
    with pytest.raises(sdk.InvalidRequestError, match="inactive"):
        api.checkout.sessions.create(page)


def test_the_default_price_of_a_product_is_not_archived(stripe: StripeDouble, pack: Object) -> None:
    api = client(stripe)
    api.products.update(pack["product"], {"default_price": pack["id"]})
    with pytest.raises(sdk.InvalidRequestError, match="cannot be archived because it is the default price"):
        api.prices.update(pack["id"], {"active": False})
    api.products.update(pack["product"], {"default_price": ""})
    assert not api.prices.update(pack["id"], {"active": False}).active
    for price in (pack, stripe.account.price(799)):
        with pytest.raises(sdk.InvalidRequestError) as refused:
            api.products.update(pack["product"], {"default_price": price["id"]})
        assert refused.value.param == "default_price"


def test_a_key_gives_the_first_answer_and_only_to_the_same_request(stripe: StripeDouble) -> None:
    api, options = client(stripe), {"idempotency_key": "once"}
    first = api.customers.create({"name": "Ada"}, options)
    assert api.customers.create({"name": "Ada"}, options).id == first.id
    with pytest.raises(sdk.IdempotencyError):
        api.customers.create({"name": "Grace"}, options)


def test_a_key_repeats_a_refusal_too(stripe: StripeDouble, customer: str, plan: Object) -> None:
    api, options = client(stripe), {"idempotency_key": "refused"}
    page = checkout(customer, plan)
    plan["active"] = False
    for is_repeated in (False, True):
        with pytest.raises(sdk.InvalidRequestError, match="inactive") as refused:
            api.checkout.sessions.create(page, options)
        assert ("idempotent-replayed" in (refused.value.headers or {})) == is_repeated
        plan["active"] = True


def test_lists_come_in_pages(stripe: StripeDouble) -> None:
    made = [stripe.account.customer(email="many@example.test")["id"] for _ in range(25)]
    found = client(stripe).customers.list({"email": "many@example.test"})
    assert (len(found.data), found.has_more) == (10, True)
    assert [item.id for item in found.auto_paging_iter()] == made[::-1]


def test_no_more_goes_back_than_was_paid(stripe: StripeDouble, customer: str, pack: Object) -> None:
    api = client(stripe)
    intent = stripe.account.pay(stripe.account.session(customer, pack)["id"])["payment_intent"]
    assert api.refunds.create({"payment_intent": intent, "amount": 300}).status == "succeeded"
    with pytest.raises(sdk.InvalidRequestError, match="greater than"):
        api.refunds.create({"payment_intent": intent, "amount": 500})
    assert api.refunds.create({"payment_intent": intent}).amount == 499
    with pytest.raises(sdk.InvalidRequestError) as refused:
        api.refunds.create({"payment_intent": intent})
    assert refused.value.code == "charge_already_refunded"


# Its pages.


def test_a_payment_page_is_paid_once_and_leads_back(stripe: StripeDouble, customer: str, pack: Object) -> None:
    ways = {"success_url": "https://app.example.test/paid", "cancel_url": "https://app.example.test/no"}
    session = stripe.account.session(customer, pack, **ways)
    url = session["url"]
    assert "7.99 USD" in httpx.get(url).text
    assert "ada@example.test" in httpx.get(url).text
    assert page(stripe, url, "cancel").headers["location"] == ways["cancel_url"]
    declined = page(stripe, url, "decline")
    assert (declined.status_code, session["status"]) == (402, "open")
    assert "declined" in declined.text
    assert page(stripe, url, "pay").headers["location"] == ways["success_url"]
    assert session["payment_status"] == "paid"
    assert "complete" in page(stripe, url, "pay").text
    assert len(stripe.account.all("payment_intent", customer=customer)) == 1


def test_a_name_is_no_markup(stripe: StripeDouble, customer: str) -> None:
    price = stripe.account.price(1, product=stripe.account.product("<script>alert(1)</script>")["id"])
    text = httpx.get(stripe.account.session(customer, price)["url"]).text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_a_bank_debit_is_paid_later(stripe: StripeDouble, customer: str, pack: Object) -> None:
    session = stripe.account.session(customer, pack)
    page(stripe, session["url"], "pay_later")
    assert (session["status"], session["payment_status"]) == ("complete", "unpaid")
    settle = f"{stripe.url}/simulate/checkout/sessions/{session['id']}/settle"
    assert httpx.post(settle, data={"paid": "perhaps"}).json()["error"]["param"] == "paid"
    assert httpx.post(settle, data={"paid": "true"}).json()["payment_status"] == "paid"
    assert httpx.post(settle, data={"paid": "true"}).status_code == 400


def test_the_portal_cancels_keeps_and_changes(stripe: StripeDouble, customer: str, plan: Object) -> None:
    other = stripe.account.price(2499, recurring=True)
    subscription = subscribe(stripe, customer, plan)
    url = client(stripe).billing_portal.sessions.create({"customer": customer}).url
    page(stripe, url, "cancel")
    assert subscription["cancel_at_period_end"]
    page(stripe, url, "keep")
    assert not subscription["cancel_at_period_end"]
    page(stripe, url, f"change:{other['id']}")
    assert subscription["items"]["data"][0]["price"] is other
    assert stripe.account.invoices(subscription)[-1]["billing_reason"] == "subscription_update"


def test_a_declined_card_fails_renewals_until_the_invoice_is_paid(
    stripe: StripeDouble, customer: str, plan: Object
) -> None:
    subscription = subscribe(stripe, customer, plan)
    simulate, api = f"{stripe.url}/simulate", client(stripe)
    httpx.post(f"{simulate}/customers/{customer}/card", data={"works": "false"})
    httpx.post(f"{simulate}/subscriptions/{subscription['id']}/renew")
    invoice = stripe.account.invoices(subscription)[-1]
    assert (subscription["status"], invoice["status"], invoice["attempt_count"]) == ("past_due", "open", 1)
    with pytest.raises(sdk.CardError):
        api.invoices.pay(invoice["id"])
    assert "failed" in httpx.get(invoice["hosted_invoice_url"]).text
    page(stripe, invoice["hosted_invoice_url"], "pay")
    assert (subscription["status"], invoice["status"], invoice["attempt_count"]) == ("active", "paid", 3)


def test_after_the_last_attempt_a_subscription_ends(stripe: StripeDouble, customer: str, plan: Object) -> None:
    subscription = subscribe(stripe, customer, plan)
    invoice = stripe.account.renew(subscription, paid=False)
    for _ in RETRY_DAYS:
        assert invoice["next_payment_attempt"] > invoice["created"]
        stripe.account.collect(invoice, paid=False)
    assert (subscription["status"], invoice["next_payment_attempt"]) == ("canceled", None)
    renewed = httpx.post(f"{stripe.url}/simulate/subscriptions/{subscription['id']}/renew")
    assert renewed.json()["error"]["message"] == "The subscription has ended."


def test_a_cancelled_subscription_ends_with_its_period(stripe: StripeDouble, customer: str, plan: Object) -> None:
    subscription = subscribe(stripe, customer, plan)
    client(stripe).subscriptions.update(subscription["id"], {"cancel_at_period_end": True})
    httpx.post(f"{stripe.url}/simulate/subscriptions/{subscription['id']}/renew")
    assert (subscription["status"], len(stripe.account.invoices(subscription))) == ("canceled", 1)


def test_a_subscription_by_bank_debit_begins_with_the_money(stripe: StripeDouble, customer: str, plan: Object) -> None:
    def bought() -> tuple[Object, Object, str]:
        session = stripe.account.session(customer, plan)
        httpx.post(session["url"], data={"action": "pay_later"})
        simulation = f"{stripe.url}/simulate/checkout/sessions/{session['id']}/settle"
        return session, stripe.account.objects[session["subscription"]], simulation

    session, subscription, settle = bought()
    assert (session["payment_status"], subscription["status"]) == ("unpaid", "incomplete")
    assert httpx.post(settle, data={"paid": "false"}).status_code == httpx.codes.OK
    assert subscription["status"] == "incomplete"
    assert httpx.post(settle, data={"paid": "true"}).json()["payment_status"] == "paid"
    assert subscription["status"] == "active"

    _, subscription, settle = bought()
    httpx.post(f"{stripe.url}/simulate/subscriptions/{subscription['id']}/renew")
    assert subscription["status"] == "incomplete_expired"
    assert [invoice["status"] for invoice in stripe.account.invoices(subscription)] == ["void"]
    assert httpx.post(settle, data={"paid": "true"}).status_code == httpx.codes.BAD_REQUEST


def test_one_page_shows_everything(stripe: StripeDouble, customer: str, plan: Object, pack: Object) -> None:
    subscription = subscribe(stripe, customer, plan)
    intent = stripe.account.pay(stripe.account.session(customer, pack)["id"])["payment_intent"]
    disputed = httpx.post(f"{stripe.url}/simulate/payment_intents/{intent}/dispute", headers={"accept": "text/html"})
    assert disputed.headers["location"] == "/"
    text = httpx.get(stripe.url).text
    for shown in (subscription["id"], intent, "Dispute needs_response", "charge.dispute.created"):
        assert shown in text
    (dispute,) = stripe.account.all("dispute", payment_intent=intent)
    httpx.post(f"{stripe.url}/simulate/disputes/{dispute['id']}/close", data={"status": "won"})
    assert dispute["status"] == "won"


# Its events.


@contextmanager
def endpoint(*statuses: int) -> Iterator[tuple[str, list[sdk.Event]]]:
    """A webhook that answers with these, the last one for good; what it heard."""
    heard: list[sdk.Event] = []
    left = list(statuses)

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            heard.append(sdk.Webhook.construct_event(body, self.headers["stripe-signature"], WEBHOOK_SECRET))
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", heard
    finally:
        server.shutdown()
        server.server_close()


def test_an_event_is_sent_signed_until_it_is_accepted() -> None:
    told: list[tuple[str, str]] = []
    with endpoint(500, 200) as (url, heard):
        stand_in = LocalStripe("http://stripe.test", url, lambda *outcome: told.append(outcome))
        with TestClient(stand_in.app) as browser:
            customer, auth = stand_in.account.customer(), {"authorization": f"Bearer {SECRET_KEY}"}
            browser.post(f"/v1/customers/{customer['id']}", data={"name": "Ada"}, headers=auth)
            until(lambda: len(stand_in.account.delivered) == 1)
            missed = browser.get("/v1/events?delivery_success=false", headers=auth).json()["data"]
    assert [event.type for event in heard] == ["customer.updated"] * 2
    assert heard[0].id == heard[1].id
    assert told == [("customer.updated", "500"), ("customer.updated", "200")]
    assert missed == []


# How commands find it.


def test_it_is_taken_beside_the_local_stack_and_nowhere_else(
    stripe: StripeDouble, local_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SUPABASE_URL", "SUPABASE_SECRET_KEY", "STRIPE_SECRET_KEY", "STRIPE_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DTF_DIRECTORY", str(local_stack.directory))
    announced = local_stack.directory / "stripe.json"
    announced.unlink(missing_ok=True)

    def taken() -> str | None:
        with patch.dict(os.environ):
            take_billing_from_stack()
            return os.environ.get("STRIPE_API_URL")

    with pytest.raises(CommandError, match="dtf stripe local"):
        taken()
    server.announce(stripe, local_stack.directory)
    assert taken() == stripe.url
    second = CliRunner().invoke(app, ("stripe", "local"))
    assert (second.exit_code, f"runs already, at {stripe.url}" in second.stderr) == (1, True)
    with patch.dict(os.environ, {"STRIPE_SECRET_KEY": "sk_test_own"}):
        assert taken() is None
    with patch.dict(os.environ, {"SUPABASE_URL": "https://hosted.supabase.co"}):
        with pytest.raises(CommandError) as refused:
            taken()
        assert "dtf stripe local" not in str(refused.value), "whoever buys there pays nothing"
    server.announce(LocalStripe(stripe.url), local_stack.directory)
    with pytest.raises(CommandError, match="dtf stripe local"):
        taken()


def test_its_events_go_where_the_stack_was_told_that_billing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTF_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("BILLING_HTTP_PORT", "8123")
    assert webhook() == "http://127.0.0.1:8123/webhooks/stripe"
    StackState(billing_url="http://127.0.0.1:9000").save(tmp_path / "state.json")
    assert webhook() == "http://127.0.0.1:9000/webhooks/stripe"


def test_it_speaks_the_version_that_billing_asks_for() -> None:
    assert store.API_VERSION == reader.API_VERSION


@pytest.mark.parametrize("currency", ["usd", *sorted(money.ZERO_DECIMAL | money.THREE_DECIMAL)])
def test_its_pages_show_an_amount_as_the_ledger_counts_it(currency: str) -> None:
    assert pages.shown_money(12345, currency) == f"{money.to_units(12345, currency)} {currency.upper()}"
