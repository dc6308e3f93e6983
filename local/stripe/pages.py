"""The pages that Stripe hosts, as plain forms: payment page, portal, invoice and receipt. And one with everything."""

import html
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from string import Template
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from local.stripe.account import ENDED, Account
from local.stripe.store import Object

PAGE = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
}
# How many digits of an amount are behind the point, where they are not two: https://docs.stripe.com/currencies
DIGITS = {
    **dict.fromkeys(
        ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"), 0
    ),
    **dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 3),
}
EVENTS = 30  # the newest, on the page with everything

Body = Callable[[Object], str]


class Pages:
    """Shows the objects of an account, and lets customers act on them."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.routes = [
            Route("/", self._everything),
            Route("/pay/{id}", self._payment, methods=["GET", "POST"]),
            Route("/portal/{id}", self._portal, methods=["GET", "POST"]),
            Route("/invoices/{id}", self._invoice, methods=["GET", "POST"]),
            Route("/receipts/{id}", self._receipt),
        ]

    def _find(self, request: Request, kind: str) -> Object | None:
        item = self._account.objects.get(request.path_params["id"])
        return item if item is not None and item["object"] == kind else None

    # The payment page.

    async def _payment(self, request: Request) -> Response:
        session = self._find(request, "checkout.session")
        if session is None:
            return _nothing()
        if session["status"] != "open":
            return _page("Payment", f"<section><h1>This payment page is {_text(session['status'])}.</h1></section>")
        if request.method == "GET":
            return _page("Payment", self._payment_form(session))
        action = await _action(request)
        if action == "cancel" and session["cancel_url"]:
            return RedirectResponse(session["cancel_url"], 303)
        if action not in ("pay", "pay_later") or (action == "pay" and session["customer"] in self._account.declined):
            return _page("Payment", self._payment_form(session, "Your card was declined."), 402)
        self._account.pay(session["id"], delayed=action == "pay_later")
        return RedirectResponse(session["success_url"] or str(request.url), 303)

    def _payment_form(self, session: Object, notice: str = "") -> str:
        price = self._account.objects[session["line_items"][0]["price"]]
        trial = session["subscription_data"].get("trial_period_days")
        return f"""<section class="pay"><h1>{_text(self._account.objects[price["product"]]["name"])}</h1>
            <p class="amount">{shown_money(session["amount_total"], session["currency"])}{_each(price)}</p>
            <p class="soft">{f"{_text(trial)} days free, then paid." if trial else ""} {self._who(session)}</p>
            {f'<p class="notice" role="alert">{notice}</p>' if notice else ""}
            {_button("pay", "Pay", main=True)}
            {_button("pay_later", "Pay by bank debit, which takes days") if not trial else ""}
            {_button("decline", "Pay with a card that is declined")}
            {_button("cancel", "Go back without paying")}</section>"""

    def _who(self, item: Object) -> str:
        customer = self._account.objects[item["customer"]]
        return _text(customer.get("email") or customer["id"])

    # The portal.

    async def _portal(self, request: Request) -> Response:
        portal = self._find(request, "billing_portal.session")
        if portal is None:
            return _nothing()
        customer = portal["customer"]
        if request.method == "POST":
            self._act(customer, await _action(request))
            return RedirectResponse(str(request.url), 303)
        running = [item for item in self._account.all("subscription", customer=customer) if _runs(item)]
        back = f'<p><a href="{_text(portal["return_url"])}">Back</a></p>' if portal["return_url"] else ""
        card = (
            ("card_works", "Enter a card that works") if customer in self._account.declined
            else ("card_declined", "Enter a card that will be declined")
        )  # fmt: skip
        return _page(
            "Portal",
            f"""{back}<section><h1>Subscription</h1><p class="soft">{self._who(portal)}</p>
            {"".join(map(self._subscription, running)) or "<p>None.</p>"}</section>
            <section><h2>Card</h2>{_button(*card)}</section>
            <section><h2>Invoices</h2>{self._invoices(self._account.all("invoice", customer=customer))}</section>""",
        )

    def _act(self, customer: str, action: str) -> None:
        """What a customer does in the portal."""
        account, (verb, _, price_id) = self._account, action.partition(":")
        running = [item for item in account.all("subscription", customer=customer) if _runs(item)]
        if verb == "card_works":
            account.declined.discard(customer)
        elif verb == "card_declined":
            account.declined.add(customer)
        elif verb == "cancel" and running:
            account.cancel(running[0], at_period_end=True)
        elif verb == "keep" and running:
            account.keep(running[0])
        elif verb == "change" and running and price_id in account.objects:
            account.change(running[0], account.objects[price_id])

    def _subscription(self, item: Object) -> str:
        lines = item["items"]["data"]
        until = _date(lines[0]["current_period_end"])
        others = [
            price
            for price in reversed(self._account.all("price", active=True))
            # One of several products cannot be changed in the portal.
            if len(lines) == 1
            and price["recurring"]
            and price is not lines[0]["price"]
            and price["currency"] == item["currency"]
        ]
        ends = item["cancel_at_period_end"]
        return f"""<p><strong>{self._names(item)}</strong>, {_text(item["status"])}.
            {"Ends" if ends else "Renews"} on {until}.</p>
            {_button("keep", "Do not cancel") if ends else _button("cancel", "Cancel at the end of the period")}
            {"".join(_button(f"change:{price['id']}", f"Change to {self._name(price)}") for price in others)}"""

    def _names(self, subscription: Object) -> str:
        return " and ".join(self._name(line["price"]) for line in subscription["items"]["data"])

    def _name(self, price: Object) -> str:
        name = _text(self._account.objects[price["product"]]["name"])
        return f"{name} ({shown_money(price['unit_amount'], price['currency'])}{_each(price)})"

    def _invoices(self, invoices: Iterable[Object]) -> str:
        return _table(
            ("Date", "Amount", "Status", ""),
            (
                (
                    _date(item["status_transitions"]["finalized_at"]),
                    shown_money(item["total"], item["currency"]),
                    _text(item["status"]),
                    f'<a href="{_text(item["hosted_invoice_url"])}">Show</a>',
                )
                for item in invoices
            ),
        )

    # An invoice, and the receipt of a payment.

    async def _invoice(self, request: Request) -> Response:
        invoice = self._find(request, "invoice")
        if invoice is None:
            return _nothing()
        if request.method == "POST" and invoice["status"] == "open":
            self._account.collect(invoice, paid=await _action(request) == "pay")
            return RedirectResponse(str(request.url), 303)
        failed = '<p class="notice">The last payment failed.</p>' if invoice["attempted"] else ""
        return _page(
            "Invoice",
            f"""<section class="pay"><h1>Invoice</h1>
            <p class="amount">{shown_money(invoice["total"], invoice["currency"])}</p>
            <p class="soft">{_text(invoice["id"])}, {_text(invoice["status"])}</p>
            {failed + _button("pay", "Pay", main=True) if invoice["status"] == "open" else ""}</section>""",
        )

    async def _receipt(self, request: Request) -> Response:
        charge = self._find(request, "charge")
        if charge is None:
            return _nothing()
        back = charge["amount_refunded"]
        return _page(
            "Receipt",
            f"""<section><h1>Receipt</h1><p class="amount">{shown_money(charge["amount"], charge["currency"])}</p>
            <p class="soft">{_text(charge["id"])}, {_date(charge["created"])}, {self._who(charge)}</p>
            {f"<p>{shown_money(back, charge['currency'])} went back.</p>" if back else ""}</section>""",
        )

    # What the dashboard would show, and what the world can do.

    async def _everything(self, _: Request) -> Response:
        account = self._account
        sections = {
            "Payment pages": _table(
                ("Page", "Customer", "Amount"),
                (
                    (
                        f'<a href="{_text(item["url"])}">{_text(item["id"])}</a>' if item["url"] else _text(item["id"]),
                        self._who(item),
                        f"{shown_money(item['amount_total'], item['currency'])} {self._waiting(item)}",
                    )
                    for item in account.all("checkout.session")
                ),
            ),
            "Subscriptions": _table(
                ("Subscription", "Customer", "Until", "Simulate"),
                (self._running(item) for item in account.all("subscription")),
            ),
            "Payments": _table(
                ("Payment", "Customer", "Amount", "Simulate"), map(self._paid, account.all("payment_intent"))
            ),
            "Invoices": self._invoices(account.all("invoice")),
            "Events": _table(
                ("Event", "About", "Delivered"),
                (
                    (
                        _text(item["type"]),
                        _text(item["data"]["object"]["id"]),
                        "no" if item["pending_webhooks"] else "yes",
                    )
                    for item in account.all("event")[:EVENTS]
                ),
            ),
        }
        body = "".join(f"<section><h2>{name}</h2>{table}</section>" for name, table in sections.items())
        return _page("Stripe on this machine", body, width="70rem")

    def _waiting(self, session: Object) -> str:
        if (session["status"], session["payment_status"]) != ("complete", "unpaid"):
            return ""
        path = f"/simulate/checkout/sessions/{session['id']}/settle"
        return _post(path, "The money comes", paid="true") + _post(path, "It does not", paid="false")

    def _running(self, item: Object) -> tuple[str, ...]:
        customer = f"/simulate/customers/{item['customer']}/card"
        is_declined = item["customer"] in self._account.declined
        acts = [
            _post(f"/simulate/subscriptions/{item['id']}/renew", "End the period"),
            _post(
                customer,
                "Let the card work" if is_declined else "Have the card declined",
                works=str(is_declined).lower(),
            ),
        ]
        return (
            f"{_text(item['id'])}<br>{self._names(item)}, {_text(item['status'])}",
            self._who(item),
            _date(item["items"]["data"][0]["current_period_end"]),
            "".join(acts) if item["status"] not in ENDED else "",
        )

    def _paid(self, intent: Object) -> tuple[str, ...]:
        path, acts = f"/simulate/payment_intents/{intent['id']}", ""
        charge = self._account.objects.get(intent["latest_charge"] or "")
        if charge is not None and not charge["refunded"]:
            acts = _post(f"{path}/refund", "Refund")
            if not charge["disputed"]:
                acts += _post(f"{path}/dispute", "Dispute")
        for dispute in self._account.all("dispute", payment_intent=intent["id"]):
            close = f"/simulate/disputes/{dispute['id']}/close"
            acts += f"<br>Dispute {_text(dispute['status'])} "
            if dispute["status"] == "needs_response":
                acts += _post(close, "Won", status="won") + _post(close, "Lost", status="lost")
        amount = f"{shown_money(intent['amount'], intent['currency'])}, {_text(intent['status'])}"
        return _text(intent["id"]), self._who(intent), amount, acts


def _runs(subscription: Object) -> bool:
    return subscription["status"] not in (*ENDED, "incomplete")


def _page(title: str, body: str, status: int = 200, *, width: str = "28rem") -> Response:
    return HTMLResponse(PAGE.substitute(title=title, body=body, width=width), status, HEADERS)


def _nothing() -> Response:
    return _page("Nothing here", "<section><h1>Nothing is here.</h1></section>", 404)


async def _action(request: Request) -> str:
    return dict(parse_qsl((await request.body()).decode())).get("action", "")


def _text(value: object) -> str:
    return html.escape(str(value))


def shown_money(amount: int, currency: str) -> str:
    """799 of usd as 7.99 USD."""
    code = currency.upper()
    return f"{Decimal(amount).scaleb(-DIGITS.get(code, 2))} {code}"


def _each(price: Object) -> str:
    return " a month" if price["recurring"] else ""


def _date(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%-d %B %Y}"


def _button(action: str, label: str, *, main: bool = False) -> str:
    style = ' class="main"' if main else ""
    return f'<form method="post"><button{style} name="action" value="{_text(action)}">{_text(label)}</button></form>'


def _post(path: str, label: str, **fields: str) -> str:
    hidden = "".join(f'<input type="hidden" name="{name}" value="{value}">' for name, value in fields.items())
    return f'<form method="post" action="{_text(path)}">{hidden}<button>{_text(label)}</button></form>'


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table of cells that are HTML already."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return '<p class="soft">None yet.</p>'
    return f"<table><tr>{''.join(f'<th>{heading}</th>' for heading in headings)}</tr>{body}</table>"
