"""The e-mail service as a process on a real stack, with a mail server on loopback that answers as relays do."""

import resource
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest

from local.stack import StackStatus
from services.email.sender import SEVERAL
from tests.database.personas import Connection, People
from tests.e2e.proxy import Proxy
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


def times_accepted(server: MailServer) -> Counter[str]:
    """How many times the server took a mail, by address."""
    return Counter(envelope.rcpt_tos[0] for envelope in server.accepted)


def suppressions(db: Connection, address: str) -> list[tuple[str, str]]:
    """Why an address gets essential mails only."""
    rows = db.execute("select reason, detail from public.email_suppressions where email = %s", (address,))
    return [(row["reason"], row["detail"]) for row in rows]


QUOTA = "550 5.4.5 Daily user sending quota exceeded"


@pytest.mark.parametrize(
    ("command", "reply", "status", "is_clear"),
    [
        ("RCPT", QUOTA, "refused", True),
        ("DATA", "554 5.7.1 Your account is suspended", "refused", False),
        ("DATA", "452 4.3.1 Insufficient system storage", "unavailable", True),
        ("RCPT", "451 Temporary local problem", "unavailable", False),
    ],
)
def test_what_the_relay_refuses_everybody_fails_no_mail(
    post: Post, server: MailServer, smtp_url: str, run: Run, command: str, reply: str, status: str, is_clear: bool
) -> None:
    mails = post.mails(30)
    server.replies[command] = reply
    service = run(EMAIL_SMTP_URL=smtp_url)
    until(lambda: service.said("sending_paused"))
    until(lambda: "sending" not in post.statuses(*mails))
    assert post.statuses(*mails) == {"queued"}
    attempts = Counter(post.row(email_id)["attempts"] for email_id in mails)
    assert attempts[1] == (0 if is_clear else SEVERAL - 1)
    assert attempts[0] == 30 - attempts[1]
    assert len(server.recipients) <= 12, "the first ten, and then one for each longer pause"
    health = service.health()
    assert (health.status_code, health.json()["status"]) == (503 if status == "refused" else 200, status)
    assert health.json()["error"] == f"The mail server answered {reply}"
    figures = service.metrics()
    assert f'dtf_email_paused{{reason="{status}"}} 1.0' in figures
    assert f'dtf_email_pause_info{{error="The mail server answered {reply}",reason="{status}"}} 1.0' in figures

    server.replies.clear()
    post.hurry(*mails)
    until(lambda: post.statuses(*mails) == {"sent"})
    assert set(times_accepted(server).values()) == {1}
    assert max(post.row(email_id)["attempts"] for email_id in mails) <= (1 if is_clear else 2)
    assert service.health().json()["status"] == "ok"
    assert "dtf_email_pause_info{" not in service.metrics()


def test_what_one_recipient_does_is_his_mails_alone(
    people: People, post: Post, db: Connection, server: MailServer, smtp_url: str, run: Run
) -> None:
    gone, spammy, full, *others = post.mails(9)
    addresses = {email_id: post.row(email_id)["recipient"] for email_id in (gone, spammy, full)}
    server.replies = {
        addresses[gone]: f"550 5.1.1 <{addresses[gone].upper()}>: user unknown",
        addresses[spammy]: "554 5.7.1 looks like spam",
        addresses[full]: "552 5.2.2 mailbox full",
    }
    service = run(EMAIL_SMTP_URL=smtp_url)
    until(lambda: post.statuses(*others) == {"sent"} and post.statuses(gone) == {"failed"})
    until(lambda: post.statuses(spammy, full) == {"queued"})
    assert {post.row(email_id)["attempts"] for email_id in (spammy, full)} == {1}
    assert not service.said("sending_paused")
    said = f"The mail server answered {server.replies[addresses[gone]]}"
    assert post.row(gone)["error"] == said
    assert suppressions(db, addresses[gone]) == [("bounce", said)]
    assert suppressions(db, addresses[spammy]) == suppressions(db, addresses[full]) == []
    assert not any(address.upper() in service.log.read_text().upper() for address in addresses.values())
    # Another mail that he needs still goes out, and nothing else does.
    refusal = db.execute(
        "select private.email_refusal(p, 'essential') as essential, private.email_refusal(p, 'notification') as other"
        " from public.profiles as p where p.email = %s",
        (addresses[gone],),
    ).fetchall()
    assert refusal == [{"essential": None, "other": "suppressed: bounce"}]


def test_a_lost_answer_suppresses_once_and_a_sender_killed_before_it_told_suppresses_nobody(
    stack: StackStatus, post: Post, db: Connection, server: MailServer, smtp_url: str, run: Run
) -> None:
    server.replies["RCPT"] = "550 5.1.1 user unknown"
    with Proxy(stack.api_url) as proxy:
        proxy.loses = b"/rpc/settle_emails"
        service = run(EMAIL_SMTP_URL=smtp_url, url=proxy.url)
        (heard,) = post.mails(1)
        until(lambda: post.statuses(heard) == {"failed"})
        proxy.loses = None
        proxy.swallows = b"/rpc/settle_emails"
        (unheard,) = post.mails(1)
        until(lambda: len(server.recipients) == 2)
        service.kill()
    assert len(suppressions(db, post.row(heard)["recipient"])) == 1
    post.hurry(unheard)
    server.replies.clear()
    run(EMAIL_SMTP_URL=smtp_url)
    until(lambda: post.statuses(unheard) == {"unknown"})
    assert suppressions(db, post.row(unheard)["recipient"]) == []
    assert not server.accepted
