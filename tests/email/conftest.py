"""Fixtures of the e-mail tests: people with an outbox on the stack, and a SendGrid on loopback."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from local.stack import Stack, StackStatus
from tests.database.personas import Connection, People, Person, Row, connect
from tests.email import sendgrid_double
from tests.email.email_process import EmailProcess
from tests.email.http_service import HttpService
from tests.email.sendgrid_double import SendGridDouble


@pytest.fixture(scope="package")
def db(local_stack: Stack) -> Iterator[Connection]:
    """A connection as the owner of the tables. The mails that other tests have left are not sent here."""
    with connect(local_stack.state.db_url) as connection:
        connection.execute("delete from public.email_logs where status in ('queued', 'sending')")
        yield connection


@pytest.fixture(scope="package")
def people(db: Connection) -> Iterator[People]:
    people = People(db)
    yield people
    people.remove()


@pytest.fixture
def user(people: People) -> Person:
    return people.new()


@pytest.fixture(scope="module")
def service(stack: StackStatus) -> Iterator[HttpService]:
    """What the world reaches of the service."""
    with HttpService(stack) as service:
        yield service


@pytest.fixture(scope="package")
def one_sendgrid() -> Iterator[SendGridDouble]:
    with sendgrid_double.serve() as double:
        yield double


@pytest.fixture
def sendgrid(one_sendgrid: SendGridDouble) -> SendGridDouble:
    one_sendgrid.reset()
    return one_sendgrid


@pytest.fixture
def run(stack: StackStatus, sendgrid: SendGridDouble, tmp_path: Any) -> Iterator[Callable[..., EmailProcess]]:
    """Starts the service, with settings of its environment; it is killed in the end."""
    running: list[EmailProcess] = []

    def start(**options: Any) -> EmailProcess:
        process = EmailProcess(stack, sendgrid.url, tmp_path / f"{len(running)}.log", **options)
        process.start()
        running.append(process)
        return process

    yield start
    for process in running:
        process.__exit__()


class Post:
    """The outbox as tests use it."""

    def __init__(self, people: People) -> None:
        self._people = people
        self._db = people.connection

    def welcome(self, person: Person) -> UUID:
        """Queue an essential mail."""
        row = self._db.execute(
            "select private.queue_email(%s, 'welcome', %s, %s) as id",
            (person.id, f"test:{uuid4()}", Jsonb({"credits": "2 credits"})),
        ).fetchone()
        assert row is not None
        assert isinstance(row["id"], UUID)
        return row["id"]

    def mails(self, count: int) -> list[UUID]:
        """Queue so many mails to as many new people."""
        return [self.welcome(self._people.new()) for _ in range(count)]

    def row(self, email_id: UUID) -> Row:
        """The mail as it is now."""
        row = self._db.execute("select * from public.email_logs where id = %s", (email_id,)).fetchone()
        assert row is not None
        return row

    def statuses(self, *email_ids: UUID) -> set[str]:
        """What has become of these mails."""
        rows = self._db.execute("select status from public.email_logs where id = any(%s)", (list(email_ids),))
        return {row["status"] for row in rows}

    def hurry(self, *email_ids: UUID) -> None:
        """Let mails that wait for another try be due now, and leases be over."""
        self._db.execute(
            "update public.email_logs set next_attempt_at = now() where id = any(%s) and status = 'queued'",
            (list(email_ids),),
        )
        self._db.execute(
            "update public.email_logs set lease_expires_at = now() - interval '1 second' "
            "where id = any(%s) and status = 'sending'",
            (list(email_ids),),
        )


@pytest.fixture
def post(people: People) -> Post:
    return Post(people)
