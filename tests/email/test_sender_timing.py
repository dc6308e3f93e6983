"""What the sender does when answers come too late, or at a moment that a process from outside cannot be brought to."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from local.stack import StackStatus
from services.email import sender as sender_module
from services.email.health import Metrics
from services.email.outbox import Claim, Outbox
from services.email.sender import EmailSender
from services.email.senders import Answer, Mail, Sender, make_sender
from services.email.settings import EmailSettings
from services.project import RefusedError, connect, http_client
from tests.email.conftest import Post
from tests.email.sendgrid_double import KEY, Fault, SendGridDouble

Make = Callable[[Any], Outbox]


@asynccontextmanager
async def sending(
    stack: StackStatus,
    sendgrid: SendGridDouble,
    make: Make = Outbox,
    way: Callable[[EmailSettings], Sender] = make_sender,
) -> AsyncIterator[tuple[EmailSender, Metrics]]:
    """A sender of this process that sends while the context lasts."""
    settings = EmailSettings.model_validate(
        {
            "supabase_url": stack.api_url,
            "supabase_secret_key": stack.secret_key,
            "sender": "hello@example.test",
            "app_url": "https://app.example.test",
            "public_url": "https://mail.example.test",
            "link_secret": "0123456789abcdef" * 2,
            "sendgrid_api_key": KEY,
            "sendgrid_api_url": sendgrid.url,
            "poll_seconds": 0.2,
        }
    )
    metrics = Metrics()
    async with http_client() as http:
        sender = EmailSender(settings, make(await connect(settings, http)), way(settings), metrics)
        running = asyncio.create_task(sender.run())
        yield sender, metrics
        sender.stop()
        await running


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what changes is in the database
            await asyncio.sleep(0.02)


def test_an_answer_after_the_deadline_is_still_news(
    stack: StackStatus, post: Post, sendgrid: SendGridDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "SEND_DEADLINE", 0.3)
    sendgrid.faulty(Fault(accepted=True, delay=2))
    (email_id,) = post.mails(1)

    async def story() -> None:
        async with sending(stack, sendgrid):
            await until(lambda: post.row(email_id)["status"] == "unknown")
            assert post.row(email_id)["error"] == "No answer within 0.3 s"
            await until(lambda: post.row(email_id)["status"] == "sent")

    asyncio.run(story())
    assert sendgrid.times_sent()[str(email_id)] == 1


def test_what_was_claimed_after_the_signal_to_stop_goes_back_uncounted(
    stack: StackStatus, post: Post, sendgrid: SendGridDouble
) -> None:
    email_ids = post.mails(3)
    senders: list[EmailSender] = []
    claims: list[Claim] = []

    class StoppedMeanwhile(Outbox):
        async def claim(self, limit: int) -> Claim:
            claim = await super().claim(limit)
            claims.append(claim)
            senders[0].stop()
            return claim

    async def story() -> None:
        async with sending(stack, sendgrid, StoppedMeanwhile) as (sender, _):
            senders.append(sender)
            await until(lambda: claims)

    asyncio.run(story())
    assert {email.id for email in claims[0].emails} >= set(email_ids)
    assert post.statuses(*email_ids) == {"queued"}
    assert {post.row(email_id)["attempts"] for email_id in email_ids} == {0}
    assert not sendgrid.requests


def test_an_outbox_that_refuses_to_hear_stops_the_sending(
    stack: StackStatus, post: Post, sendgrid: SendGridDouble
) -> None:
    (first,) = post.mails(1)

    class Deaf(Outbox):
        async def settle(self, token: UUID, results: object) -> None:
            raise RefusedError("settle_emails was refused: 42501")

    async def story() -> None:
        async with sending(stack, sendgrid, Deaf) as (_, metrics):
            await until(lambda: not metrics.check()[0])
            assert metrics.check()[1]["status"] == "results are refused"
            later = post.mails(1)
            await asyncio.sleep(1)
            assert post.statuses(*later) == {"queued"}

    asyncio.run(story())
    assert sendgrid.times_sent()[str(first)] == 1


def test_what_fails_while_a_mail_is_made_is_that_mails_failure_alone(
    stack: StackStatus, post: Post, sendgrid: SendGridDouble
) -> None:
    broken, sound = post.mails(2)

    class Choosy:
        def __init__(self, settings: EmailSettings) -> None:
            self._sender = make_sender(settings)

        def pack(self, mail: Mail) -> Callable[[], Answer]:
            if mail.id == str(broken):
                raise IndexError("as the standard library does of some addresses")
            return self._sender.pack(mail)

    async def story() -> None:
        async with sending(stack, sendgrid, way=Choosy) as (_, metrics):
            await until(lambda: post.statuses(broken, sound) == {"failed", "sent"})
            assert metrics.check()[1]["status"] == "ok"

    asyncio.run(story())
    assert post.row(broken)["error"] == "IndexError while the mail was made"
    assert not sendgrid.asked_for(broken)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError()])
def test_what_the_machine_lacks_while_a_mail_is_made_is_not_the_mails_fault(
    stack: StackStatus, post: Post, sendgrid: SendGridDouble, error: Exception
) -> None:
    (email_id,) = post.mails(1)
    lacks = iter([error])

    class Lacking:
        def __init__(self, settings: EmailSettings) -> None:
            self._sender = make_sender(settings)

        def pack(self, mail: Mail) -> Callable[[], Answer]:
            for error in lacks:
                raise error
            return self._sender.pack(mail)

    async def story() -> None:
        async with sending(stack, sendgrid, way=Lacking) as (_, metrics):
            await until(lambda: metrics.check()[1]["status"] == "exhausted")
            assert not metrics.check()[0]
            await until(lambda: post.row(email_id)["status"] == "sent")

    asyncio.run(story())
    assert post.row(email_id)["attempts"] == 1


def test_every_thread_is_there_before_the_first_mail(stack: StackStatus, sendgrid: SendGridDouble) -> None:
    async def story() -> None:
        async with sending(stack, sendgrid):
            await until(lambda: sum(thread.name.startswith("send_") for thread in threading.enumerate()) == 10)

    asyncio.run(story())


def test_a_fault_while_campaigns_are_expanded_ends_the_sender(stack: StackStatus, sendgrid: SendGridDouble) -> None:
    class Broken(Outbox):
        async def expand_campaigns(self, limit: int) -> int:
            raise TypeError("a fault")

    async def story() -> None:
        async with sending(stack, sendgrid, Broken) as (sender, _):
            await until(lambda: sender._stopping)

    with pytest.raises(TypeError, match="a fault"):
        asyncio.run(story())
