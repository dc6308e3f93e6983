"""Fixtures of the billing tests: the stack, a Stripe on loopback, the service as a process, and who buys."""

from collections.abc import Iterator

import pytest

from local.stack import Stack
from tests.billing import stripe_double
from tests.billing.service_process import ServiceProcess
from tests.billing.shop import Shop
from tests.billing.stripe_double import StripeDouble
from tests.database.personas import Connection, People, connect


@pytest.fixture(scope="package")
def stripe() -> Iterator[StripeDouble]:
    with stripe_double.serve() as double:
        yield double


@pytest.fixture(scope="package")
def db(local_stack: Stack) -> Iterator[Connection]:
    """A connection as the owner of the tables."""
    with connect(local_stack.state.db_url) as connection:
        yield connection


@pytest.fixture(scope="package")
def people(db: Connection) -> Iterator[People]:
    people = People(db)
    yield people
    people.remove()


@pytest.fixture(scope="package")
def shop(people: People, stripe: StripeDouble) -> Iterator[Shop]:
    """The catalogue, for sale at the double."""
    shop = Shop(people, stripe.account)
    yield shop
    shop.close()


@pytest.fixture(scope="package")
def service(
    local_stack: Stack, stripe: StripeDouble, shop: Shop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    """The service, which reads from the double."""
    with ServiceProcess(local_stack.state, stripe.url, tmp_path_factory.mktemp("billing") / "log") as service:
        yield service


@pytest.fixture(autouse=True)
def _sound(people: People, stripe: StripeDouble) -> Iterator[None]:
    """Whatever a test did, the ledger is sound afterwards."""
    yield
    stripe.faults.clear()
    stripe.delays.clear()
    assert people.service.rows("verify_ledger") == []
