"""Fixtures of the database tests: the server, one connection, and people who act on it.

All run on Postgres 17, and in a container where Docker answers; what can differ between versions runs on 15 and 18 as
well. $DTF_TEST_SERVERS, such as `17` or `15,container`, names the servers to run them all on.
"""

import os
from collections.abc import Iterator

import pytest

from local.stack import Stack
from local.state import StackState
from tests.database import servers
from tests.database.personas import Connection, People, connect

# Long runs whose subject is not the version of Postgres.
ON_ONE_SERVER = {"test_concurrency", "test_scale"}
# Applying, privileges and the catalog, locks, plans, constraints, the ledger and the queue.
ON_EVERY_SERVER = {
    "test_access",
    "test_catalog",
    "test_clawbacks",
    "test_credit_grants",
    "test_ledger",
    "test_limits",
    "test_matrix",
    "test_model",
    "test_operation_types",
    "test_operations",
    "test_orphans",
    "test_queue",
    "test_realtime",
    "test_schema",
    "test_seed",
    "test_servers",
    "test_verify_ledger",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Multiply the tests by the servers that they run on."""
    if "server" not in metafunc.fixturenames:
        return
    module = metafunc.module.__name__.rpartition(".")[2]
    chosen = os.environ.get("DTF_TEST_SERVERS")
    names = ["17"]
    if "stack" in metafunc.fixturenames or "local_stack" in metafunc.fixturenames:
        pass  # it also calls the APIs in front of that server
    elif chosen:
        names = chosen.split(",")
    elif module not in ON_ONE_SERVER:
        names += servers.PACKAGED if module in ON_EVERY_SERVER else ()
        names += () if servers.container_trouble() else ("container",)
    metafunc.parametrize("server", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[StackState]:
    """The server of the test, with the migrations applied."""
    name: str = request.param
    # Always, because it keeps a second run out of this checkout. Asked for here and not by an argument, so that the
    # tests that need the stack itself can be told from the others.
    stack: Stack = request.getfixturevalue("local_stack")
    if name == "17":
        yield stack.state
        return
    with servers.container() if name == "container" else servers.packaged(name) as state:
        yield state


@pytest.fixture(scope="session")
def db_url(server: StackState) -> str:
    """The database as the migration role."""
    return server.db_url


@pytest.fixture(scope="session")
def db(db_url: str) -> Iterator[Connection]:
    """A connection as the owner of the tables, whom neither grants nor policies hold."""
    with connect(db_url) as connection:
        yield connection


@pytest.fixture
def admin(server: StackState) -> Iterator[Connection]:
    """A superuser, who owns Supabase's own tables as well, and may switch triggers off to fill a table quickly."""
    with connect(server.admin_url) as connection:
        yield connection


@pytest.fixture(scope="session")
def people(db: Connection) -> Iterator[People]:
    """Makes accounts with unique addresses; they are deleted at the end."""
    people = People(db)
    yield people
    people.remove()


@pytest.fixture
def empty_queue(db: Connection) -> None:
    """No operation of another test is waiting or running."""
    db.execute("delete from public.image_operations where status in ('pending', 'processing')")


@pytest.fixture
def empty_outbox(db: Connection) -> None:
    """No mail of another test waits or is being sent."""
    db.execute("delete from public.email_logs where status in ('queued', 'sending')")
