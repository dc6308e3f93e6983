"""Mails by SMTP, to a real server on loopback that accepts, refuses and falls silent."""

import asyncio
import email
import email.policy
import socket
import threading
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
    """Keeps what it accepts; `replies` are what it says to a command instead, or to RCPT of an address."""

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
        return self.replies.get(address, self.replies.get("RCPT", "250 OK"))

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


FAILS = Answer(Outcome.FAILED)
BOUNCES = Answer(Outcome.FAILED, is_bounce=True)
WAITS = Answer(Outcome.RETRY)
MAY_BE_OURS = Answer(Outcome.RETRY, doubt=Trouble.REFUSED)
MAY_PASS = Answer(Outcome.RETRY, doubt=Trouble.UNAVAILABLE)
OURS = Answer(Outcome.RETRY, trouble=Trouble.REFUSED, is_counted=False)
PASSES = Answer(Outcome.RETRY, trouble=Trouble.UNAVAILABLE, is_counted=False)


@pytest.mark.parametrize(
    ("command", "reply", "meant"),
    [
        # Before a recipient was named.
        ("MAIL", "550 sender not allowed", OURS),
        ("MAIL", "530 5.7.0 Authentication Required. - gsmtp", OURS),
        ("MAIL", "451 later", PASSES),
        ("MAIL", "452 4.3.1 Insufficient system storage", PASSES),
        # The relay's own quota and what it thinks of us.
        ("RCPT", "550 5.4.5 Daily user sending quota exceeded. s5sm12197523qke.120 - gsmtp", OURS),
        ("DATA", "550 5.4.5 Daily user sending quota exceeded", OURS),
        ("RCPT", "550 5.1.8 <hello@example.test>: Sender address rejected: Domain not found", OURS),
        ("RCPT", "530 Must issue a STARTTLS command first", OURS),
        ("RCPT", "554 5.7.13 user account disabled", OURS),
        ("DATA", "550-5.7.26 This mail is unauthenticated\r\n550 5.7.26 and so on", OURS),
        ("RCPT", "452 4.5.3 rate limit exceeded", PASSES),
        ("DATA", "452 4.3.1 Insufficient system resources", PASSES),
        ("RCPT", "421 4.7.0 Try again later, closing connection", PASSES),
        # Either, until others meet it too.
        ("RCPT", "550 5.1.90 Your message can't be sent because you've reached your daily limit", MAY_BE_OURS),
        ("DATA", "554 5.7.1 Account suspended", MAY_BE_OURS),
        ("DATA", "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException", MAY_BE_OURS),
        ("DATA", "554 spam", MAY_BE_OURS),
        ("RCPT", "550 no such user", MAY_BE_OURS),
        ("RCPT", "550 [5.1.1.1] blocked", MAY_BE_OURS),
        ("RCPT", "451 4.7.1 Greylisted for 5 minutes", MAY_PASS),
        ("RCPT", "450 mailbox busy", MAY_PASS),
        ("DATA", "452 disk full", MAY_PASS),
        # The recipient's, or the mail's.
        ("RCPT", "550 5.1.1 <ada@example.test>: user does not exist", BOUNCES),
        ("RCPT", "550 #5.1.1 no such user", BOUNCES),
        ("RCPT", "550-5.1.1 The email account that you tried to reach\r\n550 5.1.1 does not exist.", BOUNCES),
        ("RCPT", "553 5.1.2 not a valid RFC-5321 address", BOUNCES),
        ("RCPT", "501 5.1.3 Invalid address", BOUNCES),
        ("RCPT", "556 5.1.10 Recipient address has null MX", BOUNCES),
        ("DATA", "550 5.1.1 user unknown", BOUNCES),
        ("RCPT", "550 5.2.1 The user you are trying to contact is receiving mail at a rate", FAILS),
        ("DATA", "552 5.3.4 Message too big for system", FAILS),
        ("RCPT", "552 5.2.2 user is overquota", WAITS),
        ("RCPT", "552 5.1.1 recipient overquota", WAITS),
        ("RCPT", "452 4.2.2 The email account that you tried to reach is over quota", WAITS),
        ("RCPT", "450 4.1.1 unverified address: Address verification in progress", WAITS),
    ],
)
def test_the_enhanced_code_tells_whose_fault_a_refusal_is(
    server: MailServer, address: str, command: str, reply: str, meant: Answer
) -> None:
    server.replies[command] = reply
    answer = send(address)
    assert replace(answer, error=None) == meant
    assert reply.splitlines()[-1][4:] in str(answer.error)
    assert not server.accepted


def test_an_answer_after_the_mail_that_cannot_be_read_leaves_it_unknown(server: MailServer, address: str) -> None:
    server.replies["DATA"] = "Thank you"
    assert send(address).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("greeting", "trouble"),
    [("554 5.7.1 blocked", Trouble.REFUSED), ("421 too many connections", Trouble.UNAVAILABLE)],
)
def test_a_server_that_sends_us_away_at_the_door(greeting: str, trouble: Trouble) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(f"{greeting}\r\n".encode())
                connection.recv(100)

        thread = threading.Thread(target=greet)
        thread.start()
        answer = send(f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert (answer.outcome, answer.trouble, answer.is_counted) == (Outcome.RETRY, trouble, False)
    assert greeting in str(answer.error)


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

    def waits(*_: object) -> AuthResult:
        return AuthResult(success=False, handled=False, message="454 4.7.0 Temporary authentication failure")

    with serving(server, authenticator=waits, auth_required=True, auth_require_tls=False) as address:
        later = send(address, credentials="ada:secret@")
    assert (later.outcome, later.trouble) == (Outcome.RETRY, Trouble.UNAVAILABLE)
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
