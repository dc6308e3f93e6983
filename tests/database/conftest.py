"""Fixtures of the database tests: one connection, and people who act on it."""

from collections.abc import Iterator

import pytest

from cli.local.stack import StackStatus
from tests.database.personas import Connection, People, connect


@pytest.fixture(scope="session")
def db_url(stack: StackStatus) -> str:
    """The database as the migration role."""
    return stack.db_url


@pytest.fixture(scope="session")
def db(db_url: str) -> Iterator[Connection]:
    """A connection as the owner of the tables, whom neither grants nor policies hold."""
    with connect(db_url) as connection:
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
