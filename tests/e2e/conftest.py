"""The database of the end-to-end tests."""

from collections.abc import Iterator

import pytest

from local.stack import StackStatus
from tests.e2e.operations import Database, connect


@pytest.fixture
def db(stack: StackStatus) -> Iterator[Database]:
    """The database as the owner of its tables, with no operation of another test waiting or running."""
    with connect(stack) as connection:
        connection.execute("delete from public.image_operations where status in ('pending', 'processing')")
        yield connection
