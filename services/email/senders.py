"""The ways a mail leaves: SendGrid, by its own SDK, or SMTP. What each answer means for the mail is decided here.

Sending twice is worse than sending late, and a provider has no way to recognize a repeated mail. So each way tells
apart what was surely not accepted from what may have been: once the whole mail may be at the other side, silence
means `unknown`. Both block, and run in threads.
"""

import binascii
import http.client
import json
import re
import smtplib
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.header import Header
from email.message import EmailMessage, Message
from email.policy import SMTP
from email.utils import format_datetime, formataddr, localtime, parseaddr
from enum import StrEnum
from functools import cache, partial
from typing import Any, Protocol
from urllib.error import URLError
from urllib.parse import unquote, urlsplit

import python_http_client
from pydantic import SecretStr
from python_http_client.exceptions import HTTPError
from sendgrid import SendGridAPIClient

from services.email import smtp_replies
from services.email.outbox import Outcome
from services.email.settings import EmailSettings
from services.email.smtp_replies import About
from services.settings import SettingsError
from services.shortage import is_shortage
from services.waiting import retry_after

SILENCE_TIMEOUT = 20.0  # seconds that a provider may say nothing
LONGEST_PAUSE = 3600.0  # seconds, whatever a provider asks for

CLIPPED_BYTES = 102_000
"""Gmail shows no more of a mail's HTML, as it is sent: neither its end nor the link to unsubscribe there."""

TOO_LARGE = 413
TOO_MANY_REQUESTS = 429
UNAVAILABLE = 503
# The key, the account, or an address where no mail is taken. A redirect comes from a wrong address too.
NOT_LET_IN = frozenset({401, 403, 404, 405, 407})
# Of a gateway that got no answer: what is behind it may have taken the mail.
GATEWAY_ERRORS = frozenset({502, 504})

SMTP_CLOSING = 421
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# What a line of SMTP can hold as one address; which mail can go to, the database decides.
ADDRESS = re.compile(r"[!-~]+@[!-~]+")
ENDS_ADDRESS = frozenset('<>"(),:;')


class Trouble(StrEnum):
    """Why no mail at all can be sent for a while."""

    EXHAUSTED = "exhausted"
    """This machine has run out of files, memory or room on the disk."""
    RATE_LIMITED = "rate_limited"
    REFUSED = "refused"
    """The provider does not take mails from us: a person has to look at the account or the settings."""
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that is ready to go. With `template_id` SendGrid makes the text, from `data`."""

    id: str
    recipient: str
    type: str
    is_essential: bool
    subject: str
    html: str
    text: str
    unsubscribe_url: str | None = None
    template_id: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a try."""

    outcome: Outcome
    message_id: str | None = None
    error: str | None = None
    trouble: Trouble | None = None
    doubt: Trouble | None = None
    """What it is trouble of, if others meet it too; by itself it may be this mail's."""
    pause: float | None = None
    """How long the provider asked to be left alone, in seconds, if it did."""
    is_counted: bool = True
    is_bounce: bool = False
    """Whether the address takes no mail at all."""


class Sender(Protocol):
    """A way to send, in two steps: what fails in the first is the mail's, and nothing of it has gone out."""

    def pack(self, mail: Mail) -> Callable[[], Answer]:
        """Make a mail ready, and return what hands it over. Raises for what is wrong with the mail.

        The handover blocks, and never raises for what the provider or the network does.
        """
        ...


def make_sender(settings: EmailSettings) -> Sender:
    """The way that the settings choose: SMTP where it has an address, else SendGrid. Raises SettingsError."""
    if settings.smtp_url:
        return SmtpSender(settings, settings.smtp_url)
    if settings.sendgrid_api_key:
        return SendGridSender(settings, settings.sendgrid_api_key)
    raise SettingsError("Neither SENDGRID_API_KEY nor EMAIL_SMTP_URL is set: set the one to send with.")


def html_bytes(html: str) -> int:
    """The size of a mail's HTML as it is sent: in quoted-printable, with the line ends of SMTP."""
    encoded = binascii.b2a_qp(html.encode())
    return len(encoded) + encoded.count(b"\n")


def _refuse_clipped(mail: Mail) -> None:
    if (size := html_bytes(mail.html)) > CLIPPED_BYTES:
        raise ValueError(
            f"its HTML has {size} bytes as it is sent, and Gmail clips it after {CLIPPED_BYTES}. Shorten the template: "
            "each of its elements carries its styles"
        )


def unsubscribe_headers(mail: Mail) -> dict[str, str]:
    """What makes mail programs show a button to unsubscribe (RFC 8058)."""
    if not mail.unsubscribe_url:
        return {}
    return {
        "List-Unsubscribe": f"<{mail.unsubscribe_url}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }


def unavailable(error: object) -> Answer:
    """Nothing was accepted, for a reason that passes and is none of the mail."""
    return Answer(Outcome.RETRY, error=str(error), trouble=Trouble.UNAVAILABLE, is_counted=False)


def exhausted(error: BaseException) -> Answer:
    """Nothing was accepted, for want of something that this machine lacks."""
    text = f"The machine of the sender lacks something: {type(error).__name__} {error}".strip()
    return Answer(Outcome.RETRY, error=text, trouble=Trouble.EXHAUSTED, is_counted=False)


def not_connected(whom: str, error: BaseException) -> Answer:
    """There was no connection: nothing was accepted."""
    return exhausted(error) if is_shortage(error) else unavailable(f"{whom} cannot be reached: {error}")


class SendGridSender:
    """Sends through the SendGrid v3 API."""

    def __init__(self, settings: EmailSettings, key: SecretStr) -> None:
        self._settings = settings
        api = SendGridAPIClient(key.get_secret_value(), settings.sendgrid_api_url)
        api.client = _Client(settings.sendgrid_api_url, api.client.request_headers, version=3, timeout=SILENCE_TIMEOUT)
        self._api = api

    def pack(self, mail: Mail) -> Callable[[], Answer]:
        """Make a mail ready. Raises ValueError where it would be clipped."""
        return partial(self._send, self._body(mail))

    def _send(self, body: dict[str, Any]) -> Answer:
        try:
            response = self._api.send(body)
        except HTTPError as error:
            return _refused(error)
        except URLError as error:
            if isinstance(error.reason, _NotConnectedError):
                return not_connected("SendGrid", error.reason)
            return _unknown(error.reason)
        except (OSError, http.client.HTTPException) as error:
            return _unknown(error)
        return Answer(Outcome.SENT, message_id=response.headers.get("X-Message-Id"))

    def _body(self, mail: Mail) -> dict[str, Any]:
        """The mail as the API's reference documents it."""
        settings = self._settings
        to: dict[str, Any] = {"to": [{"email": mail.recipient}]}
        body: dict[str, Any] = {
            "from": {"email": settings.sender_address, "name": settings.sender_name},
            "personalizations": [to],
            # What events carry: our own id, and no word about the person.
            "custom_args": {"email_id": mail.id},
            "categories": [mail.type],
            # The link to unsubscribe is ours; SendGrid would write one into receipts too.
            "tracking_settings": {"subscription_tracking": {"enable": False}},
        }
        if settings.reply_to:
            body["reply_to"] = {"email": settings.reply_to}
        if mail.is_essential:
            body["mail_settings"] = {"bypass_unsubscribe_management": {"enable": True}}
        if headers := unsubscribe_headers(mail):
            body["headers"] = headers
        if mail.template_id:
            to["dynamic_template_data"] = dict(mail.data)
            return body | {"template_id": mail.template_id}
        _refuse_clipped(mail)
        content = [{"type": "text/plain", "value": mail.text}, {"type": "text/html", "value": mail.html}]
        return body | {"subject": mail.subject, "content": content}


class _NotConnectedError(OSError):
    """There was no connection: nothing was sent."""


class _PlainConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        try:
            super().connect()
        except OSError as error:
            raise _NotConnectedError(*error.args) from error


class _TlsConnection(_PlainConnection, http.client.HTTPSConnection):
    """The same with TLS: here `super()` above is HTTPSConnection."""


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PlainConnection, req)


class _Https(urllib.request.HTTPSHandler):
    # One context for all calls: to read the authorities' certificates takes longer than a call.
    _shared_context = ssl.create_default_context()

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_TlsConnection, req, context=self._shared_context)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected mail would be asked for instead of sent."""

    def redirect_request(self, *_: object) -> None:
        return None


class _Client(python_http_client.Client):  # type: ignore[misc] # has no types
    """The HTTP client of the SDK, on connections that tell whether there was one at all."""

    def _build_client(self, name: str | None = None) -> "_Client":
        path = [*self._url_path, name] if name else self._url_path
        return _Client(self.host, self.request_headers, self._version, path, timeout=self.timeout)

    def _make_request(self, _: object, request: urllib.request.Request, timeout: float | None = None) -> Any:
        return super()._make_request(_opener(), request, timeout=timeout)


@cache
def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_Http, _Https, _NoRedirects)


def _unknown(error: object) -> Answer:
    """Others would get no answer either: the pause keeps most of them out of doubt."""
    name = f"{type(error).__name__} " if isinstance(error, Exception) else ""
    text = f"No answer after the mail was sent: {name}{error}".strip()
    return Answer(Outcome.UNKNOWN, error=text, trouble=Trouble.UNAVAILABLE)


def _refused(error: HTTPError) -> Answer:
    """What an answer other than 2xx means."""
    text = f"SendGrid answered {error.status_code}: {_error_text(error.body)}"
    status = error.status_code
    if status == TOO_MANY_REQUESTS:
        pause = _pause(error.headers)
        return Answer(Outcome.RETRY, error=text, trouble=Trouble.RATE_LIMITED, pause=pause, is_counted=False)
    if status in NOT_LET_IN or status < 400:
        return Answer(Outcome.RETRY, error=text, trouble=Trouble.REFUSED, is_counted=False)
    if status in GATEWAY_ERRORS:
        return Answer(Outcome.UNKNOWN, error=text, trouble=Trouble.UNAVAILABLE)
    if status >= 500:
        # 503 is about SendGrid; 500 may be about this mail, which must not be tried for ever.
        is_counted = status != UNAVAILABLE
        pause = _pause(error.headers)
        return Answer(Outcome.RETRY, error=text, trouble=Trouble.UNAVAILABLE, pause=pause, is_counted=is_counted)
    if status == TOO_LARGE or _is_about_recipient(error.body):
        return Answer(Outcome.FAILED, error=text)
    # A template or a sender that SendGrid does not know has every mail refused.
    return Answer(Outcome.RETRY, error=text, doubt=Trouble.REFUSED)


def _is_about_recipient(body: bytes) -> bool:
    """Whether an answer names what only this mail has: {"errors": [{"field": "personalizations.0.to.0.email", …}]}."""
    try:
        return any(str(error["field"]).startswith("personalizations") for error in json.loads(body)["errors"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _error_text(body: bytes) -> str:
    """The messages in an answer: {"errors": [{"message": …, "field": …}]}."""
    try:
        errors = json.loads(body)["errors"]
        texts = [
            f"{error['field']}: {error['message']}" if error.get("field") else error["message"] for error in errors
        ]
        return " ".join(texts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return body[:200].decode("utf-8", "replace") or "without a reason"


def _pause(headers: Message | None) -> float | None:
    """The wait that an answer asks for, in seconds: Retry-After, or until X-RateLimit-Reset."""
    if headers is None:
        return None
    after, reset = headers.get("Retry-After", ""), headers.get("X-RateLimit-Reset", "")
    if not after and not reset.isdecimal():
        return None
    seconds = retry_after(after) if after else float(reset) - time.time()
    return None if seconds is None else min(max(seconds, 1.0), LONGEST_PAUSE)


class SmtpSender:
    """Sends by SMTP, each mail on a connection of its own."""

    def __init__(self, settings: EmailSettings, url: SecretStr) -> None:
        self._settings = settings
        self._server = urlsplit(url.get_secret_value())
        self._context = ssl.create_default_context()
        # Asked for once: smtplib asks the name service for every mail.
        name = socket.getfqdn()
        self._our_name = name if "." in name else "[127.0.0.1]"

    def pack(self, mail: Mail) -> Callable[[], Answer]:
        """Make a mail ready. Raises ValueError where SMTP cannot carry it, or it would be clipped."""
        if not ADDRESS.fullmatch(mail.recipient) or ENDS_ADDRESS & set(mail.recipient):
            raise ValueError("its recipient is no address")
        _refuse_clipped(mail)
        return partial(self._send, mail.recipient, self._message(mail))

    def _send(self, recipient: str, message: bytes) -> Answer:
        try:
            smtp = self._connect()
        except smtplib.SMTPNotSupportedError as error:
            return _not_let_in(error)
        except smtplib.SMTPResponseException as error:  # to the greeting, to EHLO, to the password
            return _not_now(error.smtp_code, error.smtp_error)
        except (OSError, smtplib.SMTPException) as error:
            return not_connected("The mail server", error)
        try:
            return self._deliver(smtp, recipient, message)
        finally:
            # Whatever comes of the farewell, the mail has its answer.
            with suppress(OSError, smtplib.SMTPException):
                smtp.quit()
            smtp.close()

    def _connect(self) -> smtplib.SMTP:
        host, port = self._server.hostname or "", self._server.port or 0
        smtp: smtplib.SMTP
        if self._server.scheme == "smtps":
            smtp = smtplib.SMTP_SSL(host, port, self._our_name, timeout=SILENCE_TIMEOUT, context=self._context)
        else:
            smtp = smtplib.SMTP(host, port, self._our_name, timeout=SILENCE_TIMEOUT)
        try:
            smtp.ehlo_or_helo_if_needed()
            if self._server.scheme == "smtp" and smtp.has_extn("starttls"):
                smtp.starttls(context=self._context)
            if self._server.username:
                if not isinstance(smtp.sock, ssl.SSLSocket) and host not in LOOPBACK:
                    raise smtplib.SMTPNotSupportedError("it offers no encryption for the password; use smtps://")
                smtp.login(unquote(self._server.username), unquote(self._server.password or ""))
        except (OSError, smtplib.SMTPException):
            smtp.close()
            raise
        return smtp

    def _deliver(self, smtp: smtplib.SMTP, recipient: str, message: bytes) -> Answer:
        try:
            code, reply = smtp.mail(self._settings.sender_address)
            if not _is_yes(code):  # nobody has been named yet
                return _not_now(code, reply)
            # Not smtp.rcpt, which parses what it is given.
            code, reply = smtp.docmd("RCPT", f"TO:<{recipient}>")
            if not _is_yes(code):
                return _smtp_refused(code, reply)
        except (OSError, smtplib.SMTPException) as error:
            return unavailable(f"The mail server is gone: {error}")
        try:
            code, reply = smtp.data(message)
        except smtplib.SMTPDataError as error:  # before the mail itself was asked for
            return _smtp_refused(error.smtp_code, error.smtp_error)
        except (OSError, smtplib.SMTPException) as error:
            return _unknown(error)
        if _is_yes(code):
            return Answer(Outcome.SENT)
        return _smtp_refused(code, reply) if 400 <= code < 600 else _unknown(f"{code} {_text(reply)}")

    def _message(self, mail: Mail) -> bytes:
        settings = self._settings
        body = EmailMessage(SMTP)
        body.set_content(mail.text, cte="quoted-printable")
        body.add_alternative(mail.html, subtype="html", cte="quoted-printable")
        headers = {
            "From": formataddr((parseaddr(settings.sender)[0], settings.sender_address)),
            "To": mail.recipient,
            "Subject": _literal(mail.subject),
            "Date": format_datetime(localtime()),
            "Message-ID": f"<{mail.id}@{settings.sender_address.rpartition('@')[2]}>",
        }
        if settings.reply_to:
            headers["Reply-To"] = formataddr(parseaddr(settings.reply_to))
        headers |= unsubscribe_headers(mail)
        # Not by EmailMessage, which decodes the encoded words in what it is given: it would name another recipient, or
        # raise (https://github.com/python/cpython/issues/152519).
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return head.encode("ascii") + body.as_bytes()


def _literal(text: str) -> str:
    """A text as a header says it: an encoded word where it has other characters, or looks like one itself."""
    if text.isascii() and text.isprintable() and "=?" not in text:
        return text
    return Header(text, "utf-8", header_name="Subject").encode(linesep="\r\n")


def _not_let_in(error: object) -> Answer:
    text = f"The mail server does not take mails from us: {error}"
    return Answer(Outcome.RETRY, error=text, trouble=Trouble.REFUSED, is_counted=False)


def _not_now(code: int, reply: bytes | str) -> Answer:
    """What a refusal means before a recipient was named: no mail passes, until it does or for good."""
    text = _text(reply)
    if smtp_replies.read(code, text).is_passing:
        return unavailable(f"The mail server answered {code} {text}")
    return _not_let_in(f"{code} {text}")


def _smtp_refused(code: int, reply: bytes | str) -> Answer:
    """What a refusal of a recipient or of his mail means."""
    said = _text(reply)
    text = f"The mail server answered {code} {said}"
    refusal = smtp_replies.read(code, said)
    if code == SMTP_CLOSING or (refusal.about is About.US and refusal.is_passing):
        return unavailable(text)
    match refusal.about:
        case About.US:
            return Answer(Outcome.RETRY, error=text, trouble=Trouble.REFUSED, is_counted=False)
        case About.UNCLEAR:
            doubt = Trouble.UNAVAILABLE if refusal.is_passing else Trouble.REFUSED
            return Answer(Outcome.RETRY, error=text, doubt=doubt)
        case About.GONE | About.THIS if not refusal.is_passing:
            return Answer(Outcome.FAILED, error=text, is_bounce=refusal.about is About.GONE)
    return Answer(Outcome.RETRY, error=text)


def _is_yes(code: int) -> bool:
    return 200 <= code < 300


def _text(reply: bytes | str) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
