"""SendGrid's side of the event webhook: a real key, and deliveries as it signs and writes them."""

import base64
import json
import time
import uuid
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.email.events import SIGNATURE_HEADER, TIMESTAMP_HEADER

Delivery = tuple[bytes, dict[str, str]]


class Signer:
    """Holds the private key of a webhook."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())

    @property
    def public_key(self) -> str:
        """As SendGrid shows it under Signed Event Webhook."""
        public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(public).decode()

    def sign(self, body: bytes, at: float | None = None) -> dict[str, str]:
        """The headers of a delivery."""
        timestamp = str(int(time.time() if at is None else at))
        signature = self.key.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
        return {SIGNATURE_HEADER: base64.b64encode(signature).decode(), TIMESTAMP_HEADER: timestamp}

    def deliver(self, *events: Any, at: float | None = None) -> Delivery:
        """A body as SendGrid writes it, one event a line with an end after the last, and its headers."""
        body = b"[" + b",\r\n".join(json.dumps(event).encode() for event in events) + b"]\r\n"
        return body, self.sign(body, at)


def event(kind: str, **more: Any) -> dict[str, Any]:
    """An event with what every one of SendGrid's carries, and the fields of its kind."""
    message = uuid.uuid4().hex
    usual = {
        "email": "ada@example.com",
        "timestamp": int(time.time()),
        "smtp-id": f"<{message}@geopod-ismtpd-3>",
        "event": kind,
        "category": ["campaign"],
        "sg_event_id": base64.urlsafe_b64encode(uuid.uuid4().bytes).decode(),
        "sg_message_id": f"{message}.recvd-7b9-1.0",
    }
    return usual | more
