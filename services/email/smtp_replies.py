"""What a mail server's refusal is about: the recipient, the mail, or the server itself and us who ask it.

The enhanced status code decides, where there is one, and not the first digit of the reply: a relay says `550 5.4.5` of
its own daily quota and `554 5.7.1` of an account that it has suspended, for every mail alike. Only what is surely the
recipient's or the mail's fails the mail. What may be either is tried again, and is the relay's where several addresses
in a row meet it.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto


class About(Enum):
    """Whom a refusal is about."""

    GONE = auto()
    """The address: it takes no mail, this one or another."""
    THIS = auto()
    """This mail, or this recipient now: another may pass."""
    FULL = auto()
    """The mailbox: it may be emptied."""
    US = auto()
    """The server, or what it thinks of us: no mail passes."""
    UNCLEAR = auto()


# By subject and detail of the code. The meanings are those of RFC 3463, section 3, and of the registry of RFC 5248,
# https://www.iana.org/assignments/smtp-enhanced-status-codes; behind each the document that defines it. What is not
# here is unclear, be it registered (5.0.0, 5.2.0, 5.7.1 stand for almost anything) or not: Microsoft's 5.1.90 is the
# sender's daily limit, its 5.7.5xx to 5.7.7xx mostly bans of the sender.
CODES = {
    (1, 1): About.GONE,  # bad destination mailbox address, RFC 3463
    (1, 2): About.GONE,  # bad destination system address, RFC 3463
    (1, 3): About.GONE,  # bad destination mailbox address syntax, RFC 3463
    (1, 4): About.THIS,  # destination mailbox address ambiguous, RFC 3463
    (1, 6): About.GONE,  # destination mailbox has moved, no forwarding address, RFC 3463
    (1, 7): About.US,  # bad sender's mailbox address syntax, RFC 3463
    (1, 8): About.US,  # bad sender's system address, RFC 3463
    (1, 10): About.GONE,  # recipient address has null MX, RFC 7505
    # Mailbox disabled, RFC 3463. Google says so of one that gets too much at the moment, too.
    (2, 1): About.THIS,
    (2, 2): About.FULL,  # mailbox full, RFC 3463
    (2, 3): About.THIS,  # message length exceeds administrative limit, RFC 3463
    (2, 4): About.THIS,  # mailing list expansion problem, RFC 3463
    (3, 1): About.US,  # mail system full, RFC 3463
    (3, 2): About.US,  # system not accepting network messages, RFC 3463
    (3, 4): About.THIS,  # message too big for system, RFC 3463
    (3, 5): About.US,  # system incorrectly configured, RFC 3463
    (4, 5): About.US,  # mail system congestion, RFC 3463; Google's daily quota
    (5, 3): About.US,  # too many recipients, RFC 3463: a mail has one here, so they are counted over many
    (7, 2): About.THIS,  # mailing list expansion prohibited, RFC 3463
    (7, 8): About.US,  # authentication credentials invalid, RFC 4954
    (7, 9): About.US,  # authentication mechanism is too weak, RFC 4954
    (7, 10): About.US,  # encryption needed, RFC 5248
    (7, 11): About.US,  # encryption required for requested authentication mechanism, RFC 4954
    (7, 12): About.US,  # a password transition is needed, RFC 4954
    (7, 13): About.US,  # user account disabled, RFC 5248
    (7, 14): About.US,  # trust relationship required, RFC 5248
    (7, 20): About.US,  # no passing DKIM signature found, RFC 7372
    (7, 21): About.US,  # no acceptable DKIM signature found, RFC 7372
    (7, 22): About.US,  # no valid author-matched DKIM signature found, RFC 7372
    (7, 23): About.US,  # SPF validation failed, RFC 7372
    (7, 24): About.US,  # SPF validation error, RFC 7372
    (7, 25): About.US,  # reverse DNS validation failed, RFC 7372
    (7, 26): About.US,  # multiple authentication checks failed, RFC 7372
    (7, 27): About.US,  # sender address has null MX, RFC 7505
    (7, 28): About.US,  # mail flood detected
}
# RFC 4954: who has not signed in, or not so that it counts, whatever the enhanced code.
NOT_SIGNED_IN = frozenset({530, 534, 535, 538})
OVER_QUOTA = 552  # RFC 5321: exceeded storage allocation; some say 5.1.1 of a full mailbox

ENHANCED = re.compile(r"#?([245])\.([0-9]{1,3})\.([0-9]{1,3})(?![.0-9])")  # RFC 2034: the reply begins with it


@dataclass(frozen=True, slots=True)
class Refusal:
    """Whom a refusal is about, and whether it may pass by itself."""

    about: About
    is_passing: bool


def read(code: int, text: str) -> Refusal:
    """What a reply to RCPT or DATA means; `code` is that of RFC 5321, `text` what follows it."""
    found = ENHANCED.match(text)
    about = CODES.get((int(found[2]), int(found[3])), About.UNCLEAR) if found else About.UNCLEAR
    if code in NOT_SIGNED_IN:
        about = About.US
    elif code == OVER_QUOTA and about is About.GONE:
        about = About.FULL
    return Refusal(about, is_passing=(found[1] if found else str(code)[0]) != "5")
