"""What SendGrid tells of mails: whether it was SendGrid that spoke, and its events in the words of the database.

The signature is checked with `cryptography` and not with the helper of the `sendgrid` package: that one takes the
body as text, raises errors of several kinds for what is no signature, and knows no time.
"""

import base64
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from services.http import ForgedError

SIGNATURE_HEADER = "x-twilio-email-event-webhook-signature"
TIMESTAMP_HEADER = "x-twilio-email-event-webhook-timestamp"

# SendGrid repeats a delivery for 24 hours and does not say whether it signs it anew; each event counts once anyway.
OLDEST = 25 * 3600.0  # seconds
CLOCK_SKEW = 300.0  # seconds

LONGEST_EVENT_ID = 100
LONGEST_REASON = 500
LONGEST_ADDRESS = 320

TYPES = frozenset(
    {"processed", "deferred", "delivered", "bounce", "dropped", "open", "click"}
    | {"spamreport", "unsubscribe", "group_unsubscribe", "group_resubscribe"}
)

Event = dict[str, str | None]


class UnreadableError(Exception):
    """The body is signed, but no list of events."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The events of a delivery, and how many entries of it are none that anything depends on."""

    events: list[Event]
    ignored: int


def load_key(text: str) -> EllipticCurvePublicKey:
    """The verification key as SendGrid shows it, DER in base64. Raises ValueError."""
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("it is not a verification key as SendGrid shows it") from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise ValueError("it is not a verification key as SendGrid shows it")
    return key


def verify(body: bytes, signature: str, timestamp: str, keys: tuple[EllipticCurvePublicKey, ...], now: float) -> None:
    """Check who signed a body, and when. `now` in seconds since 1970. Raises ForgedError."""
    if not re.fullmatch("[0-9]{1,12}", timestamp):
        raise ForgedError("The signature is not valid")
    try:
        signed = base64.b64decode(signature, validate=True)
    except ValueError as error:
        raise ForgedError("The signature is not valid") from error
    if not any(_is_signed(key, signed, timestamp.encode() + body) for key in keys):
        raise ForgedError("The signature is not valid")
    if not -CLOCK_SKEW <= now - int(timestamp) <= OLDEST:
        raise ForgedError("The signature is too old, or a clock is wrong")


def _is_signed(key: EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    try:
        key.verify(signature, message, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def translate(body: bytes) -> Batch:
    """The events in a body. One that is not understood does not bar the others. Raises UnreadableError."""
    try:
        entries = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("The body is not JSON") from error
    if not isinstance(entries, list):
        raise UnreadableError("The body is not a list of events")
    events = [event for entry in entries if (event := _event(entry)) is not None]
    return Batch(events, len(entries) - len(events))


def _event(entry: Any) -> Event | None:
    if not isinstance(entry, dict):
        return None
    kind, event_id, occurred_at = entry.get("event"), _text(entry.get("sg_event_id"), None), _time(entry)
    if (
        not isinstance(kind, str)
        or kind not in TYPES
        or not event_id
        or len(event_id) > LONGEST_EVENT_ID
        or occurred_at is None
    ):
        return None
    # Apple's mail program fetches the pictures of every mail, read or not.
    if kind == "open" and entry.get("sg_machine_open") is True:
        return None
    return {
        "sg_event_id": event_id,
        "email_id": _uuid(entry.get("email_id")),
        # The server of a blocked mail refused this one, not the address.
        "event_type": "blocked" if kind == "bounce" and entry.get("type") == "blocked" else kind,
        "occurred_at": occurred_at,
        "reason": _text(entry.get("reason"), LONGEST_REASON),
        "email": _text(entry.get("email"), LONGEST_ADDRESS),
    }


def _time(entry: dict[str, Any]) -> str | None:
    """When the event happened; none after now, by whatever clock."""
    seconds = entry.get("timestamp")
    if not isinstance(seconds, int) or isinstance(seconds, bool) or seconds <= 0:
        return None
    now = datetime.now(UTC)
    return datetime.fromtimestamp(min(seconds, now.timestamp()), UTC).isoformat()


def _uuid(value: Any) -> str | None:
    """Our id of the mail; other mails of the same SendGrid account carry none."""
    try:
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def _text(value: Any, longest: int | None) -> str | None:
    """A text as Postgres can keep it: without NUL and halves of characters."""
    if not isinstance(value, str):
        return None
    return value.encode("utf-8", "replace").decode().replace("\0", "")[:longest]
