"""What a mail says, as far as it can be read: any bytes may be a mail, and none raises here.

The parser's older policy is used because it takes whatever comes; the newer one raises for some broken headers.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser
from email.policy import compat32
from email.utils import parseaddr
from typing import Any

from local.mailbox.folder import received_at

ENVELOPE_TO = "X-Envelope-To"
HEADER_BYTES = 64 * 1024
"""As much of a mail is read for a list."""
CHARSETS = frozenset({"ascii", "utf-8", "iso8859-1", "iso8859-15", "cp1252", "utf-16"})
"""Others are read as UTF-8: some of Python's codecs are no charsets, or take very long."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A mail in a list. `recipients` are whom it was sent to, whatever its headers say."""

    id: str
    received_at: datetime
    sender: str
    recipients: tuple[str, ...]
    subject: str


@dataclass(frozen=True, slots=True)
class Mail:
    """A whole mail: its headers in order, and its text in the forms that it has."""

    headers: tuple[tuple[str, str], ...]
    html: str | None
    text: str | None


def summarize(mail: str, head: bytes) -> Summary:
    """What a list shows of the mail of that id, which begins with `head`."""
    message = BytesHeaderParser(policy=compat32).parsebytes(head)
    return Summary(
        mail,
        received_at(mail),
        _decoded(message["From"]),
        # The first is the mailbox's own.
        tuple(filter(None, _decoded(message[ENVELOPE_TO]).split(", "))),
        _decoded(message["Subject"]),
    )


def read_mail(content: bytes) -> Mail:
    """Read a mail; of its parts the first HTML and the first plain text that is not attached."""
    try:
        message = message_from_bytes(content, policy=compat32)
        parts = list(_bodies(message))
    except RecursionError:  # parts within parts within parts
        message = BytesHeaderParser(policy=compat32).parsebytes(content)
        parts = []
    headers = tuple((_clean(name), _decoded(value)) for name, value in message.items())
    return Mail(headers, _first(parts, "text/html"), _first(parts, "text/plain"))


def name_and_address(sender: str) -> tuple[str, str]:
    """`DTF Editor <hello@example.com>` in its two parts; the name may be empty."""
    return parseaddr(sender)


def _bodies(message: Message) -> Iterator[Message]:
    for part in message.walk():
        if not part.is_multipart() and part.get_content_disposition() != "attachment":
            yield part


def _first(parts: list[Message], content_type: str) -> str | None:
    for part in parts:
        if part.get_content_type() == content_type:
            payload = part.get_payload(decode=True)
            return _clean(payload.decode(_charset(part), "replace")) if isinstance(payload, bytes) else None
    return None


def _charset(part: Message) -> str:
    try:
        name = codecs.lookup(part.get_content_charset("utf-8")).name
    except (LookupError, ValueError):
        return "utf-8"
    return name if name in CHARSETS else "utf-8"


def _decoded(value: Any) -> str:
    """A header as people read it, on one line."""
    try:
        text = str(make_header(decode_header(value or "")))
    except (MessageError, LookupError, ValueError):
        text = str(value)
    return " ".join(_clean(text).split())


def _clean(text: str) -> str:
    """A text that can be encoded: bytes that were none of the charset become U+FFFD or a question mark."""
    return text.encode("utf-8", "replace").decode()
