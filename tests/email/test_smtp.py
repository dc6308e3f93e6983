"""Mails by SMTP, to a real server on loopback that accepts, refuses and falls silent."""

import asyncio
import email
import email.policy
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from services.email import senders
from services.email.outbox import Outcome
from services.email.senders import Answer, Trouble, make_sender
from tests.email.test_senders import RECIPIENT, mail, settings


class MailServer:
    """Keeps what it accepts; `replies` are what it says to a command instead."""

    def __init__(self) -> None:
        self.accepted: list[Envelope] = []
        self.recipients: list[str] = []
        """What RCPT said, as it came; aiosmtpd decodes what looks like an encoded word in an address."""
        self.replies: dict[str, str] = {}
        self.cuts = False
        self.is_silent = False

    async def handle_MAIL(  # noqa: N802 - the server's names
        self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]
    ) -> str:
        envelope.mail_from = address
        return self.replies.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802
        self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        return self.replies.get("RCPT", "250 OK")

    async def handle_DATA(self, server: SMTP, _: Session, envelope: Envelope) -> str:  # noqa: N802
        reply = self.replies.get("DATA", "250 OK")
        if reply.startswith("250"):
            self.accepted.append(envelope)
        if self.cuts:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        if self.is_silent:
            await asyncio.sleep(60)
        return reply

    async def handle_QUIT(self, _: SMTP, __: Session, ___: Envelope) -> str:  # noqa: N802
        return self.replies.get("QUIT", "221 Bye")

    def message(self) -> EmailMessage:
        """The one mail that was accepted."""
        (envelope,) = self.accepted
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        return message


class Protocol(SMTP):
    """Lets the mail server hear what is asked of it word by word."""

    async def smtp_RCPT(self, arg: str) -> None:  # noqa: N802 - the server's name
        assert isinstance(self.event_handler, MailServer)
        self.event_handler.recipients.append(arg)
        await super().smtp_RCPT(arg)


class WordByWord(Controller):
    """Serves by that protocol."""

    def factory(self) -> SMTP:
        return Protocol(self.handler, **self.SMTP_kwargs)


@contextmanager
def serving(server: MailServer, **options: Any) -> Iterator[str]:
    """Serve by SMTP; yields the address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    controller = WordByWord(server, hostname="127.0.0.1", port=port, **options)
    controller.start()
    yield f"127.0.0.1:{port}"
    controller.stop()


@pytest.fixture
def server() -> MailServer:
    return MailServer()


@pytest.fixture
def address(server: MailServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(senders, "SILENCE_TIMEOUT", 1)
    with serving(server) as address:
        yield address


def send(address: str, *, credentials: str = "", **values: Any) -> Answer:
    return make_sender(settings(smtp_url=f"smtp://{credentials}{address}")).pack(replace(mail(), **values))()


def test_a_mail_arrives_with_both_texts_and_the_button_to_unsubscribe(server: MailServer, address: str) -> None:
    link = f"https://mail.example.test/unsubscribe?token={'x' * 300}"
    answer = send(address, subject="Grüße — 20 %", unsubscribe_url=link)
    assert answer == Answer(Outcome.SENT)
    message = server.message()
    assert server.accepted[0].rcpt_tos == [RECIPIENT]
    assert (message["From"], message["To"]) == ("DTF Editor <hello@example.test>", RECIPIENT)
    assert message["Subject"] == "Grüße — 20 %"
    assert message["List-Unsubscribe"] == f"<{link}>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    # Mail programs read the header as it stands: not folded and not encoded.
    assert isinstance(server.accepted[0].content, bytes)
    assert f"List-Unsubscribe: <{link}>\r\n".encode() in server.accepted[0].content
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    assert text.get_content().strip() == "Thänk you"
    assert html.get_content().strip() == "<p>Thänk you</p>"


@pytest.mark.parametrize(
    ("command", "reply", "outcome", "trouble"),
    [
        ("MAIL", "550 sender not allowed", Outcome.RETRY, Trouble.REFUSED),
        ("MAIL", "451 later", Outcome.RETRY, None),
        ("RCPT", "550 no such user", Outcome.FAILED, None),
        ("RCPT", "450 mailbox busy", Outcome.RETRY, None),
        ("RCPT", "421 closing", Outcome.RETRY, Trouble.UNAVAILABLE),
        ("DATA", "554 spam", Outcome.FAILED, None),
        ("DATA", "452 disk full", Outcome.RETRY, None),
    ],
)
def test_a_refusal_is_final_passes_or_is_none_of_the_mail(
    server: MailServer, address: str, command: str, reply: str, outcome: Outcome, trouble: Trouble | None
) -> None:
    server.replies[command] = reply
    answer = send(address)
    assert (answer.outcome, answer.trouble) == (outcome, trouble)
    assert reply in str(answer.error)
    assert not server.accepted


def test_a_strange_farewell_does_not_undo_a_mail(server: MailServer, address: str) -> None:
    server.replies["QUIT"] = "500 no"
    assert send(address).outcome is Outcome.SENT


@pytest.mark.parametrize("is_silent", [True, False])
def test_no_answer_after_the_mail_leaves_it_unknown(server: MailServer, address: str, is_silent: bool) -> None:
    server.is_silent, server.cuts = is_silent, not is_silent
    answer = send(address)
    assert (answer.outcome, answer.trouble) == (Outcome.UNKNOWN, Trouble.UNAVAILABLE)
    assert len(server.accepted) == 1


def test_without_a_connection_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = f"127.0.0.1:{unused.getsockname()[1]}"
    answer = send(closed)
    assert (answer.outcome, answer.trouble, answer.is_counted) == (Outcome.RETRY, Trouble.UNAVAILABLE, False)


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
def test_the_password_of_the_address_is_used_and_a_wrong_one_pauses(server: MailServer) -> None:
    def check(_: SMTP, __: Session, ___: Envelope, ____: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"ada@x", b"p/w"), handled=False)

    with serving(server, authenticator=check, auth_required=True, auth_require_tls=False) as address:
        assert send(address, credentials="ada%40x:p%2Fw@").outcome is Outcome.SENT
        wrong = send(address, credentials="ada%40x:other@")
        none = send(address)
    assert (wrong.outcome, wrong.trouble) == (Outcome.RETRY, Trouble.REFUSED)
    assert (none.outcome, none.trouble) == (Outcome.RETRY, Trouble.REFUSED)
    assert "p/w" not in str(wrong.error)


@pytest.mark.parametrize(
    "recipient",
    [
        "grüße@example.test",
        "ada@example.test\r\nRCPT TO:<eve@example.test>",
        "ada@example.test> NOTIFY=NEVER",
        "eve@example.test,ada@example.test",
        "Ada <ada@example.test>",
        "ada",
        "ada@",
        "a(b)c@example.test",
        "",
    ],
)
def test_what_is_no_address_is_refused_before_anybody_is_asked(
    server: MailServer, address: str, recipient: str
) -> None:
    with pytest.raises(ValueError, match="no address"):
        send(address, recipient=recipient)
    assert not server.accepted


@pytest.mark.parametrize("recipient", ["=?utf-8?q?eve=40example.test=2C?=@example.test", "o'x/{y}=~%z+w@example.test"])
def test_an_address_goes_out_as_it_is_written(server: MailServer, address: str, recipient: str) -> None:
    assert send(address, recipient=recipient).outcome is Outcome.SENT
    assert server.recipients == [f"TO:<{recipient}>"]
    assert isinstance(server.accepted[0].content, bytes)
    assert f"\r\nTo: {recipient}\r\n".encode() in server.accepted[0].content


@pytest.mark.parametrize(
    "subject",
    ["=?x?b?!!?=", "Hello =?utf-8?q?http=3A=2F=2Feve.test?=", "Grüße =?utf-8?q?x?=", f"{'ä' * 120} end", "tab\there"],
)
def test_a_subject_is_read_as_it_was_written(server: MailServer, address: str, subject: str) -> None:
    assert send(address, subject=subject).outcome is Outcome.SENT
    assert server.message()["Subject"] == subject
    assert all(len(line) <= 998 for line in server.message().as_bytes().splitlines())


def test_a_password_does_not_cross_a_network_in_the_clear(monkeypatch: pytest.MonkeyPatch, server: MailServer) -> None:
    monkeypatch.setattr(senders, "LOOPBACK", frozenset[str]())
    with serving(server, auth_require_tls=False) as address:
        answer = send(address, credentials="ada:secret@")
    assert (answer.outcome, answer.trouble) == (Outcome.RETRY, Trouble.REFUSED)
    assert not server.accepted
