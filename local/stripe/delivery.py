"""Signs events and sends them to the webhook, again and again until it accepts them, as Stripe does but sooner."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable

import httpx

from local.stripe.store import Object, Store

AT_ONCE = 8
TIMEOUT = 30.0  # seconds
LONGEST_WAIT = 60.0  # seconds between two tries

Report = Callable[[str, str], None]


def signed(event: Object, secret: str, at: float | None = None) -> tuple[bytes, str]:
    """An event as Stripe sends it: the body and the Stripe-Signature header."""
    body = json.dumps(event).encode()
    return body, signature(body, secret, at)


def signature(body: bytes, secret: str, at: float | None = None) -> str:
    """The Stripe-Signature header of a body, made at a time (seconds since 1970; now)."""
    stamp = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={stamp},v1={digest}"


class Deliveries:
    """Sends what `store` tells to `url`, each event for itself: in parallel, and so in any order."""

    def __init__(self, store: Store, url: str, secret: str, report: Report) -> None:
        self._store = store
        self._url = url
        self._secret = secret
        self._report = report
        self._sent = 0
        self._new = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)

    def wake(self) -> None:
        """Look for new events."""
        self._new.set()

    async def run(self) -> None:
        """Send until cancelled."""
        async with httpx.AsyncClient(timeout=TIMEOUT) as http, asyncio.TaskGroup() as tasks:
            while True:
                self._new.clear()
                for event in self._store.events(after=self._sent):
                    self._sent += 1
                    tasks.create_task(self._deliver(http, event))
                await self._new.wait()

    async def _deliver(self, http: httpx.AsyncClient, event: Object) -> None:
        wait = 1.0
        while not await self._is_accepted(http, event):
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)
        event["pending_webhooks"] = 0
        self._store.delivered.add(event["id"])

    async def _is_accepted(self, http: httpx.AsyncClient, event: Object) -> bool:
        body, header = signed(event, self._secret)
        try:
            async with self._places:
                answer = await http.post(
                    self._url, content=body, headers={"content-type": "application/json", "stripe-signature": header}
                )
        except httpx.TransportError as error:
            self._report(event["type"], f"not delivered ({type(error).__name__})")
            return False
        self._report(event["type"], str(answer.status_code))
        return answer.is_success
