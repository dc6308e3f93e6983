"""What the tests of Realtime share."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import Connection

from local.stack import Stack
from tests.local.realtime_socket import Realtime


@pytest.fixture(scope="session")
def realtime(local_stack: Stack) -> Realtime:
    return Realtime(local_stack)


@pytest.fixture
def live(local_stack: Stack) -> Iterator[Connection]:
    """A connection as the migrations' role, and a schema `live` for tables of one test, open to the API's roles."""
    with psycopg.connect(local_stack.state.db_url, autocommit=True) as connection:
        connection.execute(
            "drop schema if exists live cascade; create schema live;"
            "grant usage on schema live to anon, authenticated, service_role;"
            "alter default privileges in schema live grant all on tables to anon, authenticated, service_role"
        )
        yield connection
    with psycopg.connect(local_stack.state.db_url, autocommit=True) as connection:  # the first one may have been cut
        connection.execute("drop schema live cascade")
