"""The e-mail service as a process on a real stack, with a mail server on loopback that answers as relays do."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from tests.database.personas import Connection, People
from tests.e2e.worker_process import until
from tests.email.conftest import Post
from tests.email.email_process import EmailProcess
from tests.email.test_smtp import MailServer, serving

Run = Callable[..., EmailProcess]


@pytest.fixture
def server() -> MailServer:
    return MailServer()


@pytest.fixture
def smtp_url(server: MailServer) -> Iterator[str]:
    with serving(server) as address:
        yield f"smtp://{address}"


def mail_to(people: People, post: Post, db: Connection, address: str) -> UUID:
    """Queue a mail to somebody who then changes to an address."""
    person = people.new()
    email_id = post.welcome(person)
    db.execute("update auth.users set email = %s where id = %s", (address, person.id))
    return email_id


def test_addresses_that_are_none_hold_nobody_up(
    people: People, post: Post, db: Connection, server: MailServer, smtp_url: str, run: Run
) -> None:
    hostile = [mail_to(people, post, db, f"=?x?b?!!?=@attacker{n}.test") for n in range(6)]
    hostile.append(mail_to(people, post, db, "=?utf-8?q?eve=40example.test=2C?=@attacker.test"))
    (honest,) = post.mails(1)
    service = run(EMAIL_SMTP_URL=smtp_url)
    until(lambda: post.row(honest)["status"] == "sent")
    assert post.statuses(*hostile) == {"suppressed"}
    assert {post.row(email_id)["error"] for email_id in hostile} == {"no address"}
    assert server.recipients == [f"TO:<{post.row(honest)['recipient']}>"]
    assert not service.said("sending_paused")


@contextmanager
def no_more_files(service: EmailProcess) -> Iterator[None]:
    """Let the service open no file and no connection beside those that it has."""
    pid = service.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))  # those of a terminal, which every process has
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_what_this_machine_lacks_is_no_mails_fault(post: Post, server: MailServer, smtp_url: str, run: Run) -> None:
    service = run(EMAIL_SMTP_URL=smtp_url)
    (first,) = post.mails(1)
    until(lambda: post.row(first)["status"] == "sent")
    with no_more_files(service):
        mails = post.mails(3)
        until(lambda: service.said("sending_paused"))
        until(lambda: post.statuses(*mails) == {"queued"})
        errors = {post.row(email_id)["error"] for email_id in mails}
    (said,) = service.said("sending_paused")
    assert (said["level"], said["reason"]) == ("error", "exhausted")
    assert any("Too many open files" in str(error) for error in errors)
    until(lambda: post.statuses(*mails) == {"sent"})
    assert {post.row(email_id)["attempts"] for email_id in mails} == {1}
    assert len(server.accepted) == 4
