"""The service beside localstripe, a stateful fake of Stripe that signs and sends its events itself.

It knows neither payment pages nor disputes and speaks an older version of the API, so this is the life of one
subscription; its events have the shapes of before 2025-03-31.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.stack import Stack
from local.state import free_port
from local.stripe import SECRET_KEY, WEBHOOK_SECRET
from tests.billing.service_process import ServiceProcess
from tests.database.personas import Connection, People
from tests.e2e.worker_process import until

# It saves itself into one file for the whole machine, which another user may own.
WITHOUT_DISK = """
from localstripe import resources, server
resources.Store.dump_to_disk = lambda store: None
server.start()
"""


class LocalStripe:
    """Requests as curl would send them."""

    def __init__(self, port: int) -> None:
        self.url = f"http://localhost:{port}"
        self._http = httpx.Client(base_url=self.url, auth=(SECRET_KEY, ""))

    def post(self, path: str, **fields: str) -> Any:
        answer = self._http.post(path, data=fields)
        assert answer.status_code == 200, answer.text
        return answer.json() if answer.content else None

    def delete(self, path: str) -> None:
        assert self._http.delete(path).status_code == 200

    def answers(self) -> bool:
        try:
            return self._http.get("/v1/balance").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def localstripe(tmp_path: Path) -> Iterator[LocalStripe]:
    port = free_port()
    with (tmp_path / "localstripe.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", WITHOUT_DISK, "--port", str(port), "--from-scratch"],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
        )
    server = LocalStripe(port)
    try:
        until(server.answers)
        yield server
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def sold_as(db: Connection) -> Iterator[Callable[[str], None]]:
    """Names the product of the plan basic, until the test is over."""
    change = "update public.subscription_plans set stripe_product_id = %s where name = 'basic'"
    (kept,) = db.execute("select stripe_product_id from public.subscription_plans where name = 'basic'").fetchall()

    def sell(product: str) -> None:
        db.execute(change, (product,))

    yield sell
    db.execute(change, (kept["stripe_product_id"],))


def test_a_subscription_is_paid_and_cancelled(
    localstripe: LocalStripe,
    local_stack: Stack,
    people: People,
    db: Connection,
    sold_as: Callable[[str], None],
    tmp_path: Path,
) -> None:
    product = localstripe.post("/v1/products", name="basic", type="service")["id"]
    plan = localstripe.post("/v1/plans", amount="999", currency="usd", interval="month", product=product)["id"]
    sold_as(product)
    user = people.new()
    customer = localstripe.post("/v1/customers", **{"metadata[user_id]": str(user.id)})["id"]
    people.service.call("link_stripe_customer", p_user_id=user.id, p_stripe_customer_id=customer)
    card = {"number": "4242424242424242", "exp_month": "12", "exp_year": "2040", "cvc": "123"}
    token = localstripe.post("/v1/tokens", **{f"card[{field}]": value for field, value in card.items()})["id"]
    localstripe.post(f"/v1/customers/{customer}/sources", source=token)

    with ServiceProcess(local_stack.state, localstripe.url, tmp_path / "service.log") as service:
        localstripe.post("/_config/webhooks/dtf", url=f"{service.url}/webhooks/stripe", secret=WEBHOOK_SECRET)
        subscription = localstripe.post("/v1/subscriptions", **{"customer": customer, "items[0][plan]": plan})["id"]
        until(lambda: people.balance(user) == 22)
        until(lambda: _plan(db, user.id) == "basic")
        localstripe.delete(f"/v1/subscriptions/{subscription}")
        until(lambda: _plan(db, user.id) == "free")
    assert people.balance(user) == 22


def _plan(db: Connection, user_id: Any) -> str:
    (row,) = db.execute("select subscription_plan from public.profiles where id = %s", (user_id,)).fetchall()
    return str(row["subscription_plan"])
