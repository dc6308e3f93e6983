"""Stripe's webhook from the request to the answer, beside a bare handler that inserts the body into a table.

An event that nothing depends on shows what verifying and recording cost; a purchase also reads its payment page from
Stripe (a double on this machine) and grants credits. Our side goes through the gateway of the local stack.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any
from uuid import uuid4

import httpx

from local.stack import PROJECT
from local.state import free_port
from local.stripe import Account, Object
from tests.benchmarks.measure import Effort, Figure, Progress, in_turn
from tests.benchmarks.server import Server
from tests.billing import stripe_double
from tests.billing.service_process import ServiceProcess
from tests.billing.shop import Shop
from tests.database.personas import People, connect
from tests.e2e.worker_process import until

SECTION = "Stripe's webhook"
AGAINST = "a handler with one insert"
EVENTS = 200  # of one round
PARALLEL = (8, 100)


def run(server: Server, effort: Effort, report: Progress) -> Iterator[Figure]:
    """Events a second with 8 deliveries at a time, and the 99th percentile with 100."""
    report("Stripe's webhook: events delivered")
    with server.whole_stack(), connect(server.stack.state.db_url) as connection, stripe_double.serve() as stripe:
        people = People(connection)
        shop = Shop(people, stripe.account)
        kinds: dict[str, Callable[[], list[Object]]] = {
            "events of no effect": lambda: _idle(stripe.account),
            "purchases": lambda: _purchases(shop),
        }
        with (
            tempfile.TemporaryDirectory() as folder,
            _bare(server.stack.state.admin_url) as bare,
            ServiceProcess(server.stack.state, stripe.url, Path(folder) / "log") as service,
        ):
            for kind, make in kinds.items():
                for parallel in PARALLEL:
                    yield _compare(kind, make, {"ours": service.url, "bare": bare}, parallel, effort)
        shop.close()
        people.remove()


def _compare(
    kind: str, make: Callable[[], list[Object]], urls: dict[str, str], parallel: int, effort: Effort
) -> Figure:
    is_rate = parallel == PARALLEL[0]

    def deliver(url: str) -> Callable[[], float]:
        def measured() -> float:
            times = _deliver(url, parallel, make())
            return float(EVENTS / times["total"] if is_rate else quantiles(times["each"], n=100)[98] * 1000)

        return measured

    taken = in_turn({name: deliver(url) for name, url in urls.items()}, effort.slow_rounds)
    what = f"{kind}, {parallel} at a time" + ("" if is_rate else ", 99th percentile")
    unit = "events/s" if is_rate else "ms"
    return Figure(SECTION, what, taken["ours"], AGAINST, taken["bare"], unit, at_most=not is_rate)


def _deliver(url: str, parallel: int, events: list[Object]) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.deliveries", url, str(parallel)],
        input="\n".join(json.dumps(event) for event in events),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def _idle(account: Account) -> list[Object]:
    account.tell("customer.tax_id.created", {"id": "txi_1", "object": "tax_id", "customer": "cus_1"})
    (*_, event) = account.events()
    return [copy.deepcopy(event) | {"id": f"evt_{uuid4().hex}"} for _ in range(EVENTS)]


def _purchases(shop: Shop) -> list[Object]:
    buyer = shop.buyer()
    for _ in range(EVENTS):
        shop.buy(buyer)
    return shop.account.events(buyer.customer)


@contextmanager
def _bare(database_url: str) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.bare_webhook", str(port), database_url], cwd=PROJECT
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(url))
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == httpx.codes.NOT_FOUND
    except httpx.TransportError:
        return False
