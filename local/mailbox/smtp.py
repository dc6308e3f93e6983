"""The SMTP side: every mail is taken, whoever it is for."""

import asyncio
from email.utils import formatdate

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from local.mailbox.folder import Folder
from local.mailbox.reading import ENVELOPE_TO

LARGEST_MAIL = 10 * 1024 * 1024  # bytes
MOST_RECIPIENTS = 50

log = structlog.get_logger(__name__)


class Intake:
    """What the server does with a mail."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    async def handle_RCPT(  # noqa: N802 - the server's names
        self, _: SMTP, __: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Answer RCPT TO."""
        if len(envelope.rcpt_tos) >= MOST_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _: SMTP, __: Session, envelope: Envelope) -> str:  # noqa: N802
        """Answer the end of DATA, once the mail is on the disk."""
        content = envelope.original_content or b""
        try:
            mail = await asyncio.to_thread(self._folder.keep, _stamped(envelope, content))
        except OSError as error:
            log.error("mail_not_kept", error=str(error))
            return "452 4.3.1 The mail cannot be written"
        log.info("mail_kept", id=mail, recipients=envelope.rcpt_tos, size=len(content))
        return f"250 2.0.0 Kept as {mail}"


def _stamped(envelope: Envelope, content: bytes) -> bytes:
    """The mail below what only its envelope tells: the headers of a mail may name other people, or nobody."""
    # The last one takes the blame for a mail that begins with the continuation of a header.
    stamp = (
        f"Return-Path: <{envelope.mail_from or ''}>\r\n"
        f"{ENVELOPE_TO}: {', '.join(envelope.rcpt_tos)}\r\n"
        f"Received: by the mailbox of the local stack; {formatdate(localtime=True)}\r\n"
    )
    return stamp.encode("utf-8", "replace") + content


def make_smtp(folder: Folder) -> SMTP:
    """The protocol of one connection."""
    return SMTP(
        Intake(folder),
        data_size_limit=LARGEST_MAIL,
        enable_SMTPUTF8=True,
        hostname="localhost",
        ident="mailbox",
        loop=asyncio.get_running_loop(),
    )
